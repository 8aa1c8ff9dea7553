//! What a cancellation gives back.

use jiff::{SignedDuration, Timestamp};

use super::booking::BookingId;
use super::hold::Item;
use super::words;

mesh::typed_id!(
    /// A cancellation, quoted or confirmed.
    CancellationId,
    "cancellations"
);

/// How long a quote is good.
pub const QUOTE_TTL: SignedDuration = SignedDuration::from_mins(10);

/// Everything comes back until so long after the purchase …
const COOLING_OFF: SignedDuration = SignedDuration::from_hours(24);

/// … of a flight that was then at least so far away.
const COOLING_OFF_LEAD: SignedDuration = SignedDuration::from_hours(7 * 24);

words! {
    /// Where a cancellation stands.
    State {
        /// An offer.
        Quoted = "QUOTED",
        /// Taken; the refund is on its way.
        Confirmed = "CONFIRMED",
        /// Refunded.
        Settled = "SETTLED",
    }
}

/// A cancellation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cancellation {
    /// Its id.
    pub id: CancellationId,
    /// Of what.
    pub booking: BookingId,
    /// Where it stands.
    pub state: State,
    /// What comes back and what does not.
    pub quote: Quote,
    /// When it was quoted.
    pub created_at: Timestamp,
    /// When the quote runs out.
    pub expires_at: Timestamp,
}

/// What comes back and what does not, in minor units; together the price of everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quote {
    /// Comes back.
    pub refund_minor: i64,
    /// Does not.
    pub penalty_minor: i64,
}

/// What cancelling unflown `items` gives back at `now`, when they were booked at `booked_at` and the first of them leaves at `departure_at`.
///
/// Taxes always come back. The base comes back when the fare is refundable, less its penalty, which takes no more than the base. Within 24 hours
/// of a purchase made at least seven days ahead, everything comes back.
///
/// Source: 14 CFR § 259.5(b)(4) for the 24-hour rule.
pub fn quote(items: &[Item], booked_at: Timestamp, departure_at: Timestamp, now: Timestamp) -> Quote {
    let cooling_off = now.duration_since(booked_at) <= COOLING_OFF
        && departure_at.duration_since(booked_at) >= COOLING_OFF_LEAD;
    items.iter().fold(Quote { refund_minor: 0, penalty_minor: 0 }, |sum, item| {
        let kept = if cooling_off {
            0
        } else if item.refundable {
            item.penalty_minor.clamp(0, item.base_minor)
        } else {
            item.base_minor
        };
        Quote {
            refund_minor: sum.refund_minor.saturating_add(item.price_minor().saturating_sub(kept)),
            penalty_minor: sum.penalty_minor.saturating_add(kept),
        }
    })
}

#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "times of tests are far from the ends of time")]
mod tests {
    use super::super::flight::{CabinClass, FlightId};
    use super::*;

    const DAY: SignedDuration = SignedDuration::from_hours(24);

    fn item(refundable: bool, penalty_minor: i64) -> Item {
        Item {
            flight: FlightId::generate(),
            leg: 1,
            cabin: CabinClass::Economy,
            fare: "LIGHT".to_owned(),
            seat_no: "1A".to_owned(),
            passenger_index: 0,
            base_minor: 1_000,
            taxes_minor: 140,
            refundable,
            penalty_minor,
        }
    }

    fn late(items: &[Item]) -> (i64, i64) {
        let booked = Timestamp::UNIX_EPOCH;
        let quote = quote(items, booked, booked + DAY * 30, booked + DAY * 2);
        (quote.refund_minor, quote.penalty_minor)
    }

    #[test]
    fn taxes_always_come_back() {
        assert_eq!(late(&[item(false, 0)]), (140, 1_000));
    }

    #[test]
    fn a_refundable_fare_comes_back_less_its_penalty() {
        assert_eq!(late(&[item(true, 100)]), (1_040, 100));
        assert_eq!(late(&[item(true, 100), item(false, 0)]), (1_180, 1_100));
    }

    #[test]
    fn a_penalty_takes_no_more_than_the_base() {
        assert_eq!(late(&[item(true, 5_000)]), (140, 1_000));
    }

    #[test]
    fn everything_comes_back_within_a_day_of_a_purchase_a_week_ahead() {
        let booked = Timestamp::UNIX_EPOCH;
        let refund = |lead: SignedDuration, after: SignedDuration| {
            quote(&[item(false, 0)], booked, booked + lead, booked + after).refund_minor
        };
        let second = SignedDuration::from_secs(1);
        assert_eq!(refund(DAY * 7, DAY), 1_140);
        assert_eq!(refund(DAY * 7, DAY + second), 140);
        assert_eq!(refund(DAY * 7 - second, DAY), 140);
    }
}
