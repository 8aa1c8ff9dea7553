//! Search: filters, sort, pages, prices.

use jiff::SignedDuration;
use prost::Message as _;
use proto::bookings::v1 as pb;
use tonic::Code;

use crate::harness::{TestBookings, any_seat, cabin, fare, reason};

/// Five flights: numbers 1 to 4 on one day in March, in rising order of time and with prices 400, 300, 400 and 200; number 5 the day after.
async fn timetable(t: &TestBookings) -> Vec<pb::Flight> {
    let aircraft = t.catalogue(1).await;
    let day: jiff::Timestamp = "2031-03-09T20:00:00Z".parse().expect("a time");
    let mut flights = Vec::new();
    for (number, hours, price) in [(1_u16, 0, 400), (2, 3, 300), (3, 6, 400), (4, 9, 200), (5, 23, 100)] {
        let draft = TestBookings::draft(&aircraft, day + SignedDuration::from_hours(hours), number);
        let cabins = vec![cabin(
            "ECONOMY",
            vec![fare("LIGHT", price, 10, None), fare("FLEX", price * 2, 10, Some(1))],
        )];
        flights.push(t.admin().create_flight(pb::Flight { cabins, ..draft }).await.expect("a flight"));
    }
    flights
}

async fn numbers(t: &TestBookings, request: pb::ListFlightsRequest) -> Vec<String> {
    let mut user = t.customer().flights();
    let mut numbers = Vec::new();
    let mut token = String::new();
    loop {
        let page = user.list_flights(pb::ListFlightsRequest { page_token: token, ..request.clone() }).await;
        let page = page.expect("a page").into_inner();
        assert!(
            request.page_size == 0
                || page.flights.len() <= usize::try_from(request.page_size).expect("a size")
        );
        numbers.extend(page.flights.into_iter().map(|flight| flight.flight_number));
        token = page.next_page_token;
        if token.is_empty() {
            return numbers;
        }
    }
}

