//! Where a payment stands, and how it moves.

use super::{card::PaymentMethodId, money::Money};
use mesh::auth::PrincipalId;

mesh::typed_id!(
    /// A payment.
    PaymentIntentId,
    "paymentIntents"
);

/// Confirmations of one payment; the last decline cancels it.
pub const CONFIRMATIONS_MAX: i32 = 10;

/// When the authorised money is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CaptureMethod {
    /// With the authorisation.
    Automatic,
    /// By a call of its own.
    Manual,
}

/// Where a payment stands. `Succeeded` and `Canceled` are final.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// No usable card: none was given, or the last was declined.
    RequiresPaymentMethod,
    /// Ready to be confirmed.
    RequiresConfirmation,
    /// The acquirer was asked and has not answered yet.
    Processing(Step),
    /// The money is set aside, not taken.
    RequiresCapture,
    /// Captured.
    Succeeded,
    /// Given up.
    Canceled,
}

/// What the acquirer was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// To set money aside.
    Authorizing,
    /// The same, and somebody has canceled since: an approval will be voided.
    AuthorizingToCancel,
    /// To take it.
    Capturing,
    /// To let it go.
    Voiding,
}

/// Something that happens to a payment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A card was chosen.
    MethodChosen,
    /// The card is to be charged.
    Confirm,
    /// The authorisation was approved.
    Authorized(CaptureMethod),
    /// The authorisation was declined; it was the last that is allowed, or not.
    Declined {
        /// No further confirmation is allowed.
        last: bool,
    },
    /// The money is to be taken.
    Capture,
    /// It was.
    Captured,
    /// The acquirer refused the capture.
    CaptureDeclined,
    /// The payment is to be given up.
    Cancel,
    /// The authorisation was let go.
    Voided,
    /// The acquirer refused to let it go.
    VoidDeclined,
}

/// Why an event cannot happen to a payment in its present state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransitionError {
    /// There is no card to charge.
    #[error("no usable payment method")]
    NoPaymentMethod,
    /// The acquirer has not answered yet: try again later.
    #[error("the acquirer has not answered yet")]
    Processing,
    /// Authorised already.
    #[error("already authorized")]
    AlreadyAuthorized,
    /// Nothing is authorised.
    #[error("not authorized")]
    NotAuthorized,
    /// Captured already.
    #[error("already succeeded")]
    AlreadySucceeded,
    /// Canceled already.
    #[error("already canceled")]
    AlreadyCanceled,
    /// An answer to a question that was not asked: a bug.
    #[error("an answer to no question")]
    Unasked,
}

