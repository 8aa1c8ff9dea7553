//! Sessions in cookies, and what defends them.

use http::{Method, StatusCode};
use serde_json::json;

use crate::harness::{Answer, TestEdge};

const HOLD: &str = "/api/v1/holds/0198c0de-0000-7000-8000-000000000001";
const RELEASE: &str = "/api/v1/holds/0198c0de-0000-7000-8000-000000000001:release";

/// A listed origin.
const PAGE: &str = "https://app.jetway.example";

const SAME_ORIGIN: (&str, &str) = ("sec-fetch-site", "same-origin");
const JSON: (&str, &str) = ("content-type", "application/json");

async fn start() -> TestEdge {
    TestEdge::start_configured(|config| config.browsers.origins = vec![PAGE.to_owned()]).await
}

/// The cookies that an answer sets, without their attributes.
fn cookies(answer: &Answer) -> Vec<(String, String)> {
    let set = answer.headers.get_all("set-cookie").iter().map(|cookie| cookie.to_str().expect("ASCII"));
    set.map(|cookie| {
        let (name, value) =
            cookie.split(';').next().and_then(|pair| pair.split_once('=')).expect("a name and a value");
        (name.to_owned(), value.to_owned())
    })
    .collect()
}

/// A session in cookies: the `Cookie` header, the access token, the CSRF token.
async fn sign_in(t: &TestEdge) -> (String, String, String) {
    sign_in_as(t, "customer").await
}

/// As [`sign_in`], of a user with this role.
async fn sign_in_as(t: &TestEdge, role: &str) -> (String, String, String) {
    let token = t.token(&[role]);
    token.clone_into(&mut t.authentication.token.lock().expect("no panic"));
    let answer = post(t, "/api/v1/auth/signin", &[SAME_ORIGIN, JSON], sign_in_body()).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    let header: Vec<_> =
        cookies(&answer).into_iter().map(|(name, value)| format!("{name}={value}")).collect();
    (header.join("; "), token, answer.headers["x-jetway-csrf"].to_str().expect("ASCII").to_owned())
}

fn sign_in_body() -> serde_json::Value {
    json!({ "email": "a@jetway.example", "password": "correct horse", "tokenDelivery": "COOKIE" })
}

