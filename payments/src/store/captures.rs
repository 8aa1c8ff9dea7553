//! Money taken.

use diesel::prelude::*;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use jiff_diesel::ToDiesel as _;
use mesh::id::Uuid;

use crate::{domain::attempt::Attempt, error::Error, schema::captures};

/// Writes a capture, with what we keep of it, and returns its id.
pub(crate) async fn insert(
    conn: &mut AsyncPgConnection,
    attempt: &Attempt,
    fee_minor: i64,
    now: jiff::Timestamp,
) -> Result<Uuid, Error> {
    let id = mesh::id::generate();
    diesel::insert_into(captures::table)
        .values((
            captures::id.eq(id),
            captures::intent_id.eq(attempt.intent),
            captures::attempt_id.eq(attempt.id),
            captures::currency.eq(attempt.amount.currency().code()),
            captures::amount_minor.eq(attempt.amount.minor()),
            captures::fee_minor.eq(fee_minor),
            captures::created_at.eq(now.to_diesel()),
        ))
        .execute(conn)
        .await?;
    Ok(id)
}
