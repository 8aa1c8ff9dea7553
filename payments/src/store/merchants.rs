//! Who is paid.

use diesel::prelude::*;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use jiff::Timestamp;
use jiff_diesel::ToDiesel as _;

use crate::{error::Error, schema::merchants};

/// Sees to it that the merchant is there.
pub(crate) async fn ensure(conn: &mut AsyncPgConnection, id: &str, now: Timestamp) -> Result<(), Error> {
    diesel::insert_into(merchants::table)
        .values((
            merchants::id.eq(id),
            merchants::display_name.eq(id),
            merchants::created_at.eq(now.to_diesel()),
        ))
        .on_conflict_do_nothing()
        .execute(conn)
        .await?;
    Ok(())
}

/// What we keep of each of its captures, in minor units.
pub(crate) async fn fee_minor(conn: &mut AsyncPgConnection, id: &str) -> Result<i64, Error> {
    Ok(merchants::table.find(id).select(merchants::fee_minor).first(conn).await?)
}
