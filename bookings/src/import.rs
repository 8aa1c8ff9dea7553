//! Loading a whole schedule at once: the catalogue and tens of thousands of flights.
//!
//! It may be run again, and after it was interrupted: what is there already stays as it is.

use std::collections::HashMap;

use anyhow::Context as _;
use diesel::sql_types::{Array, BigInt, Bool, Date as SqlDate, Integer, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl as _};
use jiff::Timestamp;
use jiff::civil::Date;
use jiff_diesel::ToDiesel as _;
use mesh::auth::PrincipalId;
use mesh::db::Db;

use crate::domain::catalog::layout_problem;
use crate::domain::flight::FlightId;
use crate::error::Error;
use crate::store::catalog;

pub use crate::domain::catalog::{AircraftType, Airline, Airport, CabinLayout, City};
pub use crate::domain::flight::CabinClass;

/// Flights in one statement.
const BATCH: usize = 4_000;

/// What to load.
#[derive(Clone, Debug, Default)]
pub struct Data {
    /// Cities.
    pub cities: Vec<City>,
    /// Airports, in cities of `cities` or of the catalogue.
    pub airports: Vec<Airport>,
    /// Airlines.
    pub airlines: Vec<Airline>,
    /// Aircraft types.
    pub aircraft_types: Vec<AircraftType>,
    /// Flights of all these.
    pub flights: Vec<Flight>,
    /// Who manages which of the airlines.
    pub managers: Vec<Manager>,
}

/// A user who manages an airline's flights.
#[derive(Clone, Debug)]
pub struct Manager {
    /// IATA designator.
    pub airline_id: String,
    /// The user.
    pub user: PrincipalId,
}

/// A dated departure. `airline_id`, `flight_number`, `departure_date` and `origin` together are unique.
#[derive(Clone, Debug)]
pub struct Flight {
    /// IATA designator.
    pub airline_id: String,
    /// 1 to 9999.
    pub flight_number: i32,
    /// IATA code of the airport it leaves.
    pub origin: String,
    /// IATA code of the airport it goes to; never the origin.
    pub destination: String,
    /// When it leaves.
    pub departure_at: Timestamp,
    /// When it arrives: later, by at most 24 hours.
    pub arrival_at: Timestamp,
    /// The origin's local day.
    pub departure_date: Date,
    /// IATA type code.
    pub aircraft_type_id: String,
    /// ISO 4217 code of every fare.
    pub currency: String,
    /// What is on sale.
    pub cabins: Vec<Cabin>,
}

/// A cabin on sale: every seat that the aircraft type has of it.
#[derive(Clone, Debug)]
pub struct Cabin {
    /// Which class.
    pub cabin: CabinClass,
    /// Its fares.
    pub fares: Vec<Fare>,
}

/// A price with its conditions, per traveller, in the minor unit of the flight's currency.
#[derive(Clone, Debug)]
pub struct Fare {
    /// Unique in the cabin: a capital letter, then up to 15 of `A-Z0-9_`.
    pub fare: String,
    /// Without taxes, at least 1.
    pub base_minor: i64,
    /// At least 0.
    pub taxes_minor: i64,
    /// Whether the base comes back on cancellation.
    pub refundable: bool,
    /// What is kept of a refundable base; 0 for others.
    pub penalty_minor: i64,
}

/// Loads `data`; its rows are said to be made at `now`.
///
/// # Errors
///
/// When a layout is no layout, when a flight has a cabin that its aircraft type has not, or when the database refuses a row.
pub async fn schedule(db: &Db, data: &Data, now: Timestamp) -> anyhow::Result<()> {
    for aircraft in &data.aircraft_types {
        if let Some((index, field, rule)) = layout_problem(&aircraft.cabins) {
            anyhow::bail!("aircraft type {}: `cabins[{index}].{field}` {rule}", aircraft.id);
        }
    }
    db.transaction("import_catalogue", async |conn| {
        for city in &data.cities {
            catalog::insert_city(conn, city).await?;
        }
        for airport in &data.airports {
            catalog::insert_airport(conn, airport).await?;
        }
        for airline in &data.airlines {
            catalog::insert_airline(conn, airline).await?;
        }
        for aircraft in &data.aircraft_types {
            catalog::insert_aircraft_type(conn, aircraft).await?;
        }
        for manager in &data.managers {
            catalog::insert_manager(conn, &manager.airline_id, manager.user).await?;
        }
        Ok::<(), Error>(())
    })
    .await
    .context("load the catalogue")?;

    let capacities = capacities(&data.aircraft_types);
    for batch in data.flights.chunks(BATCH) {
        let columns = Columns::of(batch, &capacities)?;
        db.transaction("import_flights", async |conn| columns.insert(conn, now).await)
            .await
            .context("load flights")?;
    }
    // So that the first searches are planned for what is there.
    let mut conn = db.connection().await?;
    for table in ["flights", "fares", "inventory"] {
        diesel::sql_query(format!("ANALYZE {table}")).execute(&mut conn).await?;
    }
    Ok(())
}

fn capacities(types: &[AircraftType]) -> HashMap<(&str, CabinClass), i32> {
    types
        .iter()
        .flat_map(|aircraft| {
            aircraft.cabins.iter().map(|layout| ((aircraft.id.as_str(), layout.cabin), layout.capacity()))
        })
        .collect()
}

/// A batch of flights by columns, as `unnest` takes them.
#[derive(Default)]
struct Columns {
    ids: Vec<FlightId>,
    airlines: Vec<String>,
    numbers: Vec<i32>,
    origins: Vec<String>,
    destinations: Vec<String>,
    departures: Vec<jiff_diesel::Timestamp>,
    arrivals: Vec<jiff_diesel::Timestamp>,
    dates: Vec<jiff_diesel::Date>,
    types: Vec<String>,
    cabins: CabinColumns,
    fares: FareColumns,
}

