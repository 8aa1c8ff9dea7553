//! The messages that are measured, the same for every gateway.

use crate::pb::{
    Aircraft, Booking, Cabin, CreateBookingRequest, Flight, ListFlightsResponse, Money, Passenger,
};

/// Flights in the large answer.
pub const LIST_LENGTH: u32 = 50;

/// Flights in the stream.
pub const STREAM_LENGTH: u32 = 1_000;

/// A flight, about 700 bytes of JSON.
pub fn flight(index: u32) -> Flight {
    let second = i64::from(index);
    Flight {
        flight_id: format!("01932c5e-7f3a-7c{:02x}-9d1e-{index:012x}", index % 256),
        carrier_name: "Air Example International".to_owned(),
        flight_number: format!("AE{}", 100 + index),
        origin: "DEL".to_owned(),
        destination: "BLR".to_owned(),
        departs_at: Some(pbjson_types::Timestamp { seconds: 1_800_000_000 + second * 3_600, nanos: 0 }),
        arrives_at: Some(pbjson_types::Timestamp { seconds: 1_800_009_900 + second * 3_600, nanos: 0 }),
        price: Some(Money { currency_code: "INR".to_owned(), amount_minor: 649_900 + second * 100 }),
        seats_free: 42,
        cabin: Cabin::Economy.into(),
        amenities: ["Wi-Fi", "USB power", "Meal", "Extra legroom for a fee"].map(str::to_owned).to_vec(),
        aircraft: Some(Aircraft { model: "Airbus A321neo".to_owned(), seats: 222, range_km: 7_400.5 }),
        labels: [("terminal".to_owned(), "T3".to_owned()), ("gate".to_owned(), "41B".to_owned())].into(),
        refundable: true,
        distance_km: 1_740.25,
        stop_minutes: vec![35, 70],
    }
}

/// The large answer, about 36 KB of JSON.
pub fn list() -> ListFlightsResponse {
    ListFlightsResponse {
        flights: (0..LIST_LENGTH).map(flight).collect(),
        next_page_token: "eyJhZnRlciI6IjUwIn0".to_owned(),
    }
}

/// The request with a body, about 400 bytes of JSON.
pub fn create_booking() -> CreateBookingRequest {
    let passenger = |given: &str| Passenger {
        given_name: given.to_owned(),
        family_name: "Lovelace".to_owned(),
        birth_date: "1990-12-10".to_owned(),
        bags: 1,
    };
    CreateBookingRequest {
        flight_id: "01932c5e-7f3a-7c00-9d1e-000000000001".to_owned(),
        passengers: vec![passenger("Ada"), passenger("Byron")],
        cabin: Cabin::Economy.into(),
        total: Some(Money { currency_code: "INR".to_owned(), amount_minor: 1_299_800 }),
        contact_email: "ada@example.com".to_owned(),
        contact_phone: "+441632960001".to_owned(),
        accepted_terms_at: Some(pbjson_types::Timestamp { seconds: 1_800_000_000, nanos: 0 }),
        note: "Seats together, please".to_owned(),
    }
}

/// The answer to it.
pub fn booking() -> Booking {
    Booking {
        booking_id: "01932c5e-8000-7c00-9d1e-000000000001".to_owned(),
        locator: "JX7K2M".to_owned(),
        state: "PENDING".to_owned(),
        create_time: Some(pbjson_types::Timestamp { seconds: 1_800_000_001, nanos: 0 }),
        total: Some(Money { currency_code: "INR".to_owned(), amount_minor: 1_299_800 }),
    }
}
