//! `bookings`, `passengers`, `tickets`, `coupons`.

use std::collections::HashMap;

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Nullable, SmallInt, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use jiff::Timestamp;
use jiff_diesel::ToDiesel as _;
use mesh::auth::PrincipalId;
use mesh::outbox;
use uuid::Uuid;

use super::{holds, word};
use crate::domain::Money;
use crate::domain::booking::{Booking, BookingId, Event, Failure, Passenger, State, Ticket, TicketState};
use crate::domain::hold::HoldId;
use crate::domain::locator::Locator;
use crate::error::Error;
use crate::schema::{bookings, passengers, tickets};

/// `bookings`, as stored.
#[derive(Queryable, Selectable)]
#[diesel(table_name = bookings, check_for_backend(diesel::pg::Pg))]
struct Row {
    id: BookingId,
    hold_id: HoldId,
    customer_id: PrincipalId,
    airline_id: String,
    state: String,
    record_locator: Option<String>,
    currency: String,
    total_minor: i64,
    refunded_minor: i64,
    payment_method: Uuid,
    payment_intent: Option<Uuid>,
    failure_reason: Option<String>,
    failure_decline_code: Option<String>,
    failure_message: Option<String>,
    #[diesel(deserialize_as = jiff_diesel::Timestamp)]
    created_at: Timestamp,
    #[diesel(deserialize_as = jiff_diesel::Timestamp)]
    updated_at: Timestamp,
}

/// Stores a new booking with its passengers.
pub(crate) async fn insert(conn: &mut AsyncPgConnection, booking: &Booking) -> Result<(), Error> {
    diesel::sql_query(
        "INSERT INTO bookings (id, hold_id, customer_id, airline_id, state, currency, total_minor, payment_method, created_at, \
         updated_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $9)",
    )
    .bind::<SqlUuid, _>(booking.id)
    .bind::<SqlUuid, _>(booking.hold)
    .bind::<SqlUuid, _>(booking.customer)
    .bind::<Text, _>(&booking.airline_id)
    .bind::<Text, _>(booking.state.word())
    .bind::<Text, _>(&booking.total.currency)
    .bind::<BigInt, _>(booking.total.minor)
    .bind::<SqlUuid, _>(booking.payment_method)
    .bind::<Timestamptz, _>(booking.created_at.to_diesel())
    .execute(conn)
    .await?;
    for (index, passenger) in (0_i16..).zip(&booking.passengers) {
        diesel::insert_into(passengers::table)
            .values((
                passengers::booking_id.eq(booking.id),
                passengers::passenger_index.eq(index),
                passengers::given_name.eq(&passenger.given_name),
                passengers::family_name.eq(&passenger.family_name),
            ))
            .execute(conn)
            .await?;
    }
    Ok(())
}

/// Reads a booking.
///
/// # Errors
///
/// [`Error::NotFound`].
pub(crate) async fn find(conn: &mut AsyncPgConnection, id: BookingId) -> Result<Booking, Error> {
    let row: Option<Row> = bookings::table.find(id).select(Row::as_select()).first(conn).await.optional()?;
    one(conn, id, row).await
}

/// Reads a booking and locks its row until the transaction ends.
///
/// # Errors
///
/// [`Error::NotFound`].
pub(crate) async fn lock(conn: &mut AsyncPgConnection, id: BookingId) -> Result<Booking, Error> {
    let row: Option<Row> =
        bookings::table.find(id).select(Row::as_select()).for_update().first(conn).await.optional()?;
    one(conn, id, row).await
}

async fn one(conn: &mut AsyncPgConnection, id: BookingId, row: Option<Row>) -> Result<Booking, Error> {
    let row = row.ok_or_else(|| Error::NotFound(id.name()))?;
    whole(conn, vec![row]).await?.pop().ok_or_else(|| Error::NotFound(id.name()))
}

/// A page of bookings, newest first: the customer's, or everybody's.
pub(crate) async fn list(
    conn: &mut AsyncPgConnection,
    customer: Option<PrincipalId>,
    before: Option<BookingId>,
    limit: i64,
) -> Result<Vec<Booking>, Error> {
    let mut query =
        bookings::table.select(Row::as_select()).order(bookings::id.desc()).limit(limit).into_boxed();
    if let Some(customer) = customer {
        query = query.filter(bookings::customer_id.eq(customer));
    }
    if let Some(before) = before {
        query = query.filter(bookings::id.lt(before));
    }
    let rows = query.load(conn).await?;
    whole(conn, rows).await
}

