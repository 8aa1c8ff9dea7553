//! The answer to a request that could not be read.

use axum::{extract::Request, middleware::Next, response::Response};
use http::StatusCode;
use mesh::accept::Violation;
use tonic::Code;

use crate::refusal;

/// The layer: answers what the listener could not read, so that it has the shape and the headers of every other answer.
pub(crate) async fn layer(request: Request, next: Next) -> Response {
    match request.extensions().get::<Violation>() {
        Some(violation) => answer(*violation),
        None => next.run(request).await,
    }
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
