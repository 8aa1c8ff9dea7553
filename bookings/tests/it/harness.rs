//! The service in this process, with a database, an issuer of tokens and a scripted payments of its own.

use std::path::PathBuf;
use std::time::Duration;

use bookings::{Bookings, Config};
use diesel::QueryableByName;
use diesel::sql_types::BigInt;
use diesel_async::{AsyncPgConnection, RunQueryDsl as _};
use jiff::{SignedDuration, Timestamp};
use mesh::auth::PrincipalId;
use mesh::client::Channel;
use mesh::clock::{Clock, to_proto};
use mesh::config::TargetConfig;
use mesh::db::Db;
use mesh::run::Running;
use mesh::testing::{self, Issuer, UserChannel};
use proto::bookings::v1 as pb;
use proto::bookings::v1::booking_service_client::BookingServiceClient;
use proto::bookings::v1::cancellation_service_client::CancellationServiceClient;
use proto::bookings::v1::catalog_service_client::CatalogServiceClient;
use proto::bookings::v1::flight_service_client::FlightServiceClient;
use proto::bookings::v1::hold_service_client::HoldServiceClient;
use proto::bookings::v1::seat_service_client::SeatServiceClient;
use tonic::{Response, Status};

use crate::payments::Payments;

/// How long anything may take to come about.
const PATIENCE: Duration = Duration::from_secs(20);

/// The service, and verbs to use it with.
pub(crate) struct TestBookings {
    pub(crate) config: Config,
    pub(crate) payments: Payments,
    pub(crate) db: Db,
    pub(crate) clock: Clock,
    clock_file: PathBuf,
    issuer: Issuer,
    running: Running,
    /// As the edge has it: one for all users.
    channel: Channel,
    admin: String,
}

impl TestBookings {
    /// Starts it. Expired holds are swept when a test says so.
    pub(crate) async fn start() -> Self {
        let issuer = Issuer::start().await;
        let payments = Payments::start().await;
        let clock_file = testing::directory().join(format!("clock-{}", mesh::id::generate()));
        let config = Config {
            server: testing::free_ports(),
            tls: testing::certificate("bookings"),
            database: testing::database("bookings", || bookings::MIGRATIONS).await,
            identity: issuer.target(),
            payments: TargetConfig { address: payments.address.to_string() },
            clock_file: Some(clock_file.clone()),
            sweep_interval_ms: 3_600_000,
            saga_poll_ms: 20,
            saga_backoff_max_ms: 200,
            ..Config::default()
        };
        let clock = Clock::system(Some(clock_file.clone()));
        let running =
            mesh::run::start::<Bookings>(config.clone(), clock.clone()).await.expect("the service starts");
        running.ready().await;
        let db = Db::new(&config.database).expect("a pool");
        let admin = issuer.token(PrincipalId::generate(), &["admin"]);
        let channel = testing::channel("edge", "bookings", running.address());
        Self { config, payments, db, clock, clock_file, issuer, running, channel, admin }
    }

    /// Stops the service, all in order.
    pub(crate) async fn stop(self) {
        self.running.stop().await;
    }

    /// Starts another replica on the same database.
    pub(crate) async fn replica(&self) -> Running {
        mesh::run::start::<Bookings>(self.config.clone(), self.clock.clone())
            .await
            .expect("the replica starts")
    }

    /// Moves the time on.
    pub(crate) fn advance(&self, by: SignedDuration) {
        let before: i64 =
            std::fs::read_to_string(&self.clock_file).ok().and_then(|text| text.parse().ok()).unwrap_or(0);
        // Renamed into place: a reader sees the one or the other.
        let new = self.clock_file.with_extension("new");
        std::fs::write(&new, (before + by.as_secs()).to_string()).expect("written");
        std::fs::rename(&new, &self.clock_file).expect("renamed");
    }

    /// A signed-in user with these roles.
    pub(crate) fn user(&self, roles: &[&str]) -> TestUser {
        let id = PrincipalId::generate();
        TestUser { id, channel: testing::as_user(self.channel.clone(), &self.issuer.token(id, roles)) }
    }

    /// A customer.
    pub(crate) fn customer(&self) -> TestUser {
        self.user(&["customer"])
    }

    /// An admin.
    pub(crate) fn admin(&self) -> TestUser {
        TestUser { id: PrincipalId::generate(), channel: testing::as_user(self.channel.clone(), &self.admin) }
    }

