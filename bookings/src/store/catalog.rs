//! Cities, airports, airlines, aircraft types.

use diesel::prelude::*;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use mesh::auth::PrincipalId;

use crate::domain::catalog::{AircraftType, Airline, Airport, City};
use crate::error::Error;
use crate::schema::{aircraft_types, airline_managers, airlines, airports, cities};

/// Stores a city unless there is one of that id.
pub(crate) async fn insert_city(conn: &mut AsyncPgConnection, city: &City) -> Result<(), Error> {
    diesel::insert_into(cities::table)
        .values((
            cities::id.eq(&city.id),
            cities::display_name.eq(&city.display_name),
            cities::country_code.eq(&city.country_code),
        ))
        .on_conflict_do_nothing()
        .execute(conn)
        .await?;
    Ok(())
}

/// The cities after `after`, ordered by id; or that one city.
pub(crate) async fn cities(conn: &mut AsyncPgConnection, pick: Pick<'_>) -> Result<Vec<City>, Error> {
    let mut query =
        cities::table.select((cities::id, cities::display_name, cities::country_code)).into_boxed();
    query = match pick {
        Pick::One(id) => query.filter(cities::id.eq(id)),
        Pick::Page { after, limit } => query.filter(cities::id.gt(after)).order(cities::id).limit(limit),
    };
    let rows: Vec<(String, String, String)> = query.load(conn).await?;
    Ok(rows
        .into_iter()
        .map(|(id, display_name, country_code)| City { id, display_name, country_code })
        .collect())
}

/// Stores an airport unless there is one of that id.
pub(crate) async fn insert_airport(conn: &mut AsyncPgConnection, airport: &Airport) -> Result<(), Error> {
    diesel::insert_into(airports::table)
        .values((
            airports::id.eq(&airport.id),
            airports::display_name.eq(&airport.display_name),
            airports::city_id.eq(&airport.city_id),
            airports::time_zone.eq(&airport.time_zone),
        ))
        .on_conflict_do_nothing()
        .execute(conn)
        .await?;
    Ok(())
}

/// The airports after `after`, ordered by id; or that one airport.
pub(crate) async fn airports(conn: &mut AsyncPgConnection, pick: Pick<'_>) -> Result<Vec<Airport>, Error> {
    let mut query = airports::table
        .select((airports::id, airports::display_name, airports::city_id, airports::time_zone))
        .into_boxed();
    query = match pick {
        Pick::One(id) => query.filter(airports::id.eq(id)),
        Pick::Page { after, limit } => query.filter(airports::id.gt(after)).order(airports::id).limit(limit),
    };
    let rows: Vec<(String, String, String, String)> = query.load(conn).await?;
    Ok(rows
        .into_iter()
        .map(|(id, display_name, city_id, time_zone)| Airport { id, display_name, city_id, time_zone })
        .collect())
}

/// Stores an airline unless there is one of that id.
pub(crate) async fn insert_airline(conn: &mut AsyncPgConnection, airline: &Airline) -> Result<(), Error> {
    diesel::insert_into(airlines::table)
        .values((
            airlines::id.eq(&airline.id),
            airlines::display_name.eq(&airline.display_name),
            airlines::ticketing_code.eq(&airline.ticketing_code),
        ))
        .on_conflict_do_nothing()
        .execute(conn)
        .await?;
    Ok(())
}

/// The airlines after `after`, ordered by id; or that one airline.
pub(crate) async fn airlines(conn: &mut AsyncPgConnection, pick: Pick<'_>) -> Result<Vec<Airline>, Error> {
    let mut query =
        airlines::table.select((airlines::id, airlines::display_name, airlines::ticketing_code)).into_boxed();
    query = match pick {
        Pick::One(id) => query.filter(airlines::id.eq(id)),
        Pick::Page { after, limit } => query.filter(airlines::id.gt(after)).order(airlines::id).limit(limit),
    };
    let rows: Vec<(String, String, String)> = query.load(conn).await?;
    Ok(rows
        .into_iter()
        .map(|(id, display_name, ticketing_code)| Airline { id, display_name, ticketing_code })
        .collect())
}

/// Stores an aircraft type unless there is one of that id.
pub(crate) async fn insert_aircraft_type(
    conn: &mut AsyncPgConnection,
    aircraft: &AircraftType,
) -> Result<(), Error> {
    let cabins = serde_json::to_value(&aircraft.cabins).expect("a layout has a JSON form");
    diesel::insert_into(aircraft_types::table)
        .values((
            aircraft_types::id.eq(&aircraft.id),
            aircraft_types::display_name.eq(&aircraft.display_name),
            aircraft_types::cabins.eq(cabins),
        ))
        .on_conflict_do_nothing()
        .execute(conn)
        .await?;
    Ok(())
}

/// The aircraft types after `after`, ordered by id; or that one.
pub(crate) async fn aircraft_types(
    conn: &mut AsyncPgConnection,
    pick: Pick<'_>,
) -> Result<Vec<AircraftType>, Error> {
    let mut query = aircraft_types::table
        .select((aircraft_types::id, aircraft_types::display_name, aircraft_types::cabins))
        .into_boxed();
    query = match pick {
        Pick::One(id) => query.filter(aircraft_types::id.eq(id)),
        Pick::Page { after, limit } => {
            query.filter(aircraft_types::id.gt(after)).order(aircraft_types::id).limit(limit)
        }
    };
    let rows: Vec<(String, String, serde_json::Value)> = query.load(conn).await?;
    rows.into_iter()
        .map(|(id, display_name, cabins)| {
            let cabins =
                serde_json::from_value(cabins).map_err(|_| Error::Corrupt(format!("aircraftTypes/{id}")))?;
            Ok(AircraftType { id, display_name, cabins })
        })
        .collect()
}

/// Which rows of the catalogue.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pick<'a> {
    /// The one of that id.
    One(&'a str),
    /// A page of them.
    Page {
        /// The last id of the page before; empty for the first page.
        after: &'a str,
        /// At most so many.
        limit: i64,
    },
}

/// Lets the user manage the airline.
pub(crate) async fn insert_manager(
    conn: &mut AsyncPgConnection,
    airline: &str,
    user: PrincipalId,
) -> Result<(), Error> {
    diesel::insert_into(airline_managers::table)
        .values((airline_managers::airline_id.eq(airline), airline_managers::user_id.eq(user)))
        .on_conflict_do_nothing()
        .execute(conn)
        .await?;
    Ok(())
}

/// Whether the user manages the airline.
pub(crate) async fn is_manager(
    conn: &mut AsyncPgConnection,
    airline: &str,
    user: PrincipalId,
) -> Result<bool, Error> {
    let row = airline_managers::table.find((airline, user));
    Ok(diesel::select(diesel::dsl::exists(row)).get_result(conn).await?)
}
