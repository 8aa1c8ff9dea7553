//! Which pages may read answers.

use edge::config::LimitsConfig;
use http::{Method, StatusCode};
use serde_json::json;

use crate::harness::{Answer, TestEdge};

const PAGE: &str = "https://app.jetway.example";
const OTHER: &str = "https://evil.example";

async fn start() -> TestEdge {
    TestEdge::start_configured(|config| config.browsers.origins = vec![PAGE.to_owned()]).await
}

async fn preflight(t: &TestEdge, path: &str, origin: &str, method: &str) -> Answer {
    let asked = [
        ("origin", origin),
        ("access-control-request-method", method),
        ("access-control-request-headers", "content-type,idempotency-key,x-jetway-csrf"),
    ];
    t.send(Method::OPTIONS, path, &asked, "").await
}

fn list(answer: &Answer, name: &str) -> Vec<String> {
    let values = answer.headers.get_all(name).iter();
    values
        .flat_map(|value| value.to_str().expect("ASCII").split(',').map(|part| part.trim().to_owned()))
        .collect()
}

/// Whether the answer says anything to a page of another origin.
fn speaks_to_pages(answer: &Answer) -> bool {
    answer.headers.keys().any(|name| name.as_str().starts_with("access-control-"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_preflight_from_a_listed_origin_is_told_what_the_route_has() {
    let t = start().await;

    let answer = preflight(&t, "/api/v1/holds", PAGE, "POST").await;

    assert_eq!((answer.status, answer.body.as_str()), (StatusCode::NO_CONTENT, Some("")));
    assert_eq!(answer.headers["access-control-allow-origin"], PAGE);
    assert_eq!(answer.headers["access-control-allow-credentials"], "true");
    assert!(list(&answer, "access-control-allow-methods").contains(&"POST".to_owned()));
    assert!(!list(&answer, "access-control-allow-methods").contains(&"DELETE".to_owned()));
    let headers = list(&answer, "access-control-allow-headers");
    for header in [
        "content-type",
        "authorization",
        "idempotency-key",
        "x-jetway-csrf",
        "x-request-id",
        "grpc-timeout",
        "content-encoding",
        "grpc-encoding",
        "grpc-accept-encoding",
        "connect-protocol-version",
        "connect-timeout-ms",
        "connect-content-encoding",
        "connect-accept-encoding",
    ] {
        assert!(headers.contains(&header.to_owned()), "{header}");
    }
    assert!(list(&answer, "vary").contains(&"origin".to_owned()));
    let answer = preflight(&t, "/api/v1/holds/0198c0de-0000-7000-8000-000000000001", PAGE, "GET").await;
    assert!(list(&answer, "access-control-allow-methods").contains(&"GET".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_preflight_from_an_unlisted_origin_is_refused() {
    let t = start().await;
    for origin in [OTHER, "null", "https://app.jetway.example.evil.example", "http://app.jetway.example"] {
        let answer = preflight(&t, "/api/v1/holds", origin, "POST").await;
        assert_eq!(
            (answer.status, answer.reason()),
            (StatusCode::FORBIDDEN, "ORIGIN_NOT_ALLOWED"),
            "{origin}"
        );
        assert!(!speaks_to_pages(&answer), "{origin}: {:?}", answer.headers);
        assert!(list(&answer, "vary").contains(&"origin".to_owned()));
    }
    let nothing_listed = TestEdge::start().await;
    assert_eq!(preflight(&nothing_listed, "/api/v1/holds", PAGE, "POST").await.status, StatusCode::FORBIDDEN);
}

#[tokio::test(flavor = "multi_thread")]
async fn preflights_count_against_no_limit() {
    let t = TestEdge::start_configured(|config| {
        config.browsers.origins = vec![PAGE.to_owned()];
        config.limits =
            LimitsConfig { credentials_per_minute: 1, default_per_minute: 1, ..LimitsConfig::default() };
    })
    .await;
    for _ in 0..5 {
        assert_eq!(preflight(&t, "/api/v1/auth/signin", PAGE, "POST").await.status, StatusCode::NO_CONTENT);
    }
    let json = [("content-type", "application/json"), ("origin", PAGE)];
    let body = json!({ "email": "a@jetway.example", "password": "correct horse" }).to_string();
    assert_eq!(t.send(Method::POST, "/api/v1/auth/signin", &json, body).await.status, StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_can_be_read_from_listed_origins_only() {
    let t = start().await;
    let authorization = format!("Bearer {}", t.token(&["customer"]));
    let path = "/api/v1/holds/0198c0de-0000-7000-8000-000000000001";
    for (path, status) in [(path, StatusCode::OK), ("/api/v1/nothing", StatusCode::NOT_FOUND)] {
        let ours = [("authorization", authorization.as_str()), ("origin", PAGE)];
        let answer = t.send(Method::GET, path, &ours, "").await;
        assert_eq!(answer.status, status);
        assert_eq!(answer.headers["access-control-allow-origin"], PAGE);
        assert_eq!(answer.headers["access-control-allow-credentials"], "true");
        let exposed = list(&answer, "access-control-expose-headers");
        for header in [
            "x-request-id",
            "retry-after",
            "ratelimit",
            "grpc-status",
            "idempotent-replayed",
            "x-jetway-csrf",
        ] {
            assert!(exposed.contains(&header.to_owned()), "{header}");
        }
        for others in [&[("authorization", authorization.as_str()), ("origin", OTHER)][..], &ours[..1]] {
            let answer = t.send(Method::GET, path, others, "").await;
            assert_eq!(answer.status, status);
            assert!(!speaks_to_pages(&answer), "{others:?}: {:?}", answer.headers);
            assert!(list(&answer, "vary").contains(&"origin".to_owned()));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_can_be_read_from_listed_origins_too_whoever_makes_them() {
    let t = TestEdge::start_configured(|config| {
        config.browsers.origins = vec![PAGE.to_owned()];
        config.limits = LimitsConfig { default_per_minute: 3, ..LimitsConfig::default() };
    })
    .await;
    let twice = ("authorization", "Bearer x");
    for (path, further, status) in [
        ("/api/v1/me", &[twice, twice][..], StatusCode::BAD_REQUEST),
        ("/healthz", &[], StatusCode::OK),
        ("/openapi.json", &[], StatusCode::OK),
        ("/api/v1/nothing", &[], StatusCode::TOO_MANY_REQUESTS),
        ("/api/v1/me", &[], StatusCode::TOO_MANY_REQUESTS),
    ] {
        for (origin, is_listed) in [(PAGE, true), (OTHER, false)] {
            if status == StatusCode::OK && !is_listed {
                continue;
            }
            let headers: Vec<_> = further.iter().copied().chain([("origin", origin)]).collect();
            let answer = t.send(Method::GET, path, &headers, "").await;
            assert_eq!(answer.status, status, "{path}");
            assert_eq!(speaks_to_pages(&answer), is_listed, "{path}: {:?}", answer.headers);
            if is_listed {
                assert_eq!(answer.headers["access-control-allow-origin"], PAGE, "{path}");
                assert!(list(&answer, "access-control-expose-headers").contains(&"retry-after".to_owned()));
            }
            assert!(list(&answer, "vary").contains(&"origin".to_owned()), "{path}");
        }
    }
    let unreadable = format!("GET /api/v1/me HTTP/1.1\r\nOrigin: {PAGE}\r\nHost: a\r\nHost: b\r\n\r\n");
    let answer = t.send_raw(&unreadable).await.to_ascii_lowercase();
    assert!(answer.starts_with("http/1.1 429 ") && answer.contains("\r\nvary: origin\r\n"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_origin_is_listed_byte_for_byte() {
    let t = start().await;
    for origin in [
        "null",
        "https://APP.jetway.example",
        "HTTPS://app.jetway.example",
        "https://app.jetway.example:443",
        "https://app.jetway.example:8443",
        "https://app.jetway.example.",
        "https://app.jetway.example/",
        "https://app.jetway.example.evil.example",
        "https://evil.example/https://app.jetway.example",
        "https://evilapp.jetway.example",
        "https://app.jetway.example, https://evil.example",
    ] {
        let answer = t.send(Method::GET, "/healthz", &[("origin", origin)], "").await;
        assert!(!speaks_to_pages(&answer), "{origin}: {:?}", answer.headers);
        assert_eq!(
            preflight(&t, "/api/v1/holds", origin, "POST").await.status,
            StatusCode::FORBIDDEN,
            "{origin}"
        );
    }
    let both = [("origin", PAGE), ("origin", OTHER)];
    let answer = t.send(Method::GET, "/healthz", &both, "").await;
    assert_ne!(answer.headers.get("access-control-allow-origin").map(|value| value == OTHER), Some(true));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_a_browser_sends_as_a_preflight_is_free() {
    let t = TestEdge::start_with(LimitsConfig { default_per_minute: 1, ..LimitsConfig::default() }).await;
    let asked = [("access-control-request-method", "POST")];
    let ask = async || t.send(Method::OPTIONS, "/api/v1/holds", &asked, "").await.status;
    assert_eq!([ask().await, ask().await], [StatusCode::NO_CONTENT, StatusCode::TOO_MANY_REQUESTS]);
}
