//! What is told of tokens that are good no more.

use diesel_async::AsyncPgConnection;
use futures::future::join_all;
use mesh::{client::Channel, testing};
use proto::identity::v1::{
    ListRevocationsRequest, ListRevocationsResponse, Revocation, SignOutRequest, WatchRevocationsRequest,
    authentication_service_client::AuthenticationServiceClient, revocation::Kind,
    token_status_service_client::TokenStatusServiceClient,
};
use tonic::Code;

use crate::harness::{PASSWORD, TestIdentity, Tokens, part, reason};

/// How long anything may take that happens soon.
const SOON: std::time::Duration = std::time::Duration::from_secs(30);

/// The feed, as the edge has it.
fn feed(t: &TestIdentity) -> TokenStatusServiceClient<Channel> {
    TokenStatusServiceClient::new(t.channel())
}

/// The rows as `seq kind id value`, by number.
async fn rows(t: &TestIdentity) -> Vec<String> {
    t.texts("SELECT concat_ws(' ', seq, kind, id, value) AS text FROM revocations ORDER BY seq").await
}

fn sid(tokens: &Tokens) -> String {
    part(&tokens.access_token, 1)["sid"].as_str().expect("a session").to_owned()
}

/// Entries from the feed until there are `count`.
async fn watch(t: &TestIdentity, since_seq: i64, count: usize) -> Vec<Revocation> {
    let watched = async {
        let request = WatchRevocationsRequest { since_seq };
        let mut messages = feed(t).watch_revocations(request).await.expect("a feed").into_inner();
        let mut entries = Vec::new();
        while entries.len() < count {
            entries.extend(messages.message().await.expect("no error").expect("no end").revocations);
        }
        entries
    };
    tokio::time::timeout(SOON, watched).await.expect("within moments")
}