impl State {
    /// The state after `event`.
    ///
    /// # Errors
    ///
    /// Why the event cannot happen now.
    #[expect(clippy::match_same_arms, reason = "one arm for each transition")]
    pub fn after(self, event: Event) -> Result<Self, TransitionError> {
        use Event::{
            Authorized, Cancel, Capture, CaptureDeclined, Captured, Confirm, Declined, MethodChosen,
            VoidDeclined, Voided,
        };
        use State::{
            Canceled, Processing, RequiresCapture, RequiresConfirmation, RequiresPaymentMethod, Succeeded,
        };
        use Step::{Authorizing, AuthorizingToCancel, Capturing, Voiding};

        Ok(match (self, event) {
            (RequiresPaymentMethod | RequiresConfirmation, MethodChosen) => RequiresConfirmation,
            (RequiresConfirmation, Confirm) => Processing(Authorizing),
            (RequiresPaymentMethod, Confirm) => return Err(TransitionError::NoPaymentMethod),
            (RequiresCapture, MethodChosen | Confirm) => return Err(TransitionError::AlreadyAuthorized),

            (Processing(Authorizing), Authorized(CaptureMethod::Manual)) => RequiresCapture,
            (Processing(Authorizing), Authorized(CaptureMethod::Automatic)) => Processing(Capturing),
            (Processing(Authorizing), Declined { last: false }) => RequiresPaymentMethod,
            (Processing(Authorizing), Declined { last: true }) => Canceled,
            (Processing(AuthorizingToCancel), Authorized(_)) => Processing(Voiding),
            (Processing(AuthorizingToCancel), Declined { .. }) => Canceled,

            (RequiresCapture, Capture) => Processing(Capturing),
            (RequiresPaymentMethod | RequiresConfirmation, Capture) => {
                return Err(TransitionError::NotAuthorized);
            }
            (Processing(Capturing), Captured) => Succeeded,
            (Processing(Capturing), CaptureDeclined) => RequiresCapture,

            (RequiresPaymentMethod | RequiresConfirmation, Cancel) => Canceled,
            (RequiresCapture, Cancel) => Processing(Voiding),
            (Processing(Authorizing | AuthorizingToCancel), Cancel) => Processing(AuthorizingToCancel),
            (Processing(Voiding), Cancel) => self,
            (Processing(Voiding), Voided) => Canceled,
            (Processing(Voiding), VoidDeclined) => RequiresCapture,

            (Processing(_), MethodChosen | Confirm | Capture) | (Processing(Capturing), Cancel) => {
                return Err(TransitionError::Processing);
            }
            (Succeeded, MethodChosen | Confirm | Capture | Cancel) => {
                return Err(TransitionError::AlreadySucceeded);
            }
            (Canceled, MethodChosen | Confirm | Capture | Cancel) => {
                return Err(TransitionError::AlreadyCanceled);
            }
            (
                RequiresPaymentMethod | RequiresConfirmation | RequiresCapture | Succeeded | Canceled,
                Authorized(_) | Declined { .. } | Captured | CaptureDeclined | Voided | VoidDeclined,
            )
            | (
                Processing(Authorizing | AuthorizingToCancel),
                Captured | CaptureDeclined | Voided | VoidDeclined,
            )
            | (Processing(Capturing), Authorized(_) | Declined { .. } | Voided | VoidDeclined)
            | (Processing(Voiding), Authorized(_) | Declined { .. } | Captured | CaptureDeclined) => {
                return Err(TransitionError::Unasked);
            }
        })
    }
}

/// Why the last confirmation failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PaymentError {
    /// `card_declined`, `expired_card`, …
    pub code: String,
    /// The issuer's reason.
    pub decline_code: String,
    /// A sentence for the cardholder.
    pub message: String,
    /// Which confirmation, counted from 1.
    pub attempt: i32,
}

impl PaymentError {
    /// What a cardholder is told of a decline. Reasons that could help a thief are not told apart.
    pub fn of_decline(decline_code: &str, attempt: i32) -> Self {
        let (code, message) = match decline_code {
            "insufficient_funds" => ("card_declined", "The card has insufficient funds."),
            "expired_card" => ("expired_card", "The card has expired."),
            "incorrect_cvc" => ("incorrect_cvc", "The card's security code is incorrect."),
            "processing_error" => ("processing_error", "The card could not be processed. Try again."),
            _ => ("card_declined", "The card was declined."),
        };
        Self {
            code: code.to_owned(),
            decline_code: decline_code.to_owned(),
            message: message.to_owned(),
            attempt,
        }
    }
}

/// A payment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PaymentIntent {
    /// Which one.
    pub id: PaymentIntentId,
    /// Counts its changes, from 1.
    pub version: i64,
    /// Where it stands.
    pub state: State,
    /// Who pays.
    pub customer: PrincipalId,
    /// Who is paid.
    pub merchant: String,
    /// What is to be paid.
    pub amount: Money,
    /// Set aside by the acquirer, in minor units.
    pub authorized_minor: i64,
    /// Taken, in minor units.
    pub captured_minor: i64,
    /// Given back or on its way, in minor units.
    pub refunded_minor: i64,
    /// When the money is taken.
    pub capture_method: CaptureMethod,
    /// The card.
    pub payment_method: Option<PaymentMethodId>,
    /// What the payment is for.
    pub reference: String,
    /// Why it was given up; empty when nobody said.
    pub cancel_reason: String,
    /// How often it was confirmed.
    pub confirmations: i32,
    /// Why the last confirmation failed.
    pub last_error: Option<PaymentError>,
    /// When it was created.
    pub created_at: jiff::Timestamp,
    /// When it last changed.
    pub updated_at: jiff::Timestamp,
}

