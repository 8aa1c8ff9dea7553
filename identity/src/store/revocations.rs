//! `revocations`: which access tokens are good no more although they have not expired.

use diesel::{
    ExpressionMethods as _, QueryDsl as _,
    sql_types::{BigInt, Text, Timestamptz},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl as _};
use jiff::{SignedDuration, Timestamp};
use jiff_diesel::ToDiesel as _;
use mesh::{
    clock::Clock,
    token::{Revocation, Revoked, revocations::ENTRY_LIFE_SECONDS},
};

use crate::{error::Error, schema::revocations};

/// The advisory lock that numbers are given out under.
const LOCK: i64 = 0x6964_5f72_6576;

const SESSION: &str = "session";
const USER_VERSION: &str = "user_version";
const KEY: &str = "key";

/// Writes down what the transaction revokes. Others that do the same wait until it ends, so this comes late in it.
pub(crate) async fn append(conn: &mut AsyncPgConnection, what: &[Revoked]) -> Result<(), Error> {
    if what.is_empty() {
        return Ok(());
    }
    // A number that is seen before a lower one is would hide it from whoever asks for what comes after.
    diesel::sql_query("SELECT pg_advisory_xact_lock($1)").bind::<BigInt, _>(LOCK).execute(conn).await?;
    // On the clock of tokens, whatever the platform's says.
    let expires_at = Clock::system_now() + SignedDuration::from_secs(ENTRY_LIFE_SECONDS);
    for revoked in what {
        let (kind, id, value) = match revoked {
            Revoked::Session(session) => (SESSION, session.to_string(), 0),
            Revoked::UserVersion { user, sv } => (USER_VERSION, user.to_string(), *sv),
            Revoked::Key(kid) => (KEY, kid.clone(), 0),
        };
        diesel::sql_query(
            "INSERT INTO revocations (seq, kind, id, value, expires_at) \
             SELECT coalesce(max(seq), 0) + 1, $1, $2, $3, $4 FROM revocations",
        )
        .bind::<Text, _>(kind)
        .bind::<Text, _>(id)
        .bind::<BigInt, _>(value)
        .bind::<Timestamptz, _>(expires_at.to_diesel())
        .execute(conn)
        .await?;
    }
    Ok(())
}

/// The entries with a higher number than `seq`, in order, at most `limit`.
pub(crate) async fn after(
    conn: &mut AsyncPgConnection,
    seq: i64,
    limit: i64,
) -> Result<Vec<Revocation>, Error> {
    let rows: Vec<(i64, String, String, i64, jiff_diesel::Timestamp)> = revocations::table
        .filter(revocations::seq.gt(seq))
        .order(revocations::seq)
        .limit(limit)
        .load(conn)
        .await?;
    let entry = |(seq, kind, id, value, expires_at): (i64, String, String, i64, jiff_diesel::Timestamp)| {
        let what = match kind.as_str() {
            SESSION => Revoked::Session(id.parse().ok()?),
            USER_VERSION => Revoked::UserVersion { user: id.parse().ok()?, sv: value },
            KEY => Revoked::Key(id),
            _ => return None,
        };
        Some(Revocation { seq, what, expires_at: expires_at.to_jiff().as_second() })
    };
    rows.into_iter()
        .map(|row| {
            let seq = row.0;
            entry(row).ok_or(Error::RevocationCorrupt(seq))
        })
        .collect()
}

/// Deletes what has ended, except for the last entry, which the next number is counted from.
pub(crate) async fn prune(conn: &mut AsyncPgConnection, now: Timestamp) -> Result<usize, Error> {
    Ok(diesel::sql_query(
        "DELETE FROM revocations WHERE expires_at < $1 AND seq < (SELECT max(seq) FROM revocations)",
    )
    .bind::<Timestamptz, _>(now.to_diesel())
    .execute(conn)
    .await?)
}