/// Puts bookings together with what belongs to them: three queries, however many there are.
async fn whole(conn: &mut AsyncPgConnection, rows: Vec<Row>) -> Result<Vec<Booking>, Error> {
    let ids: Vec<BookingId> = rows.iter().map(|row| row.id).collect();
    let hold_ids: Vec<HoldId> = rows.iter().map(|row| row.hold_id).collect();
    let mut items = holds::items(conn, &hold_ids).await?;

    let people: Vec<(BookingId, String, String)> = passengers::table
        .filter(passengers::booking_id.eq_any(&ids))
        .order((passengers::booking_id, passengers::passenger_index))
        .select((passengers::booking_id, passengers::given_name, passengers::family_name))
        .load(conn)
        .await?;
    let mut passengers_of: HashMap<BookingId, Vec<Passenger>> = HashMap::new();
    for (booking, given_name, family_name) in people {
        passengers_of.entry(booking).or_default().push(Passenger { given_name, family_name });
    }

    let rights: Vec<(BookingId, String, i16, String)> = tickets::table
        .filter(tickets::booking_id.eq_any(&ids))
        .order((tickets::booking_id, tickets::passenger_index))
        .select((tickets::booking_id, tickets::ticket_number, tickets::passenger_index, tickets::state))
        .load(conn)
        .await?;
    let mut tickets_of: HashMap<BookingId, Vec<Ticket>> = HashMap::new();
    for (booking, number, passenger_index, state) in rights {
        let state = word(TicketState::of_word(&state), "tickets", &number)?;
        tickets_of.entry(booking).or_default().push(Ticket { number, passenger_index, state });
    }

    rows.into_iter()
        .map(|row| {
            let failure = row.failure_reason.map(|reason| Failure {
                reason,
                decline_code: row.failure_decline_code.unwrap_or_default(),
                message: row.failure_message.unwrap_or_default(),
            });
            Ok(Booking {
                id: row.id,
                hold: row.hold_id,
                customer: row.customer_id,
                airline_id: row.airline_id,
                state: word(State::of_word(&row.state), "bookings", row.id)?,
                record_locator: row.record_locator,
                total: Money { currency: row.currency, minor: row.total_minor },
                refunded_minor: row.refunded_minor,
                payment_method: row.payment_method,
                payment_intent: row.payment_intent,
                failure,
                created_at: row.created_at,
                updated_at: row.updated_at,
                passengers: passengers_of.remove(&row.id).unwrap_or_default(),
                items: items.remove(&row.hold_id).unwrap_or_default(),
                tickets: tickets_of.remove(&row.id).unwrap_or_default(),
            })
        })
        .collect()
}

/// Writes what `event` makes of a locked booking, with what was set on it, and tells of it.
///
/// # Errors
///
/// [`Error::Booking`] when the event cannot happen to the booking.
pub(crate) async fn apply(
    conn: &mut AsyncPgConnection,
    booking: &mut Booking,
    event: Event,
    request_id: &str,
    now: Timestamp,
) -> Result<(), Error> {
    let before = booking.state;
    booking.state = before.after(event).map_err(|why| Error::Booking { booking: booking.id, why })?;
    booking.updated_at = now;
    write(conn, booking).await?;
    if booking.state == before { Ok(()) } else { tell(conn, booking, request_id, now).await }
}

/// Writes every field of a locked booking that can change.
pub(crate) async fn write(conn: &mut AsyncPgConnection, booking: &Booking) -> Result<(), Error> {
    let failure = booking.failure.as_ref();
    diesel::sql_query(
        "UPDATE bookings SET state = $2, record_locator = $3, refunded_minor = $4, payment_intent = $5, failure_reason = $6, \
         failure_decline_code = $7, failure_message = $8, updated_at = $9, \
         confirmed_at = CASE WHEN $2 = 'CONFIRMED' THEN coalesce(confirmed_at, $9) ELSE confirmed_at END WHERE id = $1",
    )
    .bind::<SqlUuid, _>(booking.id)
    .bind::<Text, _>(booking.state.word())
    .bind::<Nullable<Text>, _>(booking.record_locator.as_deref())
    .bind::<BigInt, _>(booking.refunded_minor)
    .bind::<Nullable<SqlUuid>, _>(booking.payment_intent)
    .bind::<Nullable<Text>, _>(failure.map(|failure| failure.reason.as_str()))
    .bind::<Nullable<Text>, _>(failure.map(|failure| failure.decline_code.as_str()))
    .bind::<Nullable<Text>, _>(failure.map(|failure| failure.message.as_str()))
    .bind::<Timestamptz, _>(booking.updated_at.to_diesel())
    .execute(conn)
    .await?;
    Ok(())
}

/// Writes the event of the state that a locked booking has come to. No names of people.
pub(crate) async fn tell(
    conn: &mut AsyncPgConnection,
    booking: &Booking,
    request_id: &str,
    now: Timestamp,
) -> Result<(), Error> {
    let event_type = match booking.state {
        State::Pending => "booking.created",
        State::AwaitingAction => "booking.awaiting_action",
        State::Confirmed => "booking.confirmed",
        State::Failed => "booking.failed",
        State::Expired => "booking.expired",
        State::Canceling => "booking.canceling",
        State::Canceled => "booking.canceled",
        State::Completed => "booking.completed",
    };
    let event = outbox::Event {
        aggregate_type: "booking",
        aggregate_id: booking.id.uuid(),
        event_type,
        payload: serde_json::json!({
            "booking": booking.id.name(),
            "customer": booking.customer.name(),
            "state": booking.state.word(),
            "currency": booking.total.currency,
            "total_minor": booking.total.minor,
            "refunded_minor": booking.refunded_minor,
            "payment_intent": booking.payment_intent,
            "failure_reason": booking.failure.as_ref().map(|failure| &failure.reason),
        }),
        request_id: request_id.to_owned(),
        occurred_at: now,
    };
    outbox::append(conn, &event).await?;
    Ok(())
}

