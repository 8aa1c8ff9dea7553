//! Domain values as messages.

use mesh::clock::to_proto;
use proto::{
    payments::v1::{self as pb, delivery, payment_intent, webhook_endpoint},
    r#type,
};

use crate::domain::{
    card::{PaymentMethod, PaymentMethodId},
    money::Money,
    payment_intent::{CaptureMethod, PaymentIntent, State},
    refund::{self, Refund},
    webhook::{self, Delivery, DeliveryState, DisabledReason, Failure, Trigger, WebhookEndpoint},
};

pub(crate) fn money(amount: Money) -> r#type::Money {
    r#type::Money { currency_code: amount.currency().code().to_owned(), amount_minor: amount.minor() }
}

pub(crate) fn payment_method(method: &PaymentMethod) -> pb::PaymentMethod {
    pb::PaymentMethod {
        name: method.id.name(),
        uid: method.id.to_string(),
        create_time: Some(to_proto(method.created_at)),
        customer: method.customer.name(),
        brand: method.brand.clone(),
        bin6: method.bin6.clone(),
        last4: method.last4.clone(),
        exp_month: method.exp_month.into(),
        exp_year: method.exp_year.into(),
        fingerprint: method.fingerprint.clone(),
    }
}

pub(crate) fn payment_intent(intent: &PaymentIntent) -> pb::PaymentIntent {
    let state = match intent.state {
        State::RequiresPaymentMethod => payment_intent::State::RequiresPaymentMethod,
        State::RequiresConfirmation => payment_intent::State::RequiresConfirmation,
        State::Processing(_) => payment_intent::State::Processing,
        State::RequiresCapture => payment_intent::State::RequiresCapture,
        State::Succeeded => payment_intent::State::Succeeded,
        State::Canceled => payment_intent::State::Canceled,
    };
    let capture_method = match intent.capture_method {
        CaptureMethod::Automatic => payment_intent::CaptureMethod::Automatic,
        CaptureMethod::Manual => payment_intent::CaptureMethod::Manual,
    };
    pb::PaymentIntent {
        name: intent.id.name(),
        uid: intent.id.to_string(),
        create_time: Some(to_proto(intent.created_at)),
        update_time: Some(to_proto(intent.updated_at)),
        state: state.into(),
        customer: intent.customer.name(),
        merchant: format!("merchants/{}", intent.merchant),
        amount: Some(money(intent.amount)),
        amount_capturable_minor: intent.capturable_minor(),
        amount_captured_minor: intent.captured_minor,
        amount_refunded_minor: intent.refunded_minor,
        capture_method: capture_method.into(),
        payment_method: intent.payment_method.map(PaymentMethodId::name).unwrap_or_default(),
        last_payment_error: intent.last_error.as_ref().map(|error| pb::PaymentError {
            code: error.code.clone(),
            decline_code: error.decline_code.clone(),
            message: error.message.clone(),
            attempt: error.attempt,
        }),
        reference: intent.reference.clone(),
    }
}

pub(crate) fn refund(refund: &Refund) -> pb::Refund {
    let state = match refund.state {
        refund::State::Pending => pb::refund::State::Pending,
        refund::State::Succeeded => pb::refund::State::Succeeded,
        refund::State::Failed => pb::refund::State::Failed,
        refund::State::Canceled => pb::refund::State::Canceled,
    };
    pb::Refund {
        name: refund.id.name(),
        uid: refund.id.to_string(),
        create_time: Some(to_proto(refund.created_at)),
        update_time: Some(to_proto(refund.updated_at)),
        state: state.into(),
        payment_intent: refund.intent.name(),
        amount: Some(money(refund.amount)),
        reason: refund.reason.clone(),
    }
}

/// Without its secret, which only two calls show.
pub(crate) fn webhook_endpoint(endpoint: &WebhookEndpoint) -> pb::WebhookEndpoint {
    let (state, disabled_reason) = match endpoint.state {
        webhook::State::Enabled => {
            (webhook_endpoint::State::Enabled, webhook_endpoint::DisabledReason::Unspecified)
        }
        webhook::State::Disabled(reason) => (
            webhook_endpoint::State::Disabled,
            match reason {
                DisabledReason::Manual => webhook_endpoint::DisabledReason::Manual,
                DisabledReason::Gone => webhook_endpoint::DisabledReason::Gone,
                DisabledReason::Failing => webhook_endpoint::DisabledReason::Failing,
            },
        ),
    };
    pb::WebhookEndpoint {
        name: endpoint.id.name(),
        uid: endpoint.id.to_string(),
        create_time: Some(to_proto(endpoint.created_at)),
        update_time: Some(to_proto(endpoint.updated_at)),
        etag: endpoint.etag(),
        state: state.into(),
        disabled_reason: disabled_reason.into(),
        merchant: endpoint.merchant.as_ref().map(|id| format!("merchants/{id}")).unwrap_or_default(),
        url: endpoint.url.clone(),
        description: endpoint.description.clone(),
        event_types: endpoint.event_types.clone(),
        secret: String::new(),
        secret_version: endpoint.secret_version,
    }
}

pub(crate) fn delivery(delivery: &Delivery) -> pb::Delivery {
    let (state, next_attempt_time) = match delivery.state {
        DeliveryState::Pending { due_at } => (delivery::State::Pending, Some(to_proto(due_at))),
        DeliveryState::Succeeded => (delivery::State::Succeeded, None),
        DeliveryState::Dead => (delivery::State::Dead, None),
    };
    let trigger = match delivery.trigger {
        Trigger::Event => delivery::Trigger::Event,
        Trigger::Redelivery => delivery::Trigger::Redelivery,
        Trigger::Replay => delivery::Trigger::Replay,
        Trigger::Ping => delivery::Trigger::Ping,
    };
    let last_failure = match delivery.last_failure {
        None => delivery::Failure::Unspecified,
        Some(Failure::HttpStatus) => delivery::Failure::HttpStatus,
        Some(Failure::Timeout) => delivery::Failure::Timeout,
        Some(Failure::NameNotResolved) => delivery::Failure::NameNotResolved,
        Some(Failure::AddressForbidden) => delivery::Failure::AddressForbidden,
        Some(Failure::ConnectionFailed) => delivery::Failure::ConnectionFailed,
        Some(Failure::TlsFailed) => delivery::Failure::TlsFailed,
        Some(Failure::SecretUnreadable) => delivery::Failure::SecretUnreadable,
        Some(Failure::EndpointDisabled) => delivery::Failure::EndpointDisabled,
    };
    pb::Delivery {
        name: delivery.name(),
        uid: delivery.id.to_string(),
        create_time: Some(to_proto(delivery.created_at)),
        update_time: Some(to_proto(delivery.updated_at)),
        state: state.into(),
        trigger: trigger.into(),
        event: delivery.event.name(),
        event_type: delivery.event_type.clone(),
        attempt_count: delivery.attempts,
        next_attempt_time,
        last_attempt_time: delivery.last_attempt_at.map(to_proto),
        last_failure: last_failure.into(),
        last_http_status: delivery.last_status.map(i32::from).unwrap_or_default(),
    }
}
