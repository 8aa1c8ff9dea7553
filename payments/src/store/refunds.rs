//! Refunds.

use diesel::prelude::*;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use jiff_diesel::{Timestamp, ToDiesel as _};

use super::money;
use crate::{
    domain::{
        payment_intent::PaymentIntentId,
        refund::{Refund, RefundId, State},
    },
    error::Error,
    schema::refunds,
};

/// `refunds`, as stored.
#[derive(Queryable, Selectable, Insertable, AsChangeset)]
#[diesel(table_name = refunds, check_for_backend(diesel::pg::Pg))]
struct Row {
    id: RefundId,
    version: i64,
    intent_id: PaymentIntentId,
    currency: String,
    amount_minor: i64,
    state: String,
    reason: String,
    created_at: Timestamp,
    updated_at: Timestamp,
}

impl From<&Refund> for Row {
    fn from(refund: &Refund) -> Self {
        Self {
            id: refund.id,
            version: refund.version,
            intent_id: refund.intent,
            currency: refund.amount.currency().code().to_owned(),
            amount_minor: refund.amount.minor(),
            state: word(refund.state).to_owned(),
            reason: refund.reason.clone(),
            created_at: refund.created_at.to_diesel(),
            updated_at: refund.updated_at.to_diesel(),
        }
    }
}

impl TryFrom<Row> for Refund {
    type Error = Error;

    fn try_from(row: Row) -> Result<Self, Error> {
        let state = [State::Pending, State::Succeeded, State::Failed, State::Canceled]
            .into_iter()
            .find(|state| word(*state) == row.state)
            .ok_or_else(|| Error::Corrupt(row.id.name()))?;
        Ok(Self {
            id: row.id,
            version: row.version,
            intent: row.intent_id,
            amount: money(row.id, &row.currency, row.amount_minor)?,
            state,
            reason: row.reason,
            created_at: row.created_at.to_jiff(),
            updated_at: row.updated_at.to_jiff(),
        })
    }
}

fn word(state: State) -> &'static str {
    match state {
        State::Pending => "PENDING",
        State::Succeeded => "SUCCEEDED",
        State::Failed => "FAILED",
        State::Canceled => "CANCELED",
    }
}

/// Writes a new refund, and whose call created it.
pub(crate) async fn insert(
    conn: &mut AsyncPgConnection,
    refund: &Refund,
    request: &mesh::idempotency::Request,
) -> Result<(), Error> {
    diesel::insert_into(refunds::table)
        .values((
            Row::from(refund),
            refunds::request_caller.eq(&request.caller),
            refunds::request_key.eq(&request.key),
        ))
        .execute(conn)
        .await?;
    Ok(())
}

/// Reads a refund.
///
/// # Errors
///
/// [`Error::RefundNotFound`], [`Error::Corrupt`].
pub(crate) async fn get(conn: &mut AsyncPgConnection, id: RefundId) -> Result<Refund, Error> {
    let row = refunds::table.find(id).select(Row::as_select()).first(conn).await.optional()?;
    row.ok_or(Error::RefundNotFound(id))?.try_into()
}

/// Reads a refund and locks its row. The caller has locked the payment.
///
/// # Errors
///
/// As [`get`].
pub(crate) async fn lock(conn: &mut AsyncPgConnection, id: RefundId) -> Result<Refund, Error> {
    let row = refunds::table.find(id).select(Row::as_select()).for_update().first(conn).await.optional()?;
    row.ok_or(Error::RefundNotFound(id))?.try_into()
}

/// Writes every field of a refund that [`lock`] read in the same transaction, and counts the change.
pub(crate) async fn update(
    conn: &mut AsyncPgConnection,
    refund: &mut Refund,
    now: jiff::Timestamp,
) -> Result<(), Error> {
    refund.version += 1;
    refund.updated_at = now;
    diesel::update(refunds::table.find(refund.id)).set(Row::from(&*refund)).execute(conn).await?;
    Ok(())
}

/// The refunds of a payment, newest first.
pub(crate) async fn list(
    conn: &mut AsyncPgConnection,
    intent: PaymentIntentId,
) -> Result<Vec<Refund>, Error> {
    let rows: Vec<Row> = refunds::table
        .filter(refunds::intent_id.eq(intent))
        .order(refunds::id.desc())
        .select(Row::as_select())
        .load(conn)
        .await?;
    rows.into_iter().map(TryInto::try_into).collect()
}