    /// Delhi, Bengaluru, Air India, and an aircraft with two rows of business and `rows` of six in economy. May be done again.
    pub(crate) async fn catalogue(&self, rows: i32) -> String {
        let admin = self.admin();
        for (id, name) in [("delhi", "Delhi"), ("bengaluru", "Bengaluru")] {
            let city = pb::City {
                display_name: name.to_owned(),
                country_code: "IN".to_owned(),
                ..pb::City::default()
            };
            let request = pb::CreateCityRequest { city: Some(city), city_id: id.to_owned() };
            admin.catalog().create_city(request).await.expect("a city");
        }
        for (id, city) in [("DEL", "cities/delhi"), ("BLR", "cities/bengaluru")] {
            let airport = pb::Airport {
                display_name: id.to_owned(),
                city: city.to_owned(),
                time_zone: "Asia/Kolkata".to_owned(),
                ..pb::Airport::default()
            };
            let request = pb::CreateAirportRequest { airport: Some(airport), airport_id: id.to_owned() };
            admin.catalog().create_airport(request).await.expect("an airport");
        }
        let airline = pb::Airline {
            display_name: "Air India".to_owned(),
            ticketing_code: "098".to_owned(),
            ..pb::Airline::default()
        };
        let request = pb::CreateAirlineRequest { airline: Some(airline), airline_id: "AI".to_owned() };
        admin.catalog().create_airline(request).await.expect("an airline");
        let id = format!("{rows:03}");
        let layout = |cabin: &str, first_row, last_row, letters: &str| pb::CabinLayout {
            cabin: cabin.to_owned(),
            first_row,
            last_row,
            letters: letters.to_owned(),
        };
        let aircraft = pb::AircraftType {
            display_name: "A test bed".to_owned(),
            cabins: vec![layout("BUSINESS", 1, 2, "AC-DF"), layout("ECONOMY", 3, 2 + rows, "ABC-DEF")],
            ..pb::AircraftType::default()
        };
        let request =
            pb::CreateAircraftTypeRequest { aircraft_type: Some(aircraft), aircraft_type_id: id.clone() };
        admin.catalog().create_aircraft_type(request).await.expect("an aircraft type");
        id
    }

    /// A flight in 30 days with `rows` rows of six seats in economy.
    pub(crate) async fn flight(&self, rows: i32) -> pb::Flight {
        let aircraft_type = self.catalogue(rows).await;
        let flight = Self::draft(&aircraft_type, self.clock.now() + SignedDuration::from_hours(24 * 30), 1);
        self.admin().create_flight(flight).await.expect("a flight")
    }

    /// A flight with one row in economy that leaves so soon, on the whole second.
    pub(crate) async fn flight_in(&self, soon: SignedDuration, number: u16) -> pb::Flight {
        let aircraft_type = self.catalogue(1).await;
        let seconds = self.clock.now().as_second() + soon.as_secs();
        let departure = Timestamp::from_second(seconds).expect("a time");
        let flight = Self::draft(&aircraft_type, departure, number);
        self.admin().create_flight(flight).await.expect("a flight")
    }

    /// What a flight of Air India from Delhi to Bengaluru looks like before it is created.
    pub(crate) fn draft(aircraft_type: &str, departure: Timestamp, number: u16) -> pb::Flight {
        pb::Flight {
            airline: "airlines/AI".to_owned(),
            flight_number: number.to_string(),
            origin: "airports/DEL".to_owned(),
            destination: "airports/BLR".to_owned(),
            departure_time: Some(to_proto(departure)),
            arrival_time: Some(to_proto(departure + SignedDuration::from_mins(165))),
            aircraft_type: format!("aircraftTypes/{aircraft_type}"),
            cabins: vec![
                cabin(
                    "ECONOMY",
                    vec![fare("LIGHT", 400_000, 56_000, None), fare("FLEX", 540_000, 75_600, Some(54_000))],
                ),
                cabin("BUSINESS", vec![fare("FLEX", 1_800_000, 252_000, Some(180_000))]),
            ],
            ..pb::Flight::default()
        }
    }

