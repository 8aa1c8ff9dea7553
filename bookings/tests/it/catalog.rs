//! The catalogue, and the flights made of it.

use jiff::SignedDuration;
use mesh::clock::to_proto;
use proto::bookings::v1 as pb;
use tonic::Code;

use crate::harness::{TestBookings, cabin, fare, key, reason, rupees};

#[tokio::test(flavor = "multi_thread")]
async fn creating_the_same_again_succeeds_and_a_different_one_is_refused() {
    let t = TestBookings::start().await;
    let admin = t.admin();
    let city =
        pb::City { display_name: "Pune".to_owned(), country_code: "IN".to_owned(), ..pb::City::default() };
    let request =
        |city: &pb::City| pb::CreateCityRequest { city: Some(city.clone()), city_id: "pune".to_owned() };

    let first = admin.catalog().create_city(request(&city)).await.expect("a city").into_inner();
    let again = admin.catalog().create_city(request(&first)).await.expect("the same").into_inner();
    let other = pb::City { display_name: "Poona".to_owned(), ..city };
    let refused = admin.catalog().create_city(request(&other)).await.expect_err("refused");

    assert_eq!(first.name, "cities/pune");
    assert_eq!(first, again);
    assert_eq!(refused.code(), Code::AlreadyExists);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_catalogue_is_read_and_listed_by_pages() {
    let t = TestBookings::start().await;
    t.catalogue(1).await;
    let user = t.customer();

    let airport = pb::GetAirportRequest { name: "airports/DEL".to_owned() };
    let airport = user.catalog().get_airport(airport).await.expect("an airport").into_inner();
    assert_eq!((airport.city.as_str(), airport.time_zone.as_str()), ("cities/delhi", "Asia/Kolkata"));
    let missing = pb::GetAirlineRequest { name: "airlines/ZZ".to_owned() };
    assert_eq!(user.catalog().get_airline(missing).await.expect_err("none").code(), Code::NotFound);

    let mut names = Vec::new();
    let mut token = String::new();
    loop {
        let request = pb::ListAirportsRequest { page_size: 1, page_token: token };
        let page = user.catalog().list_airports(request).await.expect("a page").into_inner();
        names.extend(page.airports.into_iter().map(|airport| airport.name));
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(names, ["airports/BLR", "airports/DEL"]);
    let nonsense = pb::ListAirportsRequest { page_size: 1, page_token: "nonsense".to_owned() };
    assert_eq!(reason(user.catalog().list_airports(nonsense).await), "PAGE_TOKEN_INVALID");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_token_with_a_key_that_no_entry_can_have_is_refused() {
    let t = TestBookings::start().await;
    let mut catalog = t.customer().catalog();
    let token = |key: &str, list: &str| mesh::pagination::PageToken::encode(&key, list.as_bytes());
    let mut answers = Vec::new();
    for (city, airport, airline, aircraft) in
        [("pune", "DEL", "AI", "320"), ("Pune", "DELX", "ai", "32-"), ("\u{0}", "\u{0}", "\u{0}", "\u{0}")]
    {
        let request = pb::ListCitiesRequest { page_size: 1, page_token: token(city, "cities") };
        answers.push(catalog.list_cities(request).await.map(|_| ()));
        let request = pb::ListAirportsRequest { page_size: 1, page_token: token(airport, "airports") };
        answers.push(catalog.list_airports(request).await.map(|_| ()));
        let request = pb::ListAirlinesRequest { page_size: 1, page_token: token(airline, "airlines") };
        answers.push(catalog.list_airlines(request).await.map(|_| ()));
        let request =
            pb::ListAircraftTypesRequest { page_size: 1, page_token: token(aircraft, "aircraftTypes") };
        answers.push(catalog.list_aircraft_types(request).await.map(|_| ()));
    }

    let forged = answers.split_off(4);
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    for answer in forged {
        assert_eq!(reason(answer), "PAGE_TOKEN_INVALID");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_catalogue_entry_that_cannot_be_names_its_field() {
    let t = TestBookings::start().await;
    t.catalogue(1).await;
    let mut catalog = t.admin().catalog();
    let airport = |city: &str, time_zone: &str| pb::CreateAirportRequest {
        airport: Some(pb::Airport {
            display_name: "Pune".to_owned(),
            city: city.to_owned(),
            time_zone: time_zone.to_owned(),
            ..pb::Airport::default()
        }),
        airport_id: "PNQ".to_owned(),
    };
    let zone = catalog.create_airport(airport("cities/delhi", "Asia/Atlantis")).await.expect_err("refused");
    let city = catalog.create_airport(airport("cities/atlantis", "Asia/Kolkata")).await.expect_err("refused");
    let layout =
        pb::CabinLayout { cabin: "ECONOMY".to_owned(), first_row: 9, last_row: 3, letters: "ABC".to_owned() };
    let aircraft = pb::CreateAircraftTypeRequest {
        aircraft_type: Some(pb::AircraftType {
            display_name: "Backwards".to_owned(),
            cabins: vec![layout],
            ..pb::AircraftType::default()
        }),
        aircraft_type_id: "999".to_owned(),
    };
    let rows = catalog.create_aircraft_type(aircraft).await.expect_err("refused");

    for (status, field) in
        [(zone, "airport.time_zone"), (city, "airport.city"), (rows, "aircraft_type.cabins[0].last_row")]
    {
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().contains(&format!("`{field}`")), "{}", status.message());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flight_has_its_aircrafts_seats_and_leaves_on_the_origins_day() {
    let t = TestBookings::start().await;
    let aircraft = t.catalogue(3).await;
    // 20:00 UTC is half past one of the next day in Delhi.
    let departure = "2031-03-09T20:00:00Z".parse().expect("a time");
    let request = pb::CreateFlightRequest {
        flight: Some(TestBookings::draft(&aircraft, departure, 803)),
        request_id: key(),
    };

    let created = t.admin().flights().create_flight(request.clone()).await.expect("a flight").into_inner();
    let again = t.admin().flights().create_flight(request).await.expect("the same answer").into_inner();
    let read = pb::GetFlightRequest { name: created.name.clone() };
    let read = t.customer().flights().get_flight(read).await.expect("the flight").into_inner();

    assert_eq!(created.departure_date, "2031-03-10");
    assert_eq!(created, again);
    assert_eq!(read.departure_date, "2031-03-10");
    let cabins: Vec<_> = read.cabins.iter().map(|c| (c.cabin.as_str(), c.capacity, c.available)).collect();
    assert_eq!(cabins, [("BUSINESS", 8, 8), ("ECONOMY", 18, 18)], "front to back");
    assert_eq!(read.cabins[1].fares[0].base, Some(rupees(400_000)), "cheapest first");
    let same_day = TestBookings::draft(&aircraft, departure + SignedDuration::from_hours(2), 803);
    assert_eq!(reason(t.admin().create_flight(same_day).await), "ALREADY_EXISTS");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flight_that_cannot_be_names_its_field() {
    let t = TestBookings::start().await;
    let aircraft = t.catalogue(1).await;
    let departure = t.clock.now() + SignedDuration::from_hours(48);
    let good = TestBookings::draft(&aircraft, departure, 1);
    let economy = |fares| pb::Flight { cabins: vec![cabin("ECONOMY", fares)], ..good.clone() };
    let euros = |minor| proto::r#type::Money { currency_code: "EUR".to_owned(), amount_minor: minor };
    let wrong = [
        (pb::Flight { airline: "airlines/ZZ".to_owned(), ..good.clone() }, "flight.airline"),
        (pb::Flight { origin: "airports/XXX".to_owned(), ..good.clone() }, "flight.origin"),
        (pb::Flight { destination: good.origin.clone(), ..good.clone() }, "flight.destination"),
        (
            pb::Flight { aircraft_type: "aircraftTypes/XXX".to_owned(), ..good.clone() },
            "flight.aircraft_type",
        ),
        (
            pb::Flight { departure_time: Some(to_proto(t.clock.now())), ..good.clone() },
            "flight.departure_time",
        ),
        (pb::Flight { arrival_time: good.departure_time, ..good.clone() }, "flight.arrival_time"),
        (
            pb::Flight { cabins: vec![cabin("FIRST", vec![fare("FLEX", 1, 0, None)])], ..good.clone() },
            "flight.cabins[0].cabin",
        ),
        (economy(vec![fare("FLEX", 0, 0, None)]), "flight.cabins[0].fares[0].base.amount_minor"),
        (economy(vec![fare("FLEX", 1, 0, None), fare("FLEX", 1, 0, None)]), "flight.cabins[0].fares[1].fare"),
        (
            economy(vec![pb::Fare { taxes: Some(euros(1)), ..fare("FLEX", 1, 0, None) }]),
            "flight.cabins[0].fares[0].taxes.currency_code",
        ),
        (
            economy(vec![
                fare("LIGHT", 1, 0, None),
                pb::Fare { base: Some(euros(1)), taxes: Some(euros(0)), ..fare("FLEX", 1, 0, None) },
            ]),
            "flight.cabins[0].fares[1].base.currency_code",
        ),
        (
            economy(vec![pb::Fare { refundable: false, ..fare("FLEX", 10, 0, Some(1)) }]),
            "flight.cabins[0].fares[0].cancellation_penalty",
        ),
    ];
    for (flight, field) in wrong {
        let status = t.admin().create_flight(flight).await.expect_err("refused");
        assert_eq!(status.code(), Code::InvalidArgument, "{field}");
        assert!(status.message().contains(&format!("`{field}`")), "{field}: {}", status.message());
    }
    assert_eq!(t.number("SELECT count(*) AS n FROM flights").await, 0);
}
