//! Calls that happen once however often they are sent: the request id of AIP-155, with its stored answer.
//!
//! A key belongs to one caller and one method. The first call [`claim`]s it in the transaction of its effect, and [`complete`]s or
//! [`refuse`]s it there too, or, when an effect elsewhere lies between, in a later one. Until then the claim is a lease: after
//! [`LEASE`] without an answer the next call with the same key takes over, at the recovery point that [`advance`] stored last.
//!
//! | what | then |
//! | --- | --- |
//! | the call is refused before any effect (validation, rights, limits, a dependency that is down) | roll back, or [`release`]: a retry executes |
//! | a business refusal after execution began | [`refuse`]: stored and replayed |
//! | INTERNAL, and an effect may exist | neither: the claim stays, and is recovered |
//!
//! Everything here runs in the caller's transaction, which must be READ COMMITTED: a claim that waited for another transaction has to see
//! what that one wrote. Time is the caller's `now`.

use std::time::Duration;

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Timestamptz};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use jiff::Timestamp;
use jiff_diesel::ToDiesel as _;
use prost::Message;
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::schema::idempotency_keys::{self, dsl};

/// How long a claim keeps others off. Longer than any call may take.
pub const LEASE: Duration = Duration::from_secs(30);
/// How long an answer is kept after it was given.
pub const RETENTION: Duration = Duration::from_hours(30 * 24);
/// The recovery point of a new claim.
pub const CREATED: &str = "created";

const IN_PROGRESS: &str = "IN_PROGRESS";
const COMPLETED: &str = "COMPLETED";
/// Rounds of [`claim`]: another is needed when a row is deleted between two statements, so each but the first is somebody's progress.
const CLAIM_ROUNDS_MAX: u32 = 5;

/// Which call it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Whose key it is: the user, else the service account, else the workload.
    pub caller: String,
    /// The method's gRPC path.
    pub method: &'static str,
    /// The request id, 1 to 255 characters.
    pub key: String,
    /// What the call asks for, by [`Fingerprint::of_message`].
    pub fingerprint: [u8; 32],
}

/// Fingerprints of requests: two calls with one key and different fingerprints are a mistake of the client.
#[derive(Clone, Copy, Debug)]
pub struct Fingerprint;

impl Fingerprint {
    /// SHA-256 of the encoded message, with the caller's defaults applied. The caller clears `request_id` and every secret first and puts
    /// the card's own fingerprint in the place of its number. The message must have no `map` fields: their encoding has no fixed order.
    pub fn of_message<M: Message>(message: &M) -> [u8; 32] {
        Sha256::digest(message.encode_to_vec()).into()
    }
}

/// What a claim found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// The first call with this key: execute it.
    New,
    /// Another execution did not come to an end and its lease is over: go on from there, never from the top.
    Resume {
        /// The last stored recovery point.
        recovery_point: String,
        /// The row that the call created, if it came that far.
        subject: Option<Uuid>,
    },
    /// The call has been answered: answer the same.
    Replay(Stored),
}

/// A stored answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The encoded response, or the encoded `google.rpc.Status` of a refusal.
    pub response: Result<Vec<u8>, Vec<u8>>,
}

/// Why a key cannot be claimed, or a claim not be kept.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another execution of the same call holds the lease: `IDEMPOTENCY_IN_PROGRESS`, try again in a second.
    #[error("a call with the same request id is in progress")]
    InProgress,
    /// The key was used for another request: `IDEMPOTENCY_KEY_REUSED`.
    #[error("the request id was used for another request")]
    KeyReused,
    /// The claim is not open any more: it was answered by whoever took it over, or released. The transaction must be rolled back.
    #[error("the claim on the request id is lost")]
    ClaimLost,
    /// A query failed.
    #[error("query failed")]
    Database(#[from] diesel::result::Error),
}

#[derive(Insertable)]
#[diesel(table_name = idempotency_keys)]
struct NewRow<'a> {
    caller: &'a str,
    method: &'a str,
    key: &'a str,
    fingerprint: &'a [u8],
    state: &'a str,
    recovery_point: &'a str,
    #[diesel(serialize_as = jiff_diesel::Timestamp)]
    lease_expires_at: Timestamp,
    #[diesel(serialize_as = jiff_diesel::Timestamp)]
    created_at: Timestamp,
    #[diesel(serialize_as = jiff_diesel::Timestamp)]
    expires_at: Timestamp,
}

#[derive(Queryable, Selectable)]
#[diesel(table_name = idempotency_keys, check_for_backend(diesel::pg::Pg))]
struct Row {
    fingerprint: Vec<u8>,
    state: String,
    recovery_point: String,
    subject: Option<Uuid>,
    response: Option<Vec<u8>>,
    status: Option<Vec<u8>>,
    #[diesel(deserialize_as = jiff_diesel::Timestamp)]
    lease_expires_at: Timestamp,
    #[diesel(deserialize_as = jiff_diesel::Timestamp)]
    expires_at: Timestamp,
}

/// What [`advance`] changes; a subject once stored stays when none is given.
#[derive(AsChangeset)]
#[diesel(table_name = idempotency_keys)]
struct Advance<'a> {
    recovery_point: &'a str,
    subject: Option<Uuid>,
}

/// The row of a request.
macro_rules! row {
    ($request:expr) => {
        dsl::idempotency_keys.find((&$request.caller, $request.method, &$request.key))
    };
}

/// The row of a request, while its claim is open.
macro_rules! open_row {
    ($request:expr) => {
        row!($request).filter(dsl::state.eq(IN_PROGRESS))
    };
}