    /// Waits until a booking has come to rest.
    pub(crate) async fn settled(&self, user: &TestUser, name: &str) -> pb::Booking {
        use pb::booking::State::{AwaitingAction, Canceling, Pending};

        eventually("the booking comes to rest", async || {
            let booking = user.booking(name).await.expect("the booking");
            (![Pending, AwaitingAction, Canceling].contains(&booking.state())).then_some(booking)
        })
        .await
    }

    /// A booking of `n` seats, confirmed.
    pub(crate) async fn booked(
        &self,
        user: &TestUser,
        flight: &pb::Flight,
        n: usize,
        fare: &str,
    ) -> pb::Booking {
        let hold = user.hold(vec![any_seat(flight, fare); n]).await.expect("a hold");
        let booking = user.book(&hold).await.expect("a booking");
        let booking = self.settled(user, &booking.name).await;
        assert_eq!(booking.state(), pb::booking::State::Confirmed, "{booking:?}");
        booking
    }

    /// A connection of the test's own.
    pub(crate) async fn connection(&self) -> AsyncPgConnection {
        testing::connection(&self.config.database.url).await
    }

    /// Runs a statement, and says how many rows it changed.
    pub(crate) async fn execute(&self, sql: &str) -> diesel::QueryResult<usize> {
        diesel::sql_query(sql).execute(&mut self.connection().await).await
    }

    /// The number that a query `SELECT … AS n` finds.
    pub(crate) async fn number(&self, sql: &str) -> i64 {
        let row: Number =
            diesel::sql_query(sql).get_result(&mut self.connection().await).await.expect("a number");
        row.n
    }

    /// Checks that nothing is broken, at this moment.
    pub(crate) async fn is_clean(&self) {
        for report in
            bookings::audit::verify(&mut self.connection().await, self.clock.now()).await.expect("an audit")
        {
            assert!(report.is_clean(), "{report:?}");
        }
    }
}

#[derive(QueryableByName)]
struct Number {
    #[diesel(sql_type = BigInt)]
    n: i64,
}

/// Looks until there is something to see.
pub(crate) async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let mut ticks = tokio::time::interval(Duration::from_millis(20));
    let looking = async {
        loop {
            ticks.tick().await;
            if let Some(seen) = look().await {
                return seen;
            }
        }
    };
    tokio::time::timeout(PATIENCE, looking)
        .await
        .unwrap_or_else(|_| panic!("{what}: not within {PATIENCE:?}"))
}

/// A user with a channel to the service.
#[derive(Clone)]
pub(crate) struct TestUser {
    pub(crate) id: PrincipalId,
    channel: UserChannel,
}

impl TestUser {
    pub(crate) fn catalog(&self) -> CatalogServiceClient<UserChannel> {
        CatalogServiceClient::new(self.channel.clone())
    }

    pub(crate) fn flights(&self) -> FlightServiceClient<UserChannel> {
        FlightServiceClient::new(self.channel.clone())
    }

    pub(crate) fn seats(&self) -> SeatServiceClient<UserChannel> {
        SeatServiceClient::new(self.channel.clone())
    }

    pub(crate) fn holds(&self) -> HoldServiceClient<UserChannel> {
        HoldServiceClient::new(self.channel.clone())
    }

    pub(crate) fn bookings(&self) -> BookingServiceClient<UserChannel> {
        BookingServiceClient::new(self.channel.clone())
    }

    pub(crate) fn cancellations(&self) -> CancellationServiceClient<UserChannel> {
        CancellationServiceClient::new(self.channel.clone())
    }

    pub(crate) async fn create_flight(&self, flight: pb::Flight) -> Result<pb::Flight, Status> {
        let request = pb::CreateFlightRequest { flight: Some(flight), request_id: String::new() };
        self.flights().create_flight(request).await.map(Response::into_inner)
    }

    /// Free economy and business seats.
    pub(crate) async fn available(&self, flight: &pb::Flight) -> (i32, i32) {
        let request = pb::GetFlightRequest { name: flight.name.clone() };
        let flight = self.flights().get_flight(request).await.expect("the flight").into_inner();
        let of = |cabin: &str| flight.cabins.iter().find(|c| c.cabin == cabin).expect("the cabin").available;
        (of("ECONOMY"), of("BUSINESS"))
    }

    pub(crate) async fn hold(&self, items: Vec<pb::HoldItem>) -> Result<pb::Hold, Status> {
        self.hold_with_key(items, &key()).await
    }

