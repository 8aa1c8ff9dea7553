//! Tokens that are revoked while a service runs.

use std::time::Duration;

use mesh::auth::PrincipalId;
use mesh::token::Revoked;
use tonic::{Code, Status};

use crate::echo::{GET_ME, Handler, LIST_ROLES, Platform, SIGN_OUT, ask, bearer, soon};

fn reason(outcome: Result<http::HeaderMap, Status>) -> String {
    outcome.map_or_else(|status| mesh::status::reason(&status), |_| "OK".to_owned())
}

/// Asks until the answer has this reason: what is revoked is known everywhere soon, not at once.
async fn until_reason(platform: &Platform, path: &str, token: &str, expected: &str) {
    let channel = platform.channel("edge");
    let mut ticks = tokio::time::interval(Duration::from_millis(10));
    soon(async {
        while reason(ask(&channel, path, &[bearer(token)]).await) != expected {
            ticks.tick().await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_token_is_refused_soon_and_nobody_else_notices() {
    let platform = Platform::start(Handler::default()).await;
    let (user, session) = (PrincipalId::generate(), mesh::id::generate());
    let token = platform.issuer.token_of_session(user, session, &["customer"]);
    let elsewhere = platform.issuer.token(user, &["customer"]);
    let channel = platform.channel("edge");
    for token in [&token, &elsewhere] {
        ask(&channel, GET_ME, &[bearer(token)]).await.expect("signed in");
    }

    platform.issuer.revoke(Revoked::Session(session));

    until_reason(&platform, GET_ME, &token, "TOKEN_REVOKED").await;
    let refused = ask(&channel, GET_ME, &[bearer(&token)]).await.expect_err("for good");
    assert_eq!(refused.code(), Code::Unauthenticated);
    ask(&channel, GET_ME, &[bearer(&elsewhere)]).await.expect("another session goes on");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_is_taken_is_gone_soon() {
    let platform = Platform::start(Handler::default()).await;
    let (user, other) = (PrincipalId::generate(), PrincipalId::generate());
    let [token, others] = [user, other].map(|user| platform.issuer.token(user, &["admin"]));
    let channel = platform.channel("edge");
    ask(&channel, LIST_ROLES, &[bearer(&token)]).await.expect("an admin");

    platform.issuer.revoke(Revoked::UserVersion { user: user.uuid(), sv: 2 });

    until_reason(&platform, LIST_ROLES, &token, "TOKEN_STALE").await;
    ask(&channel, LIST_ROLES, &[bearer(&others)]).await.expect("another admin goes on");
}

#[tokio::test(flavor = "multi_thread")]
async fn to_a_public_method_the_user_of_a_revoked_token_is_nobody_and_its_session_is_over() {
    let platform = Platform::start(Handler::default()).await;
    let (user, session) = (PrincipalId::generate(), mesh::id::generate());
    let token = platform.issuer.token_of_session(user, session, &["customer"]);
    let channel = platform.channel("edge");
    let got = ask(&channel, SIGN_OUT, &[bearer(&token)]).await.expect("public");
    assert_eq!(got["got-user"], user.to_string());
    assert_eq!(got["got-session-over"], "no");

    platform.issuer.revoke(Revoked::Session(session));
    until_reason(&platform, GET_ME, &token, "TOKEN_REVOKED").await;

    let got = ask(&channel, SIGN_OUT, &[bearer(&token)]).await.expect("public");
    assert_eq!((got["got-user"].len(), got["got-token"].as_bytes()), (0, &b"no"[..]));
    assert_eq!(got["got-session-over"], "yes");
    let got = ask(&channel, SIGN_OUT, &[bearer("no.to.ken")]).await.expect("public");
    assert_eq!(got["got-session-over"], "no", "a token that never was good says nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_revoked_before_a_service_starts_is_known_when_it_is_ready() {
    let first = Platform::start(Handler::default()).await;
    let (user, session) = (PrincipalId::generate(), mesh::id::generate());
    let token = first.issuer.token_of_session(user, session, &["customer"]);
    first.issuer.revoke(Revoked::Session(session));

    let late = crate::echo::Config { identity: Some(first.issuer.target()), ..crate::echo::Config::new() };
    let late = late.start().await.expect("the service starts");
    soon(late.ready()).await;

    let channel = mesh::testing::channel("edge", "bookings", late.address());
    assert_eq!(reason(ask(&channel, GET_ME, &[bearer(&token)]).await), "TOKEN_REVOKED");
}
