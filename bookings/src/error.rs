//! What can go wrong, and the one match that says what each means to a caller.

use std::time::Duration;

use diesel::result::{DatabaseErrorKind, Error as DieselError};
use diesel_async::pooled_connection::deadpool::PoolError;
use mesh::db::{LostRace, waited_too_long};
use mesh::idempotency;
use mesh::status::Refusal;
use tonic::Status;

use crate::domain::booking::{self, BookingId};
use crate::domain::flight::{CabinClass, FlightId};
use crate::domain::hold::{self, HoldId};

/// Value of `ErrorInfo.domain` in every error of this service.
pub const DOMAIN: &str = "bookings.jetway";

/// Why a call or a job did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The request is wrong, whatever is stored.
    #[error("`{field}` {rule}")]
    Invalid {
        /// Path of the field.
        field: String,
        /// What it should be.
        rule: String,
    },
    /// A text looks as if it held a card number, which belongs to payments alone.
    #[error("`{0}` holds what looks like a card number")]
    PanInFreeText(String),
    /// There is no such resource, or none that the caller may know of.
    #[error("no {0}")]
    NotFound(String),
    /// There is a different one of that name.
    #[error("{0} exists and is different")]
    AlreadyExists(String),
    /// The caller does not manage the airline.
    #[error("you do not manage airlines/{0}")]
    NotTheManager(String),
    /// The flight left, or will not leave.
    #[error("{} is not on sale", .0.name())]
    FlightClosed(FlightId),
    /// Not enough space is left.
    #[error("{} has not enough left in {}", .flight.name(), .cabin.word())]
    SoldOut {
        /// Which flight.
        flight: FlightId,
        /// Which cabin.
        cabin: CabinClass,
    },
    /// Somebody has the seat.
    #[error("seat {seat_no} of {} is taken", .flight.name())]
    SeatTaken {
        /// Which flight.
        flight: FlightId,
        /// Which seat.
        seat_no: String,
    },
    /// Only holds that are over stand in the way: the transaction is worth running again, and begins by ending them.
    #[error("expired holds are in the way")]
    ExpiredInTheWay,
    /// The customer has as many active holds as allowed.
    #[error("more than {max} active holds", max = hold::ACTIVE_MAX)]
    TooManyHolds,
    /// The hold cannot change so.
    #[error("{}: {why}", .hold.name())]
    Hold {
        /// Which hold.
        hold: HoldId,
        /// Why not.
        why: hold::TransitionError,
    },
    /// The booking cannot change so.
    #[error("{}: {why}", .booking.name())]
    Booking {
        /// Which booking.
        booking: BookingId,
        /// Why not.
        why: booking::TransitionError,
    },
    /// A flight of the booking has left.
    #[error("{} has departed", .0.name())]
    Departed(BookingId),
    /// The quote is old, or not the newest.
    #[error("the quote {0} is no longer good")]
    QuoteExpired(String),
    /// The page token is not one of this query.
    #[error("`page_token` is not of this query")]
    PageToken,
    /// Another worker has taken the saga over.
    #[error("the lease of the saga is lost")]
    LeaseLost,
    /// A stored refusal, told again.
    #[error("refused before")]
    Replayed(Status),
    /// What is stored breaks an invariant.
    #[error("{0} is stored in a state that cannot be")]
    Corrupt(String),
    /// The request id cannot be claimed.
    #[error("cannot claim the request id")]
    Idempotency(#[from] idempotency::Error),
    /// A query failed.
    #[error("query failed")]
    Database(#[from] DieselError),
    /// No connection came free.
    #[error("no database connection")]
    Pool(#[from] PoolError),
}

impl Error {
    /// A request that breaks a rule.
    pub fn invalid(field: impl Into<String>, rule: impl Into<String>) -> Self {
        Self::Invalid { field: field.into(), rule: rule.into() }
    }

    /// Whether a constraint or an invariant refused a write: never so for lost races and lost connections.
    pub fn is_constraint(&self) -> bool {
        use DatabaseErrorKind::{CheckViolation, ForeignKeyViolation, NotNullViolation, UniqueViolation};

        matches!(self, Self::Corrupt(_) | Self::Hold { .. } | Self::Booking { .. })
            || matches!(
                self,
                Self::Database(DieselError::DatabaseError(
                    UniqueViolation | ForeignKeyViolation | NotNullViolation | CheckViolation,
                    _
                ))
            )
    }

    /// The error with its causes, for a log.
    pub(crate) fn for_log(&self) -> &(dyn std::error::Error + 'static) {
        self
    }
}

/// Whether somebody else has just drawn the same record locator: worth drawing again.
fn locator_is_taken(error: &DieselError) -> bool {
    matches!(error, DieselError::DatabaseError(DatabaseErrorKind::UniqueViolation, info)
        if info.constraint_name() == Some("bookings_record_locator_key"))
}

impl LostRace for Error {
    fn lost_race(&self) -> bool {
        if let Self::Database(error) | Self::Idempotency(idempotency::Error::Database(error)) = self {
            return error.lost_race() || locator_is_taken(error);
        }
        matches!(self, Self::ExpiredInTheWay)
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        let second = Duration::from_secs(1);
        let (reason, refusal) = match error {
            Error::Replayed(status) => return status,
            Error::Invalid { field, rule } => {
                return mesh::status::invalid_fields(DOMAIN, "FIELD_INVALID", &[(field, rule)]);
            }
            Error::PageToken => {
                ("PAGE_TOKEN_INVALID", Refusal::InvalidArgument { field: "page_token".to_owned() })
            }
            Error::PanInFreeText(field) => ("PAN_IN_FREE_TEXT", Refusal::InvalidArgument { field }),
            Error::NotFound(resource) => ("NOT_FOUND", Refusal::NotFound { resource }),
            Error::AlreadyExists(resource) => ("ALREADY_EXISTS", Refusal::AlreadyExists { resource }),
            Error::NotTheManager(_) => ("NOT_AIRLINE_MANAGER", Refusal::PermissionDenied),
            Error::FlightClosed(flight) => {
                ("FLIGHT_CLOSED", Refusal::FailedPrecondition { subject: flight.name() })
            }
            Error::SoldOut { .. } | Error::ExpiredInTheWay => ("SOLD_OUT", Refusal::Aborted),
            Error::SeatTaken { .. } => ("SEAT_TAKEN", Refusal::Aborted),
            Error::TooManyHolds => {
                ("TOO_MANY_HOLDS", Refusal::ResourceExhausted { retry_after: Duration::from_mins(1) })
            }
            Error::Hold { hold, why } => {
                let reason = match why {
                    hold::TransitionError::Expired => "HOLD_EXPIRED",
                    hold::TransitionError::Closed | hold::TransitionError::Unexpired => "HOLD_CLOSED",
                };
                (reason, Refusal::FailedPrecondition { subject: hold.name() })
            }
            Error::Booking { booking, .. } => {
                ("BOOKING_STATE", Refusal::FailedPrecondition { subject: booking.name() })
            }
            Error::Departed(booking) => ("DEPARTED", Refusal::FailedPrecondition { subject: booking.name() }),
            Error::QuoteExpired(subject) => ("QUOTE_EXPIRED", Refusal::FailedPrecondition { subject }),
            Error::Idempotency(idempotency::Error::InProgress) => {
                return Refusal::Aborted.status_with_retry(
                    DOMAIN,
                    "IDEMPOTENCY_IN_PROGRESS",
                    message,
                    second,
                );
            }
            Error::Idempotency(idempotency::Error::KeyReused) => {
                ("IDEMPOTENCY_KEY_REUSED", Refusal::FailedPrecondition { subject: "request_id".to_owned() })
            }
            Error::Database(database) | Error::Idempotency(idempotency::Error::Database(database))
                if database.lost_race() || waited_too_long(&database) =>
            {
                ("LOST_RACE", Refusal::Aborted)
            }
            Error::Pool(_) => ("DATABASE_UNAVAILABLE", Refusal::Unavailable { retry_after: second }),
            Error::Idempotency(idempotency::Error::ClaimLost) | Error::LeaseLost => {
                ("LOST_RACE", Refusal::Aborted)
            }
            cause @ (Error::Corrupt(_) | Error::Database(_) | Error::Idempotency(_)) => {
                tracing::error!(error = cause.for_log(), "internal error");
                return Refusal::Internal.status(DOMAIN, "INTERNAL", "internal error");
            }
        };
        refusal.status(DOMAIN, reason, message)
    }
}
