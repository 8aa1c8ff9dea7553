//! Signing up.

use futures::future::join_all;
use proto::identity::v1::SignUpRequest;
use tonic::{Code, Response};

use crate::harness::{PASSWORD, TestIdentity, reason};

fn request(email: &str, username: &str) -> SignUpRequest {
    SignUpRequest {
        email: email.to_owned(),
        password: PASSWORD.to_owned(),
        username: username.to_owned(),
        display_name: "Ada 🛫".to_owned(),
        locale: "en-IN".to_owned(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_user_is_a_customer_and_can_sign_in_at_once() {
    let t = TestIdentity::start().await;

    let user = t.authentication().sign_up(request("Ada@Example.org", "Ada")).await.map(Response::into_inner);

    let user = user.expect("signed up");
    assert_eq!(user.name, format!("users/{}", user.uid));
    assert_eq!((user.email.as_str(), user.username.as_str()), ("Ada@Example.org", "Ada"));
    assert_eq!((user.display_name.as_str(), user.locale.as_str()), ("Ada 🛫", "en-IN"));
    assert_eq!(user.roles, ["customer"]);
    assert!(user.create_time.is_some());
    let tokens = t.sign_in("ada@example.org", PASSWORD).await.expect("signed in");
    assert_eq!(t.me(&tokens.access_token).await.expect("it is me"), user);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sign_up_is_written_down_and_told_without_secrets() {
    let t = TestIdentity::start().await;
    let user = t.sign_up("ada@example.org").await.expect("signed up");

    assert_eq!(t.audit("user.create").await, ["done"]);
    let events = t.texts("SELECT event_type || ' ' || version || ' ' || payload AS text FROM outbox").await;
    assert_eq!(events, [format!(r#"UserCreated 1 {{"user": "{}", "roles": ["customer"]}}"#, user.uid)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_in_another_letter_case_is_the_same_account() {
    let t = TestIdentity::start().await;
    t.sign_up("ada@example.org").await.expect("signed up");

    let again = t.sign_up("ADA@Example.ORG").await.expect_err("taken");

    assert_eq!((again.code(), mesh::status::reason(&again).as_str()), (Code::AlreadyExists, "EMAIL_TAKEN"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_username_in_another_letter_case_is_taken_too() {
    let t = TestIdentity::start().await;
    t.authentication().sign_up(request("ada@example.org", "ada")).await.expect("signed up");

    let again = t.authentication().sign_up(request("other@example.org", "ADA")).await.expect_err("taken");

    assert_eq!(
        (again.code(), mesh::status::reason(&again).as_str()),
        (Code::AlreadyExists, "USERNAME_TAKEN")
    );
    assert_eq!(t.texts("SELECT email_canonical AS text FROM users").await, ["ada@example.org"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_racing_sign_ups_one_wins_and_the_rest_are_told_that_the_address_is_taken() {
    let t = TestIdentity::start().await;

    let outcomes = join_all((0..8).map(|_| t.sign_up("ada@example.org"))).await;

    let refusals: Vec<_> = outcomes
        .into_iter()
        .filter_map(Result::err)
        .map(|status| (status.code(), mesh::status::reason(&status)))
        .collect();
    assert_eq!(refusals, vec![(Code::AlreadyExists, "EMAIL_TAKEN".to_owned()); 7]);
    for table in ["users", "credentials", "user_roles", "outbox", "audit_events"] {
        assert_eq!(t.texts(&format!("SELECT count(*)::text AS text FROM {table}")).await, ["1"], "{table}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_not_be_is_refused_by_name() {
    let t = TestIdentity::start().await;
    let sign_up = async |request: SignUpRequest| {
        let status = t.authentication().sign_up(request).await.expect_err("refused");
        assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
        let reason = mesh::status::reason(&status);
        assert!(!status.message().contains("secret"), "{status:?}");
        reason
    };

    assert_eq!(sign_up(request("not-an-address", "")).await, "EMAIL_INVALID");
    assert_eq!(sign_up(request("\u{212a}elvin@example.org", "")).await, "EMAIL_INVALID");
    let decomposed = "e\u{301}".repeat(4);
    assert_eq!(
        sign_up(SignUpRequest { password: decomposed, ..request("ada@example.org", "") }).await,
        "PASSWORD_TOO_SHORT"
    );
    let with_nul = SignUpRequest { display_name: "a\0b".to_owned(), ..request("ada@example.org", "") };
    assert_eq!(sign_up(with_nul).await, "FIELD_INVALID");
    // By the rules in the proto, before the handler.
    sign_up(SignUpRequest { password: "secret".to_owned(), ..request("ada@example.org", "") }).await;
    sign_up(request("ada@example.org", "a b")).await;
    assert_eq!(t.texts("SELECT id::text AS text FROM users").await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_database_takes_nothing_but_argon2id_for_a_password() {
    let t = TestIdentity::start().await;
    let user = t.sign_up("ada@example.org").await.expect("signed up");
    t.execute("DELETE FROM credentials").await.expect("deleted");
    let salt_and_hash = "c2FsdHNhbHRzYWx0c2FsdA$aGFzaGhhc2hoYXNoaGFzaGhhc2hoYXNoaGFzaGhhc2g";

    let insert = async |phc: &str| {
        t.execute(&format!("INSERT INTO credentials VALUES ('{}', 'password', '{phc}', now())", user.uid))
            .await
    };

    for phc in [
        PASSWORD.to_owned(),
        String::new(),
        "5f4dcc3b5aa765d61d8327deb882cf99".to_owned(),
        "$2b$12$KIXIDz5Yv1dJ1oKp9yA4UO5bYxJ1m1n4r5b8m5k5b1y2u3i4o5p6q".to_owned(),
        format!("$argon2i$v=19$m=19456,t=2,p=1${salt_and_hash}"),
        format!("x$argon2id$v=19$m=19456,t=2,p=1${salt_and_hash}"),
        "$argon2id$v=19$m=19456,t=2,p=1$".to_owned(),
    ] {
        let refused = insert(&phc).await.expect_err("not argon2id");
        assert!(refused.to_string().contains("credentials_phc_check"), "{phc}: {refused}");
    }
    insert(&format!("$argon2id$v=19$m=19456,t=2,p=1${salt_and_hash}")).await.expect("argon2id");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_hashing_queue_refuses_with_a_time_to_come_back() {
    use tonic_types::StatusExt as _;

    let mut config = TestIdentity::config().await;
    // Slow enough for the queue to fill up.
    config.password =
        identity::config::PasswordConfig { memory_kib: 65_536, iterations: 16, parallelism: 1, threads: 1 };
    let t = TestIdentity::start_with(config).await;

    let addresses: Vec<_> = (0..12).map(|number| format!("user{number}@example.org")).collect();
    let outcomes = join_all(addresses.iter().map(|address| t.sign_up(address))).await;
    let refusals: Vec<_> = outcomes.into_iter().filter_map(Result::err).collect();

    assert!(!refusals.is_empty());
    for status in refusals {
        assert_eq!(status.code(), Code::Unavailable);
        let delay =
            status.get_error_details().retry_info().and_then(|retry| retry.retry_delay).expect("a delay");
        assert!((1.0..=3.0).contains(&delay.as_secs_f64()), "{delay:?}");
        assert_eq!(reason::<()>(Err(status)), "HASH_QUEUE_FULL");
    }
}
