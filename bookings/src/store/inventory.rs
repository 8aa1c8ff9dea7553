//! Space and seats: how they are taken, and how they are given back.
//!
//! Every write that takes or frees names its owner, and the counter is changed by one guarded statement: nothing here reads first and writes then.

use diesel::QueryableByName;
use diesel::sql_types::{
    Array, BigInt, Bool, Integer, Jsonb, Nullable, SmallInt, Text, Timestamptz, Uuid as SqlUuid,
};
use diesel_async::{AsyncPgConnection, RunQueryDsl as _, SimpleAsyncConnection as _};
use jiff::Timestamp;
use jiff_diesel::ToDiesel as _;
use mesh::auth::PrincipalId;
use uuid::Uuid;

use super::word;
use crate::domain::booking::BookingId;
use crate::domain::catalog::CabinLayout;
use crate::domain::flight::{CabinClass, FlightId, State};
use crate::domain::hold::HoldId;
use crate::error::Error;

/// The only leg that a flight has so far.
pub(crate) const LEG: i16 = 1;

/// Classes of advisory locks.
const CUSTOMER_LOCK: i32 = 1;
const SEAT_LOCK: i32 = 2;

/// Ends the transaction when a lock is not to be had soon: somebody is waiting for the answer.
pub(crate) async fn wait_briefly(conn: &mut AsyncPgConnection) -> Result<(), Error> {
    conn.batch_execute("SET LOCAL lock_timeout = '2s'").await?;
    Ok(())
}

/// Keeps other transactions that do the same for the customer waiting until this one ends.
pub(crate) async fn lock_customer(conn: &mut AsyncPgConnection, customer: PrincipalId) -> Result<(), Error> {
    diesel::sql_query("SELECT pg_advisory_xact_lock($1, hashtext($2))")
        .bind::<Integer, _>(CUSTOMER_LOCK)
        .bind::<Text, _>(customer.to_string())
        .execute(conn)
        .await?;
    Ok(())
}

/// What a fare on a flight offers now.
#[derive(Clone, Debug)]
pub(crate) struct Offer {
    /// The airline.
    pub(crate) airline_id: String,
    /// When it leaves.
    pub(crate) departure_at: Timestamp,
    /// Where the flight stands.
    pub(crate) state: State,
    /// The cabin's seats.
    pub(crate) layout: CabinLayout,
    /// The price without taxes.
    pub(crate) base_minor: i64,
    /// Taxes.
    pub(crate) taxes_minor: i64,
    /// ISO 4217.
    pub(crate) currency: String,
    /// Whether the base comes back on cancellation.
    pub(crate) refundable: bool,
    /// What is kept of it then.
    pub(crate) penalty_minor: i64,
    /// Units neither held nor sold; those of expired holds count as held.
    pub(crate) free: i32,
    /// Units of expired holds.
    pub(crate) stale: i32,
}

#[derive(QueryableByName)]
struct OfferRow {
    #[diesel(sql_type = Text)]
    airline_id: String,
    #[diesel(sql_type = Timestamptz, deserialize_as = jiff_diesel::Timestamp)]
    departure_at: Timestamp,
    #[diesel(sql_type = Text)]
    state: String,
    #[diesel(sql_type = Jsonb)]
    cabins: serde_json::Value,
    #[diesel(sql_type = Nullable<BigInt>)]
    base_minor: Option<i64>,
    #[diesel(sql_type = Nullable<BigInt>)]
    taxes_minor: Option<i64>,
    #[diesel(sql_type = Nullable<Text>)]
    currency: Option<String>,
    #[diesel(sql_type = Nullable<Bool>)]
    refundable: Option<bool>,
    #[diesel(sql_type = Nullable<BigInt>)]
    penalty_minor: Option<i64>,
    #[diesel(sql_type = Nullable<Integer>)]
    free: Option<i32>,
    #[diesel(sql_type = Integer)]
    stale: i32,
}