    pub(crate) async fn hold_with_key(
        &self,
        items: Vec<pb::HoldItem>,
        key: &str,
    ) -> Result<pb::Hold, Status> {
        let request = pb::CreateHoldRequest { items, ttl_seconds: 0, request_id: key.to_owned() };
        self.holds().create_hold(request).await.map(Response::into_inner)
    }

    pub(crate) async fn get_hold(&self, name: &str) -> Result<pb::Hold, Status> {
        self.holds().get_hold(pb::GetHoldRequest { name: name.to_owned() }).await.map(Response::into_inner)
    }

    pub(crate) async fn release(&self, name: &str) -> Result<pb::Hold, Status> {
        self.holds()
            .release_hold(pb::ReleaseHoldRequest { name: name.to_owned() })
            .await
            .map(Response::into_inner)
    }

    pub(crate) async fn book(&self, hold: &pb::Hold) -> Result<pb::Booking, Status> {
        self.book_with_key(hold, &key()).await
    }

    pub(crate) async fn book_with_key(&self, hold: &pb::Hold, key: &str) -> Result<pb::Booking, Status> {
        let first = hold.items.as_slice().first().map(|item| item.flight.clone()).unwrap_or_default();
        let passengers =
            hold.items.iter().filter(|item| item.flight == first).enumerate().map(|(index, _)| {
                pb::Passenger { given_name: format!("Asha {index}"), family_name: "Rao".to_owned() }
            });
        let request = pb::CreateBookingRequest {
            hold: hold.name.clone(),
            passengers: passengers.collect(),
            payment_method: format!("paymentMethods/{}", self.id),
            request_id: key.to_owned(),
        };
        self.bookings().create_booking(request).await.map(Response::into_inner)
    }

    pub(crate) async fn booking(&self, name: &str) -> Result<pb::Booking, Status> {
        self.bookings()
            .get_booking(pb::GetBookingRequest { name: name.to_owned() })
            .await
            .map(Response::into_inner)
    }

    pub(crate) async fn quote(&self, booking: &pb::Booking) -> Result<pb::Cancellation, Status> {
        let request = pb::CreateCancellationRequest { booking: booking.name.clone() };
        self.cancellations().create_cancellation(request).await.map(Response::into_inner)
    }

    pub(crate) async fn confirm(&self, quote: &pb::Cancellation) -> Result<pb::Cancellation, Status> {
        let request = pb::ConfirmCancellationRequest { name: quote.name.clone(), request_id: key() };
        self.cancellations().confirm_cancellation(request).await.map(Response::into_inner)
    }

    pub(crate) async fn search(
        &self,
        request: pb::ListFlightsRequest,
    ) -> Result<pb::ListFlightsResponse, Status> {
        self.flights().list_flights(request).await.map(Response::into_inner)
    }
}

/// A new request id.
pub(crate) fn key() -> String {
    mesh::id::generate().to_string()
}

/// Any economy seat.
pub(crate) fn any_seat(flight: &pb::Flight, fare: &str) -> pb::HoldItem {
    seat(flight, fare, "")
}

/// That economy seat.
pub(crate) fn seat(flight: &pb::Flight, fare: &str, seat_number: &str) -> pb::HoldItem {
    pb::HoldItem {
        flight: flight.name.clone(),
        cabin: "ECONOMY".to_owned(),
        fare: fare.to_owned(),
        seat_number: seat_number.to_owned(),
        price: None,
    }
}

pub(crate) fn rupees(amount_minor: i64) -> proto::r#type::Money {
    proto::r#type::Money { currency_code: "INR".to_owned(), amount_minor }
}

pub(crate) fn cabin(cabin: &str, fares: Vec<pb::Fare>) -> pb::Cabin {
    pb::Cabin { cabin: cabin.to_owned(), fares, ..pb::Cabin::default() }
}

/// A fare; refundable when it has a penalty.
pub(crate) fn fare(fare: &str, base: i64, taxes: i64, penalty: Option<i64>) -> pb::Fare {
    pb::Fare {
        fare: fare.to_owned(),
        base: Some(rupees(base)),
        taxes: Some(rupees(taxes)),
        refundable: penalty.is_some(),
        cancellation_penalty: penalty.map(rupees),
    }
}

/// The reason of a refusal.
pub(crate) fn reason<T: std::fmt::Debug>(outcome: Result<T, Status>) -> String {
    mesh::status::reason(&outcome.expect_err("a refusal"))
}