fn march() -> pb::ListFlightsRequest {
    pb::ListFlightsRequest {
        trips: "DEL-BLR".to_owned(),
        trip_date: "2031-03-10".to_owned(),
        ..pb::ListFlightsRequest::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn flights_are_found_by_route_day_price_and_free_seats() {
    let t = TestBookings::start().await;
    let flights = timetable(&t).await;
    t.customer().hold(vec![any_seat(&flights[2], "LIGHT"); 5]).await.expect("a hold");

    assert_eq!(numbers(&t, march()).await, ["1", "2", "3", "4"], "the origin's local day");
    assert_eq!(numbers(&t, pb::ListFlightsRequest::default()).await, ["1", "2", "3", "4", "5"]);
    assert_eq!(numbers(&t, pb::ListFlightsRequest { trips: "BLR-DEL".to_owned(), ..march() }).await, [""; 0]);
    assert_eq!(numbers(&t, pb::ListFlightsRequest { travellers: 2, ..march() }).await, ["1", "2", "4"]);
    assert_eq!(numbers(&t, pb::ListFlightsRequest { travellers: 7, ..march() }).await, [""; 0]);
    // With taxes: 410, 310, 410, 210, and the flexible fares at twice the base.
    let priced = |price: &str| pb::ListFlightsRequest { price: price.to_owned(), ..march() };
    assert_eq!(
        numbers(&t, priced("310-410")).await,
        ["1", "2", "3", "4"],
        "410 is also the flexible fare of 4"
    );
    assert_eq!(numbers(&t, priced("-309")).await, ["4"]);
    assert_eq!(numbers(&t, priced("411-")).await, ["1", "2", "3"]);

    t.advance(SignedDuration::from_secs(601));
    let two = pb::ListFlightsRequest { travellers: 2, ..march() };
    assert_eq!(numbers(&t, two).await, ["1", "2", "3", "4"], "an expired hold keeps nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn flights_come_in_the_order_asked_for_across_pages() {
    let t = TestBookings::start().await;
    timetable(&t).await;

    for page_size in [0, 1, 2, 3] {
        let sorted = |sort: &str| pb::ListFlightsRequest { sort: sort.to_owned(), page_size, ..march() };
        assert_eq!(numbers(&t, sorted("")).await, ["1", "2", "3", "4"]);
        assert_eq!(numbers(&t, sorted("departureTime_DESC")).await, ["4", "3", "2", "1"]);
        assert_eq!(numbers(&t, sorted("price_ASC,departureTime_DESC")).await, ["4", "2", "3", "1"]);
        assert_eq!(numbers(&t, sorted("price_DESC,departureTime_ASC")).await, ["1", "3", "2", "4"]);
        assert_eq!(
            numbers(&t, sorted("duration_ASC,price_ASC,departureTime_ASC")).await,
            ["4", "2", "1", "3"]
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn departed_flights_are_not_found() {
    let t = TestBookings::start().await;
    let flight = t.flight(1).await;
    let everything = pb::ListFlightsRequest::default();
    assert_eq!(numbers(&t, everything.clone()).await, [flight.flight_number]);

    t.advance(SignedDuration::from_hours(24 * 30 + 1));

    assert_eq!(numbers(&t, everything).await, [""; 0]);
}

const NOON: &str = "2031-03-10T12:00:00Z";

#[tokio::test(flavor = "multi_thread")]
async fn a_page_token_that_somebody_made_up_is_refused() {
    let t = TestBookings::start().await;
    timetable(&t).await;
    let user = t.customer();
    let id = mesh::id::generate();
    let forged = |departure_at: &str, price_minor: i64, duration_seconds: i64| {
        let key = serde_json::json!({
            "departure_at": departure_at, "price_minor": price_minor, "duration_seconds": duration_seconds, "id": id,
        });
        let page_token = mesh::pagination::PageToken::encode(&key, &march().encode_to_vec());
        pb::ListFlightsRequest { page_token, ..march() }
    };
    user.search(forged(NOON, 410, 9_900)).await.expect("as we make them");
    for request in [
        forged("-009000-01-01T00:00:00Z", 410, 9_900),
        forged("0000-12-31T23:59:59Z", 410, 9_900),
        forged(NOON, -1, 9_900),
        forged(NOON, i64::MAX, 9_900),
        forged(NOON, 410, -1),
        forged(NOON, 410, 86_401),
        forged(NOON, 410, i64::MAX),
    ] {
        assert_eq!(reason(user.search(request).await), "PAGE_TOKEN_INVALID");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_search_that_makes_no_sense_names_its_field() {
    let t = TestBookings::start().await;
    timetable(&t).await;
    let user = t.customer();
    let page = user.search(pb::ListFlightsRequest { page_size: 1, ..march() }).await.expect("a page");
    let wrong = [
        (pb::ListFlightsRequest { sort: "name_ASC".to_owned(), ..march() }, "sort"),
        (pb::ListFlightsRequest { sort: "price_ASC;DROP TABLE flights".to_owned(), ..march() }, "sort"),
        (pb::ListFlightsRequest { sort: "price_ASC,price_DESC".to_owned(), ..march() }, "sort"),
        (pb::ListFlightsRequest { trips: "DEL-DEL".to_owned(), ..march() }, "trips"),
        // All flights of all days would have to be read for one page of these.
        (
            pb::ListFlightsRequest { sort: "price_ASC".to_owned(), ..pb::ListFlightsRequest::default() },
            "sort",
        ),
        (
            pb::ListFlightsRequest {
                sort: "duration_DESC,departureTime_ASC".to_owned(),
                ..pb::ListFlightsRequest::default()
            },
            "sort",
        ),
        (pb::ListFlightsRequest { trip_date: "2031-02-30".to_owned(), ..march() }, "trip_date"),
        (pb::ListFlightsRequest { price: "9-1".to_owned(), ..march() }, "price"),
        (pb::ListFlightsRequest { page_token: "nonsense".to_owned(), ..march() }, "page_token"),
        // A token is good for its own query only.
        (pb::ListFlightsRequest { page_token: page.next_page_token, travellers: 2, ..march() }, "page_token"),
    ];
    for (request, field) in wrong {
        let status = user.search(request).await.expect_err("refused");
        assert_eq!(status.code(), Code::InvalidArgument, "{field}");
        assert!(status.message().contains(&format!("`{field}`")), "{field}: {}", status.message());
    }
}
