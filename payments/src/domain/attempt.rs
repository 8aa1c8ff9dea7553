//! One request to the acquirer, from before it is sent until its answer is known.

use mesh::id::Uuid;

use super::{card::PaymentMethodId, money::Money, payment_intent::PaymentIntentId, refund::RefundId};

mesh::typed_id!(
    /// One request to the acquirer.
    AttemptId,
    "attempts"
);

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// To set money aside.
    Authorize,
    /// To take it.
    Capture,
    /// To let it go.
    Void,
    /// To give it back.
    Refund,
}

impl Kind {
    /// The word that is stored.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Authorize => "AUTHORIZE",
            Self::Capture => "CAPTURE",
            Self::Void => "VOID",
            Self::Refund => "REFUND",
        }
    }
}

/// How far a request has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Not sent yet.
    Created,
    /// Sent, or about to be: from here on the acquirer may have done it.
    Sent,
    /// The answer is lost.
    Unknown,
    /// The acquirer has never heard of it: the same reference may be sent again.
    NotFound,
    /// Done.
    Approved,
    /// Refused.
    Declined {
        /// The acquirer's reason.
        code: String,
    },
}

/// What is learnt of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// It is being sent.
    Send,
    /// No answer came.
    LoseReply,
    /// The acquirer says that it never came.
    Miss,
    /// It was done.
    Approve,
    /// It was refused.
    Decline {
        /// The acquirer's reason.
        code: String,
    },
}

/// Why something cannot be learnt of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransitionError {
    /// The acquirer says two things of one reference.
    #[error("the acquirer contradicts itself")]
    Contradiction,
    /// It was never sent.
    #[error("not sent")]
    NotSent,
}

impl State {
    /// The state after `event`. What is known already may be learnt again; it changes nothing.
    ///
    /// # Errors
    ///
    /// Why the event cannot happen now.
    #[expect(clippy::match_same_arms, reason = "one arm for each transition")]
    pub fn after(self, event: Event) -> Result<Self, TransitionError> {
        use State::{Approved, Created, Declined, NotFound, Sent, Unknown};

        Ok(match (self, event) {
            (Created | Sent | Unknown | NotFound, Event::Send) => Sent,
            // Even if it was missed before: it may have come since.
            (Sent | Unknown | NotFound, Event::LoseReply) => Unknown,
            (Sent | Unknown | NotFound, Event::Miss) => NotFound,
            (Sent | Unknown | NotFound | Approved, Event::Approve) => Approved,
            (Sent | Unknown | NotFound, Event::Decline { code }) => Declined { code },
            // An inquiry that missed it was made before it came: older than the answer.
            (Declined { code }, Event::Decline { .. } | Event::Send | Event::LoseReply | Event::Miss) => {
                Declined { code }
            }
            (Approved, Event::Send | Event::LoseReply | Event::Miss) => Approved,
            (Created, Event::LoseReply | Event::Miss | Event::Approve | Event::Decline { .. }) => {
                return Err(TransitionError::NotSent);
            }
            (Approved, Event::Decline { .. }) | (Declined { .. }, Event::Approve) => {
                return Err(TransitionError::Contradiction);
            }
        })
    }

    /// Whether the answer is still to come.
    pub fn is_open(&self) -> bool {
        match self {
            Self::Created | Self::Sent | Self::Unknown | Self::NotFound => true,
            Self::Approved | Self::Declined { .. } => false,
        }
    }
}

/// The call that waits for an answer, by its idempotency key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Whose key it is.
    pub caller: String,
    /// The method's gRPC path.
    pub method: String,
    /// The request id.
    pub key: String,
}

/// One request to the acquirer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// Which one.
    pub id: AttemptId,
    /// The payment that it belongs to.
    pub intent: PaymentIntentId,
    /// What is asked.
    pub kind: Kind,
    /// Counts the attempts of one kind for one payment, from 1.
    pub n: i32,
    /// What the acquirer knows it by. Unique for ever.
    pub acquirer_ref: Uuid,
    /// How far it has come.
    pub state: State,
    /// How much.
    pub amount: Money,
    /// The card of an authorisation.
    pub payment_method: Option<PaymentMethodId>,
    /// The authorisation of a capture or void, the capture of a refund.
    pub source: Option<AttemptId>,
    /// The refund that it carries out.
    pub refund: Option<RefundId>,
    /// The call that waits for the answer.
    pub origin: Option<Origin>,
    /// When it was created.
    pub created_at: jiff::Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn declined() -> State {
        State::Declined { code: "generic_decline".to_owned() }
    }

    #[test]
    fn an_answer_once_known_never_changes() {
        let decline = Event::Decline { code: "other".to_owned() };

        assert_eq!(State::Approved.after(Event::Approve), Ok(State::Approved));
        assert_eq!(State::Approved.after(decline.clone()), Err(TransitionError::Contradiction));
        assert_eq!(State::Approved.after(Event::LoseReply), Ok(State::Approved));
        assert_eq!(declined().after(decline), Ok(declined()));
        assert_eq!(declined().after(Event::Approve), Err(TransitionError::Contradiction));
    }

    #[test]
    fn an_inquiry_that_missed_a_request_is_older_than_its_answer() {
        assert_eq!(State::Approved.after(Event::Miss), Ok(State::Approved));
        assert_eq!(declined().after(Event::Miss), Ok(declined()));
    }

    #[test]
    fn a_lost_answer_may_turn_out_to_be_any() {
        let unknown = State::Sent.after(Event::LoseReply).unwrap();

        assert_eq!(unknown, State::Unknown);
        assert_eq!(unknown.clone().after(Event::Approve), Ok(State::Approved));
        assert_eq!(unknown.clone().after(Event::Miss), Ok(State::NotFound));
        assert_eq!(State::NotFound.after(Event::Send), Ok(State::Sent));
        assert_eq!(State::NotFound.after(Event::LoseReply), Ok(State::Unknown));
        assert!(unknown.is_open());
    }
}
