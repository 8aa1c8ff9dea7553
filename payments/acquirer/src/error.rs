//! What can go wrong, and what each means to the caller.

use std::time::Duration;

use diesel_async::pooled_connection::deadpool::PoolError;
use mesh::{
    db::{LostRace, waited_too_long},
    status::Refusal,
};
use tonic::Status;

/// `ErrorInfo.domain` of every error of this service.
const DOMAIN: &str = "acquirer.jetway";

/// Why a call failed. A declined operation is an answer, not an error.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A field is wrong in a way that the contract's rules cannot say.
    #[error("invalid `{0}`")]
    InvalidField(&'static str),
    /// The reference was never heard of.
    #[error("no operation {0}")]
    OperationNotFound(String),
    /// A stored operation is one that cannot be.
    #[error("operation {0} is stored in a form that cannot be")]
    OperationCorrupt(String),
    /// A query failed.
    #[error("query failed")]
    Database(#[from] diesel::result::Error),
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
        let (reason, refusal) = match &error {
            Error::InvalidField(field) => {
                ("FIELD_INVALID", Refusal::InvalidArgument { field: (*field).to_owned() })
            }
            Error::OperationNotFound(reference) => {
                ("OPERATION_NOT_FOUND", Refusal::NotFound { resource: format!("operations/{reference}") })
            }
            Error::Database(database) if database.lost_race() || waited_too_long(database) => {
                ("LOST_RACE", Refusal::Aborted)
            }
            Error::Pool(_) => {
                ("DATABASE_UNAVAILABLE", Refusal::Unavailable { retry_after: Duration::from_secs(1) })
            }
            Error::OperationCorrupt(_) | Error::Database(_) => {
                let cause: &dyn std::error::Error = &error;
                tracing::error!(error = cause, "internal error");
                return Refusal::Internal.status(DOMAIN, "INTERNAL", "internal error");
            }
        };
        refusal.status(DOMAIN, reason, message)
    }
}
