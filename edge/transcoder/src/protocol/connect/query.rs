//! A unary request in a query.

use std::borrow::Cow;

use http::Method;
use http::request::Parts;

use crate::builder::Codings;
use crate::error::Problem;
use crate::json::escape::{base64_length, decode_base64};
use crate::percent::byte_at;
use crate::protocol::gzip::Compression;
use crate::protocol::turn::{Codec, Form};
use crate::violation::Violation;

/// Whether a request says that it is one of Connect with GET.
pub(in crate::protocol) fn is_get(parts: &Parts) -> bool {
    let query = parts.uri.query().unwrap_or_default();
    parts.method == Method::GET && query.split('&').any(|parameter| parameter == "connect=v1")
}

pub(super) struct Get {
    pub(super) form: Form,
    /// As the client sent it: perhaps compressed.
    pub(super) message: Vec<u8>,
}

/// Reads the parameters.
///
/// # Errors
///
/// 400 that names the parameter.
pub(super) fn parse(query: &str, codings: Codings) -> Result<Get, Box<Problem>> {
    read(query, codings).map_err(|violation| Problem::violation(&violation))
}

fn read(query: &str, codings: Codings) -> Result<Get, Violation> {
    let (mut codec, mut message, mut base64) = (None, None, false);
    let mut compression = Compression::Identity;
    for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        let value = unescape(value).map_err(|rule| Violation::at(name, rule))?;
        match (name, &*value) {
            ("connect", b"v1") => {}
            ("connect", _) => return Err(Violation::at(name, "must be v1")),
            ("encoding", name) => codec = str::from_utf8(name).ok().and_then(Codec::named),
            ("message", _) => message = Some(value.into_owned()),
            ("base64", b"1") => base64 = true,
            ("base64", b"0" | b"") => base64 = false,
            ("base64", _) => return Err(Violation::at(name, "must be 1")),
            ("compression", name) => compression = Compression::named(name, codings),
            // Of another version of the protocol, or for somebody on the way.
            _ => {}
        }
    }
    let codec = codec.ok_or_else(|| Violation::at("encoding", "must be json or proto"))?;
    let message = message.ok_or_else(|| Violation::at("message", "is required"))?;
    let message = if base64 { decode(&message)? } else { message };
    Ok(Get { form: Form { codec, compression }, message })
}

fn decode(message: &[u8]) -> Result<Vec<u8>, Violation> {
    let mut bytes = Vec::with_capacity(message.len() / 4 * 3);
    let text = str::from_utf8(message).ok().filter(|text| base64_length(text).is_some());
    if text.is_some_and(|text| decode_base64(&mut bytes, text)) {
        Ok(bytes)
    } else {
        Err(Violation::at("message", "must be base64"))
    }
}

/// The bytes of a value, which need not be text.
fn unescape(value: &str) -> Result<Cow<'_, [u8]>, &'static str> {
    let raw = value.as_bytes();
    if !raw.iter().any(|byte| matches!(byte, b'%' | b'+')) {
        return Ok(Cow::Borrowed(raw));
    }
    let mut bytes = Vec::with_capacity(raw.len());
    let mut at = 0;
    while let Some(&byte) = raw.get(at) {
        at += if byte == b'%' { 3 } else { 1 };
        bytes.push(match byte {
            b'%' => byte_at(raw, at - 3).ok_or("has a `%` without two hexadecimal digits")?,
            b'+' => b' ',
            byte => byte,
        });
    }
    Ok(Cow::Owned(bytes))
}
