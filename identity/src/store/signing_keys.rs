//! `signing_keys`.

use diesel::{BoolExpressionMethods as _, ExpressionMethods as _, QueryDsl as _, sql_types::BigInt};
use diesel_async::{AsyncPgConnection, RunQueryDsl as _};
use jiff::Timestamp;
use jiff_diesel::ToDiesel as _;

use crate::{error::Error, schema::signing_keys, signing::StoredKey};

/// The advisory lock that a new active key is made under.
const LOCK: i64 = 0x6964_5f6b_6579;

/// The state of the one key that signs.
const ACTIVE: &str = "active";

/// Keeps other replicas from changing keys until the transaction ends.
pub(crate) async fn lock(conn: &mut AsyncPgConnection) -> Result<(), Error> {
    diesel::sql_query("SELECT pg_advisory_xact_lock($1)").bind::<BigInt, _>(LOCK).execute(conn).await?;
    Ok(())
}

/// Whether there is a key to sign with.
pub(crate) async fn has_active(conn: &mut AsyncPgConnection) -> Result<bool, Error> {
    let active = signing_keys::table.filter(signing_keys::state.eq(ACTIVE));
    Ok(diesel::select(diesel::dsl::exists(active)).get_result(conn).await?)
}

/// Stores a key that signs from now on. There is none yet.
pub(crate) async fn insert_active(
    conn: &mut AsyncPgConnection,
    key: &StoredKey,
    now: Timestamp,
) -> Result<(), Error> {
    diesel::insert_into(signing_keys::table)
        .values((
            signing_keys::kid.eq(&key.kid),
            signing_keys::public_x.eq(&key.public_x),
            signing_keys::private.eq(&key.sealed),
            signing_keys::state.eq(ACTIVE),
            signing_keys::activates_at.eq(now.to_diesel()),
        ))
        .execute(conn)
        .await?;
    Ok(())
}

/// The keys that verifiers should know at `now`: the active one, the next ones, and those retired not long ago.
pub(crate) async fn published(conn: &mut AsyncPgConnection, now: Timestamp) -> Result<Vec<StoredKey>, Error> {
    let rows: Vec<(String, String, Vec<u8>, String)> = signing_keys::table
        .filter(signing_keys::state.ne("retired").or(signing_keys::retires_at.gt(now.to_diesel())))
        .order((signing_keys::state, signing_keys::activates_at))
        .select((signing_keys::kid, signing_keys::public_x, signing_keys::private, signing_keys::state))
        .load(conn)
        .await?;
    Ok(rows
        .into_iter()
        .map(|(kid, public_x, sealed, state)| StoredKey { kid, public_x, sealed, is_active: state == ACTIVE })
        .collect())
}
