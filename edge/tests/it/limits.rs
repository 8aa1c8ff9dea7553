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
    let policy = "\"default\";q=3;w=60, \"network\";q=6000;w=60";
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

const SIGN_IN: &str = "/api/v1/auth/signin";

fn credentials(email: &str) -> String {
    json!({ "email": email, "password": "correct horse" }).to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_cannot_lock_an_account_out() {
    let t = TestEdge::start_configured(|config| {
        config.trusted_hops = 1;
        config.limits.credentials_account_per_minute = 2;
    })
    .await;
    let ask = async |path: &str, address: &str| {
        let body = credentials("ada@jetway.example");
        t.send(Method::POST, path, &[JSON, ("x-forwarded-for", address)], body).await.status
    };
    let (stranger, owner) = ("198.51.100.66", "203.0.113.9");
    assert_eq!(ask(SIGN_IN, stranger).await, StatusCode::OK);
    assert_eq!(ask(SIGN_IN, stranger).await, StatusCode::OK);
    assert_eq!(ask(SIGN_IN, stranger).await, REFUSED);
    assert_eq!(ask(SIGN_IN, owner).await, StatusCode::OK, "the stranger used up what is the stranger's");
    for _ in 0..2 {
        assert_ne!(ask("/api/v1/auth/signup", owner).await, REFUSED);
    }
    assert_eq!(ask("/api/v1/auth/signup", owner).await, REFUSED);
    assert_eq!(ask(SIGN_IN, owner).await, StatusCode::OK, "signing up is no attempt to sign in");
}

#[tokio::test(flavor = "multi_thread")]
async fn guesses_at_one_account_from_all_over_the_world_are_slowed_for_a_second() {
    let t = TestEdge::start_configured(|config| {
        config.trusted_hops = 1;
        config.limits.credentials_account_everywhere_per_minute = 60;
    })
    .await;
    let mut refused = None;
    for network in 0..200 {
        let from = format!("10.0.{network}.1");
        let headers = [JSON, ("x-forwarded-for", from.as_str())];
        let answer = t.send(Method::POST, SIGN_IN, &headers, credentials("ada@jetway.example")).await;
        refused = (answer.status == REFUSED).then_some(answer);
        if refused.is_some() {
            break;
        }
    }
    let refused = refused.expect("sixty at once and one a second");
    assert_eq!(refused.headers["retry-after"], "1");
    assert_eq!(refused.headers["ratelimit"], "\"credentials-account-everywhere\";r=0;t=1");
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_that_are_not_valid_end_in_429_before_their_signature_is_checked() {
    let limits = LimitsConfig { failed_tokens_per_minute: 2, ..LimitsConfig::default().times(1000) };
    let t = TestEdge::start_with(LimitsConfig { failed_tokens_per_minute: 2, ..limits }).await;
    let (known, unknown) = (t.token(&["customer"]), t.token(&["customer"]));
    let hold = "/api/v1/holds/0198c0de-0000-7000-8000-000000000001";
    assert_eq!(t.get(hold, &known).await.status, StatusCode::OK);

    // The right key, and a signature that is none.
    let forged = format!("{}A", &known[..known.len() - 1]);
    let forged = if forged == known { format!("{}B", &known[..known.len() - 1]) } else { forged };
    for token in [forged.as_str(), "not.a.token"] {
        let answer = t.get(hold, token).await;
        assert_eq!((answer.status, answer.reason()), (StatusCode::UNAUTHORIZED, "TOKEN_INVALID"));
    }
    for token in [forged.as_str(), "not.a.token", unknown.as_str()] {
        let refused = t.get(hold, token).await;
        assert_eq!(
            (refused.status, refused.reason()),
            (REFUSED, "RATE_LIMITED"),
            "nobody can tell whose it is"
        );
        assert!(refused.headers.contains_key("retry-after"));
        let stands = refused.headers["ratelimit"].to_str().unwrap().to_owned();
        assert!(stands.starts_with("\"failed-tokens\";r=0;t="), "{stands}");
        assert_eq!(refused.headers["ratelimit-policy"], "\"failed-tokens\";q=2;w=60");
    }
    assert_eq!(t.get(hold, &known).await.status, StatusCode::OK, "who is known is not kept out");
    let bearer = format!("Bearer {forged}");
    let headers = [JSON, ("authorization", bearer.as_str())];
    let answer = t.send(Method::POST, SIGN_IN, &headers, credentials("ada@jetway.example")).await;
    assert_eq!(answer.status, StatusCode::OK, "nor is who signs in anew: {}", answer.body);
    assert_eq!(t.authentication.told("authorization"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_call_is_refused_too_when_there_is_too_much_of_it() {
    let hold = "/api/v1/holds/0198c0de-0000-7000-8000-000000000001";
    let unknown = "/jetway.identity.v1.AuthenticationService/Nothing";
    for (method, path, header, status) in [
        (Method::GET, "/api/v1/nothing", None, StatusCode::NOT_FOUND),
        (Method::PUT, SIGN_IN, None, StatusCode::METHOD_NOT_ALLOWED),
        (Method::GET, hold, Some(("accept", "image/png")), StatusCode::NOT_ACCEPTABLE),
        (Method::GET, hold, Some(("grpc-timeout", "soon")), StatusCode::BAD_REQUEST),
        (Method::OPTIONS, hold, None, StatusCode::NO_CONTENT),
        (Method::GET, hold, Some(("x-forwarded-proto", "https")), StatusCode::UNAUTHORIZED),
        (Method::POST, unknown, Some(("content-type", "application/json")), StatusCode::NOT_FOUND),
        (Method::POST, "/healthz", None, StatusCode::METHOD_NOT_ALLOWED),
        (Method::DELETE, "/readyz", None, StatusCode::METHOD_NOT_ALLOWED),
        (Method::OPTIONS, "/healthz", None, StatusCode::METHOD_NOT_ALLOWED),
        (Method::POST, "/openapi.json", None, StatusCode::METHOD_NOT_ALLOWED),
    ] {
        let t = TestEdge::start_with(LimitsConfig { default_per_minute: 1, ..LimitsConfig::default() }).await;
        let ask = async || t.send(method.clone(), path, header.as_slice(), "").await;
        let first = ask().await;
        assert_eq!(first.status, status, "{method} {path}: {}", first.body);
        let refused = ask().await;
        assert_eq!((refused.status, refused.reason()), (REFUSED, "RATE_LIMITED"), "{method} {path}");
        assert!(refused.headers.contains_key("retry-after"), "{method} {path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn health_takes_get_and_head_and_nothing_else() {
    let t = TestEdge::start().await;
    for path in ["/healthz", "/readyz"] {
        for method in [Method::GET, Method::HEAD] {
            assert_eq!(t.send(method, path, &[], "").await.status, StatusCode::OK);
        }
        let refused = t.send(Method::POST, path, &[], "").await;
        assert_eq!(
            (refused.status, refused.reason()),
            (StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED")
        );
        assert_eq!(refused.headers["allow"], "GET,HEAD");
        assert!(refused.headers.contains_key("ratelimit"), "it is counted");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_grpc_is_told_in_its_own_words_that_it_asks_too_often() {
    let unknown = "/jetway.identity.v1.AuthenticationService/Nothing";
    for (media_type, status) in [
        (
            "application/grpc-web",
            "\u{fffd}\0\0\09grpc-status: 8\r\ngrpc-message: too many calls; slow down\r\n",
        ),
        (
            "application/grpc-web-text",
            "gAAAADlncnBjLXN0YXR1czogOA0KZ3JwYy1tZXNzYWdlOiB0b28gbWFueSBjYWxsczsgc2xvdyBkb3duDQo=",
        ),
    ] {
        let t = TestEdge::start_with(LimitsConfig { default_per_minute: 1, ..LimitsConfig::default() }).await;
        let ask = async || t.send(Method::POST, unknown, &[("content-type", media_type)], "").await;
        let first = ask().await;
        assert_eq!(first.status, StatusCode::OK);
        let refused = ask().await;
        assert_eq!((refused.status, refused.body.as_str().unwrap()), (StatusCode::OK, status));
        assert!(refused.headers["content-type"].to_str().unwrap().starts_with(media_type));
        assert!(refused.headers.contains_key("retry-after"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_address_with_many_accounts_has_a_limit_for_all_of_them() {
    let limits = LimitsConfig { network_per_minute: 2, ..LimitsConfig::default() };
    let t = TestEdge::start_with(limits).await;
    let ask =
        async || t.get("/api/v1/holds/0198c0de-0000-7000-8000-000000000001", &t.token(&["customer"])).await;
    for _ in 0..2 {
        assert_eq!(ask().await.status, StatusCode::OK);
    }
    let refused = ask().await;
    assert_eq!(refused.status, REFUSED, "{}", refused.body);
    let stands = refused.headers["ratelimit"].to_str().unwrap().to_owned();
    assert!(stands.starts_with("\"network\";r=0;t="), "{stands}");
    assert_eq!(refused.headers["ratelimit-policy"], "\"default\";q=600;w=60, \"network\";q=2;w=60");
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

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_one_limit_refuses_is_counted_by_none_in_redis_either() {
    let (t, redis) = (TestEdge::start().await, Redis::start().await);
    let mut settings = sharing(&t, &redis);
    settings.extend(
        [
            "trusted_hops=1",
            "limits.credentials_per_minute=4",
            "limits.credentials_network_per_minute=5",
            "limits.credentials_account_per_minute=2",
        ]
        .map(str::to_owned),
    );
    let edge = EdgeProcess::start(&settings).await;
    edge.logged(0, SHARED).await;
    let attempt = async |email: &str, address: &str| {
        let answer =
            edge.ask(Method::POST, SIGN_IN, &[JSON, ("x-forwarded-for", address)], &credentials(email)).await;
        let stands = answer.headers["ratelimit"].to_str().unwrap().to_owned();
        (answer.status, stands.split(';').next().unwrap_or_default().trim_matches('"').to_owned())
    };
    let refused = |lane: &str| (REFUSED, lane.to_owned());
    let (here, there) = ("203.0.113.9", "203.0.113.10");
    for _ in 0..2 {
        assert_eq!(attempt("ada@jetway.example", here).await.0, StatusCode::OK);
    }
    for _ in 0..5 {
        assert_eq!(attempt("ada@jetway.example", here).await, refused("credentials-account"));
    }
    for email in ["bob@jetway.example", "eve@jetway.example"] {
        assert_eq!(attempt(email, here).await.0, StatusCode::OK, "what was refused was taken back");
    }
    for _ in 0..5 {
        assert_eq!(attempt("joe@jetway.example", here).await, refused("credentials"));
    }
    assert_eq!(attempt("joe@jetway.example", there).await.0, StatusCode::OK, "the fifth of the wide network");
    for _ in 0..5 {
        assert_eq!(attempt("joe@jetway.example", there).await, refused("credentials-network"));
    }
    assert_eq!(edge.metric("edge_rate_limit_fallback_total").await, Some(0.0), "Redis said all of that");
}

/// Speaks TLS for a Redis that was built without, until the test ends: what it writes for the roots, and its port.
async fn in_front_of(redis: &Redis, roots: &std::path::Path) -> u16 {
    let key = rcgen::KeyPair::generate().expect("a key");
    let certificate = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
    let certificate = certificate.self_signed(&key).expect("a certificate");
    std::fs::write(roots, certificate.pem()).expect("written");
    let key = rustls_pki_types::PrivatePkcs8KeyDer::from(key.serialize_der());
    let config = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key.into())
        .expect("they fit");
    let acceptor = tokio_rustls::TlsAcceptor::from(std::sync::Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("bound").port();
    let socket = redis.socket();
    #[expect(clippy::disallowed_methods, reason = "ends with the test")]
    tokio::spawn(async move {
        let mut connections = tokio::task::JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, socket) = (acceptor.clone(), socket.clone());
            connections.spawn(async move {
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                let Ok(mut redis) = tokio::net::UnixStream::connect(socket).await else { return };
                let _ended = tokio::io::copy_bidirectional(&mut stream, &mut redis).await;
            });
        }
    });
    port
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_may_want_tls_and_a_password() {
    let t = TestEdge::start().await;
    let redis = Redis::start_with(&["--requirepass", "hunter2"]).await;
    let roots = tempfile::tempdir().expect("a directory");
    let roots = roots.path().join("roots.pem");
    let port = in_front_of(&redis, &roots).await;
    let settings = |password: &str, roots: Option<&std::path::Path>| {
        let mut settings = sharing(&t, &redis);
        settings.push(format!("limits.redis_url=rediss://:{password}@localhost:{port}"));
        settings.extend(roots.map(|roots| format!("limits.redis_roots={}", roots.display())));
        settings
    };
    let (right, wrong, untrusted) =
        (settings("hunter2", Some(&roots)), settings("hunter3", Some(&roots)), settings("hunter2", None));
    let (right, wrong, untrusted) =
        tokio::join!(EdgeProcess::start(&right), EdgeProcess::start(&wrong), EdgeProcess::start(&untrusted));
    right.logged(0, SHARED).await;
    assert_eq!([look(&right).await, look(&right).await, look(&right).await], [FOUND, FOUND, REFUSED]);
    assert_eq!(right.metric("edge_rate_limit_fallback_total").await, Some(0.0));
    for edge in [wrong, untrusted] {
        edge.logged(0, "Redis cannot be reached: rate limits are those of this edge alone").await;
        assert_eq!(edge.metric("edge_rate_limit_store_up").await, Some(0.0));
        assert!(!edge.log().contains("hunter"), "{}", edge.log());
    }
}