impl PaymentIntent {
    /// Authorised and not yet taken, in minor units; 0 unless it can be captured now.
    pub fn capturable_minor(&self) -> i64 {
        match self.state {
            State::RequiresCapture => self.authorized_minor.saturating_sub(self.captured_minor),
            State::RequiresPaymentMethod
            | State::RequiresConfirmation
            | State::Processing(_)
            | State::Succeeded
            | State::Canceled => 0,
        }
    }

    /// Taken and not yet given back, in minor units.
    pub fn refundable_minor(&self) -> i64 {
        self.captured_minor.saturating_sub(self.refunded_minor)
    }

    /// Moves it on.
    ///
    /// # Errors
    ///
    /// As [`State::after`].
    pub fn apply(&mut self, event: Event) -> Result<(), TransitionError> {
        self.state = self.state.after(event)?;
        Ok(())
    }
}

/// The reference of the n-th attempt of a kind for a payment, derived so that it is the same whoever sends it, and however often.
pub fn acquirer_ref(intent: PaymentIntentId, kind: super::attempt::Kind, n: i32) -> mesh::id::Uuid {
    mesh::id::derive(intent.uuid(), &format!("{intent}|{}|{n}", kind.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATES: [State; 9] = [
        State::RequiresPaymentMethod,
        State::RequiresConfirmation,
        State::Processing(Step::Authorizing),
        State::Processing(Step::AuthorizingToCancel),
        State::Processing(Step::Capturing),
        State::Processing(Step::Voiding),
        State::RequiresCapture,
        State::Succeeded,
        State::Canceled,
    ];

    const EVENTS: [Event; 12] = [
        Event::MethodChosen,
        Event::Confirm,
        Event::Authorized(CaptureMethod::Automatic),
        Event::Authorized(CaptureMethod::Manual),
        Event::Declined { last: false },
        Event::Declined { last: true },
        Event::Capture,
        Event::Captured,
        Event::CaptureDeclined,
        Event::Cancel,
        Event::Voided,
        Event::VoidDeclined,
    ];

    #[test]
    fn a_final_state_is_never_left() {
        for event in EVENTS {
            assert!(State::Succeeded.after(event).is_err(), "{event:?}");
            assert!(State::Canceled.after(event).is_err(), "{event:?}");
        }
    }

    #[test]
    fn money_is_taken_only_of_what_was_authorized() {
        for state in STATES {
            let captured = state.after(Event::Captured);
            assert_eq!(
                captured == Ok(State::Succeeded),
                state == State::Processing(Step::Capturing),
                "{state:?}"
            );
            let capturing = state.after(Event::Capture);
            assert_eq!(capturing.is_ok(), state == State::RequiresCapture, "{state:?}");
        }
    }

    #[test]
    fn an_approval_after_a_cancel_is_voided() {
        let canceled = State::Processing(Step::Authorizing).after(Event::Cancel).unwrap();

        for method in [CaptureMethod::Automatic, CaptureMethod::Manual] {
            assert_eq!(canceled.after(Event::Authorized(method)), Ok(State::Processing(Step::Voiding)));
        }
        assert_eq!(canceled.after(Event::Declined { last: false }), Ok(State::Canceled));
    }

    #[test]
    fn a_capture_that_is_on_its_way_cannot_be_canceled() {
        let capturing = State::Processing(Step::Capturing);

        assert_eq!(capturing.after(Event::Cancel), Err(TransitionError::Processing));
        assert_eq!(State::Processing(Step::Voiding).after(Event::Capture), Err(TransitionError::Processing));
    }

    #[test]
    fn references_are_the_same_again_and_differ_by_everything() {
        use super::super::attempt::Kind;
        let (one, other) = (PaymentIntentId::generate(), PaymentIntentId::generate());

        assert_eq!(acquirer_ref(one, Kind::Capture, 1), acquirer_ref(one, Kind::Capture, 1));
        assert_ne!(acquirer_ref(one, Kind::Capture, 1), acquirer_ref(one, Kind::Capture, 2));
        assert_ne!(acquirer_ref(one, Kind::Capture, 1), acquirer_ref(one, Kind::Void, 1));
        assert_ne!(acquirer_ref(one, Kind::Capture, 1), acquirer_ref(other, Kind::Capture, 1));
    }
}
