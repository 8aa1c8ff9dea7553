//! Refusals: the only place that turns an error into a `tonic::Status` with `google.rpc` details.

use std::{collections::HashMap, time::Duration};

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

/// The ways a service may refuse a call: a deliberate subset of the gRPC codes.
///
/// Choose by what the caller should do next: fix the request, sign in, fix the state first, read again and retry, or wait and retry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The request is wrong whatever the state of the system: fix `field`.
    InvalidArgument {
        /// Path of the field, for example `items[0].seat_number`.
        field: String,
    },
    /// We do not know who is calling.
    Unauthenticated,
    /// We know who is calling, and they may not do this.
    PermissionDenied,
    /// No such resource, or none that this caller may know of.
    NotFound {
        /// Resource name, for example `bookings/{uid}`.
        resource: String,
    },
    /// The resource is there already.
    AlreadyExists {
        /// Resource name.
        resource: String,
    },
    /// The request is right but `subject` is in the wrong state: change that first.
    FailedPrecondition {
        /// Resource name of what is in the wrong state.
        subject: String,
    },
    /// Lost a race: read again and retry the whole operation.
    Aborted,
    /// Over a quota or a limit: retry after the delay.
    ResourceExhausted {
        /// How long to wait.
        retry_after: Duration,
    },
    /// A dependency is down: retry this call after the delay.
    Unavailable {
        /// How long to wait.
        retry_after: Duration,
    },
    /// The call took longer than it may.
    DeadlineExceeded,
    /// No such method here.
    Unimplemented,
    /// A bug or a broken invariant. The cause is logged, never sent.
    Internal,
}

impl Refusal {
    /// Builds the status.
    ///
    /// `domain` names the service (`ErrorInfo.domain`); `reason` is the stable, documented `UPPER_SNAKE_CASE` word that clients branch on; `message`
    /// is for developers and may change.
    pub fn status(self, domain: &str, reason: &str, message: impl Into<String>) -> Status {
        let message = message.into();
        let mut details = ErrorDetails::with_error_info(reason, domain, HashMap::new());
        let code = match self {
            Self::InvalidArgument { field } => {
                details.add_bad_request_violation(field, message.as_str());
                Code::InvalidArgument
            }
            Self::Unauthenticated => Code::Unauthenticated,
            Self::PermissionDenied => Code::PermissionDenied,
            Self::NotFound { resource } => {
                describe(&mut details, &resource);
                Code::NotFound
            }
            Self::AlreadyExists { resource } => {
                describe(&mut details, &resource);
                Code::AlreadyExists
            }
            Self::FailedPrecondition { subject } => {
                details.add_precondition_failure_violation(reason, subject, message.as_str());
                Code::FailedPrecondition
            }
            Self::Aborted => Code::Aborted,
            Self::ResourceExhausted { retry_after } => {
                details.set_retry_info(Some(retry_after));
                Code::ResourceExhausted
            }
            Self::Unavailable { retry_after } => {
                details.set_retry_info(Some(retry_after));
                Code::Unavailable
            }
            Self::DeadlineExceeded => Code::DeadlineExceeded,
            Self::Unimplemented => Code::Unimplemented,
            Self::Internal => Code::Internal,
        };
        Status::with_error_details(code, message, details)
    }

    /// As [`Refusal::status`], and the caller is told to try again after `retry_after`: for a lost race that is over by then.
    pub fn status_with_retry(
        self,
        domain: &str,
        reason: &str,
        message: impl Into<String>,
        retry_after: Duration,
    ) -> Status {
        let status = self.status(domain, reason, message);
        let mut details = status.get_error_details();
        details.set_retry_info(Some(retry_after));
        Status::with_error_details(status.code(), status.message(), details)
    }
}

/// The status of several invalid fields at once: `(field path, description)`, none of them with the value itself.
pub fn invalid_fields(domain: &str, reason: &str, violations: &[(String, String)]) -> Status {
    let message =
        violations.iter().map(|(field, rule)| format!("`{field}` {rule}")).collect::<Vec<_>>().join("; ");
    let mut details = ErrorDetails::with_error_info(reason, domain, HashMap::new());
    for (field, rule) in violations {
        details.add_bad_request_violation(field.as_str(), rule.as_str());
    }
    Status::with_error_details(Code::InvalidArgument, format!("invalid request: {message}"), details)
}

/// Encodes a status as `google.rpc.Status`, for storage.
pub fn encode(status: &Status) -> Vec<u8> {
    use prost::Message as _;

    // The details are an encoded `google.rpc.Status` already, with code and message, when there are any.
    if status.details().is_empty() {
        tonic_types::pb::Status {
            code: i32::from(status.code()),
            message: status.message().to_owned(),
            details: vec![],
        }
        .encode_to_vec()
    } else {
        status.details().to_vec()
    }
}

/// Reads a status that [`encode`] wrote.
///
/// # Errors
///
/// When the bytes are not a `google.rpc.Status`.
#[expect(clippy::disallowed_methods, reason = "the one place that builds statuses")]
pub fn decode(bytes: &[u8]) -> Result<Status, prost::DecodeError> {
    use prost::Message as _;

    let stored = tonic_types::pb::Status::decode(bytes)?;
    Ok(Status::with_details(Code::from_i32(stored.code), stored.message, bytes.to_vec().into()))
}

/// The `ErrorInfo.reason` of a status; empty when it has none.
pub fn reason(status: &Status) -> String {
    status.get_error_details().error_info().map(|info| info.reason.clone()).unwrap_or_default()
}

fn describe(details: &mut ErrorDetails, resource: &str) {
    let kind = resource.split('/').next().unwrap_or_default();
    details.set_resource_info(kind, resource, "", "");
}

#[cfg(test)]
mod tests;
