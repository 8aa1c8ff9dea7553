//! `holds` and `hold_items`.

use std::collections::HashMap;

use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, SmallInt, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use jiff::Timestamp;
use jiff_diesel::ToDiesel as _;
use mesh::auth::PrincipalId;
use mesh::outbox;

use super::{inventory, word};
use crate::domain::Money;
use crate::domain::flight::{CabinClass, FlightId};
use crate::domain::hold::{Event, Hold, HoldId, Item, PIN, State};
use crate::error::Error;
use crate::schema::{hold_items, holds};

/// `holds`, as stored.
#[derive(Queryable, Selectable)]
#[diesel(table_name = holds, check_for_backend(diesel::pg::Pg))]
struct Row {
    id: HoldId,
    customer_id: PrincipalId,
    airline_id: String,
    state: String,
    currency: String,
    total_minor: i64,
    #[diesel(deserialize_as = jiff_diesel::Timestamp)]
    created_at: Timestamp,
    #[diesel(deserialize_as = jiff_diesel::Timestamp)]
    expires_at: Timestamp,
}

/// `hold_items`, as stored.
#[derive(Queryable, Selectable)]
#[diesel(table_name = hold_items, check_for_backend(diesel::pg::Pg))]
struct ItemRow {
    hold_id: HoldId,
    flight_id: FlightId,
    leg: i16,
    cabin: String,
    fare: String,
    seat_no: String,
    passenger_index: i16,
    base_minor: i64,
    taxes_minor: i64,
    refundable: bool,
    penalty_minor: i64,
}

/// Stores a new hold with its items.
pub(crate) async fn insert(conn: &mut AsyncPgConnection, hold: &Hold) -> Result<(), Error> {
    diesel::sql_query(
        "INSERT INTO holds (id, customer_id, airline_id, state, currency, total_minor, created_at, updated_at, expires_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $7, $8)",
    )
    .bind::<SqlUuid, _>(hold.id)
    .bind::<SqlUuid, _>(hold.customer)
    .bind::<Text, _>(&hold.airline_id)
    .bind::<Text, _>(hold.state.word())
    .bind::<Text, _>(&hold.total.currency)
    .bind::<BigInt, _>(hold.total.minor)
    .bind::<Timestamptz, _>(hold.created_at.to_diesel())
    .bind::<Timestamptz, _>(hold.expires_at.to_diesel())
    .execute(conn)
    .await?;
    Ok(())
}

/// Stores the items of a hold, in order.
pub(crate) async fn insert_items(conn: &mut AsyncPgConnection, hold: &Hold) -> Result<(), Error> {
    for (item_no, item) in (0_i16..).zip(&hold.items) {
        diesel::sql_query(
            "INSERT INTO hold_items (hold_id, item_no, flight_id, leg, cabin, fare, seat_no, passenger_index, base_minor, \
             taxes_minor, refundable, penalty_minor) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
        )
        .bind::<SqlUuid, _>(hold.id)
        .bind::<SmallInt, _>(item_no)
        .bind::<SqlUuid, _>(item.flight)
        .bind::<SmallInt, _>(item.leg)
        .bind::<Text, _>(item.cabin.word())
        .bind::<Text, _>(&item.fare)
        .bind::<Text, _>(&item.seat_no)
        .bind::<SmallInt, _>(item.passenger_index)
        .bind::<BigInt, _>(item.base_minor)
        .bind::<BigInt, _>(item.taxes_minor)
        .bind::<diesel::sql_types::Bool, _>(item.refundable)
        .bind::<BigInt, _>(item.penalty_minor)
        .execute(conn)
        .await?;
    }
    Ok(())
}

/// Reads a hold.
///
/// # Errors
///
/// [`Error::NotFound`].
pub(crate) async fn find(conn: &mut AsyncPgConnection, id: HoldId) -> Result<Hold, Error> {
    let row = holds::table.find(id).select(Row::as_select()).first(conn).await.optional()?;
    with_items(conn, row.ok_or_else(|| Error::NotFound(id.name()))?).await
}