#[derive(QueryableByName)]
struct Free {
    #[diesel(sql_type = diesel::sql_types::Bool)]
    free: bool,
}

/// Whether no booking has the locator. The unique constraint decides; this spares the transaction.
pub(crate) async fn is_free(conn: &mut AsyncPgConnection, locator: &Locator) -> Result<bool, Error> {
    let row: Free =
        diesel::sql_query("SELECT NOT EXISTS (SELECT 1 FROM bookings WHERE record_locator = $1) AS free")
            .bind::<Text, _>(locator.as_str())
            .get_result(conn)
            .await?;
    Ok(row.free)
}

#[derive(QueryableByName)]
struct NumberRow {
    #[diesel(sql_type = Text)]
    ticket_number: String,
}

/// Makes a ticket for each passenger of a locked booking, with a coupon for each of their items.
pub(crate) async fn issue_tickets(
    conn: &mut AsyncPgConnection,
    booking: &Booking,
    now: Timestamp,
) -> Result<Vec<Ticket>, Error> {
    let mut issued = Vec::new();
    for (passenger_index, _) in (0_i16..).zip(&booking.passengers) {
        let row: NumberRow = diesel::sql_query(
            "INSERT INTO tickets (ticket_number, booking_id, passenger_index, state, created_at) \
             SELECT ticketing_code || lpad(nextval('ticket_serials')::text, 10, '0'), $2, $3, 'OPEN', $4 \
             FROM airlines WHERE id = $1 RETURNING ticket_number",
        )
        .bind::<Text, _>(&booking.airline_id)
        .bind::<SqlUuid, _>(booking.id)
        .bind::<SmallInt, _>(passenger_index)
        .bind::<Timestamptz, _>(now.to_diesel())
        .get_result(conn)
        .await?;
        let flown = booking.items.iter().filter(|item| item.passenger_index == passenger_index);
        for (coupon_no, item) in (1_i16..).zip(flown) {
            diesel::sql_query(
                "INSERT INTO coupons (ticket_number, coupon_no, booking_id, flight_id, leg, cabin, seat_no, state) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7, 'OPEN')",
            )
            .bind::<Text, _>(&row.ticket_number)
            .bind::<SmallInt, _>(coupon_no)
            .bind::<SqlUuid, _>(booking.id)
            .bind::<SqlUuid, _>(item.flight)
            .bind::<SmallInt, _>(item.leg)
            .bind::<Text, _>(item.cabin.word())
            .bind::<Text, _>(&item.seat_no)
            .execute(conn)
            .await?;
        }
        issued.push(Ticket { number: row.ticket_number, passenger_index, state: TicketState::Open });
    }
    Ok(issued)
}

/// Ends the tickets and coupons of a locked booking.
pub(crate) async fn void_tickets(conn: &mut AsyncPgConnection, booking: BookingId) -> Result<(), Error> {
    for sql in [
        "UPDATE coupons SET state = 'REFUNDED' WHERE booking_id = $1 AND state = 'OPEN'",
        "UPDATE tickets SET state = 'REFUNDED' WHERE booking_id = $1 AND state = 'OPEN'",
    ] {
        diesel::sql_query(sql).bind::<SqlUuid, _>(booking).execute(conn).await?;
    }
    Ok(())
}

#[derive(QueryableByName)]
struct Times {
    #[diesel(sql_type = Timestamptz, deserialize_as = jiff_diesel::Timestamp)]
    confirmed_at: Timestamp,
    #[diesel(sql_type = Timestamptz, deserialize_as = jiff_diesel::Timestamp)]
    departure_at: Timestamp,
}

/// When a booking was confirmed, and when the first of its flights leaves; `None` for one that was never confirmed.
pub(crate) async fn times(
    conn: &mut AsyncPgConnection,
    booking: BookingId,
) -> Result<Option<(Timestamp, Timestamp)>, Error> {
    let rows: Vec<Times> = diesel::sql_query(
        "SELECT b.confirmed_at, min(f.departure_at) AS departure_at FROM bookings b \
         JOIN hold_items x ON x.hold_id = b.hold_id JOIN flights f ON f.id = x.flight_id \
         WHERE b.id = $1 AND b.confirmed_at IS NOT NULL GROUP BY b.confirmed_at",
    )
    .bind::<SqlUuid, _>(booking)
    .get_results(conn)
    .await?;
    Ok(rows.into_iter().next().map(|row| (row.confirmed_at, row.departure_at)))
}
