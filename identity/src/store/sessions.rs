//! `sessions`.

use diesel::{
    ExpressionMethods as _, Insertable, OptionalExtension as _, QueryDsl as _, Queryable, QueryableByName,
    Selectable, SelectableHelper as _,
    pg::Pg,
    sql_types::{BigInt, Timestamptz, Uuid as SqlUuid},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl as _};
use jiff::{SignedDuration, Timestamp};
use jiff_diesel::ToDiesel as _;
use mesh::{auth::PrincipalId, token::Revoked};
use uuid::Uuid;

use super::revocations;
use crate::{
    domain::{SESSIONS_MAX, Session, SessionId},
    error::Error,
    schema::sessions,
};

/// Stores a new session.
pub(crate) async fn insert(conn: &mut AsyncPgConnection, session: &Session) -> Result<(), Error> {
    diesel::insert_into(sessions::table).values(Row::from(session.clone())).execute(conn).await?;
    Ok(())
}

/// Reads a session, over or not.
pub(crate) async fn find(conn: &mut AsyncPgConnection, id: SessionId) -> Result<Option<Session>, Error> {
    let row = sessions::table.find(id).select(Row::as_select()).first(conn).await.optional()?;
    Ok(row.map(Session::from))
}

/// Reads a session and locks its row until the transaction ends.
pub(crate) async fn lock(conn: &mut AsyncPgConnection, id: SessionId) -> Result<Option<Session>, Error> {
    let row =
        sessions::table.find(id).select(Row::as_select()).for_no_key_update().first(conn).await.optional()?;
    Ok(row.map(Session::from))
}

/// Spends the token with this counter, in one statement: of many who present it at once, one gets the session as it is then, the others `None`.
/// `None` also when the session is over.
pub(crate) async fn advance(
    conn: &mut AsyncPgConnection,
    id: SessionId,
    counter: i64,
    idle: SignedDuration,
    now: Timestamp,
) -> Result<Option<Session>, Error> {
    let row = diesel::update(sessions::table.find(id))
        .filter(sessions::counter.eq(counter))
        .filter(sessions::revoked_at.is_null())
        .filter(sessions::idle_expires_at.gt(now.to_diesel()))
        .filter(sessions::absolute_expires_at.gt(now.to_diesel()))
        .set((
            sessions::counter.eq(sessions::counter + 1),
            sessions::last_refreshed_at.eq(now.to_diesel()),
            sessions::idle_expires_at.eq((now + idle).to_diesel()),
        ))
        .returning(Row::as_returning())
        .get_result(conn)
        .await
        .optional()?;
    Ok(row.map(Session::from))
}

/// Ends a session, and tells that its tokens are good no more. False when it had ended, or never was.
pub(crate) async fn revoke(
    conn: &mut AsyncPgConnection,
    id: SessionId,
    now: Timestamp,
) -> Result<bool, Error> {
    let revoked = diesel::update(sessions::table.find(id))
        .filter(sessions::revoked_at.is_null())
        .set(sessions::revoked_at.eq(now.to_diesel()))
        .execute(conn)
        .await?
        > 0;
    if revoked {
        revocations::append(conn, &[Revoked::Session(id.uuid())]).await?;
    }
    Ok(revoked)
}

/// Ends the oldest of the user's sessions until [`SESSIONS_MAX`] are left, tells that their tokens are good no more, and says how many it ended. The
/// caller holds the user's row.
pub(crate) async fn evict(
    conn: &mut AsyncPgConnection,
    user: PrincipalId,
    now: Timestamp,
) -> Result<usize, Error> {
    let evicted: Vec<Evicted> = diesel::sql_query(
        "UPDATE sessions SET revoked_at = $2 WHERE id IN ( \
         SELECT id FROM sessions WHERE user_id = $1 AND revoked_at IS NULL ORDER BY created_at DESC, id DESC OFFSET $3) \
         RETURNING id",
    )
    .bind::<SqlUuid, _>(user.uuid())
    .bind::<Timestamptz, _>(now.to_diesel())
    .bind::<BigInt, _>(SESSIONS_MAX)
    .load(conn)
    .await?;
    let revoked: Vec<_> = evicted.iter().map(|session| Revoked::Session(session.id)).collect();
    revocations::append(conn, &revoked).await?;
    Ok(revoked.len())
}

#[derive(QueryableByName)]
struct Evicted {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
}

#[derive(Queryable, Selectable, Insertable)]
#[diesel(table_name = sessions, check_for_backend(Pg))]
struct Row {
    id: SessionId,
    user_id: PrincipalId,
    counter: i64,
    session_key: Vec<u8>,
    device_name: String,
    #[diesel(deserialize_as = jiff_diesel::Timestamp, serialize_as = jiff_diesel::Timestamp)]
    created_at: Timestamp,
    #[diesel(deserialize_as = jiff_diesel::Timestamp, serialize_as = jiff_diesel::Timestamp)]
    last_refreshed_at: Timestamp,
    #[diesel(deserialize_as = jiff_diesel::Timestamp, serialize_as = jiff_diesel::Timestamp)]
    idle_expires_at: Timestamp,
    #[diesel(deserialize_as = jiff_diesel::Timestamp, serialize_as = jiff_diesel::Timestamp)]
    absolute_expires_at: Timestamp,
    #[diesel(deserialize_as = jiff_diesel::NullableTimestamp, serialize_as = jiff_diesel::NullableTimestamp)]
    revoked_at: Option<Timestamp>,
    #[diesel(deserialize_as = jiff_diesel::Timestamp, serialize_as = jiff_diesel::Timestamp)]
    auth_time: Timestamp,
}

impl From<Session> for Row {
    fn from(session: Session) -> Self {
        Self {
            id: session.id,
            user_id: session.user,
            counter: session.counter,
            session_key: session.sealed_key,
            device_name: session.device_name,
            created_at: session.created_at,
            last_refreshed_at: session.last_refreshed_at,
            idle_expires_at: session.idle_expires_at,
            absolute_expires_at: session.absolute_expires_at,
            revoked_at: session.revoked_at,
            auth_time: session.auth_time,
        }
    }
}

impl From<Row> for Session {
    fn from(row: Row) -> Self {
        Self {
            id: row.id,
            user: row.user_id,
            counter: row.counter,
            sealed_key: row.session_key,
            device_name: row.device_name,
            created_at: row.created_at,
            last_refreshed_at: row.last_refreshed_at,
            idle_expires_at: row.idle_expires_at,
            absolute_expires_at: row.absolute_expires_at,
            revoked_at: row.revoked_at,
            auth_time: row.auth_time,
        }
    }
}