/// Reads what a fare offers: `None` for a cabin or fare that the flight has not.
///
/// # Errors
///
/// [`Error::NotFound`] when there is no such flight.
pub(crate) async fn offer(
    conn: &mut AsyncPgConnection,
    flight: FlightId,
    cabin: CabinClass,
    fare: &str,
    now: Timestamp,
) -> Result<Option<Offer>, Error> {
    let row: Option<OfferRow> = diesel::sql_query(
        "SELECT f.airline_id, f.departure_at, f.state, t.cabins, r.base_minor, r.taxes_minor, r.currency, r.refundable, \
         r.penalty_minor, i.capacity + i.overbook - i.held - i.sold AS free, \
         (SELECT count(*)::int FROM holds h JOIN hold_items x ON x.hold_id = h.id WHERE h.state = 'ACTIVE' AND h.expires_at <= $5 \
         AND x.flight_id = $1 AND x.leg = $4 AND x.cabin = $2) AS stale \
         FROM flights f JOIN aircraft_types t ON t.id = f.aircraft_type_id \
         LEFT JOIN inventory i ON i.flight_id = f.id AND i.leg = $4 AND i.cabin = $2 \
         LEFT JOIN fares r ON r.flight_id = f.id AND r.cabin = $2 AND r.fare = $3 \
         WHERE f.id = $1",
    )
    .bind::<SqlUuid, _>(flight)
    .bind::<Text, _>(cabin.word())
    .bind::<Text, _>(fare)
    .bind::<SmallInt, _>(LEG)
    .bind::<Timestamptz, _>(now.to_diesel())
    .get_results(conn)
    .await?
    .pop();
    let row = row.ok_or_else(|| Error::NotFound(flight.name()))?;
    let layouts: Vec<CabinLayout> =
        serde_json::from_value(row.cabins).map_err(|_| Error::Corrupt(flight.name()))?;
    let state = word(State::of_word(&row.state), "flights", flight)?;
    let offer = (|| {
        Some(Offer {
            airline_id: row.airline_id,
            departure_at: row.departure_at,
            state,
            layout: layouts.into_iter().find(|layout| layout.cabin == cabin)?,
            base_minor: row.base_minor?,
            taxes_minor: row.taxes_minor?,
            currency: row.currency?,
            refundable: row.refundable?,
            penalty_minor: row.penalty_minor?,
            free: row.free?,
            stale: row.stale,
        })
    })();
    Ok(offer)
}

#[derive(QueryableByName)]
struct SeatNo {
    #[diesel(sql_type = Text)]
    seat_no: String,
}

/// A seat that is not free.
#[derive(QueryableByName)]
pub(crate) struct Taken {
    /// Which.
    #[diesel(sql_type = Text)]
    pub(crate) seat_no: String,
    /// `HELD`, `SOLD` or `BLOCKED`.
    #[diesel(sql_type = Text)]
    pub(crate) state: String,
    /// Whether it is held by a hold that is over: free, once that hold is ended.
    #[diesel(sql_type = Bool)]
    pub(crate) stale: bool,
}

/// The seats of a flight that are not free.
pub(crate) async fn taken(
    conn: &mut AsyncPgConnection,
    flight: FlightId,
    now: Timestamp,
) -> Result<Vec<Taken>, Error> {
    Ok(diesel::sql_query(
        "SELECT s.seat_no, s.state, coalesce(h.state = 'ACTIVE' AND h.expires_at <= $3, false) AS stale \
         FROM seats s LEFT JOIN holds h ON h.id = s.hold_id WHERE s.flight_id = $1 AND s.leg = $2",
    )
    .bind::<SqlUuid, _>(flight)
    .bind::<SmallInt, _>(LEG)
    .bind::<Timestamptz, _>(now.to_diesel())
    .get_results(conn)
    .await?)
}

/// Waits for everybody who is about to take one of these seats. The caller goes through flights in order; within one, this does.
pub(crate) async fn lock_seats(
    conn: &mut AsyncPgConnection,
    flight: FlightId,
    seats: &[String],
) -> Result<(), Error> {
    let mut sorted = seats.to_vec();
    sorted.sort_unstable();
    for seat_no in sorted {
        diesel::sql_query("SELECT pg_advisory_xact_lock($1, hashtext($2))")
            .bind::<Integer, _>(SEAT_LOCK)
            .bind::<Text, _>(seat_key(flight, &seat_no))
            .execute(conn)
            .await?;
    }
    Ok(())
}

/// The first `n` of `seats` that nobody else is about to take, locked. Never waits.
pub(crate) async fn try_lock_seats(
    conn: &mut AsyncPgConnection,
    flight: FlightId,
    seats: &[String],
    n: i64,
) -> Result<Vec<String>, Error> {
    let rows: Vec<SeatNo> = diesel::sql_query(
        "SELECT seat_no FROM unnest($2::text[]) AS candidate (seat_no) \
         WHERE pg_try_advisory_xact_lock($1, hashtext($3 || seat_no)) LIMIT $4",
    )
    .bind::<Integer, _>(SEAT_LOCK)
    .bind::<Array<Text>, _>(seats)
    .bind::<Text, _>(seat_key(flight, ""))
    .bind::<BigInt, _>(n)
    .get_results(conn)
    .await?;
    Ok(rows.into_iter().map(|row| row.seat_no).collect())
}

fn seat_key(flight: FlightId, seat_no: &str) -> String {
    format!("{flight}/{LEG}/{seat_no}")
}

