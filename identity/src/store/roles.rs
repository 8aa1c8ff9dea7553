//! `roles` and `user_roles`.

use diesel::{ExpressionMethods as _, OptionalExtension as _, QueryDsl as _};
use diesel_async::{AsyncPgConnection, RunQueryDsl as _};
use jiff::Timestamp;
use jiff_diesel::ToDiesel as _;
use mesh::auth::PrincipalId;

use crate::{
    domain::roles::ADMIN,
    error::Error,
    schema::{roles, user_roles, users},
};

/// Every role with its description, by name.
pub(crate) async fn all(conn: &mut AsyncPgConnection) -> Result<Vec<(String, String)>, Error> {
    Ok(roles::table.order(roles::name).select((roles::name, roles::description)).load(conn).await?)
}

/// Locks the role until the transaction ends, so that those who take it from users come one after the other.
///
/// # Errors
///
/// [`Error::RoleNotFound`].
pub(crate) async fn lock(conn: &mut AsyncPgConnection, role: &str) -> Result<(), Error> {
    let name: Option<String> =
        roles::table.find(role).select(roles::name).for_no_key_update().first(conn).await.optional()?;
    name.map(drop).ok_or_else(|| Error::RoleNotFound(role.to_owned()))
}

/// The user's roles, by name.
pub(crate) async fn of(conn: &mut AsyncPgConnection, user: PrincipalId) -> Result<Vec<String>, Error> {
    Ok(user_roles::table
        .filter(user_roles::user_id.eq(user))
        .order(user_roles::role)
        .select(user_roles::role)
        .load(conn)
        .await?)
}

/// Gives a role that exists to a user. False when they have it already.
pub(crate) async fn grant(
    conn: &mut AsyncPgConnection,
    user: PrincipalId,
    role: &str,
    now: Timestamp,
) -> Result<bool, Error> {
    let granted = diesel::insert_into(user_roles::table)
        .values((
            user_roles::user_id.eq(user),
            user_roles::role.eq(role),
            user_roles::granted_at.eq(now.to_diesel()),
        ))
        .on_conflict_do_nothing()
        .execute(conn)
        .await?;
    Ok(granted > 0)
}

/// Takes a role from a user. False when they do not have it.
pub(crate) async fn revoke(
    conn: &mut AsyncPgConnection,
    user: PrincipalId,
    role: &str,
) -> Result<bool, Error> {
    Ok(diesel::delete(user_roles::table.find((user, role))).execute(conn).await? > 0)
}

/// Whether the user is an admin now, and may sign in.
pub(crate) async fn is_admin(conn: &mut AsyncPgConnection, user: PrincipalId) -> Result<bool, Error> {
    let admin = user_roles::table
        .inner_join(users::table)
        .filter(user_roles::role.eq(ADMIN))
        .filter(user_roles::user_id.eq(user))
        .filter(users::status.eq("active"));
    Ok(diesel::select(diesel::dsl::exists(admin)).get_result(conn).await?)
}

/// Whether somebody else is an admin and may sign in.
pub(crate) async fn has_other_admin(conn: &mut AsyncPgConnection, user: PrincipalId) -> Result<bool, Error> {
    let others = user_roles::table
        .inner_join(users::table)
        .filter(user_roles::role.eq(ADMIN))
        .filter(user_roles::user_id.ne(user))
        .filter(users::status.eq("active"));
    Ok(diesel::select(diesel::dsl::exists(others)).get_result(conn).await?)
}
