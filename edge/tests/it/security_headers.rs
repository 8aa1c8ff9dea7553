//! What every answer says to browsers.

use edge::config::LimitsConfig;
use http::{Method, StatusCode};

use crate::harness::TestEdge;

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_has_the_security_headers() {
    let t = TestEdge::start_with(LimitsConfig { credentials_per_minute: 1, ..LimitsConfig::default() }).await;
    let json = ("content-type", "application/json");
    let twice = ("authorization", "Bearer x");
    for (method, path, headers, status) in [
        (Method::GET, "/healthz", &[][..], StatusCode::OK),
        (Method::GET, "/openapi.json", &[], StatusCode::OK),
        (Method::GET, "/api/v1/nothing", &[], StatusCode::NOT_FOUND),
        (Method::DELETE, "/api/v1/auth/signin", &[], StatusCode::METHOD_NOT_ALLOWED),
        (Method::OPTIONS, "/api/v1/auth/signin", &[], StatusCode::NO_CONTENT),
        (Method::GET, "/api/v1/me", &[], StatusCode::UNAUTHORIZED),
        (Method::GET, "/api/v1/me", &[twice, twice], StatusCode::BAD_REQUEST),
        (Method::POST, "/api/v1/auth/signin", &[json], StatusCode::BAD_REQUEST),
        (Method::POST, "/api/v1/auth/signin", &[json], StatusCode::TOO_MANY_REQUESTS),
        (
            Method::OPTIONS,
            "/api/v1/me",
            &[("origin", "https://evil.example"), ("access-control-request-method", "GET")],
            StatusCode::FORBIDDEN,
        ),
    ] {
        let answer = t.send(method, path, headers, if headers == [json] { "{" } else { "" }).await;
        assert_eq!(answer.status, status, "{path}: {}", answer.body);
        for (name, value) in [
            ("strict-transport-security", "max-age=31536000; includeSubDomains"),
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "no-referrer"),
            ("cross-origin-resource-policy", "same-origin"),
            ("cross-origin-opener-policy", "same-origin"),
            ("x-frame-options", "DENY"),
        ] {
            assert_eq!(answer.headers[name], value, "{path} {status}");
        }
        assert!(answer.headers.contains_key("content-security-policy"), "{path} {status}");
        assert!(answer.headers.contains_key("x-request-id"), "{path} {status}");
        assert!(!answer.headers.contains_key("server"), "{path} {status}");
    }
}
