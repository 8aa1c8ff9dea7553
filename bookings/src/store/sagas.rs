//! `sagas`: who works on what, and how far it has come.
//!
//! A worker has a saga while its lease lasts. Every write compares the lease with the one that the worker was given: whoever was overtaken writes
//! nothing any more.

use std::time::Duration;

use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Integer, Jsonb, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl as _};
use jiff::{SignedDuration, Timestamp};
use jiff_diesel::ToDiesel as _;
use uuid::Uuid;

use super::word;
use crate::domain::booking::{BookingId, Failure};
use crate::domain::saga::{Kind, State, Step};
use crate::error::Error;

/// A saga that this worker has.
#[derive(Clone, Debug)]
pub(crate) struct Saga {
    /// Its id: the booking's, or the cancellation's.
    pub(crate) id: Uuid,
    /// Which booking it is about.
    pub(crate) booking: BookingId,
    /// What to do next.
    pub(crate) step: Step,
    /// How often the step is sent under a new key, from 1.
    pub(crate) round: i32,
    /// How often in a row the step was begun, this time included.
    pub(crate) attempts: i32,
    /// Gives up before the pivot when this has passed.
    pub(crate) deadline_at: Timestamp,
    /// Why the booking is going to fail.
    pub(crate) failure: Option<Failure>,
    lease: Lease,
}

impl Saga {
    /// The request id of the call of this step. Stored when the saga came to the step, so that it is sent again after a crash.
    pub(crate) fn key(&self) -> Uuid {
        // Who asks about a refund whose name was lost sends the same call again, never another.
        let step = if self.step == Step::AwaitRefund { Step::Refund } else { self.step };
        key(self.id, step, self.round)
    }
}

/// Whose a saga is, and until when.
#[derive(Clone, Copy, Debug)]
struct Lease {
    owner: Uuid,
    until: Timestamp,
}

fn key(saga: Uuid, step: Step, round: i32) -> Uuid {
    mesh::id::derive(saga, &key_name(step, round))
}

fn key_name(step: Step, round: i32) -> String {
    format!("{}/{round}", step.word())
}

/// A saga that nobody works on yet.
#[derive(Clone, Debug)]
pub(crate) struct NewSaga {
    /// Its id.
    pub(crate) id: Uuid,
    /// What for.
    pub(crate) kind: Kind,
    /// Which booking.
    pub(crate) booking: BookingId,
    /// What to do first.
    pub(crate) step: Step,
    /// When it should be over.
    pub(crate) deadline_at: Timestamp,
}

/// Stores a new saga, due at once.
pub(crate) async fn insert(
    conn: &mut AsyncPgConnection,
    saga: &NewSaga,
    now: Timestamp,
) -> Result<(), Error> {
    let keys = serde_json::json!({ key_name(saga.step, 1): key(saga.id, saga.step, 1) });
    diesel::sql_query(
        "INSERT INTO sagas (id, kind, booking_id, step, state, step_keys, next_at, deadline_at, created_at, updated_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $7, $7)",
    )
    .bind::<SqlUuid, _>(saga.id)
    .bind::<Text, _>(saga.kind.word())
    .bind::<SqlUuid, _>(saga.booking)
    .bind::<Text, _>(saga.step.word())
    .bind::<Text, _>(saga.step.state(false).word())
    .bind::<Jsonb, _>(keys)
    .bind::<Timestamptz, _>(now.to_diesel())
    .bind::<Timestamptz, _>(saga.deadline_at.to_diesel())
    .execute(conn)
    .await?;
    Ok(())
}

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
    #[diesel(sql_type = SqlUuid)]
    booking_id: BookingId,
    #[diesel(sql_type = Text)]
    step: String,
    #[diesel(sql_type = Integer)]
    round: i32,
    #[diesel(sql_type = Integer)]
    attempts: i32,
    #[diesel(sql_type = Timestamptz, deserialize_as = jiff_diesel::Timestamp)]
    deadline_at: Timestamp,
    #[diesel(sql_type = Nullable<Jsonb>)]
    failure: Option<serde_json::Value>,
}

/// Takes up to `limit` sagas that are due and that nobody has, the longest due first.
pub(crate) async fn claim(
    conn: &mut AsyncPgConnection,
    owner: Uuid,
    lease: Duration,
    limit: i64,
    now: Timestamp,
) -> Result<Vec<Saga>, Error> {
    let until = after(now, lease);
    let rows: Vec<Row> = diesel::sql_query(
        "UPDATE sagas SET lease_owner = $1, lease_until = $2, attempts = attempts + 1, updated_at = $3 WHERE id IN ( \
           SELECT id FROM sagas WHERE state IN ('RUNNING', 'WAITING', 'COMPENSATING') AND next_at <= $3 \
           AND (lease_until IS NULL OR lease_until <= $3) ORDER BY next_at LIMIT $4 FOR UPDATE SKIP LOCKED) \
         RETURNING id, booking_id, step, round, attempts, deadline_at, failure",
    )
    .bind::<SqlUuid, _>(owner)
    .bind::<Timestamptz, _>(until.to_diesel())
    .bind::<Timestamptz, _>(now.to_diesel())
    .bind::<BigInt, _>(limit)
    .get_results(conn)
    .await?;
    rows.into_iter()
        .map(|row| {
            let failure = row.failure.map(serde_json::from_value).transpose();
            Ok(Saga {
                id: row.id,
                booking: row.booking_id,
                step: word(Step::of_word(&row.step), "sagas", row.id)?,
                round: row.round,
                attempts: row.attempts,
                deadline_at: row.deadline_at,
                failure: failure.map_err(|_| Error::Corrupt(format!("sagas/{}", row.id)))?,
                lease: Lease { owner, until },
            })
        })
        .collect()
}

