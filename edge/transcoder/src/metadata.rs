//! Which of a client's headers are metadata of the call, and which metadata of the reply are headers of the answer.
//!
//! One allow-list in each direction holds for all protocols; only the names differ on the client's side. Over REST metadata
//! `x` is the header `Grpc-Metadata-x`; in the other protocols it is the header `x`.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::error::Problem;
use crate::grpc::forwardable;
use crate::json::escape::{base64_length, decode_base64};
use crate::violation::Violation;

/// What is let through besides what the host gives.
#[derive(Clone, Debug)]
pub(crate) struct Policy {
    /// From the client to the upstream.
    pub(crate) request: Allowed,
    /// From the upstream to the client.
    pub(crate) response: Allowed,
}

/// Names that may pass.
#[derive(Clone, Debug)]
pub(crate) struct Allowed {
    /// Everything that is neither reserved nor HTTP's own.
    all: bool,
    listed: Vec<HeaderName>,
}

/// How metadata are called in the client's protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Naming {
    /// `grpc-metadata-x`: REST.
    Prefixed,
    /// `x`.
    Plain,
    /// `trailer-x`: what a unary answer of Connect makes of trailers.
    Trailer,
}

const PREFIX: &str = "grpc-metadata-";

impl Allowed {
    pub(crate) fn new(all: bool) -> Self {
        Self { all, listed: Vec::new() }
    }

    /// Adds a name.
    ///
    /// # Errors
    ///
    /// When it is no header name, or one that is never forwarded.
    pub(crate) fn add(&mut self, name: &str) -> Result<(), &'static str> {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| "is not a header name")?;
        if !forwardable(name.as_str()) {
            return Err("belongs to the connection or to gRPC, and is never forwarded");
        }
        self.listed.push(name);
        Ok(())
    }

    /// The names that pass by name, as REST clients see them.
    pub(crate) fn prefixed(&self) -> impl Iterator<Item = HeaderName> {
        self.listed.iter().filter_map(|name| HeaderName::try_from(format!("{PREFIX}{name}")).ok())
    }

    fn is_empty(&self) -> bool {
        !self.all && self.listed.is_empty()
    }

    fn admits(&self, name: &HeaderName) -> bool {
        (self.all && forwardable(name.as_str()) && !of_http(name.as_str())) || self.listed.contains(name)
    }
}

/// Headers that mean something to HTTP, to browsers or to proxies. They are no custom metadata: they pass only by name.
fn of_http(name: &str) -> bool {
    const PREFIXES: [&str; 7] =
        ["accept", "access-control-", "connect-", "cross-origin-", "if-", "sec-", "x-forwarded-"];
    PREFIXES.iter().any(|prefix| name.starts_with(prefix))
        || matches!(
            name,
            "age"
                | "allow"
                | "alt-svc"
                | "authorization"
                | "cache-control"
                | "cookie"
                | "date"
                | "etag"
                | "expect"
                | "expires"
                | "forwarded"
                | "from"
                | "http2-settings"
                | "last-modified"
                | "link"
                | "location"
                | "max-forwards"
                | "origin"
                | "permissions-policy"
                | "pragma"
                | "priority"
                | "proxy-authenticate"
                | "proxy-authorization"
                | "range"
                | "referer"
                | "referrer-policy"
                | "retry-after"
                | "server"
                | "set-cookie"
                | "strict-transport-security"
                | "upgrade-insecure-requests"
                | "user-agent"
                | "vary"
                | "via"
                | "www-authenticate"
                | "x-content-type-options"
                | "x-frame-options"
                | "x-grpc-web"
                | "x-real-ip"
                | "x-user-agent"
        )
}

/// Adds what the policy lets through of a client's `headers` to `metadata`, which is the host's: of a name that the host
/// gives, the client's values are dropped.
///
/// # Errors
///
/// 400 for a value that metadata cannot have.
pub(crate) fn add_request(
    policy: &Policy,
    naming: Naming,
    headers: &HeaderMap,
    metadata: &mut HeaderMap,
) -> Result<(), Box<Problem>> {
    let allowed = &policy.request;
    if allowed.is_empty() {
        return Ok(());
    }
    let mut passed = HeaderMap::new();
    for (header, value) in headers {
        let name = match header.as_str().strip_prefix(PREFIX) {
            Some(inner) if naming == Naming::Prefixed => match HeaderName::from_bytes(inner.as_bytes()) {
                Ok(name) => Cow::Owned(name),
                Err(_) => continue,
            },
            // A header of REST is metadata only when it is listed, or says so.
            _ if naming == Naming::Prefixed && !allowed.listed.contains(header) => continue,
            _ => Cow::Borrowed(header),
        };
        if !allowed.admits(&name) || metadata.contains_key(&*name) {
            continue;
        }
        let invalid = |rule: &str| Problem::violation(&Violation::at(header.as_str(), rule));
        if name.as_str().ends_with("-bin") {
            for part in value.as_bytes().split(|byte| *byte == b',') {
                let value = canonical(part).ok_or_else(|| invalid("must be base64"))?;
                passed.append(&*name, value);
            }
        } else if printable(value) {
            passed.append(&*name, value.clone());
        } else {
            return Err(invalid("must be printable ASCII"));
        }
    }
    metadata.extend(passed);
    Ok(())
}

/// Adds what the policy lets through of an upstream's headers or trailers to the headers or trailers of an answer.
pub(crate) fn add_response(policy: &Policy, naming: Naming, upstream: &HeaderMap, out: &mut HeaderMap) {
    let allowed = &policy.response;
    if allowed.is_empty() {
        return;
    }
    for (metadata, value) in upstream {
        if !allowed.admits(metadata) {
            continue;
        }
        let name = match naming {
            Naming::Plain => Ok(metadata.clone()),
            Naming::Prefixed => HeaderName::try_from(format!("{PREFIX}{metadata}")),
            Naming::Trailer => HeaderName::try_from(format!("trailer-{metadata}")),
        };
        let Ok(name) = name else { continue };
        let parts: &mut dyn Iterator<Item = Option<HeaderValue>> = if metadata.as_str().ends_with("-bin") {
            &mut value.as_bytes().split(|byte| *byte == b',').map(canonical)
        } else {
            &mut std::iter::once(Some(value.clone()).filter(printable))
        };
        for value in parts.flatten() {
            out.append(&name, value);
        }
    }
}

/// Base64 of either alphabet, padded or not, as gRPC writes it: of the standard alphabet without padding.
fn canonical(value: &[u8]) -> Option<HeaderValue> {
    let text = str::from_utf8(value).ok()?.trim();
    base64_length(text)?;
    let mut bytes = Vec::with_capacity(text.len());
    if !decode_base64(&mut bytes, text) {
        return None;
    }
    HeaderValue::from_str(&STANDARD_NO_PAD.encode(bytes)).ok()
}

/// What gRPC calls an ASCII value. A `HeaderValue` never has CR, LF or NUL, but it may have tabs and bytes above ASCII.
fn printable(value: &HeaderValue) -> bool {
    value.as_bytes().iter().all(|byte| matches!(byte, b' '..=b'~'))
}