#[derive(Default)]
struct CabinColumns {
    flights: Vec<FlightId>,
    cabins: Vec<&'static str>,
    capacities: Vec<i32>,
}

#[derive(Default)]
struct FareColumns {
    flights: Vec<FlightId>,
    cabins: Vec<&'static str>,
    fares: Vec<String>,
    bases: Vec<i64>,
    taxes: Vec<i64>,
    currencies: Vec<String>,
    refundable: Vec<bool>,
    penalties: Vec<i64>,
}

impl Columns {
    fn of(flights: &[Flight], capacities: &HashMap<(&str, CabinClass), i32>) -> anyhow::Result<Self> {
        let mut columns = Self::default();
        for flight in flights {
            let id = FlightId::generate();
            columns.ids.push(id);
            columns.airlines.push(flight.airline_id.clone());
            columns.numbers.push(flight.flight_number);
            columns.origins.push(flight.origin.clone());
            columns.destinations.push(flight.destination.clone());
            columns.departures.push(flight.departure_at.to_diesel());
            columns.arrivals.push(flight.arrival_at.to_diesel());
            columns.dates.push(flight.departure_date.to_diesel());
            columns.types.push(flight.aircraft_type_id.clone());
            for cabin in &flight.cabins {
                let capacity =
                    capacities.get(&(flight.aircraft_type_id.as_str(), cabin.cabin)).with_context(|| {
                        format!("aircraft type {} has no {}", flight.aircraft_type_id, cabin.cabin.word())
                    })?;
                columns.cabins.flights.push(id);
                columns.cabins.cabins.push(cabin.cabin.word());
                columns.cabins.capacities.push(*capacity);
                for fare in &cabin.fares {
                    columns.fares.push(id, cabin.cabin, &flight.currency, fare);
                }
            }
        }
        Ok(columns)
    }

    /// Inserts the flights that are not there yet, and the cabins and fares of just those.
    async fn insert(&self, conn: &mut AsyncPgConnection, now: Timestamp) -> Result<(), Error> {
        diesel::sql_query(
            "INSERT INTO flights (id, airline_id, flight_number, origin, destination, departure_at, arrival_at, departure_date, \
             aircraft_type_id, state, created_at, updated_at) \
             SELECT x.*, 'SCHEDULED', $10, $10 \
             FROM unnest($1::uuid[], $2::text[], $3::int[], $4::text[], $5::text[], $6::timestamptz[], $7::timestamptz[], \
             $8::date[], $9::text[]) AS x ON CONFLICT DO NOTHING",
        )
        .bind::<Array<SqlUuid>, _>(&self.ids)
        .bind::<Array<Text>, _>(&self.airlines)
        .bind::<Array<Integer>, _>(&self.numbers)
        .bind::<Array<Text>, _>(&self.origins)
        .bind::<Array<Text>, _>(&self.destinations)
        .bind::<Array<Timestamptz>, _>(&self.departures)
        .bind::<Array<Timestamptz>, _>(&self.arrivals)
        .bind::<Array<SqlDate>, _>(&self.dates)
        .bind::<Array<Text>, _>(&self.types)
        .bind::<Timestamptz, _>(now.to_diesel())
        .execute(conn)
        .await?;
        diesel::sql_query(
            "INSERT INTO inventory (flight_id, cabin, capacity) \
             SELECT x.flight_id, x.cabin, x.capacity \
             FROM unnest($1::uuid[], $2::text[], $3::int[]) AS x (flight_id, cabin, capacity) \
             WHERE EXISTS (SELECT 1 FROM flights WHERE id = x.flight_id) ON CONFLICT DO NOTHING",
        )
        .bind::<Array<SqlUuid>, _>(&self.cabins.flights)
        .bind::<Array<Text>, _>(&self.cabins.cabins)
        .bind::<Array<Integer>, _>(&self.cabins.capacities)
        .execute(conn)
        .await?;
        let fares = &self.fares;
        diesel::sql_query(
            "INSERT INTO fares (flight_id, cabin, fare, base_minor, taxes_minor, currency, refundable, penalty_minor) \
             SELECT x.* FROM unnest($1::uuid[], $2::text[], $3::text[], $4::bigint[], $5::bigint[], $6::text[], $7::boolean[], \
             $8::bigint[]) AS x (flight_id, cabin, fare, base_minor, taxes_minor, currency, refundable, penalty_minor) \
             WHERE EXISTS (SELECT 1 FROM flights WHERE id = x.flight_id) ON CONFLICT DO NOTHING",
        )
        .bind::<Array<SqlUuid>, _>(&fares.flights)
        .bind::<Array<Text>, _>(&fares.cabins)
        .bind::<Array<Text>, _>(&fares.fares)
        .bind::<Array<BigInt>, _>(&fares.bases)
        .bind::<Array<BigInt>, _>(&fares.taxes)
        .bind::<Array<Text>, _>(&fares.currencies)
        .bind::<Array<Bool>, _>(&fares.refundable)
        .bind::<Array<BigInt>, _>(&fares.penalties)
        .execute(conn)
        .await?;
        Ok(())
    }
}

impl FareColumns {
    fn push(&mut self, flight: FlightId, cabin: CabinClass, currency: &str, fare: &Fare) {
        self.flights.push(flight);
        self.cabins.push(cabin.word());
        self.fares.push(fare.fare.clone());
        self.bases.push(fare.base_minor);
        self.taxes.push(fare.taxes_minor);
        self.currencies.push(currency.to_owned());
        self.refundable.push(fare.refundable);
        self.penalties.push(fare.penalty_minor);
    }
}