/// Moves a saga to another step, or to another round of one, and stores the key that the step's call will carry. The lease begins anew.
///
/// # Errors
///
/// [`Error::LeaseLost`].
pub(crate) async fn go(
    conn: &mut AsyncPgConnection,
    saga: &Saga,
    step: Step,
    round: i32,
    failure: Option<Failure>,
    lease: Duration,
    now: Timestamp,
) -> Result<Saga, Error> {
    let until = after(now, lease);
    let keys = serde_json::json!({ key_name(step, round): key(saga.id, step, round) });
    let changed = diesel::sql_query(
        "UPDATE sagas SET step = $4, state = $5, round = $6, attempts = 1, step_keys = step_keys || $7, failure = $8, \
         lease_until = $9, next_at = $10, updated_at = $10 WHERE id = $1 AND lease_owner = $2 AND lease_until = $3",
    )
    .bind::<SqlUuid, _>(saga.id)
    .bind::<SqlUuid, _>(saga.lease.owner)
    .bind::<Timestamptz, _>(saga.lease.until.to_diesel())
    .bind::<Text, _>(step.word())
    .bind::<Text, _>(step.state(failure.is_some()).word())
    .bind::<Integer, _>(round)
    .bind::<Jsonb, _>(keys)
    .bind::<Nullable<Jsonb>, _>(json(failure.as_ref()))
    .bind::<Timestamptz, _>(until.to_diesel())
    .bind::<Timestamptz, _>(now.to_diesel())
    .execute(conn)
    .await?;
    kept(changed)?;
    let lease = Lease { owner: saga.lease.owner, until };
    Ok(Saga { step, round, failure, attempts: 1, lease, ..saga.clone() })
}

/// Gives a saga back until `next_at`.
///
/// # Errors
///
/// [`Error::LeaseLost`].
pub(crate) async fn put_off(
    conn: &mut AsyncPgConnection,
    saga: &Saga,
    next_at: Timestamp,
    now: Timestamp,
) -> Result<(), Error> {
    let changed = diesel::sql_query(
        "UPDATE sagas SET lease_owner = NULL, lease_until = NULL, next_at = $4, updated_at = $5 \
         WHERE id = $1 AND lease_owner = $2 AND lease_until = $3",
    )
    .bind::<SqlUuid, _>(saga.id)
    .bind::<SqlUuid, _>(saga.lease.owner)
    .bind::<Timestamptz, _>(saga.lease.until.to_diesel())
    .bind::<Timestamptz, _>(next_at.to_diesel())
    .bind::<Timestamptz, _>(now.to_diesel())
    .execute(conn)
    .await?;
    kept(changed)
}

/// Ends a saga. First in its transaction: the row is locked from here on, so two workers cannot both come to the end.
///
/// # Errors
///
/// [`Error::LeaseLost`].
pub(crate) async fn end(
    conn: &mut AsyncPgConnection,
    saga: &Saga,
    state: State,
    note: Option<&str>,
    now: Timestamp,
) -> Result<(), Error> {
    let changed = diesel::sql_query(
        "UPDATE sagas SET state = $4, note = $5, lease_owner = NULL, lease_until = NULL, updated_at = $6 \
         WHERE id = $1 AND lease_owner = $2 AND lease_until = $3",
    )
    .bind::<SqlUuid, _>(saga.id)
    .bind::<SqlUuid, _>(saga.lease.owner)
    .bind::<Timestamptz, _>(saga.lease.until.to_diesel())
    .bind::<Text, _>(state.word())
    .bind::<Nullable<Text>, _>(note)
    .bind::<Timestamptz, _>(now.to_diesel())
    .execute(conn)
    .await?;
    kept(changed)
}

fn kept(changed: usize) -> Result<(), Error> {
    if changed == 0 { Err(Error::LeaseLost) } else { Ok(()) }
}

fn json(failure: Option<&Failure>) -> Option<serde_json::Value> {
    failure.map(|failure| serde_json::to_value(failure).expect("a failure has a JSON form"))
}

/// A time so much later; the end of time when there is none.
fn after(now: Timestamp, pause: Duration) -> Timestamp {
    SignedDuration::try_from(pause)
        .ok()
        .and_then(|pause| now.checked_add(pause).ok())
        .unwrap_or(Timestamp::MAX)
}
