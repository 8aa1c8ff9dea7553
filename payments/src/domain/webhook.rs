//! Webhooks: endpoints, their health, and deliveries to them.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use mesh::id::Uuid;

mesh::typed_id!(
    /// A URL that events are delivered to.
    WebhookEndpointId,
    "webhookEndpoints"
);

mesh::typed_id!(
    /// One event on its way to one endpoint.
    DeliveryId,
    "deliveries"
);

mesh::typed_id!(
    /// A secret that deliveries are signed with.
    WebhookSecretId,
    "webhookSecrets"
);

mesh::typed_id!(
    /// An event, as the outbox and its receivers know it.
    EventId,
    "events"
);

/// Endpoints of one merchant, and of the platform.
pub const ENDPOINTS_MAX: i64 = 16;

/// Attempts of one delivery.
pub const ATTEMPTS_MAX: i32 = 10;

/// How long an old secret signs beside its successor.
pub const OLD_SECRET_LIFE: SignedDuration = SignedDuration::from_hours(24);

/// How long every attempt fails before an endpoint is disabled.
pub const FAILING_MAX: SignedDuration = SignedDuration::from_hours(5 * 24);

/// Failures in a row after which an endpoint is left alone for a while.
pub const FAILURES_MAX: i32 = 5;

/// How long it is left alone first; twice as long after each further failure.
const PAUSE: SignedDuration = SignedDuration::from_secs(30);

/// The longest that it is left alone.
const PAUSE_MAX: SignedDuration = SignedDuration::from_mins(5);

/// The longest `Retry-After` that is believed.
const RETRY_AFTER_MAX: SignedDuration = SignedDuration::from_hours(24);

/// Types of events that an endpoint may ask for. A kind and `.*` asks for all of that kind.
pub const EVENT_TYPES: [&str; 32] = [
    "payment_intent.created",
    "payment_intent.requires_confirmation",
    "payment_intent.processing",
    "payment_intent.requires_action",
    "payment_intent.amount_capturable_updated",
    "payment_intent.succeeded",
    "payment_intent.payment_failed",
    "payment_intent.canceled",
    "charge.captured",
    "refund.created",
    "refund.succeeded",
    "refund.failed",
    "refund.canceled",
    "dispute.created",
    "dispute.updated",
    "dispute.closed",
    "dispute.funds_withdrawn",
    "dispute.funds_reinstated",
    "payout.created",
    "payout.paid",
    "payout.failed",
    "payout.canceled",
    "payment_method.attached",
    "payment_method.detached",
    "payment_method.updated",
    "setup_intent.created",
    "setup_intent.processing",
    "setup_intent.requires_action",
    "setup_intent.succeeded",
    "setup_intent.setup_failed",
    "setup_intent.canceled",
    DISABLED,
];

/// The type of the event that an endpoint was disabled by itself.
pub const DISABLED: &str = "webhook_endpoint.disabled";

/// The type of the event that only tries an endpoint.
pub const PING: &str = "webhook_endpoint.ping";

/// Whether an endpoint may ask for this: a known type, or a known kind and `.*`.
pub fn is_event_type(text: &str) -> bool {
    EVENT_TYPES.contains(&text)
        || text.strip_suffix(".*").is_some_and(|kind| {
            EVENT_TYPES.iter().any(|known| known.split_once('.').is_some_and(|(its, _)| its == kind))
        })
}

/// A URL that events are delivered to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebhookEndpoint {
    /// Which one.
    pub id: WebhookEndpointId,
    /// Counts what its owner sees change.
    pub version: i64,
    /// Whose events; `None` for everybody's.
    pub merchant: Option<String>,
    /// Where to.
    pub url: String,
    /// For people.
    pub description: String,
    /// Types, or `kind.*`; none for all.
    pub event_types: Vec<String>,
    /// Where it stands.
    pub state: State,
    /// The version of its newest secret, from 1.
    pub secret_version: i32,
    /// How its last attempts went.
    pub health: Health,
    /// When it was registered.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

impl WebhookEndpoint {
    /// The entity tag: another one after every change that its owner sees.
    pub fn etag(&self) -> String {
        format!("v{}", self.version)
    }
}

