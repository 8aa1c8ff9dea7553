//! What others are told: one event for each transition, in its transaction. Ids, states and amounts; nothing of the card. Each is queued for
//! [`crate::webhooks`] there too.

use diesel_async::AsyncPgConnection;
use jiff::Timestamp;
use mesh::{
    free_text::holds_card_number,
    outbox::{self, Event},
};
use serde_json::json;

use crate::{
    domain::{
        payment_intent::{PaymentIntent, State},
        refund::{self, Refund},
        webhook::{self, DisabledReason, EventId, WebhookEndpoint},
    },
    error::Error,
    store,
};

tokio::task_local! {
    /// The request id of the call that the task executes.
    static CAUSE: String;
}

/// Runs a future on behalf of the call with this request id: the events that it writes name it.
pub(crate) async fn caused_by<F: Future>(key: &str, future: F) -> F::Output {
    CAUSE.scope(key.to_owned(), future).await
}

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
    merchant: &str,
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
        "merchant": format!("merchants/{merchant}"),
        "currency_code": refund.amount.currency().code(),
        "amount_minor": refund.amount.minor().to_string(),
    });
    append(conn, "refund", refund.id.uuid(), event_type, payload, now).await.map(drop)
}

/// An endpoint was disabled. The caller has locked it.
pub(crate) async fn webhook_endpoint_disabled(
    conn: &mut AsyncPgConnection,
    endpoint: &WebhookEndpoint,
    reason: DisabledReason,
    now: Timestamp,
) -> Result<(), Error> {
    let reason = match reason {
        DisabledReason::Manual => "MANUAL",
        DisabledReason::Gone => "GONE",
        DisabledReason::Failing => "FAILING",
    };
    append_endpoint(conn, endpoint, webhook::DISABLED, Some(reason), now).await.map(drop)
}

/// Somebody tries an endpoint, which the caller has locked. The event is for that endpoint alone.
pub(crate) async fn webhook_endpoint_ping(
    conn: &mut AsyncPgConnection,
    endpoint: &WebhookEndpoint,
    now: Timestamp,
) -> Result<EventId, Error> {
    let event = append_endpoint(conn, endpoint, webhook::PING, None, now).await?;
    store::webhooks::deliveries::do_not_spread(conn, event, now).await?;
    Ok(event)
}

async fn append_endpoint(
    conn: &mut AsyncPgConnection,
    endpoint: &WebhookEndpoint,
    event_type: &'static str,
    disabled_reason: Option<&str>,
    now: Timestamp,
) -> Result<EventId, Error> {
    let payload = json!({
        "webhook_endpoint": endpoint.id.name(),
        "merchant": endpoint.merchant.as_ref().map(|merchant| format!("merchants/{merchant}")),
        "disabled_reason": disabled_reason,
    });
    append(conn, "webhook_endpoint", endpoint.id.uuid(), event_type, payload, now).await
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
    append(conn, "payment_intent", intent.id.uuid(), event_type, payload, now).await.map(drop)
}

async fn append(
    conn: &mut AsyncPgConnection,
    aggregate_type: &'static str,
    aggregate_id: mesh::id::Uuid,
    event_type: &'static str,
    payload: serde_json::Value,
    now: Timestamp,
) -> Result<EventId, Error> {
    // Ids and keys of calls are whatever clients made up.
    let request_id = Some(mesh::server::request_id()).filter(|id| !holds_card_number(id)).unwrap_or_default();
    let version = outbox::append(
        conn,
        &Event { aggregate_type, aggregate_id, event_type, payload, request_id, occurred_at: now },
    )
    .await?;
    let key = CAUSE.try_with(String::clone).ok().filter(|key| !key.is_empty() && !holds_card_number(key));
    store::webhooks::deliveries::queue(conn, aggregate_type, aggregate_id, version, key.as_deref()).await
}
