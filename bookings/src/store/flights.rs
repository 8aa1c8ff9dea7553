//! Flights with their cabins and fares: one query, however many there are.

use std::fmt::Write as _;

use diesel::QueryableByName;
use diesel::sql_types::{
    BigInt, Date as SqlDate, Integer, Jsonb, Nullable, Text, Timestamptz, Uuid as SqlUuid,
};
use diesel_async::{AsyncPgConnection, RunQueryDsl as _};
use jiff::Timestamp;
use jiff::civil::Date;
use jiff_diesel::ToDiesel as _;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::word;
use crate::domain::flight::{Cabin, DURATION_MAX, Flight, FlightId, PRICE_MINOR_MAX, State};
use crate::domain::hold::HoldId;
use crate::error::Error;

/// What to search for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Search {
    /// Origin and destination.
    pub(crate) trip: Option<(String, String)>,
    /// The origin's local day.
    pub(crate) date: Option<Date>,
    /// Seats free in one cabin, at least 1.
    pub(crate) travellers: i32,
    /// Lowest and highest price per traveller with taxes.
    pub(crate) price: (Option<i64>, Option<i64>),
    /// What counts first.
    pub(crate) sort: Vec<(SortKey, Direction)>,
    /// Where to go on.
    pub(crate) after: Option<Cursor>,
    /// At most so many.
    pub(crate) limit: i64,
}

/// What flights can be sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum SortKey {
    /// When it leaves.
    DepartureTime,
    /// The lowest price that matches.
    Price,
    /// Time in the air.
    Duration,
}

impl SortKey {
    const fn column(self) -> &'static str {
        match self {
            Self::DepartureTime => "departure_at",
            Self::Price => "price_minor",
            Self::Duration => "duration",
        }
    }

    /// The cursor's value for it, a bound parameter.
    const fn cursor(self) -> &'static str {
        match self {
            Self::DepartureTime => "$8",
            Self::Price => "$9",
            Self::Duration => "$10 * interval '1 second'",
        }
    }
}

/// Which way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    /// Small first.
    Ascending,
    /// Large first.
    Descending,
}

impl Direction {
    const fn word(self) -> &'static str {
        match self {
            Self::Ascending => "ASC",
            Self::Descending => "DESC",
        }
    }

    const fn beyond(self) -> &'static str {
        match self {
            Self::Ascending => ">",
            Self::Descending => "<",
        }
    }
}

/// The last flight of the page before, by everything that it can be sorted by.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Cursor {
    departure_at: Timestamp,
    price_minor: i64,
    duration_seconds: i64,
    id: Uuid,
}

/// The first second of the year 1, of Unix time.
const YEAR_1_SECONDS: i64 = -62_135_596_800;

impl Cursor {
    /// Whether a flight could be there. A client can make a token up, and the database refuses values out of its range.
    pub(crate) fn is_possible(&self) -> bool {
        self.departure_at.as_second() >= YEAR_1_SECONDS
            && (0..=PRICE_MINOR_MAX.saturating_mul(2)).contains(&self.price_minor)
            && (0..=DURATION_MAX.as_secs()).contains(&self.duration_seconds)
    }
}

/// A flight that a search found, with its lowest matching price.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    /// The flight.
    pub(crate) flight: Flight,
    price_minor: i64,
}

impl Found {
    /// Where the page after this flight starts.
    pub(crate) fn cursor(&self) -> Cursor {
        Cursor {
            departure_at: self.flight.departure_at,
            price_minor: self.price_minor,
            duration_seconds: self.flight.arrival_at.duration_since(self.flight.departure_at).as_secs(),
            id: self.flight.id.uuid(),
        }
    }
}

/// Units that a hold still counts, though it has expired: free, whether or not the sweeper has come. $1 is now.
const EXPIRED: &str = "expired AS MATERIALIZED ( \
     SELECT x.flight_id, x.leg, x.cabin, count(*)::int AS units \
     FROM holds h JOIN hold_items x ON x.hold_id = h.id \
     WHERE h.state = 'ACTIVE' AND h.expires_at <= $1 GROUP BY 1, 2, 3)";