/// Where an endpoint stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Events are delivered.
    Enabled,
    /// Nothing is.
    Disabled(DisabledReason),
}

/// Why nothing is delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DisabledReason {
    /// Its owner wants it so.
    Manual,
    /// It answered 410 Gone.
    Gone,
    /// Every attempt failed for [`FAILING_MAX`].
    Failing,
}

/// How the last attempts of an endpoint went: its circuit breaker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// Attempts that failed, since the last that did not.
    pub consecutive_failures: i32,
    /// When the first of them failed.
    pub failing_since: Option<Timestamp>,
    /// Nothing is attempted before this, and one delivery alone after it.
    pub resume_at: Option<Timestamp>,
}

impl Health {
    /// The health after an attempt that ended at `now`.
    #[must_use]
    pub fn after(self, answer: &Answer, now: Timestamp) -> Self {
        let (failure, retry_after) = match answer {
            Answer::Accepted { .. } => return Self::default(),
            Answer::Gone { .. } => (Failure::HttpStatus, None),
            Answer::Failed { failure, retry_after, .. } => (*failure, *retry_after),
        };
        // Ours, and no fault of the endpoint's.
        if failure == Failure::SecretUnreadable {
            return self;
        }
        let consecutive_failures = self.consecutive_failures.saturating_add(1);
        let asked = retry_after.map(|wait| later(now, believed(wait)));
        let pause = (consecutive_failures >= FAILURES_MAX).then(|| {
            let doublings = u32::try_from(consecutive_failures.saturating_sub(FAILURES_MAX)).unwrap_or(0);
            let pause = PAUSE.checked_mul(2_i32.saturating_pow(doublings)).unwrap_or(PAUSE_MAX);
            later(now, pause.min(PAUSE_MAX))
        });
        Self {
            consecutive_failures,
            failing_since: self.failing_since.or(Some(now)),
            // One that was told to come back later may be told so by several answers.
            resume_at: self.resume_at.max(asked).max(pause),
        }
    }

    /// Whether nothing but failures came for so long that nothing else is to be expected.
    pub fn is_hopeless(&self, now: Timestamp) -> bool {
        self.failing_since.is_some_and(|since| now.duration_since(since) >= FAILING_MAX)
    }
}

/// What became of one attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// 2xx.
    Accepted {
        /// The HTTP status.
        status: u16,
    },
    /// 410: the endpoint wants nothing more.
    Gone {
        /// The HTTP status.
        status: u16,
    },
    /// Anything else.
    Failed {
        /// Why.
        failure: Failure,
        /// The HTTP status, when there was an answer.
        status: Option<u16>,
        /// When the endpoint wants to be asked again, from now.
        retry_after: Option<Duration>,
    },
}

impl Answer {
    /// A failure without an answer.
    pub fn failed(failure: Failure) -> Self {
        Self::Failed { failure, status: None, retry_after: None }
    }
}

/// Why an attempt failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// An answer that is not 2xx.
    HttpStatus,
    /// No answer in time.
    Timeout,
    /// The name of the host has no address.
    NameNotResolved,
    /// The URL is none that may be called, or the host has a private address.
    AddressForbidden,
    /// No connection, or it broke off.
    ConnectionFailed,
    /// The certificate of the host is not good, or it does not speak TLS.
    TlsFailed,
    /// The secret to sign with cannot be decrypted.
    SecretUnreadable,
    /// The endpoint was disabled before.
    EndpointDisabled,
}

impl Failure {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::HttpStatus,
        Self::Timeout,
        Self::NameNotResolved,
        Self::AddressForbidden,
        Self::ConnectionFailed,
        Self::TlsFailed,
        Self::SecretUnreadable,
        Self::EndpointDisabled,
    ];

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::HttpStatus => "HTTP_STATUS",
            Self::Timeout => "TIMEOUT",
            Self::NameNotResolved => "NAME_NOT_RESOLVED",
            Self::AddressForbidden => "ADDRESS_FORBIDDEN",
            Self::ConnectionFailed => "CONNECTION_FAILED",
            Self::TlsFailed => "TLS_FAILED",
            Self::SecretUnreadable => "SECRET_UNREADABLE",
            Self::EndpointDisabled => "ENDPOINT_DISABLED",
        }
    }
}

