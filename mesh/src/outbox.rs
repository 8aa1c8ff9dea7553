//! Events of a service, written in the transaction of what they tell of.
//!
//! Each aggregate (a booking, a payment intent) numbers its events 1, 2, 3 … without gaps: whoever receives them can order them and see
//! that one is missing.

use diesel::QueryableByName;
use diesel::result::Error;
use diesel::sql_types::{BigInt, Jsonb, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl as _};
use jiff::Timestamp;
use jiff_diesel::ToDiesel as _;
use uuid::{NoContext, Uuid};

use crate::audit::Report;

/// One event. Thin: ids, amounts and states; no card data, no secrets, no names.
#[derive(Clone, Debug)]
pub struct Event {
    /// What kind of thing it happened to, for example `booking`.
    pub aggregate_type: &'static str,
    /// Which one.
    pub aggregate_id: Uuid,
    /// What happened, in the past tense, for example `BookingConfirmed`.
    pub event_type: &'static str,
    /// What is to be known about it.
    pub payload: serde_json::Value,
    /// The request id of the call that caused it; empty when none did.
    pub request_id: String,
    /// When it happened.
    pub occurred_at: Timestamp,
}

#[derive(QueryableByName)]
struct Appended {
    #[diesel(sql_type = BigInt)]
    version: i64,
}

/// Writes an event and returns its version, the aggregate's next.
///
/// **The caller holds the lock on the aggregate's row** in the same transaction (`SELECT … FOR UPDATE`, or has just updated or inserted it):
/// that is what keeps two writers from taking the same version. Without it one of them fails with a unique violation.
///
/// # Errors
///
/// The database's.
pub async fn append(conn: &mut AsyncPgConnection, event: &Event) -> Result<i64, Error> {
    let appended: Appended = diesel::sql_query(
        "INSERT INTO outbox (id, aggregate_type, aggregate_id, version, event_type, payload, request_id, occurred_at) \
         SELECT $1, $2, $3, coalesce(max(version), 0) + 1, $4, $5, $6, $7 FROM outbox \
         WHERE aggregate_type = $2 AND aggregate_id = $3 \
         RETURNING version",
    )
    .bind::<SqlUuid, _>(id(event.occurred_at))
    .bind::<Text, _>(event.aggregate_type)
    .bind::<SqlUuid, _>(event.aggregate_id)
    .bind::<Text, _>(event.event_type)
    .bind::<Jsonb, _>(&event.payload)
    .bind::<Text, _>(&event.request_id)
    .bind::<Timestamptz, _>(event.occurred_at.to_diesel())
    .get_result(conn)
    .await?;
    Ok(appended.version)
}

/// A UUID (version 7) of that time: ids of events lie close together in the index. A time before 1970 counts as 1970.
fn id(time: Timestamp) -> Uuid {
    let seconds = u64::try_from(time.as_second()).unwrap_or(0);
    let nanoseconds = u32::try_from(time.subsec_nanosecond()).unwrap_or(0);
    Uuid::new_v7(uuid::Timestamp::from_unix(NoContext, seconds, nanoseconds))
}

/// e01: checks that the versions of each aggregate's events begin at 1 and have no gap. `examined` counts aggregates.
///
/// # Errors
///
/// The database's.
pub async fn verify(conn: &mut AsyncPgConnection) -> Result<Report, Error> {
    diesel::sql_query(
        "WITH aggregates AS (
             SELECT aggregate_type || '/' || aggregate_id AS aggregate, min(version) <> 1 OR max(version) <> count(*) AS broken
             FROM outbox GROUP BY aggregate_type, aggregate_id
         )
         SELECT 'e01' AS invariant, 'event versions of each aggregate begin at 1 and have no gap' AS statement,
                count(*) AS examined, count(*) FILTER (WHERE broken) AS violations,
                coalesce((array_agg(aggregate ORDER BY aggregate) FILTER (WHERE broken))[1:10], '{}') AS offenders
         FROM aggregates",
    )
    .get_result(conn)
    .await
}