/// The cabins and fares of `page`.
const CABINS: &str = "CROSS JOIN LATERAL ( \
     SELECT jsonb_agg(jsonb_build_object( \
         'cabin', i.cabin, 'capacity', i.capacity, \
         'available', greatest(0, i.capacity + i.overbook - i.held - i.sold + coalesce(e.units, 0)), \
         'fares', (SELECT coalesce(jsonb_agg(jsonb_build_object( \
             'fare', r.fare, 'base_minor', r.base_minor, 'taxes_minor', r.taxes_minor, 'currency', r.currency, \
             'refundable', r.refundable, 'penalty_minor', r.penalty_minor) \
             ORDER BY r.base_minor + r.taxes_minor, r.fare), '[]') \
             FROM fares r WHERE r.flight_id = i.flight_id AND r.cabin = i.cabin))) AS cabins \
     FROM inventory i LEFT JOIN expired e USING (flight_id, leg, cabin) \
     WHERE i.flight_id = page.id AND i.leg = 1) AS c";

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = SqlUuid)]
    id: FlightId,
    #[diesel(sql_type = Text)]
    airline_id: String,
    #[diesel(sql_type = Integer)]
    flight_number: i32,
    #[diesel(sql_type = Text)]
    origin: String,
    #[diesel(sql_type = Text)]
    destination: String,
    #[diesel(sql_type = Timestamptz, deserialize_as = jiff_diesel::Timestamp)]
    departure_at: Timestamp,
    #[diesel(sql_type = Timestamptz, deserialize_as = jiff_diesel::Timestamp)]
    arrival_at: Timestamp,
    #[diesel(sql_type = SqlDate, deserialize_as = jiff_diesel::Date)]
    departure_date: Date,
    #[diesel(sql_type = Text)]
    aircraft_type_id: String,
    #[diesel(sql_type = Text)]
    state: String,
    #[diesel(sql_type = Timestamptz, deserialize_as = jiff_diesel::Timestamp)]
    created_at: Timestamp,
    #[diesel(sql_type = Timestamptz, deserialize_as = jiff_diesel::Timestamp)]
    updated_at: Timestamp,
    #[diesel(sql_type = Nullable<BigInt>)]
    price_minor: Option<i64>,
    #[diesel(sql_type = Nullable<Jsonb>)]
    cabins: Option<serde_json::Value>,
}

impl TryFrom<Row> for Found {
    type Error = Error;

    fn try_from(row: Row) -> Result<Self, Error> {
        let corrupt = || Error::Corrupt(row.id.name());
        let mut cabins: Vec<Cabin> =
            row.cabins.map_or(Ok(Vec::new()), serde_json::from_value).map_err(|_| corrupt())?;
        cabins.sort_by_key(|cabin| cabin.cabin);
        let flight = Flight {
            id: row.id,
            airline_id: row.airline_id,
            flight_number: row.flight_number,
            origin: row.origin,
            destination: row.destination,
            departure_at: row.departure_at,
            arrival_at: row.arrival_at,
            departure_date: row.departure_date,
            aircraft_type_id: row.aircraft_type_id,
            state: word(State::of_word(&row.state), "flights", row.id)?,
            created_at: row.created_at,
            updated_at: row.updated_at,
            cabins,
        };
        Ok(Self { flight, price_minor: row.price_minor.unwrap_or(0) })
    }
}

/// Reads a flight.
pub(crate) async fn find(
    conn: &mut AsyncPgConnection,
    id: FlightId,
    now: Timestamp,
) -> Result<Flight, Error> {
    let row: Option<Row> = diesel::sql_query(format!(
        "WITH {EXPIRED}, page AS (SELECT f.*, NULL::bigint AS price_minor FROM flights f WHERE f.id = $2) \
         SELECT page.*, c.cabins FROM page {CABINS}"
    ))
    .bind::<Timestamptz, _>(now.to_diesel())
    .bind::<SqlUuid, _>(id)
    .get_results(conn)
    .await?
    .pop();
    row.ok_or_else(|| Error::NotFound(id.name()))?.try_into().map(|found: Found| found.flight)
}

/// What decides whether a flight can still be bought.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Departure {
    /// Which flight.
    pub(crate) flight: FlightId,
    /// Where it stands.
    pub(crate) state: State,
    /// When it leaves.
    pub(crate) at: Timestamp,
}

