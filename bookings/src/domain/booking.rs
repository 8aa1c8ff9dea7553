//! Bookings: a purchase, from payment to ticket.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::hold::{HoldId, Item};
use super::{Money, words};

mesh::typed_id!(
    /// A booking.
    BookingId,
    "bookings"
);

words! {
    /// Where a booking stands.
    State {
        /// Being paid for.
        Pending = "PENDING",
        /// The cardholder must act.
        AwaitingAction = "AWAITING_ACTION",
        /// Paid and ticketed.
        Confirmed = "CONFIRMED",
        /// Not paid for.
        Failed = "FAILED",
        /// Not paid for in time.
        Expired = "EXPIRED",
        /// The refund is on its way.
        Canceling = "CANCELING",
        /// Canceled and refunded.
        Canceled = "CANCELED",
        /// Flown.
        Completed = "COMPLETED",
    }
}

/// What happens to a booking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The cardholder is asked to act.
    ActionRequired,
    /// The cardholder has acted.
    ActionDone,
    /// Paid and ticketed.
    Confirm,
    /// Not paid for.
    Fail,
    /// Not paid for in time.
    Expire,
    /// The customer takes a quote.
    Cancel,
    /// The refund is done.
    Settle,
}

/// A booking cannot change so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the booking is {}", .0.word())]
pub struct TransitionError(pub State);

impl State {
    /// The state after `event`.
    ///
    /// # Errors
    ///
    /// [`TransitionError`] when it cannot happen to the booking.
    pub fn after(self, event: Event) -> Result<Self, TransitionError> {
        match (self, event) {
            (Self::Pending | Self::AwaitingAction, Event::ActionRequired) => Ok(Self::AwaitingAction),
            (Self::Pending | Self::AwaitingAction, Event::ActionDone) => Ok(Self::Pending),
            (Self::Pending | Self::AwaitingAction, Event::Confirm) => Ok(Self::Confirmed),
            (Self::Pending | Self::AwaitingAction, Event::Fail) => Ok(Self::Failed),
            (Self::Pending | Self::AwaitingAction, Event::Expire) => Ok(Self::Expired),
            (Self::Confirmed, Event::Cancel) => Ok(Self::Canceling),
            (Self::Canceling, Event::Settle) => Ok(Self::Canceled),
            (
                Self::Pending
                | Self::AwaitingAction
                | Self::Failed
                | Self::Expired
                | Self::Canceling
                | Self::Canceled
                | Self::Completed,
                Event::Cancel,
            )
            | (
                Self::Pending
                | Self::AwaitingAction
                | Self::Confirmed
                | Self::Failed
                | Self::Expired
                | Self::Canceled
                | Self::Completed,
                Event::Settle,
            )
            | (
                Self::Confirmed
                | Self::Failed
                | Self::Expired
                | Self::Canceling
                | Self::Canceled
                | Self::Completed,
                Event::ActionRequired | Event::ActionDone | Event::Confirm | Event::Fail | Event::Expire,
            ) => Err(TransitionError(self)),
        }
    }

    /// Whether it is still being paid for.
    pub fn is_pending(self) -> bool {
        matches!(self, Self::Pending | Self::AwaitingAction)
    }
}

/// A purchase.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Booking {
    /// Its id.
    pub id: BookingId,
    /// What it was made from.
    pub hold: HoldId,
    /// Whose it is.
    pub customer: mesh::auth::PrincipalId,
    /// The airline that sells it.
    pub airline_id: String,
    /// Where it stands.
    pub state: State,
    /// What the traveller finds it by, once confirmed.
    pub record_locator: Option<String>,
    /// The price of everything.
    pub total: Money,
    /// Given back so far, in the minor unit of the total's currency.
    pub refunded_minor: i64,
    /// The card, by the id that payments knows it by.
    pub payment_method: Uuid,
    /// The payment, once there is one.
    pub payment_intent: Option<Uuid>,
    /// Why it came to nothing.
    pub failure: Option<Failure>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// Who flies.
    pub passengers: Vec<Passenger>,
    /// What was bought: the hold's items.
    pub items: Vec<Item>,
    /// One for each passenger, once confirmed.
    pub tickets: Vec<Ticket>,
}

/// Someone who flies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passenger {
    /// As on the travel document.
    pub given_name: String,
    /// As on the travel document.
    pub family_name: String,
}

/// Why a purchase came to nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// `PAYMENT_DECLINED`, `PAYMENT_REFUSED` or `EXPIRED`.
    pub reason: String,
    /// The issuer's reason, when a card was declined; else empty.
    pub decline_code: String,
    /// A sentence for the traveller.
    pub message: String,
}

impl Failure {
    /// `Failure::reason` of a card that was declined.
    pub const DECLINED: &'static str = "PAYMENT_DECLINED";
    /// `Failure::reason` of a payment that could not be made for another reason.
    pub const REFUSED: &'static str = "PAYMENT_REFUSED";
    /// `Failure::reason` of a payment that was not made in time.
    pub const EXPIRED: &'static str = "EXPIRED";

    /// The payment was not made in time.
    pub fn expired() -> Self {
        Self::new(Self::EXPIRED, "", "the payment did not come to an end in time; nothing was charged")
    }

    /// A failure of these words.
    pub fn new(reason: &str, decline_code: &str, message: &str) -> Self {
        Self { reason: reason.to_owned(), decline_code: decline_code.to_owned(), message: message.to_owned() }
    }

    /// What happens to the booking by it.
    pub fn event(&self) -> Event {
        if self.reason == Self::EXPIRED { Event::Expire } else { Event::Fail }
    }
}

words! {
    /// What can be done with a ticket or coupon.
    TicketState {
        /// Good for its flights.
        Open = "OPEN",
        /// Given back.
        Refunded = "REFUNDED",
    }
}

/// A passenger's right to fly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// Thirteen digits.
    pub number: String,
    /// Which passenger, from 0.
    pub passenger_index: i16,
    /// What can be done with it.
    pub state: TicketState,
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENTS: [Event; 7] = [
        Event::ActionRequired,
        Event::ActionDone,
        Event::Confirm,
        Event::Fail,
        Event::Expire,
        Event::Cancel,
        Event::Settle,
    ];

    #[test]
    fn only_a_pending_booking_is_confirmed_or_fails() {
        for &state in State::ALL {
            for event in [Event::Confirm, Event::Fail, Event::Expire] {
                assert_eq!(state.after(event).is_ok(), state.is_pending(), "{state:?} {event:?}");
            }
        }
    }

    #[test]
    fn a_final_state_is_left_by_nothing() {
        for state in [State::Failed, State::Expired, State::Canceled, State::Completed] {
            for event in EVENTS {
                assert_eq!(state.after(event), Err(TransitionError(state)));
            }
        }
    }

    #[test]
    fn a_confirmed_booking_is_canceled_in_two_steps() {
        assert_eq!(State::Confirmed.after(Event::Cancel), Ok(State::Canceling));
        assert_eq!(State::Canceling.after(Event::Settle), Ok(State::Canceled));
        assert_eq!(State::Canceling.after(Event::Cancel), Err(TransitionError(State::Canceling)));
        assert_eq!(State::Confirmed.after(Event::Settle), Err(TransitionError(State::Confirmed)));
    }
}
