//! The record of operations. Locking order: the reference, then the operation that it draws on.

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Text};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use jiff_diesel::Timestamp;

use crate::{error::Error, schema::operations};

/// What was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Authorize,
    Capture,
    Void,
    Refund,
}

impl Kind {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Authorize => "AUTHORIZE",
            Self::Capture => "CAPTURE",
            Self::Void => "VOID",
            Self::Refund => "REFUND",
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        [Self::Authorize, Self::Capture, Self::Void, Self::Refund]
            .into_iter()
            .find(|kind| kind.as_str() == text)
    }
}

/// `operations`, as stored.
#[derive(Clone, Debug, Queryable, Selectable)]
#[diesel(table_name = operations, check_for_backend(diesel::pg::Pg))]
pub(crate) struct Operation {
    pub(crate) acquirer_ref: String,
    pub(crate) position: i64,
    pub(crate) kind: String,
    pub(crate) outcome: String,
    pub(crate) decline_code: String,
    pub(crate) currency: String,
    pub(crate) amount_minor: i64,
    pub(crate) reference: String,
    pub(crate) created_at: Timestamp,
}

/// An operation to write down.
#[derive(Insertable)]
#[diesel(table_name = operations)]
pub(crate) struct New<'a> {
    pub(crate) acquirer_ref: &'a str,
    pub(crate) kind: &'static str,
    pub(crate) outcome: &'static str,
    pub(crate) decline_code: &'a str,
    pub(crate) currency: &'a str,
    pub(crate) amount_minor: i64,
    pub(crate) authorization_ref: Option<&'a str>,
    pub(crate) capture_ref: Option<&'a str>,
    pub(crate) reference: &'a str,
    pub(crate) last4: &'a str,
    pub(crate) created_at: Timestamp,
}

/// Keeps every other transaction with this reference out until this one ends, and returns the answer that the reference already has.
pub(crate) async fn claim(
    conn: &mut AsyncPgConnection,
    acquirer_ref: &str,
) -> Result<Option<Operation>, Error> {
    diesel::sql_query("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))")
        .bind::<Text, _>(acquirer_ref)
        .execute(conn)
        .await?;
    find(conn, acquirer_ref).await
}

/// The operation with this reference.
pub(crate) async fn find(
    conn: &mut AsyncPgConnection,
    acquirer_ref: &str,
) -> Result<Option<Operation>, Error> {
    Ok(operations::table.find(acquirer_ref).select(Operation::as_select()).first(conn).await.optional()?)
}

/// Writes an operation down.
pub(crate) async fn insert(conn: &mut AsyncPgConnection, new: New<'_>) -> Result<Operation, Error> {
    Ok(diesel::insert_into(operations::table)
        .values(new)
        .returning(Operation::as_returning())
        .get_result(conn)
        .await?)
}

/// Takes `amount_minor` from an authorisation, if that much is left of it, it is in that currency and was not let go.
pub(crate) async fn capture(
    conn: &mut AsyncPgConnection,
    authorization_ref: &str,
    currency: &str,
    amount_minor: i64,
) -> Result<bool, Error> {
    let taken = diesel::sql_query(
        "UPDATE operations SET captured_minor = captured_minor + $3 WHERE acquirer_ref = $1 AND kind = 'AUTHORIZE' \
         AND outcome = 'APPROVED' AND NOT voided AND currency = $2 AND $3 > 0 AND captured_minor <= amount_minor - $3",
    )
    .bind::<Text, _>(authorization_ref)
    .bind::<Text, _>(currency)
    .bind::<BigInt, _>(amount_minor)
    .execute(conn)
    .await?;
    Ok(taken == 1)
}

/// Lets go of an authorisation of which nothing was captured.
pub(crate) async fn void(conn: &mut AsyncPgConnection, authorization_ref: &str) -> Result<bool, Error> {
    let voided = diesel::sql_query(
        "UPDATE operations SET voided = TRUE WHERE acquirer_ref = $1 AND kind = 'AUTHORIZE' AND outcome = 'APPROVED' \
         AND NOT voided AND captured_minor = 0",
    )
    .bind::<Text, _>(authorization_ref)
    .execute(conn)
    .await?;
    Ok(voided == 1)
}

/// Gives `amount_minor` of a capture back, if that much is left of it and it is in that currency.
pub(crate) async fn refund(
    conn: &mut AsyncPgConnection,
    capture_ref: &str,
    currency: &str,
    amount_minor: i64,
) -> Result<bool, Error> {
    let refunded = diesel::sql_query(
        "UPDATE operations SET refunded_minor = refunded_minor + $3 WHERE acquirer_ref = $1 AND kind = 'CAPTURE' \
         AND outcome = 'APPROVED' AND currency = $2 AND $3 > 0 AND refunded_minor <= amount_minor - $3",
    )
    .bind::<Text, _>(capture_ref)
    .bind::<Text, _>(currency)
    .bind::<BigInt, _>(amount_minor)
    .execute(conn)
    .await?;
    Ok(refunded == 1)
}

/// Up to `limit` operations, newest first: those before `before`, of authorisations filed under `reference` unless that is empty.
pub(crate) async fn list(
    conn: &mut AsyncPgConnection,
    reference: &str,
    before: Option<i64>,
    limit: i64,
) -> Result<Vec<Operation>, Error> {
    let mut query = operations::table
        .select(Operation::as_select())
        .order(operations::position.desc())
        .limit(limit)
        .into_boxed();
    if !reference.is_empty() {
        query = query.filter(operations::reference.eq(reference.to_owned()));
    }
    if let Some(before) = before {
        query = query.filter(operations::position.lt(before));
    }
    Ok(query.load(conn).await?)
}