impl Departure {
    /// Whether it is going to leave.
    pub(crate) fn is_on_sale(&self, now: Timestamp) -> bool {
        self.state == State::Scheduled && self.at > now
    }
}

#[derive(QueryableByName)]
struct DepartureRow {
    #[diesel(sql_type = SqlUuid)]
    id: FlightId,
    #[diesel(sql_type = Text)]
    state: String,
    #[diesel(sql_type = Timestamptz, deserialize_as = jiff_diesel::Timestamp)]
    departure_at: Timestamp,
}

/// The flights of a hold, each once, by id.
pub(crate) async fn of_hold(conn: &mut AsyncPgConnection, hold: HoldId) -> Result<Vec<Departure>, Error> {
    let rows: Vec<DepartureRow> = diesel::sql_query(
        "SELECT f.id, f.state, f.departure_at FROM flights f \
         WHERE f.id IN (SELECT x.flight_id FROM hold_items x WHERE x.hold_id = $1) ORDER BY f.id",
    )
    .bind::<SqlUuid, _>(hold)
    .get_results(conn)
    .await?;
    rows.into_iter()
        .map(|row| {
            let state = word(State::of_word(&row.state), "flights", row.id)?;
            Ok(Departure { flight: row.id, state, at: row.departure_at })
        })
        .collect()
}

/// The flights on sale that match, in order.
pub(crate) async fn search(
    conn: &mut AsyncPgConnection,
    search: &Search,
    now: Timestamp,
) -> Result<Vec<Found>, Error> {
    let mut filter = String::new();
    if search.trip.is_some() {
        filter.push_str(" AND f.origin = $5 AND f.destination = $6");
    }
    if search.date.is_some() {
        filter.push_str(" AND f.departure_date = $7");
    }
    if search.after.is_some() {
        filter.push_str(&beyond(&search.sort));
    }
    let order = |table: &str| {
        search.sort.iter().fold(String::new(), |mut order, (key, direction)| {
            let _ = write!(order, "{}{} {}, ", prefix(table, *key), key.column(), direction.word());
            order
        })
    };
    let sql = format!(
        "WITH {EXPIRED}, page AS MATERIALIZED ( \
           SELECT f.*, f.arrival_at - f.departure_at AS duration, p.price_minor FROM flights f \
           CROSS JOIN LATERAL ( \
             SELECT min(r.base_minor + r.taxes_minor) AS price_minor \
             FROM inventory i JOIN fares r USING (flight_id, cabin) LEFT JOIN expired e USING (flight_id, leg, cabin) \
             WHERE i.flight_id = f.id AND i.leg = 1 \
             AND i.capacity + i.overbook - i.held - i.sold + coalesce(e.units, 0) >= $2 \
             AND r.base_minor + r.taxes_minor BETWEEN $3 AND $4) AS p \
           WHERE f.state = 'SCHEDULED' AND f.departure_at > $1 AND p.price_minor IS NOT NULL{filter} \
           ORDER BY {}f.id LIMIT $12) \
         SELECT page.*, c.cabins FROM page {CABINS} ORDER BY {}page.id",
        order("f"),
        order("page"),
    );
    let (origin, destination) = search.trip.clone().unwrap_or_default();
    let after = search.after.as_ref();
    let rows: Vec<Row> = diesel::sql_query(sql)
        .bind::<Timestamptz, _>(now.to_diesel())
        .bind::<Integer, _>(search.travellers)
        .bind::<BigInt, _>(search.price.0.unwrap_or(0))
        .bind::<BigInt, _>(search.price.1.unwrap_or(2 * PRICE_MINOR_MAX))
        .bind::<Text, _>(origin)
        .bind::<Text, _>(destination)
        .bind::<Nullable<SqlDate>, _>(search.date.to_diesel())
        .bind::<Nullable<Timestamptz>, _>(after.map(|cursor| cursor.departure_at).to_diesel())
        .bind::<BigInt, _>(after.map_or(0, |cursor| cursor.price_minor))
        .bind::<BigInt, _>(after.map_or(0, |cursor| cursor.duration_seconds))
        .bind::<SqlUuid, _>(after.map_or(Uuid::nil(), |cursor| cursor.id))
        .bind::<BigInt, _>(search.limit)
        .get_results(conn)
        .await?;
    rows.into_iter().map(TryInto::try_into).collect()
}

