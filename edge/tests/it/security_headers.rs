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

#[tokio::test(flavor = "multi_thread")]
async fn answers_to_what_cannot_be_read_or_takes_too_long_have_them_too() {
    let t = TestEdge::start().await;
    let signin = "POST /api/v1/auth/signin HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nConnection: close\r\n";
    for (request, status) in [
        ("GET /healthz HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n".to_owned(), 400),
        ("GET /healthz HTTP/1.1\r\nHost: a\r\nno colon\r\n\r\n".to_owned(), 400),
        ("GET /healthz HTTP/1.1\r\nHost: a\r\nX : y\r\n\r\n".to_owned(), 400),
        (format!("{signin}Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{{}}"), 400),
        (format!("{signin}Transfer-Encoding: gzip\r\n\r\n"), 501),
        (format!("{signin}Content-Length: 100000\r\n\r\n"), 413),
        (format!("{signin}Content-Length: 2\r\nContent-Encoding: br\r\n\r\n{{}}"), 415),
        (format!("GET /{} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", "x".repeat(9_000)), 414),
        (format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(20_000)), 431),
        (format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(100)), 431),
        ("GET / HTTP/1.2\r\nHost: a\r\n\r\n".to_owned(), 400),
        ("GET /\r\n\r\n".to_owned(), 400),
        (format!("{signin}Content-Length: 9\r\nGrpc-Timeout: 1n\r\n\r\n{{}}"), 504),
        ("TRACE /api/v1/me HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".to_owned(), 405),
        ("GET /\u{1}x HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), 400),
    ] {
        let answer = t.send_raw(&request).await;
        let start = request.get(..request.len().min(200)).unwrap_or_default();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{start}: {answer}");
        let head = answer.split("\r\n\r\n").next().unwrap_or_default().to_ascii_lowercase();
        for header in [
            "strict-transport-security: max-age=31536000; includesubdomains",
            "x-content-type-options: nosniff",
            "referrer-policy: no-referrer",
            "cross-origin-resource-policy: same-origin",
            "cross-origin-opener-policy: same-origin",
            "content-security-policy: default-src 'none'; frame-ancestors 'none'",
            "cache-control: no-store",
            "x-request-id: ",
        ] {
            assert!(head.contains(&format!("\r\n{header}")), "{header} of {start}: {answer}");
        }
        assert!(!head.contains("\r\nserver:"), "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_id_is_taken_over_when_it_is_short_and_plain() {
    let t = TestEdge::start().await;
    let longest = "x".repeat(64);
    for (id, is_taken) in [
        ("a-B_c.9", true),
        (longest.as_str(), true),
        ("", false),
        (&"x".repeat(65), false),
        ("a b", false),
        ("a\"b", false),
        ("a\u{e4}b", false),
        ("<script>", false),
        ("a,b", false),
    ] {
        let answer = t.send(Method::GET, "/healthz", &[("x-request-id", id)], "").await;
        let given = answer.headers["x-request-id"].to_str().expect("visible ASCII");
        assert_eq!(given == id, is_taken, "{id:?}: {given:?}");
        assert_eq!(answer.headers.get_all("x-request-id").iter().count(), 1);
        assert!(is_taken || given.len() == 36, "{given:?}");
    }
    let answer = t.send(Method::GET, "/healthz", &[("x_request_id", "mine")], "").await;
    assert_ne!(answer.headers["x-request-id"], "mine");
}
