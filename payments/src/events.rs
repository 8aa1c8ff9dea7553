//! What others are told: one event for each transition, in its transaction. Ids, states and amounts; nothing of the card.

use diesel_async::AsyncPgConnection;
use jiff::Timestamp;
use mesh::outbox::{self, Event};
use serde_json::json;

use crate::{
    domain::{
        payment_intent::{PaymentIntent, State},
        refund::{self, Refund},
    },
    error::Error,
};

/// A payment was created.
pub(crate) async fn created(
    conn: &mut AsyncPgConnection,
    intent: &PaymentIntent,
    now: Timestamp,
) -> Result<(), Error> {
    append_intent(conn, intent, "payment_intent.created", now).await
}

/// A payment has moved to the state that it is in.
pub(crate) async fn moved(
    conn: &mut AsyncPgConnection,
    intent: &PaymentIntent,
    now: Timestamp,
) -> Result<(), Error> {
    let event = match intent.state {
        State::RequiresPaymentMethod => "payment_intent.payment_failed",
        State::RequiresConfirmation => "payment_intent.requires_confirmation",
        State::Processing(_) => "payment_intent.processing",
        State::RequiresCapture => "payment_intent.amount_capturable_updated",
        State::Succeeded => "payment_intent.succeeded",
        State::Canceled => "payment_intent.canceled",
    };
    append_intent(conn, intent, event, now).await
}

/// A refund was created, or has moved to the state that it is in.
pub(crate) async fn refund(
    conn: &mut AsyncPgConnection,
    refund: &Refund,
    now: Timestamp,
) -> Result<(), Error> {
    let event_type = match refund.state {
        refund::State::Pending => "refund.created",
        refund::State::Succeeded => "refund.succeeded",
        refund::State::Failed => "refund.failed",
        refund::State::Canceled => "refund.canceled",
    };
    let payload = json!({
        "refund": refund.id.name(),
        "payment_intent": refund.intent.name(),
        "currency_code": refund.amount.currency().code(),
        "amount_minor": refund.amount.minor().to_string(),
    });
    append(conn, "refund", refund.id.uuid(), event_type, payload, now).await
}

async fn append_intent(
    conn: &mut AsyncPgConnection,
    intent: &PaymentIntent,
    event_type: &'static str,
    now: Timestamp,
) -> Result<(), Error> {
    let payload = json!({
        "payment_intent": intent.id.name(),
        "customer": intent.customer.name(),
        "merchant": format!("merchants/{}", intent.merchant),
        "reference": intent.reference,
        "currency_code": intent.amount.currency().code(),
        "amount_minor": intent.amount.minor().to_string(),
        "amount_captured_minor": intent.captured_minor.to_string(),
        "amount_refunded_minor": intent.refunded_minor.to_string(),
    });
    append(conn, "payment_intent", intent.id.uuid(), event_type, payload, now).await
}

async fn append(
    conn: &mut AsyncPgConnection,
    aggregate_type: &'static str,
    aggregate_id: mesh::id::Uuid,
    event_type: &'static str,
    payload: serde_json::Value,
    now: Timestamp,
) -> Result<(), Error> {
    let request_id = mesh::server::request_id();
    outbox::append(
        conn,
        &Event { aggregate_type, aggregate_id, event_type, payload, request_id, occurred_at: now },
    )
    .await?;
    Ok(())
}
