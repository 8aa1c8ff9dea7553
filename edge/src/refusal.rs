//! Refusals of requests that never get as far as a method: the same JSON as those of the transcoder.

use std::time::Duration;

use axum::{body::Body, response::Response};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{
    Extensions, HeaderMap, HeaderValue, StatusCode,
    header::{CONTENT_TYPE, RETRY_AFTER},
};
use mesh::status::Refusal;
use serde_json::json;
use tonic::{Code, Status};
use transcoder::RequestId;

use crate::gate::DOMAIN;

/// The first byte of a frame of gRPC-Web that has trailers.
const TRAILERS: u8 = 0x80;

/// What a client is told that asks too often.
pub(crate) const TOO_MANY: &str = "too many calls; slow down";

/// How long a client should wait that has too many calls in flight: nobody knows when one of them ends.
const TOO_MANY_AT_ONCE_WAIT: Duration = Duration::from_secs(1);

/// 429 with the time to wait, in the place of another answer. To a client of gRPC or gRPC-Web it is a status in the place that theirs have.
pub(crate) fn too_many<B>(wait: Duration, instead_of: &http::Response<B>) -> Response {
    later("RATE_LIMITED", TOO_MANY, wait, instead_of.headers())
}

/// The same for too many calls at a time, by the headers of the request.
pub(crate) fn too_many_at_once(request: &HeaderMap) -> Response {
    let message = "too many calls from this address at a time; let one end";
    later("TOO_MANY_CALLS_AT_ONCE", message, TOO_MANY_AT_ONCE_WAIT, request)
}

fn later(reason: &str, message: &'static str, wait: Duration, headers: &HeaderMap) -> Response {
    let media_type = headers.get(CONTENT_TYPE);
    let grpc = media_type.filter(|media_type| media_type.as_bytes().starts_with(b"application/grpc"));
    let mut response = if let Some(media_type) = grpc {
        too_many_grpc(media_type, message)
    } else {
        let delay = format!("{}.{:09}s", wait.as_secs(), wait.subsec_nanos());
        let retry = json!({ "@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay });
        let details = [error_info(reason), retry];
        build(StatusCode::TOO_MANY_REQUESTS, Code::ResourceExhausted, message, &details)
    };
    let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    response
}

/// The status alone: in the headers for gRPC ("Trailers-Only"), in a frame of the body for gRPC-Web, which its text form has in base64.
fn too_many_grpc(media_type: &HeaderValue, message: &'static str) -> Response {
    let code = i32::from(Code::ResourceExhausted);
    let kind = media_type.to_str().unwrap_or_default();
    let mut response = if kind.starts_with("application/grpc-web") {
        let trailers = format!("grpc-status: {code}\r\ngrpc-message: {message}\r\n");
        let length = u32::try_from(trailers.len()).expect("a line or two");
        let frame = [&[TRAILERS][..], &length.to_be_bytes(), trailers.as_bytes()].concat();
        let is_text = kind.starts_with("application/grpc-web-text");
        Response::new(if is_text { STANDARD.encode(frame).into() } else { frame.into() })
    } else {
        let mut response = Response::new(Body::empty());
        response.headers_mut().insert("grpc-status", HeaderValue::from(code));
        response.headers_mut().insert("grpc-message", HeaderValue::from_static(message));
        response
    };
    response.headers_mut().insert(CONTENT_TYPE, media_type.clone());
    response
}

/// 405 for a path of the gateway's own. Which methods it has, axum adds.
pub(crate) fn method_not_allowed(extensions: &Extensions) -> Response {
    let why = "the path does not take this method: the header `Allow` names those it does";
    let status = Refusal::Unimplemented.status(DOMAIN, "METHOD_NOT_ALLOWED", why);
    of(StatusCode::METHOD_NOT_ALLOWED, &status, extensions)
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
