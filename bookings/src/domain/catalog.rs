//! What flights are made of: cities, airports, airlines, aircraft types.

use serde::{Deserialize, Serialize};

use super::flight::CabinClass;

/// A city.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct City {
    /// A short lower-case word, 2 to 63 of `a-z0-9-`.
    pub id: String,
    /// Its name in English.
    pub display_name: String,
    /// ISO 3166-1 alpha-2 code of the country.
    pub country_code: String,
}

impl City {
    /// Whether a city may have that id.
    pub fn is_id(id: &str) -> bool {
        (2..=63).contains(&id.len())
            && id.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
    }
}

/// An airport.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Airport {
    /// IATA code.
    pub id: String,
    /// Its name in English.
    pub display_name: String,
    /// The city it serves.
    pub city_id: String,
    /// IANA time zone.
    pub time_zone: String,
}

impl Airport {
    /// Whether an airport may have that id.
    pub fn is_id(id: &str) -> bool {
        id.len() == 3 && id.bytes().all(|byte| byte.is_ascii_uppercase())
    }
}

/// An airline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Airline {
    /// IATA designator.
    pub id: String,
    /// Its name.
    pub display_name: String,
    /// The three digits that its ticket numbers start with.
    pub ticketing_code: String,
}

impl Airline {
    /// Whether an airline may have that id.
    pub fn is_id(id: &str) -> bool {
        id.len() == 2 && id.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit())
    }
}

/// An aircraft type with its seats.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AircraftType {
    /// IATA type code.
    pub id: String,
    /// Its name.
    pub display_name: String,
    /// Front to back.
    pub cabins: Vec<CabinLayout>,
}

impl AircraftType {
    /// Whether an aircraft type may have that id.
    pub fn is_id(id: &str) -> bool {
        id.len() == 3 && id.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit())
    }
}

/// The seats of one cabin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CabinLayout {
    /// Which class.
    pub cabin: CabinClass,
    /// Number of the first row, from 1.
    pub first_row: i32,
    /// Number of the last row, not less than the first.
    pub last_row: i32,
    /// Seat letters from left to right, aisles as `-`.
    pub letters: String,
}

/// The most letters in a row, aisles not counted: more than any aircraft has.
pub const LETTERS_MAX: usize = 12;

impl CabinLayout {
    /// Every seat, front to back and left to right, as row and letter.
    pub fn seats(&self) -> impl Iterator<Item = String> + '_ {
        (self.first_row..=self.last_row)
            .flat_map(move |row| self.columns().map(move |letter| format!("{row}{letter}")))
    }

    /// How many seats it has.
    pub fn capacity(&self) -> i32 {
        let rows = self.last_row.saturating_sub(self.first_row).saturating_add(1);
        let columns = i32::try_from(self.columns().count()).unwrap_or(i32::MAX);
        rows.saturating_mul(columns)
    }

    fn columns(&self) -> impl Iterator<Item = char> + '_ {
        self.letters.chars().filter(|&letter| letter != '-')
    }
}

/// What is wrong with a layout: the index of the cabin, its field, and the rule that it breaks.
pub fn layout_problem(cabins: &[CabinLayout]) -> Option<(usize, &'static str, &'static str)> {
    for (index, cabin) in cabins.iter().enumerate() {
        let mut letters: Vec<char> = cabin.columns().collect();
        letters.sort_unstable();
        if letters.len() > LETTERS_MAX {
            return Some((index, "letters", "has at most 12 letters"));
        }
        if letters.windows(2).any(|pair| pair.first() == pair.last()) {
            return Some((index, "letters", "names each letter once"));
        }
        if cabin.last_row < cabin.first_row {
            return Some((index, "last_row", "is not before the first row"));
        }
        let before = cabins.get(..index).unwrap_or_default();
        if before.iter().any(|other| other.cabin == cabin.cabin) {
            return Some((index, "cabin", "is named once"));
        }
        if before.iter().any(|other| other.first_row <= cabin.last_row && cabin.first_row <= other.last_row) {
            return Some((index, "first_row", "shares no row with another cabin"));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(cabin: CabinClass, first_row: i32, last_row: i32, letters: &str) -> CabinLayout {
        CabinLayout { cabin, first_row, last_row, letters: letters.to_owned() }
    }

    #[test]
    fn seats_go_front_to_back_and_left_to_right() {
        let cabin = layout(CabinClass::Economy, 9, 10, "A-BC");
        assert_eq!(cabin.seats().collect::<Vec<_>>(), ["9A", "9B", "9C", "10A", "10B", "10C"]);
        assert_eq!(cabin.capacity(), 6);
    }

    #[test]
    fn a_layout_names_each_cabin_row_and_letter_once() {
        let business = layout(CabinClass::Business, 1, 3, "AC-DF");
        assert_eq!(layout_problem(&[business.clone(), layout(CabinClass::Economy, 4, 20, "ABC-DEF")]), None);
        let wrong = [
            (layout(CabinClass::Economy, 3, 9, "AB"), "first_row"),
            (layout(CabinClass::Business, 4, 9, "AB"), "cabin"),
            (layout(CabinClass::Economy, 9, 4, "AB"), "last_row"),
            (layout(CabinClass::Economy, 4, 9, "AB-CA"), "letters"),
            (layout(CabinClass::Economy, 4, 9, "ABCDEFG-HIJKLM"), "letters"),
        ];
        for (cabin, field) in wrong {
            let problem = layout_problem(&[business.clone(), cabin]);
            assert_eq!(problem.map(|(index, field, _)| (index, field)), Some((1, field)));
        }
    }
}