async fn post(t: &TestEdge, path: &str, headers: &[(&str, &str)], body: serde_json::Value) -> Answer {
    t.send(Method::POST, path, headers, body.to_string()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_cookies_of_a_session_pass_and_a_csrf_token_goes_with_them() {
    let t = start().await;
    let token = t.token(&["customer"]);
    token.clone_into(&mut t.authentication.token.lock().unwrap());

    let answer = post(&t, "/api/v1/auth/signin", &[SAME_ORIGIN, JSON], sign_in_body()).await;

    let set: Vec<_> =
        answer.headers.get_all("set-cookie").iter().map(|cookie| cookie.to_str().unwrap()).collect();
    assert_eq!(
        set[0],
        format!("__Host-jetway_at={token}; Max-Age=900; Path=/; Secure; HttpOnly; SameSite=Lax")
    );
    assert_eq!(set[1], "__Host-jetway_rt=r; Max-Age=604800; Path=/; Secure; HttpOnly; SameSite=Strict");
    let csrf = answer.headers["x-jetway-csrf"].to_str().unwrap();
    assert_eq!(set[2], format!("__Host-jetway_csrf={csrf}; Max-Age=604800; Path=/; Secure; SameSite=Strict"));
    assert_eq!(set.len(), 3, "a service sets no other cookies: {set:?}");
    assert_eq!(answer.headers["cache-control"], "no-store");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_session_cookie_counts_as_the_access_token_and_goes_no_further_itself() {
    let t = start().await;
    let (cookie, token, _) = sign_in(&t).await;

    let answer = t.send(Method::GET, HOLD, &[("cookie", &cookie)], "").await;

    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    let seen = t.seen.lock().unwrap();
    assert_eq!(seen[0].metadata.get("authorization").unwrap(), &format!("Bearer {token}"));
    let names: Vec<_> = seen[0].metadata.keys().map(|key| format!("{key:?}")).collect();
    assert!(!names.iter().any(|name| name.contains("cookie") || name.contains("x-jetway")), "{names:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn both_credentials_at_once_are_refused_when_they_differ() {
    let t = start().await;
    let (cookie, token, _) = sign_in(&t).await;
    let (same, other) = (format!("Bearer {token}"), format!("Bearer {}", t.token(&["customer"])));

    let answer = t.send(Method::GET, HOLD, &[("cookie", &cookie), ("authorization", &other)], "").await;
    assert_eq!((answer.status, answer.reason()), (StatusCode::BAD_REQUEST, "CREDENTIALS_CONFLICT"));
    let answer =
        t.send(Method::GET, HOLD, &[("cookie", &cookie), ("cookie", "__Host-jetway_at=x")], "").await;
    assert_eq!((answer.status, answer.reason()), (StatusCode::BAD_REQUEST, "CREDENTIALS_CONFLICT"));
    assert!(t.seen.lock().unwrap().is_empty());

    let answer = t.send(Method::GET, HOLD, &[("cookie", &cookie), ("authorization", &same)], "").await;
    assert_eq!(answer.status, StatusCode::OK, "the same twice is one: {}", answer.body);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_by_cookie_needs_page_media_type_and_token() {
    let t = start().await;
    let (cookie, _, csrf) = sign_in(&t).await;
    let (_, _, of_another_session) = sign_in(&t).await;
    let cookie = ("cookie", cookie.as_str());
    let token = ("x-jetway-csrf", csrf.as_str());
    let page = ("origin", PAGE);
    let same_site = ("sec-fetch-site", "same-site");
    for (headers, reason) in [
        (&[cookie, JSON, token][..], "ORIGIN_NOT_ALLOWED"),
        (&[cookie, JSON, token, ("origin", "https://evil.example")], "ORIGIN_NOT_ALLOWED"),
        (&[cookie, JSON, token, ("sec-fetch-site", "cross-site"), page], "ORIGIN_NOT_ALLOWED"),
        (&[cookie, JSON, token, same_site, ("origin", "https://evil.jetway.example")], "ORIGIN_NOT_ALLOWED"),
        (&[cookie, JSON, token, ("sec-fetch-site", "none")], "ORIGIN_NOT_ALLOWED"),
        (&[cookie, SAME_ORIGIN, token], "CONTENT_TYPE_NOT_ALLOWED"),
        (&[cookie, SAME_ORIGIN, token, ("content-type", "text/plain")], "CONTENT_TYPE_NOT_ALLOWED"),
        (&[cookie, SAME_ORIGIN, JSON], "CSRF_TOKEN_INVALID"),
        (&[cookie, SAME_ORIGIN, JSON, ("x_jetway_csrf", &csrf)], "CSRF_TOKEN_INVALID"),
        (&[cookie, SAME_ORIGIN, JSON, ("x-jetway-csrf", &of_another_session)], "CSRF_TOKEN_INVALID"),
    ] {
        let answer = post(&t, RELEASE, headers, json!({})).await;
        assert_eq!((answer.status, answer.reason()), (StatusCode::FORBIDDEN, reason), "{headers:?}");
    }
    assert!(t.seen.lock().unwrap().is_empty(), "none of them had an effect");

    for headers in [
        &[cookie, SAME_ORIGIN, JSON, token][..],
        &[cookie, page, JSON, token],
        &[cookie, same_site, page, JSON, token],
    ] {
        let answer = post(&t, RELEASE, headers, json!({})).await;
        assert_eq!(answer.status, StatusCode::OK, "{headers:?}: {}", answer.body);
    }
    assert_eq!(t.seen.lock().unwrap().len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_with_a_bearer_token_needs_nothing_of_that() {
    let t = start().await;
    let bearer = format!("Bearer {}", t.token(&["customer"]));
    let headers = [("authorization", bearer.as_str()), JSON, ("origin", "https://elsewhere.example")];
    let answer = post(&t, RELEASE, &headers, json!({})).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
}

#[tokio::test(flavor = "multi_thread")]
async fn gateways_share_csrf_tokens_by_their_key_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("csrf.json");
    std::fs::write(&file, format!("{{\"1\": \"{}\"}}", "5".repeat(64))).unwrap();
    let start = || TestEdge::start_configured(|config| config.browsers.csrf_keys = Some(file.clone()));
    let (one, other) = (start().await, start().await);
    let (cookie, token, csrf) = sign_in(&one).await;
    // Each has an issuer of its own, so the other one gets a token of its own for the same session.
    let sid = sid(&token);
    let cookie = cookie.replace(&token, &other.token_of_session(sid));

    let headers = [("cookie", cookie.as_str()), SAME_ORIGIN, JSON, ("x-jetway-csrf", &csrf)];
    let answer = post(&other, RELEASE, &headers, json!({})).await;

    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
}

fn sid(token: &str) -> uuid::Uuid {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

    let claims = token.split('.').nth(1).expect("three parts");
    let claims = URL_SAFE_NO_PAD.decode(claims).expect("base64url");
    let claims: serde_json::Value = serde_json::from_slice(&claims).expect("JSON");
    claims["sid"].as_str().and_then(|sid| sid.parse().ok()).expect("a session")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_refresh_cookie_goes_to_the_authentication_service_only() {
    let t = start().await;
    let (cookie, token, _) = sign_in(&t).await;

    let answer = t.send(Method::GET, HOLD, &[("cookie", &cookie)], "").await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    assert!(t.seen.lock().unwrap()[0].metadata.get("x-jetway-refresh-token").is_none());

    // The access token ended, its cookie with it.
    let refresh_cookie = ("cookie", "__Host-jetway_rt=r");
    let answer = post(&t, "/api/v1/auth/refresh", &[refresh_cookie, SAME_ORIGIN, JSON], json!({})).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    assert_eq!(t.authentication.told("x-jetway-refresh-token").as_deref(), Some("r"));
    assert_eq!(t.authentication.told("cookie"), None);
    let names: Vec<_> = cookies(&answer).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["__Host-jetway_at", "__Host-jetway_rt", "__Host-jetway_csrf"]);
    let csrf = answer.headers["x-jetway-csrf"].to_str().unwrap();
    let cookie = format!("__Host-jetway_at={token}");
    let write = [("cookie", cookie.as_str()), SAME_ORIGIN, JSON, ("x-jetway-csrf", csrf)];
    let answer = post(&t, RELEASE, &write, json!({})).await;
    assert_eq!(answer.status, StatusCode::OK, "the new CSRF token works: {}", answer.body);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_by_cookie_from_another_page_is_refused() {
    let t = start().await;
    let refresh_cookie = ("cookie", "__Host-jetway_rt=r");
    for page in [("origin", "https://evil.example"), ("sec-fetch-site", "cross-site"), ("accept", "*/*")] {
        for path in ["/api/v1/auth/refresh", "/api/v1/auth/signout"] {
            let answer = post(&t, path, &[refresh_cookie, page, JSON], json!({})).await;
            assert_eq!(
                (answer.status, answer.reason()),
                (StatusCode::FORBIDDEN, "ORIGIN_NOT_ALLOWED"),
                "{page:?}"
            );
        }
    }
    assert_eq!(t.authentication.calls(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_client_can_say_itself_that_it_may_have_cookies() {
    let t = start().await;
    let forged = [
        ("x-jetway-cookies-allowed", "1"),
        ("x_jetway_cookies_allowed", "1"),
        ("grpc-metadata-x-jetway-cookies-allowed", "1"),
        ("x-jetway-refresh-token", "stolen"),
    ];
    for page in [("origin", "https://evil.example"), ("sec-fetch-site", "cross-site"), ("accept", "*/*")] {
        let headers: Vec<_> = forged.into_iter().chain([page, JSON]).collect();
        let answer = post(&t, "/api/v1/auth/signin", &headers, sign_in_body()).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
        assert_eq!(t.authentication.told("x-jetway-cookies-allowed"), None, "{page:?}");
        assert_eq!(t.authentication.told("x-jetway-refresh-token"), None, "{page:?}");
    }
    for page in
        [&[SAME_ORIGIN][..], &[("origin", PAGE)], &[("origin", PAGE), ("sec-fetch-site", "same-site")]]
    {
        let headers: Vec<_> = page.iter().copied().chain([JSON]).collect();
        post(&t, "/api/v1/auth/signin", &headers, sign_in_body()).await;
        assert_eq!(t.authentication.told("x-jetway-cookies-allowed").as_deref(), Some("1"), "{page:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_session_does_not_keep_anyone_from_signing_in() {
    let t = start().await;
    let (cookie, _, _) = sign_in(&t).await;
    for cookie in [cookie.as_str(), "__Host-jetway_at=not.a.token"] {
        let headers = [("cookie", cookie), SAME_ORIGIN, JSON];
        let answer = post(&t, "/api/v1/auth/signin", &headers, sign_in_body()).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
        assert_eq!(t.authentication.told("authorization"), None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn signing_out_takes_the_csrf_token_away_with_the_cookies() {
    let t = start().await;
    let (cookie, token, csrf) = sign_in(&t).await;
    t.authentication.token.lock().unwrap().clear();
    let headers = [("cookie", cookie.as_str()), SAME_ORIGIN, JSON];

    let answer = post(&t, "/api/v1/auth/signout", &headers, json!({})).await;
    assert_eq!((answer.status, answer.reason()), (StatusCode::FORBIDDEN, "CSRF_TOKEN_INVALID"));
    let headers = [headers[0], headers[1], headers[2], ("x-jetway-csrf", csrf.as_str())];
    let answer = post(&t, "/api/v1/auth/signout", &headers, json!({})).await;

    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    assert_eq!(t.authentication.told("authorization").unwrap(), format!("Bearer {token}"));
    let set: Vec<_> =
        answer.headers.get_all("set-cookie").iter().map(|cookie| cookie.to_str().unwrap()).collect();
    assert!(set[0].starts_with("__Host-jetway_at=; Max-Age=0;"), "{set:?}");
    assert!(set[2].starts_with("__Host-jetway_csrf=; Max-Age="), "{set:?}");
    assert!(!answer.headers.contains_key("x-jetway-csrf"));
}

const GET_HOLD: &str = "/jetway.bookings.v1.HoldService/GetHold";
const HOLD_NAME: &str = "holds/0198c0de-0000-7000-8000-000000000001";

#[tokio::test(flavor = "multi_thread")]
async fn a_post_by_cookie_needs_the_csrf_token_in_every_protocol() {
    let t = start().await;
    let (cookie, _, csrf) = sign_in(&t).await;
    let body = json!({ "name": HOLD_NAME }).to_string();
    let length = |length: usize| u8::try_from(length).expect("short");
    let message = [&[10, length(HOLD_NAME.len())][..], HOLD_NAME.as_bytes()].concat();
    let frame = [&[0, 0, 0, 0, length(message.len())][..], &message].concat();
    for (media_type, body) in [
        ("application/json", body.into_bytes()),
        ("application/proto", message),
        ("application/grpc-web+proto", frame),
    ] {
        let plain = [("cookie", cookie.as_str()), SAME_ORIGIN, ("content-type", media_type)];
        let cross = [plain[0], ("sec-fetch-site", "cross-site"), plain[2], ("x-jetway-csrf", csrf.as_str())];
        for headers in [&plain[..], &cross] {
            let answer = t.send(Method::POST, GET_HOLD, headers, body.clone()).await;
            let text = answer.body.to_string();
            let is_refused = answer.status == StatusCode::FORBIDDEN || text.contains("grpc-status: 7");
            assert!(is_refused, "{media_type}: {} {text}", answer.status);
        }
        assert!(t.seen.lock().unwrap().is_empty(), "{media_type}");
        let ours = [plain[0], plain[1], plain[2], ("x-jetway-csrf", csrf.as_str())];
        let answer = t.send(Method::POST, GET_HOLD, &ours, body).await;
        assert_eq!(answer.status, StatusCode::OK, "{media_type}: {}", answer.body);
        assert_eq!(std::mem::take(&mut *t.seen.lock().unwrap()).len(), 1, "{media_type}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_method_that_may_change_something_needs_the_csrf_token() {
    let t = start().await;
    let (cookie, _, csrf) = sign_in_as(&t, "admin").await;
    let cookie = ("cookie", cookie.as_str());
    let role = "/api/v1/admin/users/0198c0de-0000-7000-8000-000000000001/roles/agent";
    for (method, path) in [(Method::PUT, role), (Method::DELETE, role), (Method::POST, RELEASE)] {
        let body = if method == Method::DELETE { "" } else { "{}" };
        let answer = t.send(method.clone(), path, &[cookie, SAME_ORIGIN, JSON], body).await;
        assert_eq!(
            (answer.status, answer.reason()),
            (StatusCode::FORBIDDEN, "CSRF_TOKEN_INVALID"),
            "{method}"
        );
        let overridden = [cookie, JSON, ("x-http-method-override", method.as_str())];
        let answer = t.send(Method::GET, path, &overridden, "").await;
        assert!(answer.status.is_client_error(), "{method}: {}", answer.body);
    }
    assert!(t.seen.lock().unwrap().is_empty());
    let ours = [cookie, SAME_ORIGIN, JSON, ("x-jetway-csrf", csrf.as_str())];
    assert_eq!(t.send(Method::POST, RELEASE, &ours, "{}").await.status, StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_get_of_connect_by_cookie_reads_and_needs_nothing_more() {
    let t = start().await;
    let (cookie, _, _) = sign_in(&t).await;
    let query = format!("?connect=v1&encoding=json&message=%7B%22name%22%3A%22{HOLD_NAME}%22%7D");
    let get = async |method: &str| {
        let path = format!("/jetway.bookings.v1.HoldService/{method}{query}");
        t.send(Method::GET, &path, &[("cookie", &cookie)], "").await.status
    };
    assert_eq!(get("GetHold").await, StatusCode::OK);
    assert_eq!(get("ReleaseHold").await, StatusCode::METHOD_NOT_ALLOWED, "it changes something");
    assert_eq!(t.seen.lock().unwrap().len(), 1);
}
