//! What every request and every answer has, whatever happens in between: request id, client address, security headers, one line of log.

use std::{net::IpAddr, time::Instant};

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::Response,
};
use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{
        CACHE_CONTROL, CONTENT_SECURITY_POLICY, REFERRER_POLICY, SERVER, STRICT_TRANSPORT_SECURITY,
        X_CONTENT_TYPE_OPTIONS,
    },
};
use mesh::{accept::PeerAddr, server::REQUEST_ID};
use transcoder::RequestId;

use crate::{client_address, config::Config};

/// Longest request id that is taken over from a client, in bytes.
const REQUEST_ID_LENGTH_MAX: usize = 64;

/// Headers of every answer, errors included.
const SECURITY: [(HeaderName, &str); 7] = [
    (STRICT_TRANSPORT_SECURITY, "max-age=31536000; includeSubDomains"),
    (CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("x-frame-options"), "DENY"),
];

/// What the layer needs of the configuration.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    trusted_hops: usize,
}

impl Settings {
    /// The settings in a configuration.
    pub fn of(config: &Config) -> Self {
        Self { trusted_hops: config.trusted_hops }
    }
}

/// Who is asking. In the extensions of every request.
#[derive(Clone, Debug)]
pub struct Client {
    /// The client's address.
    pub address: IpAddr,
    /// The request's id: visible ASCII.
    pub request_id: HeaderValue,
}

/// The layer.
pub async fn layer(State(settings): State<Settings>, mut request: Request, next: Next) -> Response {
    let started = Instant::now();
    let peer = request.extensions().get::<PeerAddr>().map_or(IpAddr::from([0, 0, 0, 0]), |peer| peer.0.ip());
    let address = client_address::of(peer, request.headers(), settings.trusted_hops);
    let request_id = request_id(request.headers());
    let method = request.method().clone();
    // Without the query, which may hold what should not be logged.
    let path = request.uri().path().to_owned();

    let id_text = request_id.to_str().unwrap_or_default().to_owned();
    request.extensions_mut().insert(RequestId(id_text.clone()));
    request.extensions_mut().insert(Client { address, request_id: request_id.clone() });
    let mut response = next.run(request).await;

    let headers = response.headers_mut();
    for (name, value) in SECURITY {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    headers.remove(SERVER);
    headers.insert(HeaderName::from_static(REQUEST_ID), request_id);
    let elapsed_ms = started.elapsed().as_secs_f64() * 1000.0;
    let status = response.status().as_u16();
    if path != "/healthz" && path != "/readyz" {
        tracing::info!(method = method.as_str(), path, status, elapsed_ms, %address, request_id = id_text, "request");
    }
    response
}

/// The client's own id when it is short and plain, else a new one.
fn request_id(headers: &HeaderMap) -> HeaderValue {
    let plain = |value: &&HeaderValue| {
        (1..=REQUEST_ID_LENGTH_MAX).contains(&value.len())
            && value.as_bytes().iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte))
    };
    headers.get(REQUEST_ID).filter(plain).cloned().unwrap_or_else(|| {
        HeaderValue::try_from(mesh::id::generate().to_string()).expect("a UUID is visible ASCII")
    })
}
