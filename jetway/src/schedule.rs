//! The demo timetable: real airports, airlines and aircraft, and dated departures generated from a seed.
//!
//! [`generate`] is pure. The same seed, first day and number of days give the same schedule on every machine: the data
//! is embedded, the random numbers are our own, and time zones come from the database that is compiled in, not from the
//! one the machine has.
//!
//! Money is integers of the currency's minor unit from the data file to the fare; what varies a price is per mille.

mod catalogue;
#[cfg(test)]
mod tests;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan};

pub use catalogue::{AircraftType, Airline, Airport, CabinClass, CabinLayout, City};

use catalogue::Route;

/// Everything the demo platform starts with.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    /// By IATA code, ascending.
    pub airports: Vec<Airport>,
    /// By IATA metropolitan code, ascending; each has at least one of `airports`.
    pub cities: Vec<City>,
    /// By IATA designator, ascending.
    pub airlines: Vec<Airline>,
    /// By IATA type code, ascending.
    pub aircraft_types: Vec<AircraftType>,
    /// By local day of departure, then airline and flight number.
    pub departures: Vec<Departure>,
}

/// One flight on one day. `airline`, `number` and `date` together are unique.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Departure {
    /// IATA designator of the airline, as in [`Airline::iata`].
    pub airline: String,
    /// Flight number, 1 to 9999.
    pub number: u16,
    /// Local day of departure at the origin.
    pub date: Date,
    /// IATA code of the airport it leaves.
    pub origin: String,
    /// IATA code of the airport it goes to; never `origin`.
    pub destination: String,
    /// IATA type code, as in [`AircraftType::iata`].
    pub aircraft_type: String,
    /// When it leaves.
    pub departs_at: Timestamp,
    /// When it arrives; after `departs_at`.
    pub arrives_at: Timestamp,
    /// ISO 4217 code of every amount in `cabins`.
    pub currency: String,
    /// What is for sale, front to back.
    pub cabins: Vec<Cabin>,
}

/// A cabin of a [`Departure`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cabin {
    /// Business or economy.
    pub class: CabinClass,
    /// Seats, at least 1: those of the aircraft type's layout.
    pub capacity: u32,
    /// Cheapest first.
    pub fares: [Fare; 2],
}

/// A price of a seat for one traveller, and what it allows. Amounts are in the minor unit of [`Departure::currency`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fare {
    /// The brand: `LIGHT` or `FLEX`; unique in its cabin.
    pub code: &'static str,
    /// What the airline takes, above 0.
    pub base_minor: i64,
    /// What is added to the base, 0 or more.
    pub taxes_minor: i64,
    /// Whether a cancellation gives money back.
    pub refundable: bool,
    /// What a cancellation keeps of a refundable fare, 0 to `base_minor`; 0 where nothing is refundable.
    pub penalty_minor: i64,
}

/// Generates the departures of `days` local days from `from`, with the catalogue they refer to.
///
/// A year is about 43,000 departures. A flight whose local time a clock change skips leaves as much later as the clocks
/// were moved; one whose local time comes twice leaves at the first.
///
/// # Panics
///
/// When `from` plus `days` leaves the years that [`Date`] can hold. The embedded data itself is held by the tests.
pub fn generate(seed: u64, from: Date, days: u16) -> Schedule {
    let airports = catalogue::airports();
    let airlines = catalogue::airlines();
    let aircraft_types = catalogue::aircraft_types();
    let routes: Vec<_> = catalogue::routes()
        .into_iter()
        .map(|route| Flight::new(route, &airports, &airlines, &aircraft_types))
        .collect();

    let mut departures = Vec::with_capacity(routes.len() * usize::from(days));
    for day in 0..i64::from(days) {
        let date = from.checked_add(day.days()).expect("the schedule ends in a year that a date can hold");
        departures.extend(
            routes
                .iter()
                .filter(|flight| flight.route.days.contains(date.weekday()))
                .map(|flight| flight.on(date, seed)),
        );
    }
    let cities = catalogue::cities(&airports);
    Schedule { airports, cities, airlines, aircraft_types, departures }
}

/// A [`Route`] with all it refers to, looked up once rather than once a day.
struct Flight {
    route: Route,
    zone: TimeZone,
    currency: String,
    cabins: Vec<(CabinClass, u32)>,
    hash: u64,
}

