//! Loading a whole schedule at once.

use bookings::import::{
    AircraftType, Airline, Airport, Cabin, CabinClass, CabinLayout, City, Data, Fare, Flight, Manager,
    schedule,
};
use jiff::{SignedDuration, Timestamp};
use mesh::auth::PrincipalId;
use proto::bookings::v1 as pb;

use crate::harness::{TestBookings, any_seat};

/// A schedule of `n` flights, one each ten minutes.
fn data(n: i32, from: Timestamp, user: PrincipalId) -> Data {
    let airport = |id: &str| Airport {
        id: id.to_owned(),
        display_name: id.to_owned(),
        city_id: id.to_lowercase(),
        time_zone: "UTC".to_owned(),
    };
    let city =
        |id: &str| City { id: id.to_owned(), display_name: id.to_uppercase(), country_code: "IN".to_owned() };
    let fare = |fare: &str, base_minor, refundable| Fare {
        fare: fare.to_owned(),
        base_minor,
        taxes_minor: 10,
        refundable,
        penalty_minor: i64::from(refundable),
    };
    let cabin =
        |cabin, base| Cabin { cabin, fares: vec![fare("LIGHT", base, false), fare("FLEX", base * 2, true)] };
    let layout =
        |cabin, first_row, last_row| CabinLayout { cabin, first_row, last_row, letters: "AB-CD".to_owned() };
    let flights = (0..n).map(|index| {
        let departure_at = from + SignedDuration::from_mins(10) * index;
        Flight {
            airline_id: "AI".to_owned(),
            flight_number: index % 9_999 + 1,
            origin: "DEL".to_owned(),
            destination: "BLR".to_owned(),
            departure_at,
            arrival_at: departure_at + SignedDuration::from_hours(2),
            departure_date: departure_at.to_zoned(jiff::tz::TimeZone::UTC).date(),
            aircraft_type_id: "320".to_owned(),
            currency: "INR".to_owned(),
            cabins: vec![cabin(CabinClass::Business, 900), cabin(CabinClass::Economy, 300)],
        }
    });
    Data {
        cities: vec![city("blr"), city("del")],
        airports: vec![airport("BLR"), airport("DEL")],
        airlines: vec![Airline {
            id: "AI".to_owned(),
            display_name: "Air India".to_owned(),
            ticketing_code: "098".to_owned(),
        }],
        aircraft_types: vec![AircraftType {
            id: "320".to_owned(),
            display_name: "Airbus A320".to_owned(),
            cabins: vec![layout(CabinClass::Business, 1, 2), layout(CabinClass::Economy, 3, 10)],
        }],
        flights: flights.collect(),
        managers: vec![Manager { airline_id: "AI".to_owned(), user }],
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schedule_is_loaded_once_however_often_it_is_loaded() {
    let t = TestBookings::start().await;
    let now = t.clock.now();
    let company = t.user(&["flight_company"]);
    let data = data(5_000, now + SignedDuration::from_hours(1), company.id);

    schedule(&t.db, &data, now).await.expect("loaded");
    schedule(&t.db, &data, now).await.expect("loaded again");

    let count = async |table: &str| t.number(&format!("SELECT count(*) AS n FROM {table}")).await;
    assert_eq!(
        (count("flights").await, count("inventory").await, count("fares").await),
        (5_000, 10_000, 20_000)
    );
    let asha = t.customer();
    let request = pb::ListFlightsRequest {
        travellers: 9,
        price: "310-310".to_owned(),
        page_size: 2,
        ..Default::default()
    };
    let found = asha.search(request).await.expect("a page");
    assert_eq!(found.flights.len(), 2);
    assert_eq!(asha.available(&found.flights[0]).await, (32, 8));
    let hold = asha.hold(vec![any_seat(&found.flights[0], "FLEX")]).await.expect("a hold");
    assert_eq!(hold.total.expect("a price").amount_minor, 610);
    let own = TestBookings::draft("320", now + SignedDuration::from_hours(48), 9_999);
    company.create_flight(own).await.expect("a flight of its own airline");
    t.is_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cabin_that_the_aircraft_has_not_is_refused() {
    let t = TestBookings::start().await;
    let now = t.clock.now();
    let mut data = data(1, now + SignedDuration::from_hours(1), t.customer().id);
    data.flights[0].cabins[0].cabin = CabinClass::First;

    let refused = schedule(&t.db, &data, now).await.expect_err("refused");

    assert!(refused.to_string().contains("FIRST"), "{refused}");
    assert_eq!(t.number("SELECT count(*) AS n FROM flights").await, 0);
}
