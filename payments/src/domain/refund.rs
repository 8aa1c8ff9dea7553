//! Money on its way back.

use super::{money::Money, payment_intent::PaymentIntentId};

mesh::typed_id!(
    /// A refund.
    RefundId,
    "refunds"
);

/// Where a refund stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Reserved in the ledger; the acquirer has not answered yet.
    Pending,
    /// On its way to the cardholder.
    Succeeded,
    /// The acquirer refused, or the bank sent it back: the money is the merchant's again.
    Failed,
    /// Withdrawn before it was sent.
    Canceled,
}

/// Something that happens to a refund.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The acquirer paid.
    Approve,
    /// The acquirer refused.
    Decline,
}

/// An answer to a question that was not asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the refund is closed")]
pub struct Closed;

impl State {
    /// The state after `event`. An answer that is known already changes nothing.
    ///
    /// # Errors
    ///
    /// [`Closed`] when the refund came to another end before.
    pub fn after(self, event: Event) -> Result<Self, Closed> {
        match (self, event) {
            (Self::Pending | Self::Succeeded, Event::Approve) => Ok(Self::Succeeded),
            (Self::Pending | Self::Failed, Event::Decline) => Ok(Self::Failed),
            (Self::Failed | Self::Canceled, Event::Approve)
            | (Self::Succeeded | Self::Canceled, Event::Decline) => Err(Closed),
        }
    }
}

/// A refund.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refund {
    /// Which one.
    pub id: RefundId,
    /// Counts its changes, from 1.
    pub version: i64,
    /// The payment that it gives back.
    pub intent: PaymentIntentId,
    /// How much.
    pub amount: Money,
    /// Where it stands.
    pub state: State,
    /// Why; empty when nobody said.
    pub reason: String,
    /// When it was created.
    pub created_at: jiff::Timestamp,
    /// When it last changed.
    pub updated_at: jiff::Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refund_ends_once() {
        assert_eq!(State::Pending.after(Event::Approve), Ok(State::Succeeded));
        assert_eq!(State::Pending.after(Event::Decline), Ok(State::Failed));
        assert_eq!(State::Succeeded.after(Event::Approve), Ok(State::Succeeded));
        assert_eq!(State::Succeeded.after(Event::Decline), Err(Closed));
        assert_eq!(State::Failed.after(Event::Approve), Err(Closed));
    }
}
