//! Dated departures, their cabins and fares.

use jiff::civil::Date;
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;

use super::catalog::AircraftType;
use super::words;

mesh::typed_id!(
    /// A dated departure.
    FlightId,
    "flights"
);

/// The longest flight.
pub const DURATION_MAX: SignedDuration = SignedDuration::from_hours(24);

/// The most that one price may be, in minor units: what payments takes at once.
pub const PRICE_MINOR_MAX: i64 = 99_999_999_999;

words! {
    /// A class of service, front to back.
    CabinClass {
        /// First.
        First = "FIRST",
        /// Business.
        Business = "BUSINESS",
        /// Premium economy.
        PremiumEconomy = "PREMIUM_ECONOMY",
        /// Economy.
        Economy = "ECONOMY",
    }
}

words! {
    /// Where a flight stands.
    State {
        /// On sale until it leaves.
        Scheduled = "SCHEDULED",
        /// Will not leave.
        Canceled = "CANCELED",
    }
}

/// A price of a seat with its conditions. Amounts are per traveller, in minor units.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Fare {
    /// Unique in the cabin.
    pub fare: String,
    /// Without taxes, at least 1.
    pub base_minor: i64,
    /// At least 0.
    pub taxes_minor: i64,
    /// ISO 4217.
    pub currency: String,
    /// Whether the base comes back on cancellation.
    pub refundable: bool,
    /// What is kept of a refundable base; at most the base.
    pub penalty_minor: i64,
}

/// A cabin of a flight on sale.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Cabin {
    /// Which class.
    pub cabin: CabinClass,
    /// Seats in it.
    pub capacity: i32,
    /// Seats neither held nor sold; expired holds count as free.
    pub available: i32,
    /// Cheapest first.
    pub fares: Vec<Fare>,
}

/// A dated departure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flight {
    /// Its id.
    pub id: FlightId,
    /// IATA designator.
    pub airline_id: String,
    /// 1 to 9999.
    pub flight_number: i32,
    /// IATA code of the airport it leaves.
    pub origin: String,
    /// IATA code of the airport it goes to; never the origin.
    pub destination: String,
    /// When it leaves.
    pub departure_at: Timestamp,
    /// When it arrives: later, by at most [`DURATION_MAX`].
    pub arrival_at: Timestamp,
    /// The origin's local day.
    pub departure_date: Date,
    /// IATA type code.
    pub aircraft_type_id: String,
    /// Where it stands.
    pub state: State,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// Front to back.
    pub cabins: Vec<Cabin>,
}

/// What is wrong with cabins on sale in that aircraft: the field, below the flight, and the rule that it breaks.
pub fn cabins_problem(cabins: &[Cabin], aircraft: &AircraftType) -> Option<(String, &'static str)> {
    let currency = cabins.first().and_then(|cabin| cabin.fares.first()).map(|fare| fare.currency.as_str());
    for (c, cabin) in cabins.iter().enumerate() {
        if !aircraft.cabins.iter().any(|layout| layout.cabin == cabin.cabin) {
            return Some((format!("cabins[{c}].cabin"), "is one that the aircraft type has"));
        }
        if cabins.iter().take(c).any(|other| other.cabin == cabin.cabin) {
            return Some((format!("cabins[{c}].cabin"), "is named once"));
        }
        for (f, fare) in cabin.fares.iter().enumerate() {
            let problem = if cabin.fares.iter().take(f).any(|other| other.fare == fare.fare) {
                ("fare", "is unique in the cabin")
            } else if Some(fare.currency.as_str()) != currency {
                ("base.currency_code", "is the same for every fare of the flight")
            } else if !(1..=PRICE_MINOR_MAX).contains(&fare.base_minor) {
                ("base.amount_minor", "is 1 to 99999999999")
            } else if !(0..=PRICE_MINOR_MAX).contains(&fare.taxes_minor) {
                ("taxes.amount_minor", "is 0 to 99999999999")
            } else if !fare.refundable && fare.penalty_minor != 0 {
                ("cancellation_penalty", "goes with a refundable fare only")
            } else if !(0..=fare.base_minor).contains(&fare.penalty_minor) {
                ("cancellation_penalty.amount_minor", "is 0 to the base price")
            } else {
                continue;
            };
            return Some((format!("cabins[{c}].fares[{f}].{}", problem.0), problem.1));
        }
    }
    None
}
