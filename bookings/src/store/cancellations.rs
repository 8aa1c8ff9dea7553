//! `cancellations`.

use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl as _};
use jiff::Timestamp;
use jiff_diesel::ToDiesel as _;
use uuid::Uuid;

use super::word;
use crate::domain::booking::BookingId;
use crate::domain::cancellation::{Cancellation, CancellationId, Quote, State};
use crate::error::Error;

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = SqlUuid)]
    id: CancellationId,
    #[diesel(sql_type = SqlUuid)]
    booking_id: BookingId,
    #[diesel(sql_type = Text)]
    state: String,
    #[diesel(sql_type = BigInt)]
    refund_minor: i64,
    #[diesel(sql_type = BigInt)]
    penalty_minor: i64,
    #[diesel(sql_type = Timestamptz, deserialize_as = jiff_diesel::Timestamp)]
    created_at: Timestamp,
    #[diesel(sql_type = Timestamptz, deserialize_as = jiff_diesel::Timestamp)]
    expires_at: Timestamp,
}

/// Stores a quote.
pub(crate) async fn insert(conn: &mut AsyncPgConnection, cancellation: &Cancellation) -> Result<(), Error> {
    diesel::sql_query(
        "INSERT INTO cancellations (id, booking_id, state, refund_minor, penalty_minor, created_at, expires_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind::<SqlUuid, _>(cancellation.id)
    .bind::<SqlUuid, _>(cancellation.booking)
    .bind::<Text, _>(cancellation.state.word())
    .bind::<BigInt, _>(cancellation.quote.refund_minor)
    .bind::<BigInt, _>(cancellation.quote.penalty_minor)
    .bind::<Timestamptz, _>(cancellation.created_at.to_diesel())
    .bind::<Timestamptz, _>(cancellation.expires_at.to_diesel())
    .execute(conn)
    .await?;
    Ok(())
}

/// That cancellation of a booking and its newest one, which may be the same: the newest first. The booking's row is locked, so none is added
/// meanwhile.
pub(crate) async fn that_and_newest(
    conn: &mut AsyncPgConnection,
    booking: BookingId,
    id: CancellationId,
) -> Result<Vec<Cancellation>, Error> {
    let rows: Vec<Row> = diesel::sql_query(
        "SELECT id, booking_id, state, refund_minor, penalty_minor, created_at, expires_at FROM cancellations \
         WHERE booking_id = $1 \
         AND (id = $2 OR id = (SELECT n.id FROM cancellations n WHERE n.booking_id = $1 ORDER BY n.id DESC LIMIT 1)) \
         ORDER BY id DESC",
    )
    .bind::<SqlUuid, _>(booking)
    .bind::<SqlUuid, _>(id)
    .get_results(conn)
    .await?;
    rows.into_iter()
        .map(|row| {
            Ok(Cancellation {
                id: row.id,
                booking: row.booking_id,
                state: word(State::of_word(&row.state), "cancellations", row.id)?,
                quote: Quote { refund_minor: row.refund_minor, penalty_minor: row.penalty_minor },
                created_at: row.created_at,
                expires_at: row.expires_at,
            })
        })
        .collect()
}

/// A quote is taken. The booking's row is locked.
pub(crate) async fn confirm(
    conn: &mut AsyncPgConnection,
    id: CancellationId,
    now: Timestamp,
) -> Result<(), Error> {
    diesel::sql_query(
        "UPDATE cancellations SET state = 'CONFIRMED', confirmed_at = $2 WHERE id = $1 AND state = 'QUOTED'",
    )
    .bind::<SqlUuid, _>(id)
    .bind::<Timestamptz, _>(now.to_diesel())
    .execute(conn)
    .await?;
    Ok(())
}

/// The refund is done, by that refund; none when there was nothing to give back. The booking's row is locked.
pub(crate) async fn settle(
    conn: &mut AsyncPgConnection,
    id: CancellationId,
    now: Timestamp,
) -> Result<(), Error> {
    diesel::sql_query(
        "UPDATE cancellations SET state = 'SETTLED', settled_at = $2 WHERE id = $1 AND state = 'CONFIRMED'",
    )
    .bind::<SqlUuid, _>(id)
    .bind::<Timestamptz, _>(now.to_diesel())
    .execute(conn)
    .await?;
    Ok(())
}

#[derive(QueryableByName)]
struct RefundRow {
    #[diesel(sql_type = BigInt)]
    refund_minor: i64,
    #[diesel(sql_type = Nullable<SqlUuid>)]
    refund_id: Option<Uuid>,
}

/// How much is to be given back, and the refund that was made for it last.
pub(crate) async fn refund(
    conn: &mut AsyncPgConnection,
    id: CancellationId,
) -> Result<(i64, Option<Uuid>), Error> {
    let row: RefundRow = diesel::sql_query("SELECT refund_minor, refund_id FROM cancellations WHERE id = $1")
        .bind::<SqlUuid, _>(id)
        .get_result(conn)
        .await?;
    Ok((row.refund_minor, row.refund_id))
}

/// Remembers which refund was made.
pub(crate) async fn set_refund(
    conn: &mut AsyncPgConnection,
    id: CancellationId,
    refund: Uuid,
) -> Result<(), Error> {
    diesel::sql_query("UPDATE cancellations SET refund_id = $2 WHERE id = $1")
        .bind::<SqlUuid, _>(id)
        .bind::<SqlUuid, _>(refund)
        .execute(conn)
        .await?;
    Ok(())
}
