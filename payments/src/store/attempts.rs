//! Requests to the acquirer.

use diesel::{
    prelude::*,
    sql_types::{Array, BigInt, Timestamptz, Uuid as SqlUuid},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use jiff_diesel::{Timestamp, ToDiesel as _};
use mesh::id::Uuid;

use super::money;
use crate::{
    domain::{
        attempt::{Attempt, AttemptId, Kind, Origin, State},
        card::PaymentMethodId,
        payment_intent::PaymentIntentId,
        refund::RefundId,
    },
    error::Error,
    schema::attempts,
};

const OPEN: [&str; 4] = ["CREATED", "SENT", "UNKNOWN", "NOT_FOUND"];

/// `attempts`, as stored.
#[derive(Queryable, Selectable, Insertable)]
#[diesel(table_name = attempts, check_for_backend(diesel::pg::Pg))]
struct Row {
    id: AttemptId,
    intent_id: PaymentIntentId,
    kind: String,
    n: i32,
    acquirer_ref: Uuid,
    state: String,
    currency: String,
    amount_minor: i64,
    payment_method_id: Option<PaymentMethodId>,
    source_id: Option<AttemptId>,
    refund_id: Option<RefundId>,
    decline_code: Option<String>,
    request_caller: Option<String>,
    request_method: Option<String>,
    request_key: Option<String>,
    sent_at: Timestamp,
    created_at: Timestamp,
}

impl From<&Attempt> for Row {
    fn from(attempt: &Attempt) -> Self {
        let (state, decline_code) = words(&attempt.state);
        let origin = attempt.origin.clone();
        let (request_caller, request_method, request_key) = match origin {
            Some(Origin { caller, method, key }) => (Some(caller), Some(method), Some(key)),
            None => (None, None, None),
        };
        Self {
            id: attempt.id,
            intent_id: attempt.intent,
            kind: attempt.kind.as_str().to_owned(),
            n: attempt.n,
            acquirer_ref: attempt.acquirer_ref,
            state: state.to_owned(),
            currency: attempt.amount.currency().code().to_owned(),
            amount_minor: attempt.amount.minor(),
            payment_method_id: attempt.payment_method,
            source_id: attempt.source,
            refund_id: attempt.refund,
            decline_code,
            request_caller,
            request_method,
            request_key,
            sent_at: attempt.created_at.to_diesel(),
            created_at: attempt.created_at.to_diesel(),
        }
    }
}

impl TryFrom<Row> for Attempt {
    type Error = Error;

    fn try_from(row: Row) -> Result<Self, Error> {
        let corrupt = || Error::Corrupt(row.id.name());
        let kind = [Kind::Authorize, Kind::Capture, Kind::Void, Kind::Refund]
            .into_iter()
            .find(|kind| kind.as_str() == row.kind)
            .ok_or_else(corrupt)?;
        let state = match (row.state.as_str(), row.decline_code) {
            ("CREATED", None) => State::Created,
            ("SENT", None) => State::Sent,
            ("UNKNOWN", None) => State::Unknown,
            ("NOT_FOUND", None) => State::NotFound,
            ("APPROVED", None) => State::Approved,
            ("DECLINED", Some(code)) => State::Declined { code },
            _ => return Err(Error::Corrupt(row.id.name())),
        };
        let origin = match (row.request_caller, row.request_method, row.request_key) {
            (Some(caller), Some(method), Some(key)) => Some(Origin { caller, method, key }),
            _ => None,
        };
        Ok(Self {
            id: row.id,
            intent: row.intent_id,
            kind,
            n: row.n,
            acquirer_ref: row.acquirer_ref,
            state,
            amount: money(row.id, &row.currency, row.amount_minor)?,
            payment_method: row.payment_method_id,
            source: row.source_id,
            refund: row.refund_id,
            origin,
            created_at: row.created_at.to_jiff(),
        })
    }
}

fn words(state: &State) -> (&'static str, Option<String>) {
    match state {
        State::Created => ("CREATED", None),
        State::Sent => ("SENT", None),
        State::Unknown => ("UNKNOWN", None),
        State::NotFound => ("NOT_FOUND", None),
        State::Approved => ("APPROVED", None),
        State::Declined { code } => ("DECLINED", Some(code.clone())),
    }
}

/// Writes a new attempt.
pub(crate) async fn insert(conn: &mut AsyncPgConnection, attempt: &Attempt) -> Result<(), Error> {
    diesel::insert_into(attempts::table).values(Row::from(attempt)).execute(conn).await?;
    Ok(())
}

/// How many attempts of a kind a payment has had. The caller has locked the payment.
pub(crate) async fn count(
    conn: &mut AsyncPgConnection,
    intent: PaymentIntentId,
    kind: Kind,
) -> Result<i32, Error> {
    let highest: Option<i32> = attempts::table
        .filter(attempts::intent_id.eq(intent))
        .filter(attempts::kind.eq(kind.as_str()))
        .select(diesel::dsl::max(attempts::n))
        .first(conn)
        .await?;
    Ok(highest.unwrap_or(0))
}

/// Reads an attempt. It exists: attempts are never deleted.
pub(crate) async fn get(conn: &mut AsyncPgConnection, id: AttemptId) -> Result<Attempt, Error> {
    attempts::table.find(id).select(Row::as_select()).first(conn).await?.try_into()
}

/// Reads an attempt and locks its row. The caller has locked the payment.
pub(crate) async fn lock(conn: &mut AsyncPgConnection, id: AttemptId) -> Result<Attempt, Error> {
    attempts::table.find(id).select(Row::as_select()).for_update().first(conn).await?.try_into()
}

/// Writes the state of an attempt that [`lock`] read in the same transaction.
pub(crate) async fn update(
    conn: &mut AsyncPgConnection,
    attempt: &Attempt,
    now: jiff::Timestamp,
) -> Result<(), Error> {
    let (state, decline_code) = words(&attempt.state);
    let resolved_at = (!attempt.state.is_open()).then(|| now.to_diesel());
    diesel::update(attempts::table.find(attempt.id))
        .set((
            attempts::state.eq(state),
            attempts::decline_code.eq(decline_code),
            attempts::resolved_at.eq(resolved_at),
        ))
        .execute(conn)
        .await?;
    Ok(())
}

/// The approved attempt of a kind for a payment: of an authorisation there is at most one.
pub(crate) async fn approved(
    conn: &mut AsyncPgConnection,
    intent: PaymentIntentId,
    kind: Kind,
) -> Result<Option<AttemptId>, Error> {
    Ok(attempts::table
        .filter(attempts::intent_id.eq(intent))
        .filter(attempts::kind.eq(kind.as_str()))
        .filter(attempts::state.eq("APPROVED"))
        .select(attempts::id)
        .first(conn)
        .await
        .optional()?)
}

/// The open attempts of a payment.
pub(crate) async fn open(
    conn: &mut AsyncPgConnection,
    intent: PaymentIntentId,
) -> Result<Vec<AttemptId>, Error> {
    Ok(attempts::table
        .filter(attempts::intent_id.eq(intent))
        .filter(attempts::state.eq_any(OPEN))
        .order(attempts::id)
        .select(attempts::id)
        .load(conn)
        .await?)
}

/// The newest attempt that a call made.
pub(crate) async fn by_request(
    conn: &mut AsyncPgConnection,
    request: &mesh::idempotency::Request,
) -> Result<Option<AttemptId>, Error> {
    Ok(attempts::table
        .filter(attempts::request_caller.eq(&request.caller))
        .filter(attempts::request_method.eq(request.method))
        .filter(attempts::request_key.eq(&request.key))
        .order(attempts::id.desc())
        .select(attempts::id)
        .first(conn)
        .await
        .optional()?)
}

/// Whether the acquirer is being asked about this card.
pub(crate) async fn uses_card(conn: &mut AsyncPgConnection, method: PaymentMethodId) -> Result<bool, Error> {
    let open =
        attempts::table.filter(attempts::payment_method_id.eq(method)).filter(attempts::state.eq_any(OPEN));
    Ok(diesel::select(diesel::dsl::exists(open)).get_result(conn).await?)
}

/// Takes up to `limit` open attempts that were created before `before` and that nobody has, until `lease`: the longest waiting first.
pub(crate) async fn take(
    conn: &mut AsyncPgConnection,
    before: jiff::Timestamp,
    now: jiff::Timestamp,
    lease: jiff::Timestamp,
    limit: i64,
) -> Result<Vec<AttemptId>, Error> {
    #[derive(QueryableByName)]
    struct Waiting {
        #[diesel(sql_type = SqlUuid)]
        id: AttemptId,
    }
    let waiting: Vec<Waiting> = diesel::sql_query(
        "SELECT id FROM attempts WHERE state IN ('CREATED', 'SENT', 'UNKNOWN', 'NOT_FOUND') AND sent_at <= $1 \
         AND (lease_expires_at IS NULL OR lease_expires_at <= $2) ORDER BY sent_at LIMIT $3 FOR UPDATE SKIP LOCKED",
    )
    .bind::<Timestamptz, _>(before.to_diesel())
    .bind::<Timestamptz, _>(now.to_diesel())
    .bind::<BigInt, _>(limit)
    .load(conn)
    .await?;
    let ids: Vec<AttemptId> = waiting.into_iter().map(|waiting| waiting.id).collect();
    diesel::sql_query("UPDATE attempts SET lease_expires_at = $2 WHERE id = ANY ($1)")
        .bind::<Array<SqlUuid>, _>(ids.iter().map(|id| id.uuid()).collect::<Vec<_>>())
        .bind::<Timestamptz, _>(lease.to_diesel())
        .execute(conn)
        .await?;
    Ok(ids)
}

/// Gives back what [`take`] took: it is tried again in the next round.
pub(crate) async fn give_back(conn: &mut AsyncPgConnection, ids: &[AttemptId]) -> Result<(), Error> {
    diesel::update(attempts::table.filter(attempts::id.eq_any(ids)))
        .set(attempts::lease_expires_at.eq(None::<Timestamp>))
        .execute(conn)
        .await?;
    Ok(())
}
