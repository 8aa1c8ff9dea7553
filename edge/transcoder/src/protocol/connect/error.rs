//! Errors as Connect writes them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, Response, StatusCode};
use tonic::Code;

use crate::body::Body;
use crate::error::{Problem, http_status};
use crate::json::encode::{self, EncodeOptions};
use crate::json::escape::put_string;
use crate::table::Tables;

/// The name of a code.
fn name(code: Code) -> &'static str {
    match code {
        // Nobody makes an error of it; Connect has no name for it.
        Code::Ok | Code::Unknown => "unknown",
        Code::Cancelled => "canceled",
        Code::InvalidArgument => "invalid_argument",
        Code::DeadlineExceeded => "deadline_exceeded",
        Code::NotFound => "not_found",
        Code::AlreadyExists => "already_exists",
        Code::PermissionDenied => "permission_denied",
        Code::ResourceExhausted => "resource_exhausted",
        Code::FailedPrecondition => "failed_precondition",
        Code::Aborted => "aborted",
        Code::OutOfRange => "out_of_range",
        Code::Unimplemented => "unimplemented",
        Code::Internal => "internal",
        Code::Unavailable => "unavailable",
        Code::DataLoss => "data_loss",
        Code::Unauthenticated => "unauthenticated",
    }
}

/// Appends the JSON of an error.
pub(super) fn put_json(problem: &Problem, tables: &Tables, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"code\":");
    put_string(out, name(problem.code));
    if !problem.message.is_empty() {
        out.extend_from_slice(b",\"message\":");
        put_string(out, &problem.message);
    }
    for (index, detail) in problem.details().iter().enumerate() {
        out.extend_from_slice(if index == 0 { b",\"details\":[" } else { b"," });
        let type_name = detail.type_url.rsplit_once('/').map_or(&*detail.type_url, |(_, name)| name);
        out.extend_from_slice(b"{\"type\":");
        put_string(out, type_name);
        out.extend_from_slice(b",\"value\":");
        put_string(out, &STANDARD_NO_PAD.encode(&detail.value));
        put_debug(tables, type_name, &detail.value, out);
        out.push(b'}');
    }
    if !problem.details().is_empty() {
        out.push(b']');
    }
    out.push(b'}');
}

/// Appends the detail in a form for people, when its type is known.
fn put_debug(tables: &Tables, type_name: &str, value: &[u8], out: &mut Vec<u8>) {
    let Some(index) = tables.find(type_name) else { return };
    let start = out.len();
    out.extend_from_slice(b",\"debug\":");
    if encode::message(tables, index, value, out, EncodeOptions::default()).is_err() {
        out.truncate(start);
    }
}

/// The answer to a call that fails before there is anything else of it.
pub(in crate::protocol) fn refusal(problem: &Problem, tables: &Tables) -> Response<Body> {
    let mut body = Vec::with_capacity(256);
    put_json(problem, tables, &mut body);
    let length = body.len();
    let mut response = Response::new(Body::full(Bytes::from(body)));
    // The codes have statuses of their own here. Only of a path that nobody serves is there nothing more exact to say.
    *response.status_mut() = match problem.http_status() {
        StatusCode::NOT_FOUND => StatusCode::NOT_FOUND,
        _ => http_status(problem.code),
    };
    let headers = response.headers_mut();
    headers.clone_from(problem.headers());
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    if problem.code == Code::Unauthenticated {
        headers.entry(WWW_AUTHENTICATE).or_insert(HeaderValue::from_static("Bearer"));
    }
    if let Some(seconds) = problem.retry_after() {
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}
