//! Rate limits, in process and shared.

use edge::config::LimitsConfig;
use http::{Method, StatusCode};
use serde_json::json;

use crate::{
    harness::TestEdge,
    process::{EdgeProcess, Redis},
};

const JSON: (&str, &str) = ("content-type", "application/json");

const SHARED: &str = "rate limits are shared with other edges, in Redis";
const LOST: &str = "Redis does not answer: rate limits are those of this edge alone";

#[tokio::test(flavor = "multi_thread")]
async fn every_counted_answer_says_where_its_client_stands() {
    let t = TestEdge::start_with(LimitsConfig { default_per_minute: 3, ..LimitsConfig::default() }).await;
    let policy = "\"default\";q=3;w=60";
    let token = t.token(&["customer"]);
    let answer = t.hold(&token, &[("idempotency-key", "k")], &json!({ "items": [] })).await;
    assert_eq!(answer.headers["ratelimit"], "\"default\";r=2;t=20", "{}", answer.body);
    assert_eq!(answer.headers["ratelimit-policy"], policy);

    // A user's calls are none of the network's.
    for (remaining, path) in [(2, "/openapi.json"), (1, "/api/v1/nothing"), (0, "/api/v1/auth/signin")] {
        let answer = t.send(Method::GET, path, &[], "").await;
        let stands = answer.headers["ratelimit"].to_str().unwrap().to_owned();
        assert!(stands.starts_with(&format!("\"default\";r={remaining};")), "{path}: {stands}");
    }
    for path in ["/openapi.json", "/api/v1/nothing"] {
        let refused = t.send(Method::GET, path, &[], "").await;
        assert_eq!((refused.status, refused.reason()), (StatusCode::TOO_MANY_REQUESTS, "RATE_LIMITED"));
        assert_eq!(refused.headers["ratelimit-policy"], policy);
        let wait = refused.headers["retry-after"].to_str().unwrap().to_owned();
        assert_eq!(refused.headers["ratelimit"], format!("\"default\";r=0;t={wait}"));
        assert!(refused.headers.contains_key("strict-transport-security"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn health_and_pre_flight_are_free() {
    let t = TestEdge::start_with(LimitsConfig { default_per_minute: 1, ..LimitsConfig::default() }).await;
    let preflight = [("origin", "https://app.example"), ("access-control-request-method", "POST")];
    for _ in 0..3 {
        for path in ["/healthz", "/readyz"] {
            let answer = t.send(Method::GET, path, &[], "").await;
            assert_eq!(answer.status, StatusCode::OK);
            assert!(!answer.headers.contains_key("ratelimit"));
        }
        let answer = t.send(Method::OPTIONS, "/api/v1/holds", &preflight, "").await;
        assert_ne!(answer.status, StatusCode::TOO_MANY_REQUESTS);
    }
    assert_eq!(t.send(Method::GET, "/api/v1/nothing", &[], "").await.status, StatusCode::NOT_FOUND);
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_with_credentials_for_one_account_are_counted_together() {
    let limits = LimitsConfig { credentials_account_per_minute: 2, ..LimitsConfig::default().times(1000) };
    let t = TestEdge::start_with(LimitsConfig { credentials_account_per_minute: 2, ..limits }).await;
    let sign_in = async |email: &str| {
        let body = json!({ "email": email, "password": "wrong" }).to_string();
        t.send(Method::POST, "/api/v1/auth/signin", &[JSON], body).await
    };
    for email in ["ada@jetway.example", "Ada@jetway.example"] {
        assert_ne!(sign_in(email).await.status, StatusCode::TOO_MANY_REQUESTS);
    }
    let refused = sign_in("ada@JETWAY.example").await;
    assert_eq!((refused.status, refused.reason()), (StatusCode::TOO_MANY_REQUESTS, "RATE_LIMITED"));
    assert!(refused.headers["ratelimit"].to_str().unwrap().starts_with("\"credentials-account\";r=0;t="));
    assert!(refused.headers.contains_key("retry-after"));
    assert_ne!(sign_in("bob@jetway.example").await.status, StatusCode::TOO_MANY_REQUESTS);
}

/// What a client in no other test is told when it looks for what is not there.
async fn look(edge: &EdgeProcess) -> StatusCode {
    edge.ask(Method::GET, "/api/v1/nothing", &[], "").await.status
}

/// Settings of an edge that lets a client call twice a minute and shares that in `redis`.
fn sharing(t: &TestEdge, redis: &Redis) -> Vec<String> {
    let mut settings = t.settings();
    settings.push("limits.default_per_minute=2".to_owned());
    settings.push(format!("limits.redis_url={}", redis.url()));
    // Two cores and many tests: what is late here is not lost.
    settings.push("limits.redis_timeout_ms=5000".to_owned());
    settings
}

const FOUND: StatusCode = StatusCode::NOT_FOUND;
const REFUSED: StatusCode = StatusCode::TOO_MANY_REQUESTS;

#[tokio::test(flavor = "multi_thread")]
async fn two_edges_share_one_budget_in_redis_and_have_one_each_while_it_is_lost() {
    let (t, mut redis) = (TestEdge::start().await, Redis::start().await);
    let settings = sharing(&t, &redis);
    let (one, other) = tokio::join!(EdgeProcess::start(&settings), EdgeProcess::start(&settings));
    let edges = [&one, &other];
    for edge in edges {
        edge.logged(0, SHARED).await;
        assert_eq!(edge.metric("edge_rate_limit_store_up").await, Some(1.0));
    }
    let both = async || [look(&one).await, look(&other).await];
    assert_eq!(both().await, [FOUND; 2], "two calls, wherever they go");
    assert_eq!(both().await, [REFUSED; 2]);

    let marks = edges.map(EdgeProcess::mark);
    redis.kill().await;
    assert_eq!(both().await, [FOUND; 2], "nobody waits for Redis");
    assert_eq!(both().await, [FOUND; 2], "each edge counts for itself");
    assert_eq!(both().await, [REFUSED; 2]);
    for (edge, mark) in edges.into_iter().zip(marks) {
        edge.logged(mark, LOST).await;
        assert_eq!(edge.metric("edge_rate_limit_store_up").await, Some(0.0));
        assert_eq!(edge.metric("edge_rate_limit_fallback_total").await, Some(3.0));
    }

    let marks = edges.map(EdgeProcess::mark);
    redis.restart().await;
    for (edge, mark) in edges.into_iter().zip(marks) {
        edge.logged(mark, SHARED).await;
        assert_eq!(edge.metric("edge_rate_limit_store_up").await, Some(1.0));
        let lost = edge.log().lines().filter(|line| line.contains(LOST)).count();
        assert_eq!(lost, 1, "one line for each change: {}", edge.log());
    }
    assert_eq!(both().await, [FOUND; 2], "an empty Redis has forgotten");
    assert_eq!(both().await, [REFUSED; 2], "and shares again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_does_not_answer_costs_one_wait_and_not_one_for_each_request() {
    let (t, redis) = (TestEdge::start().await, Redis::start().await);
    let mut settings = sharing(&t, &redis);
    settings.push("limits.redis_timeout_ms=300".to_owned());
    let edge = EdgeProcess::start(&settings).await;
    edge.logged(0, SHARED).await;
    let mark = edge.mark();
    redis.freeze(true);
    assert_eq!([look(&edge).await, look(&edge).await, look(&edge).await], [FOUND, FOUND, REFUSED]);
    edge.logged(mark, LOST).await;
    assert_eq!(edge.metric("edge_rate_limit_store_up").await, Some(0.0));

    let mark = edge.mark();
    redis.freeze(false);
    edge.logged(mark, SHARED).await;
    assert_eq!(edge.metric("edge_rate_limit_store_up").await, Some(1.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_is_known_through_trusted_proxies_only() {
    let t = TestEdge::start().await;
    let settings = |proxies: &str| {
        let mut settings = t.settings();
        settings.push("limits.default_per_minute=1".to_owned());
        settings.push(format!("trusted_proxies={proxies}"));
        settings
    };
    let (behind, exposed) = (settings("127.0.0.0/8"), settings("10.0.0.0/8"));
    let (behind, exposed) = tokio::join!(EdgeProcess::start(&behind), EdgeProcess::start(&exposed));
    let from = async |edge: &EdgeProcess, address: &str| {
        edge.ask(Method::GET, "/api/v1/nothing", &[("x-forwarded-for", address)], "").await.status
    };
    assert_eq!(from(&behind, "203.0.113.9").await, FOUND);
    assert_eq!(from(&behind, "203.0.113.10").await, FOUND, "another client");
    assert_eq!(from(&behind, "198.51.100.66, 203.0.113.9").await, REFUSED, "what is left of it is forged");
    assert_eq!(from(&exposed, "203.0.113.9").await, FOUND);
    assert_eq!(from(&exposed, "203.0.113.10").await, REFUSED, "the peer is no proxy of ours");
}
