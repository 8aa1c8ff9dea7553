//! What can go wrong, and what each means to the caller.

use std::time::Duration;

use diesel_async::pooled_connection::deadpool::PoolError;
use mesh::{
    db::{LostRace, waited_too_long},
    idempotency,
    status::Refusal,
};
use tonic::Status;

use crate::{
    domain::{
        attempt,
        card::PaymentMethodId,
        money::MoneyError,
        payment_intent,
        refund::RefundId,
        webhook::{DeliveryId, WebhookEndpointId},
    },
    vault::VaultError,
};

use payment_intent::PaymentIntentId;

/// `ErrorInfo.domain` of every error of this service.
pub const DOMAIN: &str = "payments.jetway";

/// When to come back for something that is over in a moment.
const SOON: Duration = Duration::from_secs(1);

/// Why a call failed. A declined card is an answer, not an error.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A field is wrong in a way that the contract's rules cannot say.
    #[error("invalid `{0}`")]
    InvalidField(&'static str),
    /// The amount is none that can be paid.
    #[error("`amount`: {0}")]
    Amount(MoneyError),
    /// The digits of a card number do not check.
    #[error("the card number is not valid")]
    InvalidNumber,
    /// The card's last month is over.
    #[error("the card has expired")]
    ExpiredCard,
    /// The issuer does not know the card with this CVC.
    #[error("the security code is incorrect")]
    IncorrectCvc,
    /// The issuer refuses the card.
    #[error("the card was declined")]
    CardDeclined,
    /// Free text holds what looks like a card number.
    #[error("`{0}` holds what looks like a card number")]
    PanInFreeText(&'static str),
    /// No such payment method, or another customer's.
    #[error("no payment method {0}")]
    PaymentMethodNotFound(PaymentMethodId),
    /// The card cannot be read from the vault: it was damaged, or its key is gone. Nothing was done.
    #[error("the card of payment method {0} cannot be read")]
    CardUnreadable(PaymentMethodId),
    /// The acquirer is being asked about a payment with this card.
    #[error("payment method {0} is in use")]
    PaymentMethodInUse(PaymentMethodId),
    /// No such payment, or another customer's.
    #[error("no payment intent {0}")]
    PaymentIntentNotFound(PaymentIntentId),
    /// No such refund, or another customer's.
    #[error("no refund {0}")]
    RefundNotFound(RefundId),
    /// The payment is in the wrong state.
    #[error("cannot change payment intent {intent}: {why}")]
    Transition {
        /// Which payment.
        intent: PaymentIntentId,
        /// Why not.
        why: payment_intent::TransitionError,
    },
    /// More than is left of the authorisation.
    #[error("more than can be captured of payment intent {0}")]
    AmountExceedsCapturable(PaymentIntentId),
    /// More than is left of the captures.
    #[error("more than can be refunded of payment intent {0}")]
    RefundExceedsRefundable(PaymentIntentId),
    /// Nothing was captured.
    #[error("payment intent {0} is not captured")]
    NotCaptured(PaymentIntentId),
    /// No such webhook endpoint.
    #[error("no webhook endpoint {0}")]
    WebhookEndpointNotFound(WebhookEndpointId),
    /// The webhook endpoint is disabled.
    #[error("webhook endpoint {0} is disabled")]
    WebhookEndpointDisabled(WebhookEndpointId),
    /// The merchant has as many webhook endpoints as it may have.
    #[error("there may be no more than {} webhook endpoints", crate::domain::webhook::ENDPOINTS_MAX)]
    WebhookEndpointLimit,
    /// The URL of a webhook endpoint is none that may be called.
    #[error("`webhook_endpoint.url`: {0}")]
    WebhookUrl(crate::webhooks::address::Refused),
    /// No such delivery.
    #[error("no delivery {0}")]
    DeliveryNotFound(DeliveryId),
    /// More events than one call delivers once more.
    #[error("more than 10,000 events: replay a shorter time")]
    ReplayTooLarge(WebhookEndpointId),
    /// The resource was changed since it was read.
    #[error("the etag is not the newest of {0}")]
    EtagMismatch(String),
    /// The simulator is off.
    #[error("there is no simulator")]
    NoSimulator,
    /// The acquirer does not answer, and nothing depends on it.
    #[error("the acquirer does not answer")]
    AcquirerUnavailable,
    /// Too many calls begin at the same time. Nothing has happened.
    #[error("too many calls at the same time")]
    Overloaded,
    /// The acquirer says two things of one reference.
    #[error("attempt {attempt}: {why}")]
    Acquirer {
        /// Which attempt.
        attempt: attempt::AttemptId,
        /// What is wrong.
        why: attempt::TransitionError,
    },
    /// A stored row is one that cannot be.
    #[error("{0} is stored in a form that cannot be")]
    Corrupt(String),
    /// A card cannot be read from the vault, or written to it.
    #[error("the vault failed")]
    Vault(#[from] VaultError),
    /// The request id cannot be used, or was lost to another execution.
    #[error(transparent)]
    Idempotency(#[from] idempotency::Error),
    /// A query failed.
    #[error("query failed")]
    Database(#[from] diesel::result::Error),
    /// No connection.
    #[error("no database connection")]
    Pool(#[from] PoolError),
}

impl Error {
    /// Whether a lock was waited for in vain. Nothing was written.
    pub(crate) fn waited_too_long(&self) -> bool {
        if let Self::Database(error) | Self::Idempotency(idempotency::Error::Database(error)) = self {
            waited_too_long(error)
        } else {
            false
        }
    }

    /// Whether the refusal is the answer to this request for ever: stored with its request id, and replayed.
    pub(crate) fn is_final(&self) -> bool {
        use payment_intent::TransitionError::{
            AlreadyAuthorized, AlreadyCanceled, AlreadySucceeded, NoPaymentMethod, NotAuthorized, Processing,
            Unasked,
        };
        match self {
            Self::Transition { why, .. } => match why {
                AlreadyAuthorized | AlreadyCanceled | AlreadySucceeded | NoPaymentMethod | NotAuthorized => {
                    true
                }
                Processing | Unasked => false,
            },
            Self::AmountExceedsCapturable(_) | Self::RefundExceedsRefundable(_) | Self::NotCaptured(_) => {
                true
            }
            Self::InvalidField(_)
            | Self::Amount(_)
            | Self::InvalidNumber
            | Self::ExpiredCard
            | Self::IncorrectCvc
            | Self::CardDeclined
            | Self::PanInFreeText(_)
            | Self::PaymentMethodNotFound(_)
            | Self::CardUnreadable(_)
            | Self::PaymentMethodInUse(_)
            | Self::PaymentIntentNotFound(_)
            | Self::RefundNotFound(_)
            | Self::WebhookEndpointNotFound(_)
            | Self::WebhookEndpointDisabled(_)
            | Self::WebhookEndpointLimit
            | Self::WebhookUrl(_)
            | Self::DeliveryNotFound(_)
            | Self::ReplayTooLarge(_)
            | Self::EtagMismatch(_)
            | Self::NoSimulator
            | Self::AcquirerUnavailable
            | Self::Overloaded
            | Self::Acquirer { .. }
            | Self::Corrupt(_)
            | Self::Vault(_)
            | Self::Idempotency(_)
            | Self::Database(_)
            | Self::Pool(_) => false,
        }
    }
}

impl LostRace for Error {
    fn lost_race(&self) -> bool {
        if let Self::Database(error) | Self::Idempotency(idempotency::Error::Database(error)) = self {
            error.lost_race()
        } else {
            false
        }
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        use payment_intent::TransitionError;

        let message = error.to_string();
        let invalid = |field: &str| Refusal::InvalidArgument { field: field.to_owned() };
        let intent = |id: &PaymentIntentId| Refusal::FailedPrecondition { subject: id.name() };
        let (reason, refusal) = match &error {
            Error::InvalidField("page_token") => ("PAGE_TOKEN_INVALID", invalid("page_token")),
            Error::InvalidField(field) => ("FIELD_INVALID", invalid(field)),
            Error::Amount(MoneyError::Currency) => ("CURRENCY_UNSUPPORTED", invalid("amount.currency_code")),
            Error::Amount(MoneyError::Range) => ("AMOUNT_OUT_OF_RANGE", invalid("amount.amount_minor")),
            Error::InvalidNumber => ("INVALID_NUMBER", invalid("card.number")),
            Error::ExpiredCard => ("EXPIRED_CARD", invalid("card.exp_year")),
            Error::IncorrectCvc => ("INCORRECT_CVC", invalid("card.cvc")),
            Error::CardDeclined => ("CARD_DECLINED", invalid("card")),
            Error::PanInFreeText(field) => ("PAN_IN_FREE_TEXT", invalid(field)),
            Error::PaymentMethodNotFound(id) => {
                ("PAYMENT_METHOD_NOT_FOUND", Refusal::NotFound { resource: id.name() })
            }
            Error::PaymentMethodInUse(id) => {
                ("PAYMENT_METHOD_IN_USE", Refusal::FailedPrecondition { subject: id.name() })
            }
            Error::PaymentIntentNotFound(id) => {
                ("PAYMENT_INTENT_NOT_FOUND", Refusal::NotFound { resource: id.name() })
            }
            Error::RefundNotFound(id) => ("REFUND_NOT_FOUND", Refusal::NotFound { resource: id.name() }),
            Error::CardUnreadable(_) => ("CARD_UNREADABLE", Refusal::Internal),
            Error::Transition { intent: id, why } => match why {
                TransitionError::Processing => {
                    return Refusal::Aborted.status_with_retry(DOMAIN, "PAYMENT_PROCESSING", message, SOON);
                }
                TransitionError::NoPaymentMethod => ("PAYMENT_METHOD_REQUIRED", intent(id)),
                TransitionError::AlreadyAuthorized => ("ALREADY_AUTHORIZED", intent(id)),
                TransitionError::NotAuthorized => ("NOT_AUTHORIZED", intent(id)),
                TransitionError::AlreadySucceeded => ("ALREADY_SUCCEEDED", intent(id)),
                TransitionError::AlreadyCanceled => ("ALREADY_CANCELED", intent(id)),
                TransitionError::Unasked => return internal(&error),
            },
            Error::AmountExceedsCapturable(id) => ("AMOUNT_EXCEEDS_CAPTURABLE", intent(id)),
            Error::RefundExceedsRefundable(id) => ("REFUND_EXCEEDS_REFUNDABLE", intent(id)),
            Error::NotCaptured(id) => ("NOT_CAPTURED", intent(id)),
            Error::WebhookEndpointNotFound(id) => {
                ("WEBHOOK_ENDPOINT_NOT_FOUND", Refusal::NotFound { resource: id.name() })
            }
            Error::WebhookEndpointDisabled(id) => {
                ("WEBHOOK_ENDPOINT_DISABLED", Refusal::FailedPrecondition { subject: id.name() })
            }
            Error::WebhookEndpointLimit => (
                "WEBHOOK_ENDPOINT_LIMIT",
                Refusal::FailedPrecondition { subject: "webhookEndpoints".to_owned() },
            ),
            Error::WebhookUrl(_) => ("WEBHOOK_URL_FORBIDDEN", invalid("webhook_endpoint.url")),
            Error::DeliveryNotFound(id) => ("DELIVERY_NOT_FOUND", Refusal::NotFound { resource: id.name() }),
            Error::ReplayTooLarge(id) => {
                ("REPLAY_TOO_LARGE", Refusal::FailedPrecondition { subject: id.name() })
            }
            Error::EtagMismatch(_) => ("ETAG_MISMATCH", Refusal::Aborted),
            Error::NoSimulator => ("SIMULATOR_OFF", Refusal::NotFound { resource: "simulator".to_owned() }),
            Error::Overloaded => ("OVERLOADED", Refusal::Unavailable { retry_after: SOON }),
            Error::AcquirerUnavailable => {
                ("ACQUIRER_UNAVAILABLE", Refusal::Unavailable { retry_after: SOON })
            }
            Error::Idempotency(why) => match why {
                idempotency::Error::InProgress | idempotency::Error::ClaimLost => {
                    return Refusal::Aborted.status_with_retry(
                        DOMAIN,
                        "IDEMPOTENCY_IN_PROGRESS",
                        message,
                        SOON,
                    );
                }
                idempotency::Error::KeyReused => (
                    "IDEMPOTENCY_KEY_REUSED",
                    Refusal::FailedPrecondition { subject: "request_id".to_owned() },
                ),
                idempotency::Error::Database(database)
                    if database.lost_race() || waited_too_long(database) =>
                {
                    ("LOST_RACE", Refusal::Aborted)
                }
                idempotency::Error::Database(_) => return internal(&error),
            },
            Error::Database(database) if database.lost_race() || waited_too_long(database) => {
                ("LOST_RACE", Refusal::Aborted)
            }
            Error::Pool(_) => ("DATABASE_UNAVAILABLE", Refusal::Unavailable { retry_after: SOON }),
            Error::Acquirer { .. } | Error::Corrupt(_) | Error::Vault(_) | Error::Database(_) => {
                return internal(&error);
            }
        };
        refusal.status(DOMAIN, reason, message)
    }
}

fn internal(error: &Error) -> Status {
    let cause: &dyn std::error::Error = error;
    tracing::error!(error = cause, "internal error");
    Refusal::Internal.status(DOMAIN, "INTERNAL", "internal error")
}
