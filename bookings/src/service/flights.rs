//! `FlightService`.

use jiff::civil::Date;
use jiff::tz::TimeZone;
use mesh::auth::Caller;
use mesh::clock::{from_proto, to_proto};
use mesh::pagination::{PageToken, page_size};
use prost::Message as _;
use proto::bookings::v1 as pb;
use proto::bookings::v1::flight_service_server::FlightService;
use tonic::{Request, Response, Status};

use super::{ADMIN, Api, call, id_of, money, page, replay};
use crate::domain::catalog::{AircraftType, CabinLayout};
use crate::domain::flight::{Cabin, CabinClass, DURATION_MAX, Fare, Flight, FlightId, State, cabins_problem};
use crate::error::Error;
use crate::store::catalog::{self, Pick};
use crate::store::flights::{self, Cursor, Direction, Search, SortKey};

#[tonic::async_trait]
impl FlightService for Api {
    async fn create_flight(
        &self,
        request: Request<pb::CreateFlightRequest>,
    ) -> Result<Response<pb::Flight>, Status> {
        let (caller, mut request) = mesh::server::open(request)?;
        let key = std::mem::take(&mut request.request_id);
        let call = call(&caller, "/jetway.bookings.v1.FlightService/CreateFlight", key, &request);
        let wanted = request.flight.unwrap_or_default();
        let now = self.clock.now();

        let created = self
            .db
            .transaction("create_flight", async |conn| {
                if !call.key.is_empty()
                    && let Some(before) = replay(conn, &call, now).await?
                {
                    return Ok(before);
                }
                let flight = checked(conn, &caller, &wanted, now).await?;
                flights::insert(conn, &flight).await?;
                let created = pb::Flight::from(flight);
                if !call.key.is_empty() {
                    mesh::idempotency::complete(conn, &call, &created, now).await?;
                }
                Ok::<_, Error>(Response::new(created))
            })
            .await?;
        Ok(created)
    }

    async fn get_flight(
        &self,
        request: Request<pb::GetFlightRequest>,
    ) -> Result<Response<pb::Flight>, Status> {
        let id = id_of(FlightId::from_name(&request.into_inner().name), "name")?;
        let mut conn = self.db.connection().await.map_err(Error::from)?;
        Ok(Response::new(flights::find(&mut conn, id, self.clock.now()).await?.into()))
    }

    async fn list_flights(
        &self,
        request: Request<pb::ListFlightsRequest>,
    ) -> Result<Response<pb::ListFlightsResponse>, Status> {
        let mut request = request.into_inner();
        let size = page_size(std::mem::take(&mut request.page_size));
        let token = std::mem::take(&mut request.page_token);
        let query = request.encode_to_vec();
        let after: Option<Cursor> = PageToken::decode(&token, &query).map_err(|_| Error::PageToken)?;
        if after.as_ref().is_some_and(|cursor| !cursor.is_possible()) {
            return Err(Error::PageToken.into());
        }
        let search = Search {
            trip: trip(&request.trips)?,
            date: date(&request.trip_date)?,
            travellers: request.travellers.max(1),
            price: price(&request.price)?,
            sort: sort(&request.sort)?,
            after,
            limit: size.saturating_add(1),
        };
        // An index gives flights by departure. In any other order all of them would be read for one page.
        if search.trip.is_none()
            && search.date.is_none()
            && search.sort.first().is_some_and(|(key, _)| *key != SortKey::DepartureTime)
        {
            return Err(Error::invalid(
                "sort",
                "needs `trips` or `trip_date` unless departureTime comes first",
            )
            .into());
        }
        let mut conn = self.db.connection().await.map_err(Error::from)?;
        let found = flights::search(&mut conn, &search, self.clock.now()).await?;
        let (found, next_page_token) = page(found, size, &query, flights::Found::cursor);
        let flights = found.into_iter().map(|found| found.flight.into()).collect();
        Ok(Response::new(pb::ListFlightsResponse { flights, next_page_token }))
    }
}

