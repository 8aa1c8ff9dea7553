//! Payment intents.

use diesel::prelude::*;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use jiff_diesel::{Timestamp, ToDiesel as _};
use mesh::auth::PrincipalId;

use super::money;
use crate::{
    domain::{
        card::PaymentMethodId,
        payment_intent::{CaptureMethod, PaymentError, PaymentIntent, PaymentIntentId, State, Step},
    },
    error::Error,
    schema::payment_intents,
};

/// `payment_intents`, as stored.
#[derive(Queryable, Selectable, Insertable, AsChangeset)]
#[diesel(table_name = payment_intents, check_for_backend(diesel::pg::Pg), treat_none_as_null = true)]
struct Row {
    id: PaymentIntentId,
    version: i64,
    state: String,
    step: Option<String>,
    customer_id: PrincipalId,
    merchant_id: String,
    currency: String,
    amount_minor: i64,
    amount_authorized_minor: i64,
    amount_captured_minor: i64,
    amount_refunded_minor: i64,
    capture_method: String,
    payment_method_id: Option<PaymentMethodId>,
    reference: String,
    cancel_reason: String,
    confirmations: i32,
    error_code: Option<String>,
    error_decline_code: Option<String>,
    error_message: Option<String>,
    error_attempt: Option<i32>,
    created_at: Timestamp,
    updated_at: Timestamp,
}

impl From<&PaymentIntent> for Row {
    fn from(intent: &PaymentIntent) -> Self {
        let (state, step) = words(intent.state);
        let error = intent.last_error.as_ref();
        Self {
            id: intent.id,
            version: intent.version,
            state: state.to_owned(),
            step: step.map(str::to_owned),
            customer_id: intent.customer,
            merchant_id: intent.merchant.clone(),
            currency: intent.amount.currency().code().to_owned(),
            amount_minor: intent.amount.minor(),
            amount_authorized_minor: intent.authorized_minor,
            amount_captured_minor: intent.captured_minor,
            amount_refunded_minor: intent.refunded_minor,
            capture_method: match intent.capture_method {
                CaptureMethod::Automatic => "AUTOMATIC",
                CaptureMethod::Manual => "MANUAL",
            }
            .to_owned(),
            payment_method_id: intent.payment_method,
            reference: intent.reference.clone(),
            cancel_reason: intent.cancel_reason.clone(),
            confirmations: intent.confirmations,
            error_code: error.map(|error| error.code.clone()),
            error_decline_code: error.map(|error| error.decline_code.clone()),
            error_message: error.map(|error| error.message.clone()),
            error_attempt: error.map(|error| error.attempt),
            created_at: intent.created_at.to_diesel(),
            updated_at: intent.updated_at.to_diesel(),
        }
    }
}

impl TryFrom<Row> for PaymentIntent {
    type Error = Error;

    fn try_from(row: Row) -> Result<Self, Error> {
        let corrupt = || Error::Corrupt(row.id.name());
        let state = state(&row.state, row.step.as_deref()).ok_or_else(corrupt)?;
        let capture_method = match row.capture_method.as_str() {
            "AUTOMATIC" => CaptureMethod::Automatic,
            "MANUAL" => CaptureMethod::Manual,
            _ => return Err(corrupt()),
        };
        let last_error = match (row.error_code, row.error_decline_code, row.error_message, row.error_attempt)
        {
            (Some(code), Some(decline_code), Some(message), Some(attempt)) => {
                Some(PaymentError { code, decline_code, message, attempt })
            }
            (None, None, None, None) => None,
            _ => return Err(Error::Corrupt(row.id.name())),
        };
        Ok(Self {
            id: row.id,
            version: row.version,
            state,
            customer: row.customer_id,
            merchant: row.merchant_id,
            amount: money(row.id, &row.currency, row.amount_minor)?,
            authorized_minor: row.amount_authorized_minor,
            captured_minor: row.amount_captured_minor,
            refunded_minor: row.amount_refunded_minor,
            capture_method,
            payment_method: row.payment_method_id,
            reference: row.reference,
            cancel_reason: row.cancel_reason,
            confirmations: row.confirmations,
            last_error,
            created_at: row.created_at.to_jiff(),
            updated_at: row.updated_at.to_jiff(),
        })
    }
}

