//! The embedded data files, read into types. A file that breaks a rule stated here fails every test of the schedule, so
//! a built program cannot meet one: that is why this module panics where a reader of foreign data would return errors.

use std::collections::BTreeMap;
use std::str::FromStr;

use jiff::civil::{Time, Weekday};
use jiff::tz::{TimeZone, TimeZoneDatabase};
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// An airport with scheduled flights.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Airport {
    /// IATA airport code, three capital letters.
    pub iata: String,
    /// Its name in English, without the word "airport".
    pub name: String,
    /// IATA metropolitan code of its city, as in [`City::code`]; several airports may share one.
    pub city_code: String,
    /// The city's name in English.
    pub city: String,
    /// ISO 3166-1 alpha-2 code of the country.
    pub country: String,
    /// IANA time zone, such as `Asia/Kolkata`.
    pub time_zone: String,
    /// Degrees north, WGS 84.
    pub latitude: f64,
    /// Degrees east, WGS 84.
    pub longitude: f64,
}

impl Airport {
    /// The rules of its clock, from the database compiled in.
    pub(super) fn zone(&self) -> TimeZone {
        TimeZoneDatabase::bundled().get(&self.time_zone).expect("airports.csv names IANA time zones")
    }
}

/// A place that people fly to: one or more airports under an IATA metropolitan code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct City {
    /// IATA metropolitan code, such as `LON`; that of the airport where it has one only.
    pub code: String,
    /// Its name in English.
    pub name: String,
    /// ISO 3166-1 alpha-2 code of the country.
    pub country: String,
    /// IANA time zone.
    pub time_zone: String,
}

/// An airline, and the currency that it sells in here.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Airline {
    /// IATA designator, two characters.
    pub iata: String,
    /// The three digits that its ticket numbers start with.
    pub accounting_code: String,
    /// The name it trades under.
    pub name: String,
    /// ISO 3166-1 alpha-2 code of its home country.
    pub country: String,
    /// ISO 4217 code of its fares.
    pub currency: String,
}

/// An aircraft type with its one cabin layout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AircraftType {
    /// IATA aircraft type code, three characters.
    pub iata: String,
    /// Manufacturer and model.
    pub name: String,
    /// Front to back; the last is economy.
    pub cabins: Vec<CabinLayout>,
}

/// The seats of one cabin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CabinLayout {
    /// Business or economy.
    pub class: CabinClass,
    /// Number of its first row; rows count from 1 at the nose, through all cabins.
    pub first_row: u16,
    /// How many rows, at least 1.
    pub rows: u16,
    /// Seat letters from left to right, with `-` for an aisle: `ABC-DEF`.
    pub columns: String,
}

impl CabinLayout {
    /// How many seats the cabin has.
    pub fn capacity(&self) -> u32 {
        let abreast = self.letters().count();
        u32::from(self.rows) * u32::try_from(abreast).expect("an aisle is a few letters from the next")
    }

    /// Every seat as row and letter, such as `12C`, front to back and left to right.
    pub fn seats(&self) -> impl Iterator<Item = String> + '_ {
        (self.first_row..self.first_row + self.rows)
            .flat_map(|row| self.letters().map(move |letter| format!("{row}{letter}")))
    }

    fn letters(&self) -> impl Iterator<Item = char> + '_ {
        self.columns.chars().filter(|&column| column != '-')
    }
}

/// Where on the aircraft a seat is sold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CabinClass {
    /// In front.
    Business,
    /// Behind.
    Economy,
}

/// A line of `routes.csv`: one flight number, flown at one local time on some days of the week.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Route {
    pub(super) airline: String,
    pub(super) number: u16,
    pub(super) origin: String,
    pub(super) destination: String,
    pub(super) aircraft_type: String,
    pub(super) departure: Time,
    pub(super) duration_minutes: u16,
    pub(super) days: Days,
    pub(super) fare_minor: i64,
}

/// Days of the week as in a printed timetable: `1234567` is daily with Monday first, `1.3.5..` three times a week.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Days([bool; 7]);

impl Days {
    pub(super) fn contains(self, day: Weekday) -> bool {
        let index = usize::try_from(day.to_monday_zero_offset()).expect("an offset in a week is 0 to 6");
        self.0[index]
    }
}

impl FromStr for Days {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const SHAPE: &str = "days are the digits 1 to 7 in order, each or a dot in its place";
        let places: &[u8; 7] = text.as_bytes().try_into().map_err(|_| SHAPE)?;
        let mut days = [false; 7];
        for ((day, &place), digit) in days.iter_mut().zip(places).zip(b'1'..) {
            *day = place == digit;
            if !*day && place != b'.' {
                return Err(SHAPE);
            }
        }
        if days.contains(&true) { Ok(Self(days)) } else { Err("a route is flown at least once a week") }
    }
}

impl TryFrom<String> for Days {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

pub(super) fn airports() -> Vec<Airport> {
    rows(include_str!("../../data/airports.csv"))
}

pub(super) fn airlines() -> Vec<Airline> {
    rows(include_str!("../../data/airlines.csv"))
}

pub(super) fn routes() -> Vec<Route> {
    rows(include_str!("../../data/routes.csv"))
}

pub(super) fn aircraft_types() -> Vec<AircraftType> {
    /// As in the file: no more than one business cabin, and one economy cabin behind it.
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Row {
        iata: String,
        name: String,
        business_rows: u16,
        business_layout: String,
        economy_rows: u16,
        economy_layout: String,
    }

    let layouts = |row: &Row| {
        let business = CabinLayout {
            class: CabinClass::Business,
            first_row: 1,
            rows: row.business_rows,
            columns: row.business_layout.clone(),
        };
        let economy = CabinLayout {
            class: CabinClass::Economy,
            first_row: 1 + row.business_rows,
            rows: row.economy_rows,
            columns: row.economy_layout.clone(),
        };
        [business, economy].into_iter().filter(|cabin| cabin.rows > 0).collect()
    };
    rows::<Row>(include_str!("../../data/aircraft_types.csv"))
        .into_iter()
        .map(|row| AircraftType { cabins: layouts(&row), iata: row.iata, name: row.name })
        .collect()
}

/// The cities of `airports`, each once, in order of their codes.
pub(super) fn cities(airports: &[Airport]) -> Vec<City> {
    let by_code: BTreeMap<&str, &Airport> =
        airports.iter().map(|airport| (airport.city_code.as_str(), airport)).collect();
    by_code
        .into_values()
        .map(|airport| City {
            code: airport.city_code.clone(),
            name: airport.city.clone(),
            country: airport.country.clone(),
            time_zone: airport.time_zone.clone(),
        })
        .collect()
}

fn rows<T: DeserializeOwned>(file: &str) -> Vec<T> {
    csv::Reader::from_reader(file.as_bytes())
        .into_deserialize()
        .collect::<Result<_, _>>()
        .expect("the embedded data files are well formed")
}