/// Reads a hold and locks its row until the transaction ends.
///
/// # Errors
///
/// [`Error::NotFound`].
pub(crate) async fn lock(conn: &mut AsyncPgConnection, id: HoldId) -> Result<Hold, Error> {
    let row = holds::table.find(id).select(Row::as_select()).for_update().first(conn).await.optional()?;
    with_items(conn, row.ok_or_else(|| Error::NotFound(id.name()))?).await
}

async fn with_items(conn: &mut AsyncPgConnection, row: Row) -> Result<Hold, Error> {
    let items = items(conn, &[row.id]).await?.remove(&row.id).unwrap_or_default();
    Ok(Hold {
        id: row.id,
        customer: row.customer_id,
        airline_id: row.airline_id,
        state: word(State::of_word(&row.state), "holds", row.id)?,
        total: Money { currency: row.currency, minor: row.total_minor },
        created_at: row.created_at,
        expires_at: row.expires_at,
        items,
    })
}

/// The items of holds, in order.
pub(crate) async fn items(
    conn: &mut AsyncPgConnection,
    ids: &[HoldId],
) -> Result<HashMap<HoldId, Vec<Item>>, Error> {
    let rows: Vec<ItemRow> = hold_items::table
        .filter(hold_items::hold_id.eq_any(ids))
        .order((hold_items::hold_id, hold_items::item_no))
        .select(ItemRow::as_select())
        .load(conn)
        .await?;
    let mut items: HashMap<_, Vec<_>> = HashMap::new();
    for row in rows {
        let cabin = word(CabinClass::of_word(&row.cabin), "holds", row.hold_id)?;
        items.entry(row.hold_id).or_default().push(Item {
            flight: row.flight_id,
            leg: row.leg,
            cabin,
            fare: row.fare,
            seat_no: row.seat_no,
            passenger_index: row.passenger_index,
            base_minor: row.base_minor,
            taxes_minor: row.taxes_minor,
            refundable: row.refundable,
            penalty_minor: row.penalty_minor,
        });
    }
    Ok(items)
}

/// How many holds the customer has that keep seats: active ones that are not over, and those that are being paid for.
pub(crate) async fn count_active(
    conn: &mut AsyncPgConnection,
    customer: PrincipalId,
    now: Timestamp,
) -> Result<i64, Error> {
    // The states are literals, so that the partial index is seen to hold them.
    let row: CountRow = diesel::sql_query(
        "SELECT count(*) AS n FROM holds WHERE customer_id = $1 AND state IN ('ACTIVE', 'PINNED') \
         AND (state = 'PINNED' OR expires_at > $2)",
    )
    .bind::<SqlUuid, _>(customer)
    .bind::<Timestamptz, _>(now.to_diesel())
    .get_result(conn)
    .await?;
    Ok(row.n)
}

/// Writes what `event` makes of a locked hold, gives back what it had if it ends without a sale, and tells of it.
///
/// # Errors
///
/// [`Error::Hold`] when the event cannot happen to the hold.
pub(crate) async fn apply(
    conn: &mut AsyncPgConnection,
    hold: &mut Hold,
    event: Event,
    request_id: &str,
    now: Timestamp,
) -> Result<(), Error> {
    let before = hold.state;
    let after = hold.after(event).map_err(|why| Error::Hold { hold: hold.id, why })?;
    if after == before {
        return Ok(());
    }
    if matches!(after, State::Released | State::Expired) {
        inventory::free_hold(conn, hold.id).await?;
    }
    let pinned_until = matches!(after, State::Pinned).then_some(now + PIN);
    diesel::sql_query(
        "UPDATE holds SET state = $2, updated_at = $3, pinned_until = coalesce($4, pinned_until) WHERE id = $1",
    )
    .bind::<SqlUuid, _>(hold.id)
    .bind::<Text, _>(after.word())
    .bind::<Timestamptz, _>(now.to_diesel())
    .bind::<diesel::sql_types::Nullable<Timestamptz>, _>(pinned_until.to_diesel())
    .execute(conn)
    .await?;
    hold.state = after;
    tell(conn, hold, request_id, now).await
}

