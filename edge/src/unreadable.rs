//! The answer to a request that could not be read.

use axum::{extract::Request, response::Response};
use http::StatusCode;
use mesh::accept::Violation;
use tonic::Code;

use crate::refusal;

/// The answer, in the shape of every other, when the listener could not read the request.
pub(crate) fn refused(request: &Request) -> Option<Response> {
    request.extensions().get::<Violation>().copied().map(answer)
}

fn answer(violation: Violation) -> Response {
    let status = violation.status();
    let code = match status {
        StatusCode::REQUEST_TIMEOUT => Code::DeadlineExceeded,
        StatusCode::NOT_IMPLEMENTED => Code::Unimplemented,
        _ => Code::InvalidArgument,
    };
    refusal::build(status, code, violation.rule(), &[refusal::error_info("REQUEST_UNREADABLE")])
}
