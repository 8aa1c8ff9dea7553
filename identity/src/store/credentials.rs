//! `credentials`: password hashes. They leave this crate in no form.

use diesel::{ExpressionMethods as _, OptionalExtension as _, QueryDsl as _};
use diesel_async::{AsyncPgConnection, RunQueryDsl as _};
use jiff::Timestamp;
use jiff_diesel::ToDiesel as _;
use mesh::auth::PrincipalId;

use crate::{
    error::Error,
    password::{PasswordHash, StoredHash},
    schema::{credentials, users},
};

/// The only kind so far.
const PASSWORD: &str = "password";

/// A password hash and when its password was chosen.
#[derive(Clone, Debug)]
pub(crate) struct Credential {
    pub(crate) user: PrincipalId,
    pub(crate) hash: StoredHash,
    pub(crate) changed_at: Timestamp,
}

/// How a user says who they are, in canonical form.
#[derive(Clone, Debug)]
pub(crate) enum Identifier {
    Email(String),
    Username(String),
}

/// The password of whoever is called so, whatever their status.
pub(crate) async fn find(
    conn: &mut AsyncPgConnection,
    identifier: &Identifier,
) -> Result<Option<Credential>, Error> {
    let query = credentials::table
        .inner_join(users::table)
        .filter(credentials::kind.eq(PASSWORD))
        .select((credentials::user_id, credentials::phc, credentials::changed_at))
        .into_boxed();
    let query = match identifier {
        Identifier::Email(canonical) => query.filter(users::email_canonical.eq(canonical)),
        Identifier::Username(canonical) => query.filter(users::username_canonical.eq(canonical)),
    };
    let row: Option<(PrincipalId, String, jiff_diesel::Timestamp)> = query.first(conn).await.optional()?;
    Ok(row.map(|(user, phc, changed_at)| Credential {
        user,
        hash: StoredHash::new(phc),
        changed_at: changed_at.to_jiff(),
    }))
}

/// Whether the password is still the one that was chosen then.
pub(crate) async fn is_unchanged(
    conn: &mut AsyncPgConnection,
    credential: &Credential,
) -> Result<bool, Error> {
    let query = credentials::table
        .find((credential.user, PASSWORD))
        .filter(credentials::changed_at.eq(credential.changed_at.to_diesel()));
    Ok(diesel::select(diesel::dsl::exists(query)).get_result(conn).await?)
}

/// Stores a new user's password.
pub(crate) async fn insert(
    conn: &mut AsyncPgConnection,
    user: PrincipalId,
    hash: &PasswordHash,
    now: Timestamp,
) -> Result<(), Error> {
    diesel::insert_into(credentials::table)
        .values((
            credentials::user_id.eq(user),
            credentials::kind.eq(PASSWORD),
            credentials::phc.eq(hash.as_str()),
            credentials::changed_at.eq(now.to_diesel()),
        ))
        .execute(conn)
        .await?;
    Ok(())
}

/// Replaces the hash by another one of the same password, unless it was replaced meanwhile.
pub(crate) async fn rehash(
    conn: &mut AsyncPgConnection,
    credential: &Credential,
    hash: &PasswordHash,
) -> Result<(), Error> {
    diesel::update(credentials::table.find((credential.user, PASSWORD)))
        .filter(credentials::phc.eq(credential.hash.as_str()))
        .set(credentials::phc.eq(hash.as_str()))
        .execute(conn)
        .await?;
    Ok(())
}