/// Waits until the token is refused by the service itself, and says why.
async fn until_refused(t: &TestIdentity, token: &str) -> String {
    let mut ticks = tokio::time::interval(std::time::Duration::from_millis(10));
    let refused = async {
        loop {
            ticks.tick().await;
            if let Err(status) = t.me(token).await {
                return mesh::status::reason(&status);
            }
        }
    };
    tokio::time::timeout(SOON, refused).await.expect("refused within moments")
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_ends_a_session_or_changes_a_role_is_written_down() {
    let t = TestIdentity::start().await;
    let (_, admin) = t.admin("admin@example.org").await;
    let before = rows(&t).await.len();

    // Sign-out, the replay of a spent refresh token, a role that is given and one that is taken.
    let (user, signed_out) = t.customer("ada@example.org").await;
    t.sign_out(&signed_out.refresh_token).await.expect("signed out");
    let replayed = t.sign_in("ada@example.org", PASSWORD).await.expect("signed in");
    let spent = t.refresh(&replayed.refresh_token).await.expect("refreshed");
    t.refresh(&spent.refresh_token).await.expect("refreshed");
    assert_eq!(reason(t.refresh(&replayed.refresh_token).await), "REFRESH_INVALID");
    t.assign(&admin.access_token, &user.uid, "flight_company").await.expect("assigned");
    t.revoke(&admin.access_token, &user.uid, "flight_company").await.expect("revoked");

    let expected = [
        format!("session {} 0", sid(&signed_out)),
        format!("session {} 0", sid(&replayed)),
        format!("user_version {} 2", user.uid),
        format!("user_version {} 3", user.uid),
    ];
    let written: Vec<_> = rows(&t).await.split_off(before);
    let numbered: Vec<_> =
        (before + 1..).zip(&expected).map(|(number, what)| format!("{number} {what}")).collect();
    assert_eq!(written, numbered);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changes_nothing_is_not_written_down() {
    let t = TestIdentity::start().await;
    let (_, admin) = t.admin("admin@example.org").await;
    let (user, tokens) = t.customer("ada@example.org").await;
    t.sign_out(&tokens.refresh_token).await.expect("signed out");
    let before = rows(&t).await;

    t.sign_out(&tokens.refresh_token).await.expect("it had ended");
    t.assign(&admin.access_token, &user.uid, "customer").await.expect("she is one");
    t.revoke(&admin.access_token, &user.uid, "flight_company").await.expect("she never was");
    let refused = t.revoke(&admin.access_token, &user.uid, "customer").await;
    assert_eq!(reason(refused), "BASE_ROLE");

    assert_eq!(rows(&t).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_beyond_the_twentieth_are_over_for_their_access_tokens_too() {
    let t = TestIdentity::start().await;
    let (_, oldest) = t.customer("ada@example.org").await;
    for _ in 0..20 {
        t.sign_in("ada@example.org", PASSWORD).await.expect("signed in");
    }

    assert_eq!(rows(&t).await, [format!("1 session {} 0", sid(&oldest))]);
    assert_eq!(until_refused(&t, &oldest.access_token).await, "TOKEN_REVOKED");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_cannot_be_told_is_not_made() {
    let t = TestIdentity::start().await;
    let (_, tokens) = t.customer("ada@example.org").await;
    t.execute("ALTER TABLE revocations ADD CONSTRAINT shut CHECK (seq < 1)").await.expect("shut");

    let refused = t.sign_out(&tokens.refresh_token).await.expect_err("it cannot be told");
    assert_eq!(refused.code(), Code::Internal);

    t.refresh(&tokens.refresh_token).await.expect("so the session goes on");
    assert_eq!(t.audit("session.end").await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_have_no_gaps_and_never_appear_out_of_order_while_many_write() {
    let t = TestIdentity::start().await;
    t.sign_up("ada@example.org").await.expect("signed up");
    let mut sessions = Vec::new();
    for _ in 0..16 {
        sessions.push(t.sign_in("ada@example.org", PASSWORD).await.expect("signed in"));
    }
    // One signs out and does not commit: others wait for its number, and are not seen before it.
    let mut slow = t.connection().await;
    let run = async |conn: &mut AsyncPgConnection, sql: &str| {
        use diesel_async::RunQueryDsl as _;

        diesel::sql_query(sql).execute(conn).await.expect("it runs");
    };
    run(&mut slow, "BEGIN").await;
    run(&mut slow, "SELECT pg_advisory_xact_lock(x'69645f726576'::bigint)").await;
    let all = join_all(sessions.iter().map(|tokens| t.sign_out(&tokens.refresh_token)));
    let watched = watch(&t, 0, sessions.len());
    let commit = async {
        let waiting = "SELECT count(*)::text AS text FROM pg_locks WHERE locktype = 'advisory' AND NOT granted \
                       AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
        while t.texts(waiting).await == ["0"] {}
        assert_eq!(rows(&t).await, [""; 0], "nothing is numbered while another one may be first");
        run(&mut slow, "COMMIT").await;
    };

    let (outcomes, entries, ()) = tokio::join!(all, watched, commit);

    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    let numbers: Vec<_> = entries.iter().map(|entry| entry.seq).collect();
    assert_eq!(numbers, (1..=16).collect::<Vec<_>>(), "as a follower saw them");
    let mut told: Vec<_> = entries.into_iter().map(|entry| entry.id).collect();
    let mut expected: Vec<_> = sessions.iter().map(sid).collect();
    told.sort_unstable();
    expected.sort_unstable();
    assert_eq!(told, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_is_told_what_was_and_what_comes() {
    let t = TestIdentity::start().await;
    let (user, first) = t.customer("ada@example.org").await;
    let second = t.sign_in("ada@example.org", PASSWORD).await.expect("signed in");
    t.sign_out(&first.refresh_token).await.expect("signed out");
    let [before] = &watch(&t, 0, 1).await[..] else { panic!("one entry") };
    assert_eq!((before.seq, before.kind(), &before.id), (1, Kind::Session, &sid(&first)));
    assert_eq!(before.value, 0);

    let (later, ()) = tokio::join!(watch(&t, 1, 1), async {
        t.sign_out(&second.refresh_token).await.expect("signed out");
    });

    assert_eq!((later[0].seq, &later[0].id), (2, &sid(&second)));
    let ends = later[0].expire_time.expect("an end").seconds;
    let exp = part(&second.access_token, 1)["exp"].as_i64().expect("an end");
    assert!(ends > exp + mesh::token::LEEWAY_SECONDS, "no token of the session outlives its entry");
    assert_eq!(user.uid, part(&second.access_token, 1)["sub"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_hears_a_heartbeat_when_it_knows_everything_and_then_again_and_again() {
    let t = TestIdentity::start().await;
    let (_, tokens) = t.customer("ada@example.org").await;
    t.sign_out(&tokens.refresh_token).await.expect("signed out");
    watch(&t, 0, 1).await;

    let request = WatchRevocationsRequest { since_seq: 0 };
    let mut messages = feed(&t).watch_revocations(request).await.expect("a feed").into_inner();
    let mut next =
        async || tokio::time::timeout(SOON, messages.message()).await.expect("soon").expect("no error");

    let first = next().await.expect("no end");
    assert_eq!((first.revocations.len(), first.heartbeat), (1, None), "everything first");
    for _ in 0..2 {
        let beat = next().await.expect("no end");
        assert_eq!((beat.revocations.len(), beat.heartbeat.map(|beat| beat.seq)), (0, Some(1)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_database_the_feed_has_no_heartbeat() {
    let t = TestIdentity::start().await;
    let request = WatchRevocationsRequest::default();
    let mut messages = feed(&t).watch_revocations(request).await.expect("a feed").into_inner();
    let mut next = async |limit| tokio::time::timeout(limit, messages.message()).await;
    next(SOON).await.expect("soon").expect("no error").expect("a heartbeat");

    t.execute("ALTER TABLE revocations RENAME TO away").await.expect("away");
    // One may be on its way.
    let mut heard = 0;
    while next(std::time::Duration::from_secs(2)).await.is_ok() {
        heard += 1;
        assert!(heard <= 2, "a heartbeat without a reading of the table");
    }

    t.execute("ALTER TABLE away RENAME TO revocations").await.expect("back");
    next(SOON).await.expect("soon").expect("no error").expect("a heartbeat");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_has_seen_more_than_was_ever_told_is_told_everything() {
    let t = TestIdentity::start().await;
    let (_, tokens) = t.customer("ada@example.org").await;
    t.sign_out(&tokens.refresh_token).await.expect("signed out");
    let entries = watch(&t, 0, 1).await;

    // Their numbers are of a database that was replaced.
    assert_eq!(watch(&t, 1_000_000, 1).await, entries);
    let list = async |since_seq| -> ListRevocationsResponse {
        feed(&t).list_revocations(ListRevocationsRequest { since_seq }).await.expect("a list").into_inner()
    };
    let everything = ListRevocationsResponse { revocations: entries, seq: 1 };
    assert_eq!(list(0).await, everything);
    assert_eq!(list(1_000_000).await, everything);
    assert_eq!(list(1).await, ListRevocationsResponse { revocations: vec![], seq: 1 });
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_that_have_ended_are_deleted_and_their_numbers_not_given_out_again() {
    let t = TestIdentity::start().await;
    let (_, first) = t.customer("ada@example.org").await;
    let second = t.sign_in("ada@example.org", PASSWORD).await.expect("signed in");
    let third = t.sign_in("ada@example.org", PASSWORD).await.expect("signed in");
    for tokens in [&first, &second] {
        t.sign_out(&tokens.refresh_token).await.expect("signed out");
    }
    t.execute("UPDATE revocations SET expires_at = now() - interval '1 second'").await.expect("aged");

    let feed = identity::revocations::Feed::open(&t.config.database, mesh::token::Revocations::default())
        .await
        .expect("a feed");
    assert_eq!(feed.prune().await.expect("pruned"), 1);
    assert_eq!(rows(&t).await, [format!("2 session {} 0", sid(&second))], "the last one stays");
    t.sign_out(&third.refresh_token).await.expect("signed out");

    assert_eq!(rows(&t).await.last(), Some(&format!("3 session {} 0", sid(&third))));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_service_itself_refuses_a_revoked_token_soon_and_signing_out_again_is_fine() {
    let t = TestIdentity::start().await;
    let (_, tokens) = t.customer("ada@example.org").await;
    let elsewhere = t.sign_in("ada@example.org", PASSWORD).await.expect("signed in");
    let mut client = AuthenticationServiceClient::new(t.channel_of(&tokens.access_token));
    client.sign_out(SignOutRequest::default()).await.expect("signed out");

    assert_eq!(until_refused(&t, &tokens.access_token).await, "TOKEN_REVOKED");

    client.sign_out(SignOutRequest::default()).await.expect("that is so already");
    t.me(&elsewhere.access_token).await.expect("another session goes on");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_verifiers_of_tokens_are_told() {
    let t = TestIdentity::start().await;
    let (_, admin) = t.admin("admin@example.org").await;
    let request = ListRevocationsRequest::default();

    let other = testing::channel("acquirer", "identity", t.running.address());
    let refused =
        TokenStatusServiceClient::new(other).list_revocations(request).await.expect_err("no verifier");
    assert_eq!(refused.code(), Code::PermissionDenied);
    let user = t.channel_of(&admin.access_token);
    let refused = TokenStatusServiceClient::new(user).list_revocations(request).await.expect_err("a user");
    assert_eq!(refused.code(), Code::PermissionDenied);
}