/// Where a sort key is found inside the query (`f`) and outside of it.
fn prefix(table: &str, key: SortKey) -> &'static str {
    match (table, key) {
        ("f", SortKey::DepartureTime) => "f.",
        ("f", SortKey::Price) => "p.",
        ("f", SortKey::Duration) => "",
        _ => "page.",
    }
}

/// What lies beyond the cursor: larger in the first key, or equal in it and larger in the second, and so on, by id at last.
fn beyond(sort: &[(SortKey, Direction)]) -> String {
    let expression = |key: SortKey| match key {
        SortKey::DepartureTime => "f.departure_at",
        SortKey::Price => "p.price_minor",
        SortKey::Duration => "(f.arrival_at - f.departure_at)",
    };
    let mut alternatives = Vec::new();
    let mut equal = String::new();
    for (key, direction) in sort {
        alternatives.push(format!("{equal}{} {} {}", expression(*key), direction.beyond(), key.cursor()));
        let _ = write!(equal, "{} = {} AND ", expression(*key), key.cursor());
    }
    alternatives.push(format!("{equal}f.id > $11"));
    // Said apart, because an index can use it.
    let bound = match sort.first() {
        Some((SortKey::DepartureTime, Direction::Ascending)) => " AND f.departure_at >= $8",
        _ => "",
    };
    format!("{bound} AND (({}))", alternatives.join(") OR ("))
}

/// Stores a flight with its cabins, fares and counters.
///
/// # Errors
///
/// [`Error::AlreadyExists`] when the airline has that flight on that day.
pub(crate) async fn insert(conn: &mut AsyncPgConnection, flight: &Flight) -> Result<(), Error> {
    let inserted = diesel::sql_query(
        "INSERT INTO flights (id, airline_id, flight_number, origin, destination, departure_at, arrival_at, departure_date, \
         aircraft_type_id, state, created_at, updated_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $11) ON CONFLICT DO NOTHING",
    )
    .bind::<SqlUuid, _>(flight.id)
    .bind::<Text, _>(&flight.airline_id)
    .bind::<Integer, _>(flight.flight_number)
    .bind::<Text, _>(&flight.origin)
    .bind::<Text, _>(&flight.destination)
    .bind::<Timestamptz, _>(flight.departure_at.to_diesel())
    .bind::<Timestamptz, _>(flight.arrival_at.to_diesel())
    .bind::<SqlDate, _>(flight.departure_date.to_diesel())
    .bind::<Text, _>(&flight.aircraft_type_id)
    .bind::<Text, _>(flight.state.word())
    .bind::<Timestamptz, _>(flight.created_at.to_diesel())
    .execute(conn)
    .await?;
    if inserted == 0 {
        let what = format!(
            "flight {}{} of {} from {}",
            flight.airline_id, flight.flight_number, flight.departure_date, flight.origin
        );
        return Err(Error::AlreadyExists(what));
    }
    for cabin in &flight.cabins {
        diesel::sql_query("INSERT INTO inventory (flight_id, cabin, capacity) VALUES ($1, $2, $3)")
            .bind::<SqlUuid, _>(flight.id)
            .bind::<Text, _>(cabin.cabin.word())
            .bind::<Integer, _>(cabin.capacity)
            .execute(conn)
            .await?;
        for fare in &cabin.fares {
            diesel::sql_query(
                "INSERT INTO fares (flight_id, cabin, fare, base_minor, taxes_minor, currency, refundable, penalty_minor) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
            )
            .bind::<SqlUuid, _>(flight.id)
            .bind::<Text, _>(cabin.cabin.word())
            .bind::<Text, _>(&fare.fare)
            .bind::<BigInt, _>(fare.base_minor)
            .bind::<BigInt, _>(fare.taxes_minor)
            .bind::<Text, _>(&fare.currency)
            .bind::<diesel::sql_types::Bool, _>(fare.refundable)
            .bind::<BigInt, _>(fare.penalty_minor)
            .execute(conn)
            .await?;
        }
    }
    Ok(())
}