/// Why an event is delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// It happened.
    Event,
    /// Somebody wants a delivery once more.
    Redelivery,
    /// Somebody wants the events of a time once more.
    Replay,
    /// Somebody tries the endpoint.
    Ping,
}

/// Where a delivery stands. `Succeeded` and `Dead` are final.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryState {
    /// It is attempted, at this time at the earliest.
    Pending {
        /// When.
        due_at: Timestamp,
    },
    /// The endpoint has it.
    Succeeded,
    /// Given up.
    Dead,
}

/// One event on its way to one endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Which one.
    pub id: DeliveryId,
    /// Where to.
    pub endpoint: WebhookEndpointId,
    /// What.
    pub event: EventId,
    /// The event's type.
    pub event_type: String,
    /// Why.
    pub trigger: Trigger,
    /// Where it stands.
    pub state: DeliveryState,
    /// How often it was attempted.
    pub attempts: i32,
    /// When it was last attempted.
    pub last_attempt_at: Option<Timestamp>,
    /// Why the last attempt failed.
    pub last_failure: Option<Failure>,
    /// The HTTP status of the last answer.
    pub last_status: Option<u16>,
    /// When it was queued.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

impl Delivery {
    /// A new one, due at once.
    pub fn new(
        endpoint: WebhookEndpointId,
        event: EventId,
        event_type: &str,
        trigger: Trigger,
        now: Timestamp,
    ) -> Self {
        Self {
            id: DeliveryId::generate(),
            endpoint,
            event,
            event_type: event_type.to_owned(),
            trigger,
            state: DeliveryState::Pending { due_at: now },
            attempts: 0,
            last_attempt_at: None,
            last_failure: None,
            last_status: None,
            created_at: now,
            updated_at: now,
        }
    }

    /// The resource name.
    pub fn name(&self) -> String {
        format!("{}/{}", self.endpoint.name(), self.id.name())
    }

    /// Reads a resource name.
    pub fn parse_name(name: &str) -> Option<(WebhookEndpointId, DeliveryId)> {
        let (endpoint, delivery) = name.split_once("/deliveries/")?;
        Some((WebhookEndpointId::from_name(endpoint)?, Uuid::try_parse(delivery).ok()?.into()))
    }

    /// Counts an attempt that ended at `now` with this answer. `delay` is how long the schedule waits after this many attempts; `None` when it has
    /// come to its end. A delivery that is closed stays as it is.
    pub fn attempted(&mut self, answer: &Answer, delay: Option<SignedDuration>, now: Timestamp) {
        match self.state {
            DeliveryState::Pending { .. } => {}
            DeliveryState::Succeeded | DeliveryState::Dead => return,
        }
        self.attempts = self.attempts.saturating_add(1);
        self.last_attempt_at = Some(now);
        self.updated_at = now;
        match answer {
            Answer::Accepted { status } => {
                self.last_failure = None;
                self.last_status = Some(*status);
                self.state = DeliveryState::Succeeded;
            }
            Answer::Gone { status } => {
                self.last_failure = Some(Failure::HttpStatus);
                self.last_status = Some(*status);
                self.state = DeliveryState::Dead;
            }
            Answer::Failed { failure, status, retry_after } => {
                self.last_failure = Some(*failure);
                self.last_status = *status;
                self.state = match delay {
                    Some(delay) if self.attempts < ATTEMPTS_MAX => {
                        let asked = retry_after.map_or(SignedDuration::ZERO, believed);
                        DeliveryState::Pending { due_at: later(now, delay.max(asked)) }
                    }
                    Some(_) | None => DeliveryState::Dead,
                };
            }
        }
    }
}

/// A `Retry-After`, as far as it is believed.
fn believed(wait: Duration) -> SignedDuration {
    SignedDuration::try_from(wait).unwrap_or(RETRY_AFTER_MAX).min(RETRY_AFTER_MAX)
}

fn later(now: Timestamp, by: SignedDuration) -> Timestamp {
    now.checked_add(by).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests;
