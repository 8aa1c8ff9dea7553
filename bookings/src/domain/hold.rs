//! Holds: seats set aside for a while at a fixed price.

use jiff::{SignedDuration, Timestamp};

use super::flight::{CabinClass, FlightId};
use super::{Money, words};

mesh::typed_id!(
    /// A hold.
    HoldId,
    "holds"
);

/// Holds that one customer may have at a time, active or pinned: both keep seats from others.
pub const ACTIVE_MAX: i64 = 2;

/// How long a purchase may pin a hold: time enough for a cardholder to act, and for payments to come back.
pub const PIN: SignedDuration = SignedDuration::from_mins(15);

words! {
    /// Where a hold stands, as stored. `ACTIVE` is only true until it expires: see [`Hold::state_at`].
    State {
        /// The seats are the customer's.
        Active = "ACTIVE",
        /// A booking is being made from it; the clock does not end it.
        Pinned = "PINNED",
        /// Became a booking.
        Consumed = "CONSUMED",
        /// Given back.
        Released = "RELEASED",
        /// Ran out.
        Expired = "EXPIRED",
    }
}

/// What happens to a hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A booking is made from it, at that time.
    Pin(Timestamp),
    /// The customer gives it back, at that time.
    Release(Timestamp),
    /// Its time is over.
    Expire(Timestamp),
    /// The purchase came to a ticket.
    Consume,
    /// The purchase came to nothing.
    Unpin,
}

/// Why a hold cannot change so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransitionError {
    /// It ran out.
    #[error("the hold has expired")]
    Expired,
    /// It was used or given back.
    #[error("the hold is closed")]
    Closed,
    /// Its time is not over.
    #[error("the hold has not expired yet")]
    Unexpired,
}

/// Seats set aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    /// Its id.
    pub id: HoldId,
    /// Whose it is.
    pub customer: mesh::auth::PrincipalId,
    /// The airline of every item.
    pub airline_id: String,
    /// As stored.
    pub state: State,
    /// The price of everything.
    pub total: Money,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it runs out.
    pub expires_at: Timestamp,
    /// What is held.
    pub items: Vec<Item>,
}

/// One traveller's place on one flight. Amounts are in the minor unit of the hold's currency, as they were when it was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Which flight.
    pub flight: FlightId,
    /// Which leg of it, from 1.
    pub leg: i16,
    /// Which cabin.
    pub cabin: CabinClass,
    /// Which fare.
    pub fare: String,
    /// Row and letter.
    pub seat_no: String,
    /// Which traveller, from 0.
    pub passenger_index: i16,
    /// The price without taxes.
    pub base_minor: i64,
    /// Taxes.
    pub taxes_minor: i64,
    /// Whether the base comes back on cancellation.
    pub refundable: bool,
    /// What is kept of it then.
    pub penalty_minor: i64,
}

impl Item {
    /// The price with taxes. Prices are bounded far below overflow.
    pub fn price_minor(&self) -> i64 {
        self.base_minor.saturating_add(self.taxes_minor)
    }
}

impl Hold {
    /// Where it stands: expiry is a matter of time, not of somebody having noticed.
    pub fn state_at(&self, now: Timestamp) -> State {
        if self.state == State::Active && self.expires_at <= now { State::Expired } else { self.state }
    }

    /// How many travellers it is for.
    pub fn passengers(&self) -> usize {
        self.items
            .iter()
            .filter_map(|item| usize::try_from(item.passenger_index).ok()?.checked_add(1))
            .max()
            .unwrap_or(0)
    }

    /// The state after `event`.
    ///
    /// # Errors
    ///
    /// [`TransitionError`] when it cannot happen to the hold.
    pub fn after(&self, event: Event) -> Result<State, TransitionError> {
        use Event::{Consume, Expire, Pin, Release, Unpin};

        match (self.state, event) {
            (State::Active, Pin(now)) if self.expires_at <= now => Err(TransitionError::Expired),
            (State::Active, Pin(_)) => Ok(State::Pinned),
            (State::Active, Release(now)) if self.expires_at <= now => Ok(State::Expired),
            (State::Active, Release(_)) | (State::Pinned, Unpin) => Ok(State::Released),
            (State::Active, Expire(now)) if self.expires_at <= now => Ok(State::Expired),
            (State::Active, Expire(_)) => Err(TransitionError::Unexpired),
            (State::Pinned, Consume) => Ok(State::Consumed),
            // Giving back what is no longer held changes nothing.
            (State::Released | State::Expired, Release(_)) => Ok(self.state),
            (State::Expired, Pin(_)) => Err(TransitionError::Expired),
            (State::Pinned | State::Consumed | State::Released, Pin(_))
            | (State::Pinned | State::Consumed, Release(_))
            | (State::Pinned | State::Consumed | State::Released | State::Expired, Expire(_))
            | (State::Active | State::Consumed | State::Released | State::Expired, Consume | Unpin) => {
                Err(TransitionError::Closed)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hold(state: State) -> Hold {
        Hold {
            id: HoldId::generate(),
            customer: mesh::auth::PrincipalId::generate(),
            airline_id: "AI".to_owned(),
            state,
            total: Money { currency: "INR".to_owned(), minor: 1 },
            created_at: Timestamp::UNIX_EPOCH,
            expires_at: at(600),
            items: Vec::new(),
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn an_active_hold_is_good_until_the_moment_it_expires() {
        let active = hold(State::Active);
        assert_eq!(active.after(Event::Pin(at(599))), Ok(State::Pinned));
        assert_eq!(active.after(Event::Pin(at(600))), Err(TransitionError::Expired));
        assert_eq!(active.after(Event::Expire(at(599))), Err(TransitionError::Unexpired));
        assert_eq!(active.after(Event::Expire(at(600))), Ok(State::Expired));
        assert_eq!(active.state_at(at(599)), State::Active);
        assert_eq!(active.state_at(at(600)), State::Expired);
    }

    #[test]
    fn a_pinned_hold_ends_with_its_purchase_only() {
        let pinned = hold(State::Pinned);
        assert_eq!(pinned.after(Event::Consume), Ok(State::Consumed));
        assert_eq!(pinned.after(Event::Unpin), Ok(State::Released));
        for event in [Event::Pin(at(0)), Event::Release(at(0)), Event::Expire(at(9999))] {
            assert_eq!(pinned.after(event), Err(TransitionError::Closed));
        }
        assert_eq!(pinned.state_at(at(9999)), State::Pinned);
    }

    #[test]
    fn a_closed_hold_never_opens_again() {
        for state in [State::Consumed, State::Released, State::Expired] {
            for event in [Event::Pin(at(0)), Event::Expire(at(9999)), Event::Consume, Event::Unpin] {
                assert!(hold(state).after(event).is_err(), "{state:?} {event:?}");
            }
        }
        assert_eq!(hold(State::Released).after(Event::Release(at(0))), Ok(State::Released));
        assert_eq!(hold(State::Consumed).after(Event::Release(at(0))), Err(TransitionError::Closed));
    }
}
