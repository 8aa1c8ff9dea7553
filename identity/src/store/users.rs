//! `users`.

use diesel::{
    ExpressionMethods as _, OptionalExtension as _, QueryDsl as _, Queryable, Selectable,
    SelectableHelper as _,
    pg::Pg,
    result::{DatabaseErrorKind, Error as DieselError},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl as _};
use jiff::Timestamp;
use jiff_diesel::ToDiesel as _;
use mesh::{auth::PrincipalId, token::Revoked};

use super::{revocations, roles};
use crate::{
    domain::{EmailAddress, Status, User, Username},
    error::Error,
    schema::users,
};

/// Who somebody wants to be.
#[derive(Clone, Debug)]
pub(crate) struct NewUser {
    pub(crate) email: EmailAddress,
    pub(crate) username: Option<Username>,
    pub(crate) display_name: String,
    pub(crate) locale: String,
}

/// Stores a new user, without roles and without a password.
///
/// # Errors
///
/// [`Error::EmailTaken`] and [`Error::UsernameTaken`], also when another transaction takes it at this moment.
pub(crate) async fn insert(
    conn: &mut AsyncPgConnection,
    id: PrincipalId,
    user: &NewUser,
    now: Timestamp,
) -> Result<(), Error> {
    let username = user.username.as_ref();
    diesel::insert_into(users::table)
        .values((
            users::id.eq(id),
            users::email_display.eq(user.email.display()),
            users::email_canonical.eq(user.email.canonical()),
            users::username_display.eq(username.map(Username::display)),
            users::username_canonical.eq(username.map(Username::canonical)),
            users::display_name.eq(&user.display_name),
            users::locale.eq(&user.locale),
            users::status.eq("active"),
            users::sv.eq(1),
            users::created_at.eq(now.to_diesel()),
            users::updated_at.eq(now.to_diesel()),
        ))
        .execute(conn)
        .await
        .map_err(taken)?;
    Ok(())
}

fn taken(error: DieselError) -> Error {
    let DieselError::DatabaseError(DatabaseErrorKind::UniqueViolation, info) = &error else {
        return error.into();
    };
    match info.constraint_name() {
        Some("users_email_canonical_key") => Error::EmailTaken,
        Some("users_username_canonical_key") => Error::UsernameTaken,
        _ => error.into(),
    }
}

/// Reads a user who is not deleted, with their roles.
///
/// # Errors
///
/// [`Error::UserNotFound`].
pub(crate) async fn get(conn: &mut AsyncPgConnection, id: PrincipalId) -> Result<User, Error> {
    let row = users::table
        .find(id)
        .filter(users::deleted_at.is_null())
        .select(Row::as_select())
        .first(conn)
        .await
        .optional()?
        .ok_or(Error::UserNotFound(id))?;
    row.into_user(roles::of(conn, id).await?)
}

/// Reads a user who is not deleted and locks the row until the transaction ends.
///
/// # Errors
///
/// [`Error::UserNotFound`].
pub(crate) async fn lock(conn: &mut AsyncPgConnection, id: PrincipalId) -> Result<User, Error> {
    let row = users::table
        .find(id)
        .filter(users::deleted_at.is_null())
        .select(Row::as_select())
        .for_no_key_update()
        .first(conn)
        .await
        .optional()?
        .ok_or(Error::UserNotFound(id))?;
    row.into_user(roles::of(conn, id).await?)
}

/// Who has this e-mail address.
pub(crate) async fn id_of_email(
    conn: &mut AsyncPgConnection,
    email: &EmailAddress,
) -> Result<Option<PrincipalId>, Error> {
    Ok(users::table
        .filter(users::email_canonical.eq(email.canonical()))
        .select(users::id)
        .first(conn)
        .await
        .optional()?)
}

/// Counts a change to what the user may do, and tells that tokens from before are out of date.
pub(crate) async fn bump_sv(
    conn: &mut AsyncPgConnection,
    id: PrincipalId,
    now: Timestamp,
) -> Result<(), Error> {
    let sv = diesel::update(users::table.find(id))
        .set((users::sv.eq(users::sv + 1), users::updated_at.eq(now.to_diesel())))
        .returning(users::sv)
        .get_result(conn)
        .await?;
    revocations::append(conn, &[Revoked::UserVersion { user: id.uuid(), sv }]).await
}

#[derive(Queryable, Selectable)]
#[diesel(table_name = users, check_for_backend(Pg))]
struct Row {
    id: PrincipalId,
    email_display: String,
    username_display: Option<String>,
    display_name: String,
    locale: String,
    status: String,
    sv: i64,
    #[diesel(deserialize_as = jiff_diesel::Timestamp)]
    created_at: Timestamp,
}

impl Row {
    fn into_user(self, roles: Vec<String>) -> Result<User, Error> {
        let status = match self.status.as_str() {
            "active" => Status::Active,
            "disabled" => Status::Disabled,
            "deleted" => Status::Deleted,
            _ => return Err(Error::UserCorrupt(self.id)),
        };
        Ok(User {
            id: self.id,
            email: self.email_display,
            username: self.username_display,
            display_name: self.display_name,
            locale: self.locale,
            status,
            sv: self.sv,
            created_at: self.created_at,
            roles,
        })
    }
}