impl Flight {
    fn new(route: Route, airports: &[Airport], airlines: &[Airline], types: &[AircraftType]) -> Self {
        let origin =
            airports.iter().find(|a| a.iata == route.origin).expect("routes.csv names known airports");
        let airline =
            airlines.iter().find(|a| a.iata == route.airline).expect("routes.csv names known airlines");
        let aircraft =
            types.iter().find(|t| t.iata == route.aircraft_type).expect("routes.csv names known types");
        let hash =
            route.airline.bytes().fold(u64::from(route.number), |hash, byte| mix(hash ^ u64::from(byte)));
        Self {
            zone: origin.zone(),
            currency: airline.currency.clone(),
            cabins: aircraft.cabins.iter().map(|cabin| (cabin.class, cabin.capacity())).collect(),
            hash,
            route,
        }
    }

    fn on(&self, date: Date, seed: u64) -> Departure {
        let Route { airline, number, origin, destination, aircraft_type, .. } = &self.route;
        let departs_at = date
            .to_datetime(self.route.departure)
            .to_zoned(self.zone.clone())
            .expect("the schedule's days are far from the ends of time")
            .timestamp();
        let day = u64::try_from(date.day_of_year()).expect("days of a year are positive");
        let year = u64::from(date.year().unsigned_abs());
        let mille =
            season_mille(date) * demand_mille(mix(seed ^ mix(self.hash ^ mix(year * 1_000 + day)))) / 1_000;
        Departure {
            airline: airline.clone(),
            number: *number,
            date,
            origin: origin.clone(),
            destination: destination.clone(),
            aircraft_type: aircraft_type.clone(),
            departs_at,
            arrives_at: departs_at + SignedDuration::from_mins(i64::from(self.route.duration_minutes)),
            currency: self.currency.clone(),
            cabins: self
                .cabins
                .iter()
                .map(|&(class, capacity)| Cabin {
                    class,
                    capacity,
                    fares: fares(class, self.route.fare_minor, mille),
                })
                .collect(),
        }
    }
}

/// The fares of a cabin, where economy's cheapest costs `economy_minor` on an average day and today is `mille` of that.
fn fares(class: CabinClass, economy_minor: i64, mille: i64) -> [Fare; 2] {
    let (light, flex) = match class {
        CabinClass::Economy => (1_000, 1_350),
        CabinClass::Business => (3_400, 4_300),
    };
    let base = |fare_mille: i64| {
        // Fares are quoted in hundreds of the minor unit: whole rupees, euros and dollars, hundreds of yen.
        let exact = economy_minor * mille / 1_000 * fare_mille / 1_000;
        (exact - exact % 100).max(100)
    };
    let fare = |code, base_minor: i64, refundable| Fare {
        code,
        base_minor,
        taxes_minor: base_minor * TAXES_MILLE / 1_000,
        refundable,
        penalty_minor: if refundable { base_minor * PENALTY_MILLE / 1_000 } else { 0 },
    };
    [fare("LIGHT", base(light), false), fare("FLEX", base(flex), true)]
}

/// Taxes and charges per mille of the base fare: one flat rate, where the world has a tariff per airport.
const TAXES_MILLE: i64 = 140;

/// What cancelling a `FLEX` fare costs, per mille of the base fare.
const PENALTY_MILLE: i64 = 100;

/// Dearer at the ends of the week and in the months of school holidays, per mille of an average day.
fn season_mille(date: Date) -> i64 {
    use jiff::civil::Weekday::{Friday, Monday, Saturday, Sunday, Thursday, Tuesday, Wednesday};

    let week = match date.weekday() {
        Friday | Sunday => 1_120,
        Monday | Saturday => 1_030,
        Tuesday | Wednesday | Thursday => 940,
    };
    let year = match date.month() {
        6 | 7 | 12 => 1_150,
        1 | 2 | 9 | 11 => 920,
        _ => 1_000,
    };
    week * year / 1_000
}

/// 850 to 1,250 per mille, from 64 random bits.
fn demand_mille(bits: u64) -> i64 {
    850 + i64::try_from(bits % 401).expect("a remainder of 401 fits")
}

/// One step of `SplitMix64`: spreads every bit of `state` over the result.
///
/// Written here, because a seed must give the same schedule whatever version of a library is built in.
///
/// Source: Steele, Lea and Flood, *Fast Splittable Pseudorandom Number Generators*, OOPSLA 2014, with the constants of
/// Vigna's `splitmix64.c`.
const fn mix(state: u64) -> u64 {
    let z = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