/// The flight that a request asks for, checked against the catalogue and the caller's rights.
async fn checked(
    conn: &mut diesel_async::AsyncPgConnection,
    caller: &Caller,
    wanted: &pb::Flight,
    now: jiff::Timestamp,
) -> Result<Flight, Error> {
    let airline_id = part(&wanted.airline, "airlines");
    if catalog::airlines(conn, Pick::One(airline_id)).await?.is_empty() {
        return Err(Error::invalid("flight.airline", "is an airline of the catalogue"));
    }
    let manages = match caller.user() {
        Some(_) if caller.has_role(ADMIN) => true,
        Some(user) => catalog::is_manager(conn, airline_id, user.id).await?,
        None => false,
    };
    if !manages {
        return Err(Error::NotTheManager(airline_id.to_owned()));
    }
    if wanted.origin == wanted.destination {
        return Err(Error::invalid("flight.destination", "is not the origin"));
    }
    let mut airport = async |name: &str, field: &str| {
        catalog::airports(conn, Pick::One(part(name, "airports")))
            .await?
            .pop()
            .ok_or_else(|| Error::invalid(field, "is an airport of the catalogue"))
    };
    let origin = airport(&wanted.origin, "flight.origin").await?;
    let destination = airport(&wanted.destination, "flight.destination").await?;
    let aircraft = catalog::aircraft_types(conn, Pick::One(part(&wanted.aircraft_type, "aircraftTypes")))
        .await?
        .pop()
        .ok_or_else(|| Error::invalid("flight.aircraft_type", "is an aircraft type of the catalogue"))?;

    let time = |time: Option<prost_types::Timestamp>, field: &str| {
        time.and_then(from_proto).ok_or_else(|| Error::invalid(field, "is a time of the years 1 to 9999"))
    };
    let departure_at = time(wanted.departure_time, "flight.departure_time")?;
    let arrival_at = time(wanted.arrival_time, "flight.arrival_time")?;
    if departure_at <= now {
        return Err(Error::invalid("flight.departure_time", "is in the future"));
    }
    if arrival_at <= departure_at || arrival_at.duration_since(departure_at) > DURATION_MAX {
        return Err(Error::invalid(
            "flight.arrival_time",
            "is after the departure, and within 24 hours of it",
        ));
    }
    let zone =
        TimeZone::get(&origin.time_zone).map_err(|_| Error::Corrupt(format!("airports/{}", origin.id)))?;
    let cabins = cabins(&wanted.cabins, &aircraft)?;
    if let Some((field, rule)) = cabins_problem(&cabins, &aircraft) {
        return Err(Error::invalid(format!("flight.{field}"), rule));
    }
    Ok(Flight {
        id: FlightId::generate(),
        airline_id: airline_id.to_owned(),
        flight_number: wanted
            .flight_number
            .parse()
            .map_err(|_| Error::invalid("flight.flight_number", "is 1 to 9999"))?,
        origin: origin.id,
        destination: destination.id,
        departure_at,
        arrival_at,
        departure_date: departure_at.to_zoned(zone).date(),
        aircraft_type_id: aircraft.id,
        state: State::Scheduled,
        created_at: now,
        updated_at: now,
        cabins,
    })
}

/// The cabins of a request, with the capacity that the aircraft gives them, front to back and cheapest first.
fn cabins(wanted: &[pb::Cabin], aircraft: &AircraftType) -> Result<Vec<Cabin>, Error> {
    let mut cabins = Vec::new();
    for (c, cabin) in wanted.iter().enumerate() {
        let class = CabinClass::of_word(&cabin.cabin)
            .ok_or_else(|| Error::invalid(format!("flight.cabins[{c}].cabin"), "is a class of service"))?;
        let capacity =
            aircraft.cabins.iter().find(|layout| layout.cabin == class).map_or(0, CabinLayout::capacity);
        let mut fares = Vec::new();
        for (f, fare) in cabin.fares.iter().enumerate() {
            let base = fare.base.clone().unwrap_or_default();
            let taxes = fare.taxes.clone().unwrap_or_default();
            let penalty = fare.cancellation_penalty.clone();
            let same = |other: &str| other == base.currency_code;
            if !same(&taxes.currency_code) {
                let field = format!("flight.cabins[{c}].fares[{f}].taxes.currency_code");
                return Err(Error::invalid(field, "is the currency of the base price"));
            }
            if penalty.as_ref().is_some_and(|penalty| !same(&penalty.currency_code)) {
                let field = format!("flight.cabins[{c}].fares[{f}].cancellation_penalty.currency_code");
                return Err(Error::invalid(field, "is the currency of the base price"));
            }
            fares.push(Fare {
                fare: fare.fare.clone(),
                base_minor: base.amount_minor,
                taxes_minor: taxes.amount_minor,
                currency: base.currency_code,
                refundable: fare.refundable,
                penalty_minor: penalty.map_or(0, |penalty| penalty.amount_minor),
            });
        }
        cabins.push(Cabin { cabin: class, capacity, available: capacity, fares });
    }
    Ok(cabins)
}