fn words(state: State) -> (&'static str, Option<&'static str>) {
    match state {
        State::RequiresPaymentMethod => ("REQUIRES_PAYMENT_METHOD", None),
        State::RequiresConfirmation => ("REQUIRES_CONFIRMATION", None),
        State::Processing(Step::Authorizing) => ("PROCESSING", Some("AUTHORIZING")),
        State::Processing(Step::AuthorizingToCancel) => ("PROCESSING", Some("AUTHORIZING_TO_CANCEL")),
        State::Processing(Step::Capturing) => ("PROCESSING", Some("CAPTURING")),
        State::Processing(Step::Voiding) => ("PROCESSING", Some("VOIDING")),
        State::RequiresCapture => ("REQUIRES_CAPTURE", None),
        State::Succeeded => ("SUCCEEDED", None),
        State::Canceled => ("CANCELED", None),
    }
}

fn state(state: &str, step: Option<&str>) -> Option<State> {
    [
        State::RequiresPaymentMethod,
        State::RequiresConfirmation,
        State::Processing(Step::Authorizing),
        State::Processing(Step::AuthorizingToCancel),
        State::Processing(Step::Capturing),
        State::Processing(Step::Voiding),
        State::RequiresCapture,
        State::Succeeded,
        State::Canceled,
    ]
    .into_iter()
    .find(|known| words(*known) == (state, step))
}

/// Writes a new payment, and whose call created it.
pub(crate) async fn insert(
    conn: &mut AsyncPgConnection,
    intent: &PaymentIntent,
    request: &mesh::idempotency::Request,
) -> Result<(), Error> {
    diesel::insert_into(payment_intents::table)
        .values((
            Row::from(intent),
            payment_intents::request_caller.eq(&request.caller),
            payment_intents::request_key.eq(&request.key),
        ))
        .execute(conn)
        .await?;
    Ok(())
}

/// Reads a payment.
///
/// # Errors
///
/// [`Error::PaymentIntentNotFound`], [`Error::Corrupt`].
pub(crate) async fn get(conn: &mut AsyncPgConnection, id: PaymentIntentId) -> Result<PaymentIntent, Error> {
    let row = payment_intents::table.find(id).select(Row::as_select()).first(conn).await.optional()?;
    row.ok_or(Error::PaymentIntentNotFound(id))?.try_into()
}

/// Reads a payment and locks its row until the transaction ends.
///
/// # Errors
///
/// As [`get`].
pub(crate) async fn lock(conn: &mut AsyncPgConnection, id: PaymentIntentId) -> Result<PaymentIntent, Error> {
    let row =
        payment_intents::table.find(id).select(Row::as_select()).for_update().first(conn).await.optional()?;
    row.ok_or(Error::PaymentIntentNotFound(id))?.try_into()
}

/// Writes every field of a payment that [`lock`] read in the same transaction, and counts the change.
pub(crate) async fn update(
    conn: &mut AsyncPgConnection,
    intent: &mut PaymentIntent,
    now: jiff::Timestamp,
) -> Result<(), Error> {
    let read = intent.version;
    intent.version += 1;
    intent.updated_at = now;
    let written =
        diesel::update(payment_intents::table.find(intent.id).filter(payment_intents::version.eq(read)))
            .set(Row::from(&*intent))
            .execute(conn)
            .await?;
    if written == 1 { Ok(()) } else { Err(Error::Corrupt(intent.id.name())) }
}

/// Up to `limit` payments, newest first: those older than `after`, of `customer` unless that is `None`.
pub(crate) async fn list(
    conn: &mut AsyncPgConnection,
    customer: Option<PrincipalId>,
    after: Option<PaymentIntentId>,
    limit: i64,
) -> Result<Vec<PaymentIntent>, Error> {
    let mut query = payment_intents::table
        .select(Row::as_select())
        .order(payment_intents::id.desc())
        .limit(limit)
        .into_boxed();
    if let Some(customer) = customer {
        query = query.filter(payment_intents::customer_id.eq(customer));
    }
    if let Some(after) = after {
        query = query.filter(payment_intents::id.lt(after));
    }
    query.load::<Row>(conn).await?.into_iter().map(TryInto::try_into).collect()
}
