//! Refusals of requests that never get as far as a method: the same JSON as those of the transcoder.

use std::time::Duration;

use axum::{body::Body, response::Response};
use http::{
    Extensions, HeaderValue, StatusCode,
    header::{CONTENT_TYPE, RETRY_AFTER},
};
use serde_json::json;
use tonic::{Code, Status};
use transcoder::RequestId;

use crate::gate::DOMAIN;

/// 429 with the time to wait.
pub(crate) fn too_many(wait: Duration) -> Response {
    let retry = json!({ "@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": format!("{}.{:09}s", wait.as_secs(), wait.subsec_nanos()) });
    let details = [error_info("RATE_LIMITED"), retry];
    let mut response =
        build(StatusCode::TOO_MANY_REQUESTS, Code::ResourceExhausted, "too many calls; slow down", &details);
    let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    response
}

/// The refusal of a request with these extensions.
pub(crate) fn of(http_status: StatusCode, status: &Status, extensions: &Extensions) -> Response {
    let mut details = vec![error_info(&mesh::status::reason(status))];
    if let Some(RequestId(id)) = extensions.get() {
        details.push(json!({ "@type": "type.googleapis.com/google.rpc.RequestInfo", "requestId": id }));
    }
    build(http_status, status.code(), status.message(), &details)
}

pub(crate) fn error_info(reason: &str) -> serde_json::Value {
    json!({ "@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason, "domain": DOMAIN })
}

pub(crate) fn build(
    status: StatusCode,
    code: Code,
    message: &str,
    details: &[serde_json::Value],
) -> Response {
    let body = json!({ "code": i32::from(code), "message": message, "details": details });
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
