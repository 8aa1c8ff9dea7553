//! Refusals of requests that never get as far as a method: the same JSON as those of the transcoder.

use std::time::Duration;

use axum::{body::Body, response::Response};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{
    Extensions, HeaderValue, StatusCode,
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

/// 429 with the time to wait, in the place of another answer. To a client of gRPC or gRPC-Web it is a status in the place that theirs have.
pub(crate) fn too_many(wait: Duration, instead_of: &Response) -> Response {
    let media_type = instead_of.headers().get(CONTENT_TYPE);
    let grpc = media_type.filter(|media_type| media_type.as_bytes().starts_with(b"application/grpc"));
    let mut response = if let Some(media_type) = grpc {
        too_many_grpc(media_type)
    } else {
        let delay = format!("{}.{:09}s", wait.as_secs(), wait.subsec_nanos());
        let retry = json!({ "@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay });
        build(
            StatusCode::TOO_MANY_REQUESTS,
            Code::ResourceExhausted,
            TOO_MANY,
            &[error_info("RATE_LIMITED"), retry],
        )
    };
    let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    response
}

/// The status alone: in the headers for gRPC ("Trailers-Only"), in a frame of the body for gRPC-Web, which its text form has in base64.
fn too_many_grpc(media_type: &HeaderValue) -> Response {
    let code = i32::from(Code::ResourceExhausted);
    let kind = media_type.to_str().unwrap_or_default();
    let mut response = if kind.starts_with("application/grpc-web") {
        let trailers = format!("grpc-status: {code}\r\ngrpc-message: {TOO_MANY}\r\n");
        let length = u32::try_from(trailers.len()).expect("a line or two");
        let frame = [&[TRAILERS][..], &length.to_be_bytes(), trailers.as_bytes()].concat();
        let is_text = kind.starts_with("application/grpc-web-text");
        Response::new(if is_text { STANDARD.encode(frame).into() } else { frame.into() })
    } else {
        let mut response = Response::new(Body::empty());
        response.headers_mut().insert("grpc-status", HeaderValue::from(code));
        response.headers_mut().insert("grpc-message", HeaderValue::from_static(TOO_MANY));
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
