//! Refreshing and ending sessions.

use futures::future::join_all;
use proto::identity::v1::{SignOutRequest, authentication_service_client::AuthenticationServiceClient};
use tonic::Code;

use crate::harness::{PASSWORD, TestIdentity, part, reason};

/// Makes the last refresh of every session lie this many seconds further back.
async fn age(t: &TestIdentity, seconds: u32) {
    let sql =
        format!("UPDATE sessions SET last_refreshed_at = last_refreshed_at - interval '{seconds} seconds'");
    t.execute(&sql).await.expect("aged");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_gives_a_new_pair_of_the_same_session() {
    let t = TestIdentity::start().await;
    let (_, first) = t.customer("ada@example.org").await;

    let second = t.refresh(&first.refresh_token).await.expect("refreshed");

    assert_eq!(second.session_id, first.session_id);
    assert_ne!(second.refresh_token, first.refresh_token);
    assert_ne!(second.access_token, first.access_token);
    let auth_time = |token: &str| part(token, 1)["auth_time"].as_i64();
    assert_eq!(auth_time(&second.access_token), auth_time(&first.access_token));
    t.me(&second.access_token).await.expect("the new access token works");
    t.refresh(&second.refresh_token).await.expect("and so does the new refresh token");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_brings_the_present_roles() {
    let t = TestIdentity::start().await;
    let (user, tokens) = t.customer("ada@example.org").await;
    let (_, admin) = t.admin("admin@example.org").await;
    t.assign(&admin.access_token, &user.uid, "flight_company").await.expect("assigned");

    let refreshed = t.refresh(&tokens.refresh_token).await.expect("refreshed");

    let claims = part(&refreshed.access_token, 1);
    assert_eq!(claims["roles"], serde_json::json!(["customer", "flight_company"]));
    assert_eq!(claims["sv"], 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn parallel_refreshes_all_get_the_same_token_and_a_later_replay_ends_the_session() {
    let t = TestIdentity::start().await;
    let (_, first) = t.customer("ada@example.org").await;

    let outcomes = join_all((0..4).map(|_| t.refresh(&first.refresh_token))).await;

    let mut given: Vec<_> =
        outcomes.into_iter().map(|outcome| outcome.expect("each of them succeeds").refresh_token).collect();
    given.dedup();
    assert_eq!(given.len(), 1, "the same token for all");
    assert_eq!(t.texts("SELECT counter::text AS text FROM sessions").await, ["1"]);
    assert_eq!(t.audit("refresh.grace").await, ["unchanged"; 3]);

    age(&t, 11).await;
    assert_eq!(reason(t.refresh(&first.refresh_token).await), "REFRESH_INVALID");
    assert_eq!(reason(t.refresh(&given[0]).await), "REFRESH_INVALID", "the session is over for both holders");
    assert_eq!(t.audit("refresh.reuse").await, ["refused"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_two_refreshes_old_is_a_replay_even_within_the_grace() {
    let t = TestIdentity::start().await;
    let (_, first) = t.customer("ada@example.org").await;
    let second = t.refresh(&first.refresh_token).await.expect("refreshed");
    let third = t.refresh(&second.refresh_token).await.expect("refreshed");

    assert_eq!(reason(t.refresh(&first.refresh_token).await), "REFRESH_INVALID");
    assert_eq!(reason(t.refresh(&third.refresh_token).await), "REFRESH_INVALID");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_token_is_refused_and_ends_nothing() {
    let t = TestIdentity::start().await;
    let (_, tokens) = t.customer("ada@example.org").await;
    let (_, other) = t.customer("eve@example.org").await;

    let last = if tokens.refresh_token.ends_with('A') { "E" } else { "A" };
    let altered = format!("{}{last}", &tokens.refresh_token[..tokens.refresh_token.len() - 1]);
    // The session of one token with the counter and the MAC of another one's.
    let mixed = format!("{}{}", &tokens.refresh_token[..26], &other.refresh_token[26..]);
    for forged in [altered.as_str(), mixed.as_str(), "art1.", "nonsense"] {
        assert_eq!(reason(t.refresh(forged).await), "REFRESH_INVALID", "{forged}");
        t.sign_out(forged).await.expect("there is nothing to end");
    }

    t.refresh(&tokens.refresh_token).await.expect("the session goes on");
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_end_by_themselves() {
    let t = TestIdentity::start().await;
    for column in ["idle_expires_at", "absolute_expires_at"] {
        let (_, tokens) = t.customer(&format!("{column}@example.org")).await;
        t.execute(&format!("UPDATE sessions SET {column} = now() - interval '1 second'"))
            .await
            .expect("aged");
        let refused = t.refresh(&tokens.refresh_token).await.expect_err("over");
        assert_eq!(refused.code(), Code::Unauthenticated, "{column}");
    }
    let lives = "SELECT extract(day FROM idle_expires_at - created_at) || ' ' || \
                 extract(day FROM absolute_expires_at - created_at) AS text FROM sessions ORDER BY created_at DESC LIMIT 1";
    t.customer("new@example.org").await;
    assert_eq!(t.texts(lives).await, ["7 30"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_banned_user_cannot_refresh() {
    let t = TestIdentity::start().await;
    let (_, tokens) = t.customer("ada@example.org").await;
    t.execute("UPDATE users SET status = 'disabled'").await.expect("banned");

    assert_eq!(reason(t.refresh(&tokens.refresh_token).await), "REFRESH_INVALID");
    assert_eq!(
        t.texts("SELECT counter::text AS text FROM sessions").await,
        ["1"],
        "the token is spent all the same"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn signing_out_ends_the_session_of_the_access_token_and_no_other() {
    let t = TestIdentity::start().await;
    let (_, tokens) = t.customer("ada@example.org").await;
    let elsewhere = t.sign_in("ada@example.org", PASSWORD).await.expect("signed in");
    let mut client = AuthenticationServiceClient::new(t.channel_of(&tokens.access_token));

    for _ in 0..2 {
        client.sign_out(SignOutRequest::default()).await.expect("signed out");
    }

    assert_eq!(reason(t.refresh(&tokens.refresh_token).await), "REFRESH_INVALID");
    t.refresh(&elsewhere.refresh_token).await.expect("another session");
    assert_eq!(t.audit("session.end").await, ["done"], "the second time there was nothing to end");
}

#[tokio::test(flavor = "multi_thread")]
async fn signing_out_by_refresh_token_needs_nothing_else() {
    let t = TestIdentity::start().await;
    let (_, first) = t.customer("ada@example.org").await;
    let second = t.refresh(&first.refresh_token).await.expect("refreshed");

    t.sign_out(&second.refresh_token).await.expect("signed out");
    t.sign_out(&second.refresh_token).await.expect("and again");

    assert_eq!(reason(t.refresh(&second.refresh_token).await), "REFRESH_INVALID");
}

#[tokio::test(flavor = "multi_thread")]
async fn signing_out_of_nothing_is_unauthenticated() {
    let t = TestIdentity::start().await;
    let refused = t.sign_out("").await.expect_err("no session is named");
    assert_eq!(refused.code(), Code::Unauthenticated);
}
