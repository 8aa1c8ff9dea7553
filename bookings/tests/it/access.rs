//! Who may do what.

use jiff::SignedDuration;
use proto::bookings::v1 as pb;
use tonic::Code;

use crate::harness::{TestBookings, any_seat, reason};

#[tokio::test(flavor = "multi_thread")]
async fn what_belongs_to_somebody_else_does_not_exist() {
    let t = TestBookings::start().await;
    let flight = t.flight(1).await;
    let (asha, mallory) = (t.customer(), t.customer());
    let booking = t.booked(&asha, &flight, 1, "LIGHT").await;
    let hold = asha.hold(vec![any_seat(&flight, "LIGHT")]).await.expect("a hold");
    let quote = asha.quote(&booking).await.expect("a quote");

    let codes = [
        mallory.booking(&booking.name).await.expect_err("not theirs").code(),
        mallory.get_hold(&hold.name).await.expect_err("not theirs").code(),
        mallory.release(&hold.name).await.expect_err("not theirs").code(),
        mallory.book(&hold).await.expect_err("not theirs").code(),
        mallory.quote(&booking).await.expect_err("not theirs").code(),
        mallory.confirm(&quote).await.expect_err("not theirs").code(),
    ];

    assert_eq!(codes, [Code::NotFound; 6]);
    let theirs = mallory.bookings().list_bookings(pb::ListBookingsRequest::default()).await.expect("a list");
    assert!(theirs.into_inner().bookings.is_empty());
    assert_eq!(asha.get_hold(&hold.name).await.expect("the hold").state(), pb::hold::State::Active);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_admin_reads_every_booking_and_page() {
    let t = TestBookings::start().await;
    let flight = t.flight(1).await;
    let mut names = Vec::new();
    for _ in 0..3 {
        names.insert(0, t.booked(&t.customer(), &flight, 1, "LIGHT").await.name);
    }
    let admin = t.admin();

    assert_eq!(admin.booking(&names[0]).await.expect("any booking").name, names[0]);
    let first = pb::ListBookingsRequest { page_size: 2, page_token: String::new() };
    let first = admin.bookings().list_bookings(first).await.expect("a page").into_inner();
    let second = pb::ListBookingsRequest { page_size: 2, page_token: first.next_page_token.clone() };
    let second = admin.bookings().list_bookings(second).await.expect("a page").into_inner();

    let listed: Vec<_> =
        first.bookings.iter().chain(&second.bookings).map(|booking| booking.name.clone()).collect();
    assert_eq!(listed, names, "newest first");
    assert_eq!(second.next_page_token, "");
    let stolen = pb::ListBookingsRequest { page_size: 2, page_token: first.next_page_token };
    assert_eq!(reason(t.customer().bookings().list_bookings(stolen).await), "PAGE_TOKEN_INVALID");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_an_admin_writes_the_catalogue() {
    let t = TestBookings::start().await;
    let aircraft = t.catalogue(1).await;
    let city =
        pb::City { display_name: "Pune".to_owned(), country_code: "IN".to_owned(), ..pb::City::default() };
    let flight = TestBookings::draft(&aircraft, t.clock.now() + SignedDuration::from_hours(48), 7);

    for user in [t.customer(), t.user(&["customer", "flight_company"])] {
        let request = pb::CreateCityRequest { city: Some(city.clone()), city_id: "pune".to_owned() };
        let refused = user.catalog().create_city(request).await.expect_err("refused");
        assert_eq!(refused.code(), Code::PermissionDenied);
        let refused = user.create_flight(flight.clone()).await.expect_err("refused");
        assert_eq!(refused.code(), Code::PermissionDenied);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flight_company_creates_flights_of_the_airlines_that_it_manages() {
    let t = TestBookings::start().await;
    let aircraft = t.catalogue(1).await;
    let company = t.user(&["flight_company"]);
    let assign =
        pb::AssignAirlineManagerRequest { name: "airlines/AI".to_owned(), user_id: company.id.to_string() };
    for _ in 0..2 {
        t.admin().catalog().assign_airline_manager(assign.clone()).await.expect("assigned");
    }
    let airline = pb::Airline {
        display_name: "IndiGo".to_owned(),
        ticketing_code: "312".to_owned(),
        ..pb::Airline::default()
    };
    let other = pb::CreateAirlineRequest { airline: Some(airline), airline_id: "6E".to_owned() };
    t.admin().catalog().create_airline(other).await.expect("an airline");
    let own = TestBookings::draft(&aircraft, t.clock.now() + SignedDuration::from_hours(48), 7);
    let foreign = pb::Flight { airline: "airlines/6E".to_owned(), ..own.clone() };

    assert_eq!(reason(company.create_flight(foreign).await), "NOT_AIRLINE_MANAGER");
    let created = company.create_flight(own).await.expect("its own");
    assert_eq!(created.airline, "airlines/AI");
}
