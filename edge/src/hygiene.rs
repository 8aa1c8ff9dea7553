//! What a client cannot say in headers: who it is, where it comes from, or two things at once.
//!
//! Services of ours are told nothing but what the gate writes. Other services may believe what stands in a header, and some servers take `_` for
//! `-` in its name: therefore names that speak of identity are taken out, in either spelling, before anything else sees the request. The client's
//! address was read from `X-Forwarded-For` before, as far as proxies of ours wrote it.

use axum::{extract::Request, response::Response};
use http::{HeaderMap, HeaderName, StatusCode, header::AUTHORIZATION};
use mesh::status::Refusal;
use tonic::Status;

use crate::{gate::DOMAIN, refusal};

/// Beginnings of names that are taken out: what gateways, meshes and servers tell the services behind them.
const RESERVED_PREFIXES: [&str; 16] = [
    "x-auth-",
    "x-authenticated-",
    "x-client-cert",
    "x-envoy-",
    "x-forwarded-",
    "x-goog-authenticated-",
    "x-internal-",
    "x-jetway-",
    "x-original-",
    "x-peer-",
    "x-remote-",
    "x-ssl-",
    "x-user-",
    "ssl-client-",
    "remote-",
    "proxy-",
];

/// Names that are taken out. Trace contexts, because a trace that a client could name would be one that it could fill.
const RESERVED: [&str; 17] = [
    "baggage",
    "cf-connecting-ip",
    "client-ip",
    "forwarded",
    "proxy",
    "ssl-client-cert",
    "traceparent",
    "tracestate",
    "true-client-ip",
    "via",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-forwarded",
    "x-real-ip",
    "x-rewrite-url",
    "x-spiffe-id",
    "x-user",
];

/// Names that begin as reserved ones do, and are the client's to say.
const PUBLIC: [&str; 2] = ["x-jetway-csrf", "x-user-agent"];

/// Names that count only as they are written, and that `grpc-metadata-` cannot name.
const EXACT: [&str; 14] = [
    "authorization",
    "connection",
    "content-length",
    "content-type",
    "cookie",
    "grpc-timeout",
    "host",
    "idempotency-key",
    "set-cookie",
    "te",
    "transfer-encoding",
    "upgrade",
    "x-jetway-csrf",
    "x-request-id",
];

/// The letters that reserved names begin with, and names that hide one: most headers of most requests need no second look.
const FIRST_LETTERS: &[u8] = b"bcfgprstvx";

/// In front of what the transcoder passes on as metadata.
const METADATA: &str = "grpc-metadata-";

/// Takes out of a request what a client cannot say.
///
/// # Errors
///
/// The refusal of a request that says two things at once.
pub(crate) fn clean(request: &mut Request) -> Result<(), Response> {
    if let Err(status) = check(request) {
        return Err(refusal::of(StatusCode::BAD_REQUEST, &status, request.extensions()));
    }
    strip(request.headers_mut());
    Ok(())
}

/// Refuses a request that says twice who sent it. That it says once whom it is for is seen to where it is read: [`mesh::accept`].
fn check(request: &Request) -> Result<(), Status> {
    if request.headers().get_all(AUTHORIZATION).iter().nth(1).is_none() {
        return Ok(());
    }
    let refusal = Refusal::InvalidArgument { field: AUTHORIZATION.as_str().to_owned() };
    Err(refusal.status(DOMAIN, "HEADER_REPEATED", "the header `Authorization` must be sent once"))
}

/// Takes the reserved headers out.
fn strip(headers: &mut HeaderMap) {
    let reserved: Vec<HeaderName> =
        headers.keys().filter(|name| is_reserved(name.as_str())).cloned().collect();
    for name in reserved {
        headers.remove(name);
    }
}

fn is_reserved(name: &str) -> bool {
    if !name.contains('_') {
        let may_be = name.bytes().next().is_some_and(|first| FIRST_LETTERS.contains(&first));
        return may_be && is_reserved_name(name);
    }
    let mapped = name.replace('_', "-");
    is_reserved_name(&mapped) || EXACT.contains(&mapped.as_str())
}

/// As [`is_reserved`], of a name that has no `_`.
fn is_reserved_name(name: &str) -> bool {
    if let Some(metadata) = name.strip_prefix(METADATA) {
        return EXACT.contains(&metadata) || metadata.starts_with("grpc-") || is_reserved_name(metadata);
    }
    !PUBLIC.contains(&name)
        && (RESERVED.contains(&name) || RESERVED_PREFIXES.iter().any(|prefix| name.starts_with(prefix)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reserved(name: &str) -> bool {
        is_reserved(name.parse::<HeaderName>().unwrap().as_str())
    }

    #[test]
    fn every_reserved_name_begins_with_a_letter_that_is_looked_at() {
        let names = RESERVED.iter().chain(&RESERVED_PREFIXES).chain([&METADATA]);
        assert!(names.clone().all(|name| FIRST_LETTERS.contains(&name.as_bytes()[0])));
        assert!(names.into_iter().all(|name| name.ends_with('-') || reserved(name)));
    }

    #[test]
    fn a_name_that_speaks_of_identity_is_reserved_in_either_spelling() {
        for name in [
            "x-user-id",
            "x_user_id",
            "X_User-Id",
            "x-jetway-refresh-token",
            "x_jetway_cookies_allowed",
            "x-forwarded-for",
            "x_forwarded_proto",
            "forwarded",
            "x-real-ip",
            "x_real_ip",
            "x-peer-workload",
            "x-client-cert",
            "x-ssl-client-dn",
            "remote-user",
            "proxy",
            "traceparent",
            "grpc-metadata-x-user-id",
            "grpc_metadata_x_user_id",
            "grpc-metadata-x_user_id",
            "grpc-metadata-grpc-metadata-x-user-id",
            "grpc-metadata-authorization",
            "grpc-metadata-cookie",
            "grpc-metadata-grpc-timeout",
            "idempotency_key",
            "content_length",
            "transfer_encoding",
        ] {
            assert!(reserved(name), "{name}");
        }
    }

    #[test]
    fn what_clients_may_say_stays() {
        for name in [
            "authorization",
            "cookie",
            "host",
            "idempotency-key",
            "x-request-id",
            "x-jetway-csrf",
            "x-user-agent",
            "user-agent",
            "x-grpc-web",
            "grpc-timeout",
            "grpc-metadata-tenant",
            "last-event-id",
            "accept_something",
        ] {
            assert!(!reserved(name), "{name}");
        }
    }
}
