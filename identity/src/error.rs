//! What can go wrong, and the one match that says what each means to a caller.

use std::time::Duration;

use diesel::result::Error as DieselError;
use diesel_async::pooled_connection::deadpool::PoolError;
use mesh::{auth::PrincipalId, db::LostRace, id::ParseError, status::Refusal};
use tonic::Status;

use crate::{
    domain::{EmailError, PasswordError, SessionId},
    kek::OpenError,
    password::HashError,
};

/// `ErrorInfo.domain` of every error of this service.
const DOMAIN: &str = "identity.jetway";

/// What can go wrong.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A field is not an identifier.
    #[error("`{field}` must be a UUID")]
    InvalidId {
        /// The field.
        field: &'static str,
        /// Why.
        #[source]
        source: ParseError,
    },
    /// A field has characters that no name has.
    #[error("`{field}` must not have control characters")]
    ControlCharacter {
        /// The field.
        field: &'static str,
    },
    /// Not an e-mail address.
    #[error("`email` {0}")]
    Email(EmailError),
    /// Not a username.
    #[error("`username` must be 3 to 50 letters, digits, dots, underscores and hyphens")]
    Username,
    /// Not a password that may be chosen.
    #[error("`password` {0}")]
    Password(PasswordError),
    /// Somebody has the e-mail address.
    #[error("the e-mail address has an account already")]
    EmailTaken,
    /// Somebody has the username.
    #[error("the username is taken")]
    UsernameTaken,
    /// Unknown, disabled, or the wrong password: nobody outside learns which.
    #[error("the e-mail address or the password is wrong")]
    InvalidCredentials,
    /// The refresh token is unknown, expired, spent, altered, or its session over: nobody outside learns which.
    #[error("the refresh token is not valid; sign in again")]
    RefreshInvalid,
    /// A refresh token in the request and another one in a cookie: it is not ours to choose.
    #[error("`refresh_token` is not the one in the cookie; send one of them")]
    CredentialsConflict,
    /// Cookies were asked for by a page that the gateway does not vouch for, or by no page at all.
    #[error("cookies are given only to browsers on the gateway's own origin or a listed one")]
    OriginNotAllowed,
    /// The caller is no admin any more, whatever the access token says.
    #[error("you may not call this method")]
    NotAdmin,
    /// No such user.
    #[error("no user {0}")]
    UserNotFound(PrincipalId),
    /// No such role.
    #[error("no role {0}")]
    RoleNotFound(String),
    /// The user is the only admin.
    #[error("the last admin must stay one")]
    LastAdmin(PrincipalId),
    /// Every user has this role.
    #[error("every user keeps the role `customer`")]
    BaseRole(PrincipalId),
    /// A password was not hashed.
    #[error(transparent)]
    Hash(#[from] HashError),
    /// A user is stored in a state that cannot be.
    #[error("user {0} is stored in a state that cannot be")]
    UserCorrupt(PrincipalId),
    /// A session's key is not one.
    #[error("session {0} is stored with a key that cannot be")]
    SessionCorrupt(SessionId),
    /// An entry of the revocations cannot be read.
    #[error("revocation {0} is stored in a state that cannot be")]
    RevocationCorrupt(i64),
    /// The signing keys are stored in a state that cannot be.
    #[error("there is no signing key")]
    NoSigningKey,
    /// What is stored encrypted cannot be read.
    #[error(transparent)]
    Sealed(#[from] OpenError),
    /// A token could not be signed.
    #[error("an access token could not be signed")]
    Sign(#[source] jsonwebtoken::errors::Error),
    /// A query failed.
    #[error("query failed")]
    Database(#[from] DieselError),
    /// No connection.
    #[error("no database connection")]
    Pool(#[from] PoolError),
}

impl LostRace for Error {
    fn lost_race(&self) -> bool {
        matches!(self, Self::Database(error) if error.lost_race())
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        let field = |field: &str| Refusal::InvalidArgument { field: field.to_owned() };
        let users = || Refusal::AlreadyExists { resource: "users".to_owned() };
        let (reason, refusal) = match &error {
            Error::InvalidId { field: name, .. } | Error::ControlCharacter { field: name } => {
                ("FIELD_INVALID", field(name))
            }
            Error::Email(_) => ("EMAIL_INVALID", field("email")),
            Error::Username => ("FIELD_INVALID", field("username")),
            Error::Password(PasswordError::TooShort) => ("PASSWORD_TOO_SHORT", field("password")),
            Error::Password(PasswordError::TooLong) => ("PASSWORD_TOO_LONG", field("password")),
            Error::EmailTaken => ("EMAIL_TAKEN", users()),
            Error::UsernameTaken => ("USERNAME_TAKEN", users()),
            Error::InvalidCredentials => ("INVALID_CREDENTIALS", Refusal::Unauthenticated),
            Error::RefreshInvalid => ("REFRESH_INVALID", Refusal::Unauthenticated),
            Error::CredentialsConflict => ("CREDENTIALS_CONFLICT", field("refresh_token")),
            Error::OriginNotAllowed => ("ORIGIN_NOT_ALLOWED", Refusal::PermissionDenied),
            Error::NotAdmin => ("ACCESS_DENIED", Refusal::PermissionDenied),
            Error::UserNotFound(id) => ("USER_NOT_FOUND", Refusal::NotFound { resource: id.name() }),
            Error::RoleNotFound(role) => {
                ("ROLE_NOT_FOUND", Refusal::NotFound { resource: format!("roles/{role}") })
            }
            Error::LastAdmin(id) => ("LAST_ADMIN", Refusal::FailedPrecondition { subject: id.name() }),
            Error::BaseRole(id) => ("BASE_ROLE", Refusal::FailedPrecondition { subject: id.name() }),
            Error::Hash(HashError::QueueFull) => {
                // Spread out, so that those who were refused together do not come back together.
                let retry_after = Duration::from_millis(rand::random_range(1000..=3000));
                ("HASH_QUEUE_FULL", Refusal::Unavailable { retry_after })
            }
            Error::Database(_) if error.lost_race() => ("LOST_RACE", Refusal::Aborted),
            Error::Pool(_) => {
                ("DATABASE_UNAVAILABLE", Refusal::Unavailable { retry_after: Duration::from_secs(1) })
            }
            Error::Hash(HashError::Unusable)
            | Error::UserCorrupt(_)
            | Error::SessionCorrupt(_)
            | Error::RevocationCorrupt(_)
            | Error::NoSigningKey
            | Error::Sealed(_)
            | Error::Sign(_)
            | Error::Database(_) => {
                let cause: &dyn std::error::Error = &error;
                tracing::error!(error = cause, "internal error");
                return Refusal::Internal.status(DOMAIN, "INTERNAL", "internal error");
            }
        };
        refusal.status(DOMAIN, reason, message)
    }
}