fn part<'a>(name: &'a str, collection: &str) -> &'a str {
    name.strip_prefix(collection).and_then(|rest| rest.strip_prefix('/')).unwrap_or_default()
}

fn trip(trips: &str) -> Result<Option<(String, String)>, Error> {
    match trips.split_once('-') {
        None => Ok(None),
        Some((origin, destination)) if origin == destination => {
            Err(Error::invalid("trips", "goes from one airport to another"))
        }
        Some((origin, destination)) => Ok(Some((origin.to_owned(), destination.to_owned()))),
    }
}

fn date(trip_date: &str) -> Result<Option<Date>, Error> {
    if trip_date.is_empty() {
        return Ok(None);
    }
    trip_date
        .parse()
        .map(Some)
        .map_err(|_| Error::invalid("trip_date", "is a day of the calendar, as YYYY-MM-DD"))
}

fn price(price: &str) -> Result<(Option<i64>, Option<i64>), Error> {
    let Some((low, high)) = price.split_once('-') else { return Ok((None, None)) };
    let end = |text: &str| {
        if text.is_empty() { Ok(None) } else { text.parse().map(Some) }
            .map_err(|_: std::num::ParseIntError| Error::invalid("price", "is two whole numbers"))
    };
    match (end(low)?, end(high)?) {
        (Some(low), Some(high)) if low > high => Err(Error::invalid("price", "goes from low to high")),
        range => Ok(range),
    }
}

fn sort(text: &str) -> Result<Vec<(SortKey, Direction)>, Error> {
    if text.is_empty() {
        return Ok(vec![(SortKey::DepartureTime, Direction::Ascending)]);
    }
    let mut sort: Vec<(SortKey, Direction)> = Vec::new();
    for term in text.split(',') {
        let key = match term {
            "departureTime_ASC" => (SortKey::DepartureTime, Direction::Ascending),
            "departureTime_DESC" => (SortKey::DepartureTime, Direction::Descending),
            "price_ASC" => (SortKey::Price, Direction::Ascending),
            "price_DESC" => (SortKey::Price, Direction::Descending),
            "duration_ASC" => (SortKey::Duration, Direction::Ascending),
            "duration_DESC" => (SortKey::Duration, Direction::Descending),
            _ => {
                return Err(Error::invalid(
                    "sort",
                    "names departureTime, price or duration, each with _ASC or _DESC, between commas",
                ));
            }
        };
        if sort.iter().any(|(before, _)| *before == key.0) {
            return Err(Error::invalid("sort", "names each column once"));
        }
        sort.push(key);
    }
    Ok(sort)
}

impl From<Flight> for pb::Flight {
    fn from(flight: Flight) -> Self {
        let state = match flight.state {
            State::Scheduled => pb::flight::State::Scheduled,
            State::Canceled => pb::flight::State::Canceled,
        };
        Self {
            name: flight.id.name(),
            uid: flight.id.to_string(),
            create_time: Some(to_proto(flight.created_at)),
            update_time: Some(to_proto(flight.updated_at)),
            state: state.into(),
            airline: format!("airlines/{}", flight.airline_id),
            flight_number: flight.flight_number.to_string(),
            origin: format!("airports/{}", flight.origin),
            destination: format!("airports/{}", flight.destination),
            departure_time: Some(to_proto(flight.departure_at)),
            arrival_time: Some(to_proto(flight.arrival_at)),
            departure_date: flight.departure_date.to_string(),
            aircraft_type: format!("aircraftTypes/{}", flight.aircraft_type_id),
            cabins: flight.cabins.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<Cabin> for pb::Cabin {
    fn from(cabin: Cabin) -> Self {
        let fares = cabin.fares.into_iter().map(|fare| pb::Fare {
            base: Some(money(fare.base_minor, &fare.currency)),
            taxes: Some(money(fare.taxes_minor, &fare.currency)),
            refundable: fare.refundable,
            cancellation_penalty: (fare.penalty_minor > 0).then(|| money(fare.penalty_minor, &fare.currency)),
            fare: fare.fare,
        });
        Self {
            cabin: cabin.cabin.word().to_owned(),
            capacity: cabin.capacity,
            available: cabin.available,
            fares: fares.collect(),
        }
    }
}
