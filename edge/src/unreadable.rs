//! The answer to a request that could not be read.

use axum::{extract::Request, middleware::Next, response::Response};
use http::{HeaderValue, StatusCode, header::CONTENT_TYPE};
use mesh::accept::Violation;
use tonic::Code;

use crate::gate::DOMAIN;

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
    let body = serde_json::json!({
        "code": i32::from(code),
        "message": violation.rule(),
        "details": [{
            "@type": "type.googleapis.com/google.rpc.ErrorInfo",
            "reason": "REQUEST_UNREADABLE",
            "domain": DOMAIN,
        }],
    });
    let mut answer = Response::new(body.to_string().into());
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}