/// Takes seats for a hold; the result is those that were free.
pub(crate) async fn take_seats(
    conn: &mut AsyncPgConnection,
    hold: HoldId,
    flight: FlightId,
    seats: &[String],
) -> Result<Vec<String>, Error> {
    let rows: Vec<SeatNo> = diesel::sql_query(
        "INSERT INTO seats (flight_id, leg, seat_no, state, hold_id) \
         SELECT $1, $2, seat_no, 'HELD', $3 FROM unnest($4::text[]) AS wanted (seat_no) ORDER BY seat_no \
         ON CONFLICT DO NOTHING RETURNING seat_no",
    )
    .bind::<SqlUuid, _>(flight)
    .bind::<SmallInt, _>(LEG)
    .bind::<SqlUuid, _>(hold)
    .bind::<Array<Text>, _>(seats)
    .get_results(conn)
    .await?;
    Ok(rows.into_iter().map(|row| row.seat_no).collect())
}

/// Takes `n` units of a cabin for a hold; false when there are not so many left.
pub(crate) async fn take_units(
    conn: &mut AsyncPgConnection,
    flight: FlightId,
    cabin: CabinClass,
    n: i32,
) -> Result<bool, Error> {
    let taken = diesel::sql_query(
        "UPDATE inventory SET held = held + $4 \
         WHERE flight_id = $1 AND leg = $2 AND cabin = $3 AND held + sold + $4 <= capacity + overbook",
    )
    .bind::<SqlUuid, _>(flight)
    .bind::<SmallInt, _>(LEG)
    .bind::<Text, _>(cabin.word())
    .bind::<Integer, _>(n)
    .execute(conn)
    .await?;
    Ok(taken == 1)
}

/// Gives back what a hold has: its seats, and its units. The hold's row is locked, and leaves `ACTIVE` or `PINNED` in this transaction.
pub(crate) async fn free_hold(conn: &mut AsyncPgConnection, hold: HoldId) -> Result<(), Error> {
    diesel::sql_query("DELETE FROM seats WHERE hold_id = $1 AND state = 'HELD'")
        .bind::<SqlUuid, _>(hold)
        .execute(conn)
        .await?;
    move_units(conn, hold, "held = held - $4").await
}

/// Makes what a hold has the booking's. The hold's row is locked and leaves `PINNED` in this transaction.
///
/// # Errors
///
/// [`Error::Corrupt`] when the hold has not every one of its `seats` seats.
pub(crate) async fn sell_hold(
    conn: &mut AsyncPgConnection,
    hold: HoldId,
    booking: BookingId,
    seats: usize,
) -> Result<(), Error> {
    let sold = diesel::sql_query(
        "UPDATE seats SET state = 'SOLD', hold_id = NULL, booking_id = $2 WHERE hold_id = $1 AND state = 'HELD'",
    )
    .bind::<SqlUuid, _>(hold)
    .bind::<SqlUuid, _>(booking)
    .execute(conn)
    .await?;
    if sold != seats {
        return Err(Error::Corrupt(hold.name()));
    }
    move_units(conn, hold, "held = held - $4, sold = sold + $4").await
}

/// Gives back what a booking bought with that hold. The booking's row is locked and leaves `CONFIRMED` in this transaction.
pub(crate) async fn free_booking(
    conn: &mut AsyncPgConnection,
    booking: BookingId,
    hold: HoldId,
) -> Result<(), Error> {
    diesel::sql_query("DELETE FROM seats WHERE booking_id = $1 AND state = 'SOLD'")
        .bind::<SqlUuid, _>(booking)
        .execute(conn)
        .await?;
    move_units(conn, hold, "sold = sold - $4").await
}

/// Changes the counters of every cabin that a hold has units in. `change` is the assignment, in which `$4` is how many.
async fn move_units(conn: &mut AsyncPgConnection, hold: HoldId, change: &'static str) -> Result<(), Error> {
    for units in units_of_hold(conn, hold).await? {
        diesel::sql_query(format!(
            "UPDATE inventory SET {change} WHERE flight_id = $1 AND leg = $2 AND cabin = $3"
        ))
        .bind::<SqlUuid, _>(units.flight_id)
        .bind::<SmallInt, _>(units.leg)
        .bind::<Text, _>(units.cabin)
        .bind::<Integer, _>(units.n)
        .execute(conn)
        .await?;
    }
    Ok(())
}

#[derive(QueryableByName)]
struct Units {
    #[diesel(sql_type = SqlUuid)]
    flight_id: Uuid,
    #[diesel(sql_type = SmallInt)]
    leg: i16,
    #[diesel(sql_type = Text)]
    cabin: String,
    #[diesel(sql_type = Integer)]
    n: i32,
}

/// How many units a hold has of which counter, in the order in which counters are locked.
async fn units_of_hold(conn: &mut AsyncPgConnection, hold: HoldId) -> Result<Vec<Units>, Error> {
    Ok(diesel::sql_query(
        "SELECT flight_id, leg, cabin, count(*)::int AS n FROM hold_items WHERE hold_id = $1 \
         GROUP BY flight_id, leg, cabin ORDER BY flight_id, leg, cabin",
    )
    .bind::<SqlUuid, _>(hold)
    .get_results(conn)
    .await?)
}