/// Claims the key of a call. A call that waits for the transaction of another with the same key learns how that one ended.
///
/// # Errors
///
/// [`Error::InProgress`], [`Error::KeyReused`], [`Error::Database`].
pub async fn claim(conn: &mut AsyncPgConnection, request: &Request, now: Timestamp) -> Result<Claim, Error> {
    for _ in 0..CLAIM_ROUNDS_MAX {
        if insert(conn, request, now).await? {
            return Ok(Claim::New);
        }
        let found = row!(request).select(Row::as_select()).first(conn).await.optional()?;
        // Released or swept since the insertion met it.
        let Some(found) = found else { continue };
        if found.expires_at <= now {
            diesel::delete(row!(request).filter(dsl::expires_at.le(now.to_diesel()))).execute(conn).await?;
            continue;
        }
        return settle(conn, request, found, now).await;
    }
    Err(Error::InProgress)
}

/// Stores how far an execution has come, and the row that it created when there is one now. Not to be called without an open claim.
///
/// # Errors
///
/// [`Error::ClaimLost`], [`Error::Database`].
pub async fn advance(
    conn: &mut AsyncPgConnection,
    request: &Request,
    recovery_point: &str,
    subject: Option<Uuid>,
) -> Result<(), Error> {
    let changes = Advance { recovery_point, subject };
    kept(diesel::update(open_row!(request)).set(changes).execute(conn).await?)
}

/// Stores the response. It must hold no secret: it is replayed for [`RETENTION`].
///
/// # Errors
///
/// [`Error::ClaimLost`], [`Error::Database`].
pub async fn complete(
    conn: &mut AsyncPgConnection,
    request: &Request,
    response: &impl Message,
    now: Timestamp,
) -> Result<(), Error> {
    let answer = dsl::response.eq(response.encode_to_vec());
    let changes = (dsl::state.eq(COMPLETED), answer, dsl::expires_at.eq((now + RETENTION).to_diesel()));
    kept(diesel::update(open_row!(request)).set(changes).execute(conn).await?)
}

/// Stores a business refusal, as an encoded `google.rpc.Status`. Its transaction is committed, though the call fails.
///
/// # Errors
///
/// [`Error::ClaimLost`], [`Error::Database`].
pub async fn refuse(
    conn: &mut AsyncPgConnection,
    request: &Request,
    status_bytes: Vec<u8>,
    now: Timestamp,
) -> Result<(), Error> {
    let answer = dsl::status.eq(status_bytes);
    let changes = (dsl::state.eq(COMPLETED), answer, dsl::expires_at.eq((now + RETENTION).to_diesel()));
    kept(diesel::update(open_row!(request)).set(changes).execute(conn).await?)
}

/// Gives the key back: nothing has happened, and the next call with it is a first one.
///
/// # Errors
///
/// [`Error::ClaimLost`], [`Error::Database`].
pub async fn release(conn: &mut AsyncPgConnection, request: &Request) -> Result<(), Error> {
    kept(diesel::delete(open_row!(request)).execute(conn).await?)
}

/// Deletes up to `limit` rows whose retention is over, the oldest first, and says how many.
///
/// # Errors
///
/// The database's.
pub async fn sweep(
    conn: &mut AsyncPgConnection,
    now: Timestamp,
    limit: u32,
) -> Result<usize, diesel::result::Error> {
    diesel::sql_query(
        "DELETE FROM idempotency_keys WHERE ctid = ANY (ARRAY( \
         SELECT ctid FROM idempotency_keys WHERE expires_at <= $1 ORDER BY expires_at LIMIT $2 FOR UPDATE SKIP LOCKED))",
    )
    .bind::<Timestamptz, _>(now.to_diesel())
    .bind::<BigInt, _>(i64::from(limit))
    .execute(conn)
    .await
}

/// Whether the row was not there yet.
async fn insert(conn: &mut AsyncPgConnection, request: &Request, now: Timestamp) -> Result<bool, Error> {
    let row = NewRow {
        caller: &request.caller,
        method: request.method,
        key: &request.key,
        fingerprint: &request.fingerprint,
        state: IN_PROGRESS,
        recovery_point: CREATED,
        lease_expires_at: now + LEASE,
        created_at: now,
        expires_at: now + RETENTION,
    };
    let inserted =
        diesel::insert_into(dsl::idempotency_keys).values(row).on_conflict_do_nothing().execute(conn).await?;
    Ok(inserted == 1)
}

/// What a call gets from the row of an earlier one.
async fn settle(
    conn: &mut AsyncPgConnection,
    request: &Request,
    found: Row,
    now: Timestamp,
) -> Result<Claim, Error> {
    if found.fingerprint != request.fingerprint {
        return Err(Error::KeyReused);
    }
    if found.state == COMPLETED {
        let response = match (found.response, found.status) {
            (Some(response), _) => Ok(response),
            // A constraint sees to it that a completed row has one of the two.
            (None, status) => Err(status.unwrap_or_default()),
        };
        return Ok(Claim::Replay(Stored { response }));
    }
    if found.lease_expires_at > now {
        return Err(Error::InProgress);
    }
    // Compare and set: of many that see the lease over, one takes it.
    let taken = diesel::update(
        open_row!(request).filter(dsl::lease_expires_at.eq(found.lease_expires_at.to_diesel())),
    )
    .set(dsl::lease_expires_at.eq((now + LEASE).to_diesel()))
    .execute(conn)
    .await?;
    if taken == 0 {
        return Err(Error::InProgress);
    }
    Ok(Claim::Resume { recovery_point: found.recovery_point, subject: found.subject })
}

fn kept(rows: usize) -> Result<(), Error> {
    if rows == 0 { Err(Error::ClaimLost) } else { Ok(()) }
}
