//! An error in the words of gRPC.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use http::{HeaderMap, HeaderValue};
use prost::Message as _;
use tonic_types::pb;

use crate::error::Problem;
use crate::grpc::forwardable;

pub(super) const STATUS: &str = "grpc-status";
pub(super) const MESSAGE: &str = "grpc-message";
pub(super) const DETAILS: &str = "grpc-status-details-bin";

/// The trailers that tell of `problem`, with the metadata that its maker gave it.
pub(super) fn trailers(problem: &Problem) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    for (name, value) in problem.headers() {
        if forwardable(name.as_str()) {
            trailers.append(name, value.clone());
        }
    }
    let code = i32::from(problem.code);
    trailers.insert(STATUS, HeaderValue::from(code));
    if let Some(message) = encode_message(&problem.message) {
        trailers.insert(MESSAGE, message);
    }
    if !problem.details().is_empty() {
        let status =
            pb::Status { code, message: problem.message.clone(), details: problem.details().to_vec() };
        let encoded = STANDARD_NO_PAD.encode(status.encode_to_vec());
        if let Ok(value) = HeaderValue::from_str(&encoded) {
            trailers.insert(DETAILS, value);
        }
    }
    trailers
}

/// Printable ASCII stands as it is, but for `%`; all else is percent-encoded UTF-8.
fn encode_message(message: &str) -> Option<HeaderValue> {
    let mut encoded = String::with_capacity(message.len());
    for byte in message.bytes() {
        match byte {
            b'%' => encoded.push_str("%25"),
            b' '..=b'~' => encoded.push(char::from(byte)),
            _ => write!(encoded, "%{byte:02X}").expect("a String takes every write"),
        }
    }
    if encoded.is_empty() { None } else { HeaderValue::from_str(&encoded).ok() }
}