/// Writes the event of the state that a locked hold has come to.
pub(crate) async fn tell(
    conn: &mut AsyncPgConnection,
    hold: &Hold,
    request_id: &str,
    now: Timestamp,
) -> Result<(), Error> {
    let event_type = match hold.state {
        State::Active => "hold.created",
        State::Pinned => "hold.pinned",
        State::Consumed => "hold.consumed",
        State::Released => "hold.released",
        State::Expired => "hold.expired",
    };
    let event = outbox::Event {
        aggregate_type: "hold",
        aggregate_id: hold.id.uuid(),
        event_type,
        payload: serde_json::json!({
            "hold": hold.id.name(),
            "customer": hold.customer.name(),
            "state": hold.state.word(),
            "currency": hold.total.currency,
            "total_minor": hold.total.minor,
        }),
        request_id: request_id.to_owned(),
        occurred_at: now,
    };
    outbox::append(conn, &event).await?;
    Ok(())
}

#[derive(QueryableByName)]
struct CountRow {
    #[diesel(sql_type = BigInt)]
    n: i64,
}

#[derive(QueryableByName)]
struct IdRow {
    #[diesel(sql_type = SqlUuid)]
    id: HoldId,
}

/// Whether holds that are over still take space of one of the flights.
pub(crate) async fn any_expired_on(
    conn: &mut AsyncPgConnection,
    flights: &[FlightId],
    now: Timestamp,
) -> Result<bool, Error> {
    Ok(!expired_on(conn, flights, now, "").await?.is_empty())
}

/// Ends every hold that is over and takes space of one of the flights. Waits for whoever is about to do the same: what they free counts too.
pub(crate) async fn expire_on(
    conn: &mut AsyncPgConnection,
    flights: &[FlightId],
    now: Timestamp,
) -> Result<(), Error> {
    for row in expired_on(conn, flights, now, "FOR UPDATE OF h").await? {
        expire(conn, row.id, now).await?;
    }
    Ok(())
}

async fn expired_on(
    conn: &mut AsyncPgConnection,
    flights: &[FlightId],
    now: Timestamp,
    locking: &str,
) -> Result<Vec<IdRow>, Error> {
    Ok(diesel::sql_query(format!(
        "SELECT h.id FROM holds h WHERE h.state = 'ACTIVE' AND h.expires_at <= $1 \
         AND EXISTS (SELECT 1 FROM hold_items x WHERE x.hold_id = h.id AND x.flight_id = ANY ($2)) ORDER BY h.id {locking}"
    ))
    .bind::<Timestamptz, _>(now.to_diesel())
    .bind::<Array<SqlUuid>, _>(flights)
    .get_results(conn)
    .await?)
}

/// Ends up to `limit` holds that are over and that nobody else is about to end, and says how many.
pub(crate) async fn sweep(conn: &mut AsyncPgConnection, now: Timestamp, limit: i64) -> Result<usize, Error> {
    let rows: Vec<IdRow> = diesel::sql_query(
        "SELECT id FROM holds WHERE state = 'ACTIVE' AND expires_at <= $1 ORDER BY id LIMIT $2 FOR UPDATE SKIP LOCKED",
    )
    .bind::<Timestamptz, _>(now.to_diesel())
    .bind::<BigInt, _>(limit)
    .get_results(conn)
    .await?;
    for row in &rows {
        expire(conn, row.id, now).await?;
    }
    Ok(rows.len())
}

/// Ends a locked hold that is over.
async fn expire(conn: &mut AsyncPgConnection, id: HoldId, now: Timestamp) -> Result<(), Error> {
    let mut hold = lock(conn, id).await?;
    apply(conn, &mut hold, Event::Expire(now), "", now).await
}
