//! What the edge lets through, and what goes with it.

use edge::config::LimitsConfig;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::harness::TestEdge;

fn item() -> Value {
    json!({ "items": [{ "flight": "flights/0198c0de-0000-7000-8000-000000000001", "cabin": "ECONOMY", "fare": "LIGHT" }] })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_without_a_token_is_refused_before_it_reaches_the_service() {
    let t = TestEdge::start().await;
    let headers = [("content-type", "application/json"), ("idempotency-key", "k")];
    let answer = t.send(Method::POST, "/api/v1/holds", &headers, item().to_string()).await;
    assert_eq!((answer.status, answer.reason()), (StatusCode::UNAUTHORIZED, "CREDENTIALS_REQUIRED"));
    assert!(answer.headers.contains_key("www-authenticate"));
    let answer = t.hold("not.a.token", &[("idempotency-key", "k")], &item()).await;
    assert_eq!((answer.status, answer.reason()), (StatusCode::UNAUTHORIZED, "TOKEN_INVALID"));
    let answer = t.get("/api/v1/admin/roles", &t.token(&["customer"])).await;
    assert_eq!((answer.status, answer.reason()), (StatusCode::FORBIDDEN, "ACCESS_DENIED"));
    assert!(t.seen.lock().unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_token_and_the_request_id_reach_the_service() {
    let t = TestEdge::start().await;
    let forged = [
        ("idempotency-key", "k"),
        ("x-request-id", "mine"),
        ("x-user-id", "somebody"),
        ("x_user_id", "somebody"),
        ("x-jetway-roles", "admin"),
        ("grpc-metadata-x-user-id", "somebody"),
        ("x-forwarded-for", "203.0.113.9"),
        ("grpc-timeout", "99999999H"),
        ("cookie", "session=1"),
    ];
    let answer = t.hold(&t.token(&["customer"]), &forged, &item()).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    let seen = t.seen.lock().unwrap();
    let names: Vec<_> = seen[0].metadata.keys().map(|key| format!("{key:?}")).collect();
    for name in ["x-user-id", "x_user_id", "x-jetway-roles", "forwarded", "cookie"] {
        assert!(!names.iter().any(|known| known.contains(name)), "{name} came through: {names:?}");
    }
    assert_eq!(seen[0].metadata.get("x-request-id").unwrap(), "mine");
    assert_eq!(answer.headers["x-request-id"], "mine");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_service_says_in_metadata_is_shown_only_when_it_is_meant_for_clients() {
    let t = TestEdge::start().await;
    let answer = t.hold(&t.token(&["customer"]), &[("idempotency-key", "k")], &item()).await;
    assert_eq!(answer.headers["idempotent-replayed"], "true");
    assert!(!answer.headers.contains_key("x-internal-detail"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_idempotency_key_becomes_the_request_id() {
    let t = TestEdge::start().await;
    let token = t.token(&["customer"]);
    let with_key = t.hold(&token, &[("idempotency-key", "from-header")], &item()).await;
    assert_eq!(with_key.status, StatusCode::OK, "{}", with_key.body);
    assert_eq!(t.seen.lock().unwrap()[0].request_id, "from-header");

    let mut body = item();
    body["requestId"] = json!("from-header");
    let both = t.hold(&token, &[("idempotency-key", "from-header")], &body).await;
    assert_eq!(both.status, StatusCode::OK, "the same in both places is fine: {}", both.body);
    body["requestId"] = json!("another");
    let both = t.hold(&token, &[("idempotency-key", "from-header")], &body).await;
    assert_eq!(both.status, StatusCode::BAD_REQUEST, "{}", both.body);

    let neither = t.hold(&token, &[], &item()).await;
    assert_eq!((neither.status, neither.reason()), (StatusCode::BAD_REQUEST, "REQUEST_ID_REQUIRED"));
    let twice = t.hold(&token, &[("idempotency-key", "a"), ("idempotency-key", "b")], &item()).await;
    assert_eq!((twice.status, twice.reason()), (StatusCode::BAD_REQUEST, "IDEMPOTENCY_KEY_INVALID"));
    let long = "k".repeat(256);
    let long = t.hold(&token, &[("idempotency-key", &long)], &item()).await;
    assert_eq!(long.status, StatusCode::BAD_REQUEST, "{}", long.body);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_field_that_is_wrong_is_named() {
    let t = TestEdge::start().await;
    let body =
        json!({ "items": [{ "flight": "LH 400", "cabin": "BALCONY", "fare": "LIGHT" }], "ttlSeconds": 5 });
    let answer = t.hold(&t.token(&["customer"]), &[("idempotency-key", "k")], &body).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    let text = answer.body.to_string();
    for field in ["items[0].flight", "items[0].cabin", "ttl_seconds"] {
        assert!(text.contains(field), "{field} is not named: {text}");
    }
    assert!(!text.contains("LH 400"), "a value is shown: {text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_over_the_methods_limit_is_refused() {
    let t = TestEdge::start().await;
    let headers = [("content-type", "application/json")];
    let body = json!({ "email": "a@jetway.example", "password": "x".repeat(5000) }).to_string();
    let answer = t.send(Method::POST, "/api/v1/auth/signin", &headers, body).await;
    assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE, "{}", answer.body);
    let answer = t.send(Method::GET, &format!("/api/v1/flights?trips={}", "x".repeat(9000)), &[], "").await;
    assert_eq!(answer.status, StatusCode::URI_TOO_LONG, "{}", answer.body);
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_calls_are_refused_with_the_time_to_wait() {
    let limits = LimitsConfig { credentials_per_minute: 3, ..LimitsConfig::default() };
    let t = TestEdge::start_with(limits).await;
    let headers = [("content-type", "application/json"), ("x-forwarded-for", "203.0.113.9")];
    let mut statuses = Vec::new();
    for attempt in 0..4 {
        let forged = [headers[0], ("x-forwarded-for", ["1.1.1.1", "2.2.2.2", "3.3.3.3", "4.4.4.4"][attempt])];
        let answer = t.send(Method::POST, "/api/v1/auth/signin", &forged, "{}").await;
        statuses.push(answer.status);
        if answer.status == StatusCode::TOO_MANY_REQUESTS {
            let wait: u64 = answer.headers["retry-after"].to_str().unwrap().parse().unwrap();
            assert!((1..=60).contains(&wait), "{wait} s");
            assert_eq!(answer.reason(), "RATE_LIMITED");
        }
    }
    assert_eq!(statuses[3], StatusCode::TOO_MANY_REQUESTS, "a forged address buys nothing: {statuses:?}");
    assert!(statuses[..3].iter().all(|status| *status != StatusCode::TOO_MANY_REQUESTS), "{statuses:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_with_bad_tokens_are_counted_too() {
    let t = TestEdge::start_with(LimitsConfig { default_per_minute: 3, ..LimitsConfig::default() }).await;
    let mut statuses = Vec::new();
    for _ in 0..4 {
        statuses.push(t.get("/api/v1/me", "not.a.token").await.status);
    }
    assert_eq!(statuses[..3], [StatusCode::UNAUTHORIZED; 3]);
    assert_eq!(statuses[3], StatusCode::TOO_MANY_REQUESTS);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_is_away_is_said_to_be_away_without_its_address() {
    let mut t = TestEdge::start().await;
    let token = t.token(&["customer"]);
    let answer = t.get("/api/v1/paymentMethods", &token).await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{}", answer.body);
    t.bookings.take().expect("it runs").stop().await;
    let gone = t.hold(&token, &[("idempotency-key", "k")], &item()).await;
    assert_eq!(gone.status, StatusCode::SERVICE_UNAVAILABLE, "{}", gone.body);
    for answer in [answer, gone] {
        assert_eq!(answer.reason(), "SERVICE_UNAVAILABLE");
        assert_eq!(answer.headers["retry-after"], "1");
        let text = answer.body.to_string();
        assert!(!text.contains("127.0.0.1") && !text.contains("os error"), "{text}");
        assert!(answer.headers.contains_key("strict-transport-security"));
    }
}
