//! Which pages of other origins may read answers (Fetch, "HTTP CORS protocol"): those of a list, with credentials, and no others.
//!
//! A pre-flight is answered here, with the methods that the path has. It counts against no rate limit and reaches no service. Our own rather than
//! a crate's, because the methods are the route's, and because a pre-flight from an origin that is not listed is refused.

use std::sync::Arc;

use axum::{body::Body, extract::Request};
use http::{
    HeaderMap, HeaderValue, Method, Response, StatusCode,
    header::{
        ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
        ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
        ACCESS_CONTROL_REQUEST_METHOD, ALLOW, ORIGIN, VARY,
    },
};
use mesh::status::Refusal;

use crate::{
    gate::DOMAIN,
    refusal,
    routes::{Content, Routes, own},
};

/// The request headers that the gateway reads, and that pages may set therefore.
const REQUEST_HEADERS: &str = "accept, accept-language, authorization, connect-accept-encoding, \
     connect-content-encoding, connect-protocol-version, connect-timeout-ms, content-encoding, content-type, grpc-accept-encoding, \
     grpc-encoding, grpc-timeout, idempotency-key, last-event-id, x-grpc-web, x-jetway-csrf, x-request-id, x-user-agent";

/// The headers of answers that pages may read.
const ANSWER_HEADERS: &str = "allow, connect-content-encoding, etag, grpc-encoding, grpc-message, grpc-status, \
     grpc-status-details-bin, idempotent-replayed, ratelimit, ratelimit-policy, retry-after, www-authenticate, x-jetway-csrf, x-request-id";

/// How long a browser may remember the answer to a pre-flight, in seconds.
const MAX_AGE_SECONDS: HeaderValue = HeaderValue::from_static("600");

/// What a browser need not ask for, and an RPC path has.
const WITHOUT_ROUTE: HeaderValue = HeaderValue::from_static("POST");

/// The origins whose pages are ours: exactly as browsers write them in `Origin`.
#[derive(Clone, Debug, Default)]
pub struct Origins(Arc<[String]>);

impl Origins {
    /// These and no others.
    pub fn new(origins: &[String]) -> Self {
        Self(origins.into())
    }

    /// Whether the value of an `Origin` header is one of them.
    pub fn contains(&self, origin: Option<&HeaderValue>) -> bool {
        origin.is_some_and(|origin| self.0.iter().any(|listed| listed.as_bytes() == origin.as_bytes()))
    }

    /// What is wrong with a configured origin; `None` when it is one.
    pub fn problem(origin: &str) -> Option<&'static str> {
        let Some((scheme, host)) = origin.split_once("://") else {
            return Some("must be a scheme, `://`, a host and perhaps a port");
        };
        let default_port = match scheme {
            "https" => ":443",
            "http" => ":80",
            _ => return Some("must begin with `https://` or `http://`"),
        };
        let parsed = host.parse::<http::uri::Authority>();
        if host.contains(['*', '@', '/', '?', '#']) || parsed.is_err() {
            Some("must have one host and nothing after it")
        } else if host.bytes().any(|byte| byte.is_ascii_uppercase()) || !host.is_ascii() {
            Some("must be in lower case, with the ASCII form of its host")
        } else if host.ends_with(default_port) {
            Some("must not name the port that its scheme has anyway")
        } else {
            None
        }
    }
}

/// What a browser says of the page that asks, and what the list says of it.
pub(crate) struct Page {
    origin: Option<HeaderValue>,
    is_listed: bool,
    is_preflight: bool,
}

impl Page {
    /// Of this request.
    pub(crate) fn of(origins: &Origins, request: &Request) -> Self {
        let origin = request.headers().get(ORIGIN).cloned();
        Self { is_listed: origins.contains(origin.as_ref()), is_preflight: is_preflight(request), origin }
    }

    /// Lets a request through as far as its origin may go.
    pub(crate) async fn pass(&self, request: Request, routes: &Routes) -> Response<Content> {
        match (self.is_preflight, self.is_listed) {
            (false, _) => routes.answer(request).await,
            // The route answers OPTIONS with its methods.
            (true, true) => own(preflight(routes.answer(request).await.headers().get(ALLOW))),
            (true, false) => {
                let why = "pages of this origin may not call the gateway";
                let status = Refusal::PermissionDenied.status(DOMAIN, "ORIGIN_NOT_ALLOWED", why);
                own(refusal::of(StatusCode::FORBIDDEN, &status, request.extensions()))
            }
        }
    }

    /// Tells the browser what the page may see of an answer, whoever made it.
    pub(crate) fn tell(self, headers: &mut HeaderMap) {
        if let Some(origin) = self.origin.filter(|_| self.is_listed) {
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
            if !self.is_preflight {
                headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(ANSWER_HEADERS));
            }
        }
        headers.append(VARY, HeaderValue::from_static("origin"));
    }
}

/// Whether a browser asks whether its page may ask.
pub(crate) fn is_preflight(request: &Request) -> bool {
    let headers = request.headers();
    request.method() == Method::OPTIONS
        && headers.contains_key(ORIGIN)
        && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}

/// The answer to a pre-flight, with the methods that the route has.
fn preflight(allow: Option<&HeaderValue>) -> Response<Body> {
    let methods = allow.cloned().unwrap_or(WITHOUT_ROUTE);
    let mut answer = Response::new(Body::empty());
    *answer.status_mut() = StatusCode::NO_CONTENT;
    let headers = answer.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, methods);
    headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static(REQUEST_HEADERS));
    headers.insert(ACCESS_CONTROL_MAX_AGE, MAX_AGE_SECONDS);
    headers.append(VARY, HeaderValue::from_static("access-control-request-method"));
    headers.append(VARY, HeaderValue::from_static("access-control-request-headers"));
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_origins_as_browsers_write_them_can_be_listed() {
        for origin in ["https://app.jetway.example", "http://localhost:5173", "https://[::1]:8443"] {
            assert_eq!(Origins::problem(origin), None, "{origin}");
        }
        for wrong in [
            "*",
            "null",
            "",
            "app.jetway.example",
            "https://",
            "https://app.jetway.example/",
            "https://*.jetway.example",
            "https://App.jetway.example",
            "https://app.jetway.example:443",
            "http://localhost:80",
            "https://user@app.jetway.example",
            "ftp://app.jetway.example",
            "https://müller.example",
        ] {
            assert!(Origins::problem(wrong).is_some(), "{wrong}");
        }
    }

    #[test]
    fn an_origin_is_listed_exactly_or_not_at_all() {
        let origins = Origins::new(&["https://app.jetway.example".to_owned()]);
        let contains = |origin: &'static str| origins.contains(Some(&HeaderValue::from_static(origin)));
        assert!(contains("https://app.jetway.example"));
        for other in [
            "https://app.jetway.example:8443",
            "http://app.jetway.example",
            "https://app.jetway.example.evil.example",
            "https://evil-app.jetway.example",
            "https://app.jetway.exampl",
            "null",
            "",
        ] {
            assert!(!contains(other), "{other}");
        }
        assert!(!origins.contains(None));
        assert!(!Origins::default().contains(Some(&HeaderValue::from_static("null"))));
    }
}
