//! Events in the transaction of their cause.

use std::sync::Arc;

use diesel::QueryableByName;
use diesel::result::{DatabaseErrorKind, Error};
use diesel::sql_types::{BigInt, Jsonb, Text};
use diesel_async::{AsyncPgConnection, RunQueryDsl as _, SimpleAsyncConnection as _};
use futures::future::join_all;
use mesh::outbox::{Event, append, verify};
use serde_json::json;
use tokio::sync::Barrier;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::database::Database;

const BOOKING: Uuid = Uuid::from_u128(1);
const OTHER: Uuid = Uuid::from_u128(2);

fn event(aggregate_id: Uuid, event_type: &'static str) -> Event {
    Event {
        aggregate_type: "booking",
        aggregate_id,
        event_type,
        payload: json!({ "state": event_type, "amount_minor": "9007199254740993" }),
        request_id: "request-1".to_owned(),
        occurred_at: "2026-11-21T08:00:00.000123Z".parse().expect("a time"),
    }
}

#[derive(Debug, PartialEq, QueryableByName)]
struct Row {
    #[diesel(sql_type = BigInt)]
    version: i64,
    #[diesel(sql_type = Text)]
    event_type: String,
    #[diesel(sql_type = Jsonb)]
    payload: serde_json::Value,
    #[diesel(sql_type = Text)]
    occurred_at: String,
    #[diesel(sql_type = Text)]
    id: String,
}

async fn stored(conn: &mut AsyncPgConnection, aggregate_id: Uuid) -> Vec<Row> {
    diesel::sql_query(
        "SELECT version, event_type, payload, id::text AS id, (occurred_at AT TIME ZONE 'UTC')::text AS occurred_at \
         FROM outbox WHERE aggregate_id = $1 ORDER BY position",
    )
    .bind::<diesel::sql_types::Uuid, _>(aggregate_id)
    .load(conn)
    .await
    .expect("selected")
}

#[tokio::test(flavor = "multi_thread")]
async fn each_aggregate_counts_its_own_versions() {
    let database = Database::new().await;
    let conn = &mut database.connect().await;
    let mut versions = Vec::new();
    for (aggregate, event_type) in
        [(BOOKING, "BookingCreated"), (OTHER, "BookingCreated"), (BOOKING, "BookingConfirmed")]
    {
        versions.push(append(conn, &event(aggregate, event_type)).await.expect("appended"));
    }
    assert_eq!(versions, [1, 1, 2]);

    let rows = stored(conn, BOOKING).await;
    let [created, confirmed] = rows.as_slice() else { panic!("{rows:?}") };
    assert_eq!((created.version, created.event_type.as_str()), (1, "BookingCreated"));
    assert_eq!((confirmed.version, confirmed.event_type.as_str()), (2, "BookingConfirmed"));
    assert_eq!(confirmed.payload, event(BOOKING, "BookingConfirmed").payload);
    assert_eq!(confirmed.occurred_at, "2026-11-21 08:00:00.000123");
    let id: Uuid = confirmed.id.parse().expect("a UUID");
    assert_eq!(id.get_version_num(), 7);
    assert_ne!(confirmed.id, created.id);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rolled_back_event_leaves_no_gap() {
    let database = Database::new().await;
    let conn = &mut database.connect().await;
    append(conn, &event(BOOKING, "BookingCreated")).await.expect("appended");
    conn.batch_execute("BEGIN").await.expect("begun");
    assert_eq!(append(conn, &event(BOOKING, "BookingConfirmed")).await, Ok(2));
    conn.batch_execute("ROLLBACK").await.expect("rolled back");
    assert_eq!(append(conn, &event(BOOKING, "BookingCancelled")).await, Ok(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn writers_that_hold_the_lock_of_the_aggregate_leave_no_gap_and_no_double() {
    let database = Database::new().await;
    let conn = &mut database.connect().await;
    conn.batch_execute("CREATE TABLE bookings (id int PRIMARY KEY); INSERT INTO bookings VALUES (1)")
        .await
        .expect("made");
    let connections = join_all((0..20).map(|_| database.connect())).await;
    let start = Arc::new(Barrier::new(connections.len()));
    let mut writers = JoinSet::new();
    for mut conn in connections {
        let start = Arc::clone(&start);
        writers.spawn(async move {
            start.wait().await;
            conn.batch_execute("BEGIN; SELECT 1 FROM bookings WHERE id = 1 FOR UPDATE")
                .await
                .expect("locked");
            let version = append(&mut conn, &event(BOOKING, "BookingChanged")).await.expect("appended");
            conn.batch_execute("COMMIT").await.expect("committed");
            version
        });
    }
    let mut versions = writers.join_all().await;
    versions.sort_unstable();
    assert_eq!(versions, (1..=20).collect::<Vec<i64>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gap_in_the_versions_is_found() {
    let database = Database::new().await;
    let conn = &mut database.connect().await;
    for _ in 0..3 {
        append(conn, &event(BOOKING, "BookingChanged")).await.expect("appended");
    }
    let whole = verify(conn).await.expect("read");
    assert_eq!((whole.examined, whole.violations), (1, 0));

    conn.batch_execute("DELETE FROM outbox WHERE version = 2").await.expect("deleted");

    let broken = verify(conn).await.expect("read");
    assert_eq!((broken.examined, broken.violations), (1, 1));
    assert_eq!(broken.offenders, [format!("booking/{BOOKING}")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_without_the_lock_fails_rather_than_take_a_version_twice() {
    let database = Database::new().await;
    let (first, second) = (&mut database.connect().await, &mut database.connect().await);
    first.batch_execute("BEGIN").await.expect("begun");
    assert_eq!(append(first, &event(BOOKING, "BookingConfirmed")).await, Ok(1));
    let conflict = event(BOOKING, "BookingCancelled");
    let (lost, ()) = tokio::join!(append(second, &conflict), async {
        database.await_waiter().await;
        first.batch_execute("COMMIT").await.expect("committed");
    });
    assert!(matches!(lost, Err(Error::DatabaseError(DatabaseErrorKind::UniqueViolation, _))), "{lost:?}");
    assert_eq!(stored(first, BOOKING).await.len(), 1);
}
