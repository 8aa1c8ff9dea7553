//! Signing in, and the tokens it gives.

use mesh::{
    auth::PrincipalId,
    token::{PublicKey, Verifier},
};
use proto::identity::v1::{GetJwksRequest, SignUpRequest};
use tonic::{Code, Status};

use crate::harness::{PASSWORD, TestIdentity, cheap, part, reason};

#[tokio::test(flavor = "multi_thread")]
async fn the_username_signs_in_as_the_address_does() {
    let t = TestIdentity::start().await;
    let request = SignUpRequest {
        email: "ada@example.org".to_owned(),
        password: PASSWORD.to_owned(),
        username: "Ada".to_owned(),
        ..SignUpRequest::default()
    };
    let user = t.authentication().sign_up(request).await.expect("signed up").into_inner();

    for name in ["Ada@example.ORG", "aDA"] {
        let tokens = t.sign_in(name, PASSWORD).await.expect("signed in");
        assert_eq!(t.me(&tokens.access_token).await.expect("it is me").uid, user.uid);
    }
}

/// Everything of a refusal that reaches the caller, but for the request id.
fn seen(status: &Status) -> (Code, String, Vec<u8>) {
    (status.code(), status.message().to_owned(), status.details().to_vec())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_an_unknown_account_and_a_banned_user_look_the_same() {
    let t = TestIdentity::start().await;
    t.sign_up("ada@example.org").await.expect("signed up");
    t.sign_up("eve@example.org").await.expect("signed up");
    t.execute("UPDATE users SET status = 'disabled' WHERE email_canonical = 'eve@example.org'")
        .await
        .expect("banned");

    let wrong = t.sign_in("ada@example.org", "wrong").await.expect_err("refused");

    assert_eq!(
        (wrong.code(), reason::<()>(Err(wrong.clone())).as_str()),
        (Code::Unauthenticated, "INVALID_CREDENTIALS")
    );
    for (name, password) in [
        ("nobody@example.org", PASSWORD),
        ("nobody", PASSWORD),
        ("a name that cannot be", PASSWORD),
        ("eve@example.org", PASSWORD),
        ("eve@example.org", "wrong"),
    ] {
        let refused = t.sign_in(name, password).await.expect_err("refused");
        assert_eq!(seen(&refused), seen(&wrong), "{name}");
    }
    assert_eq!(t.audit("session.begin").await, ["refused"; 6]);
    assert_eq!(t.texts("SELECT id::text AS text FROM sessions").await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_access_token_says_who_for_fifteen_minutes_and_no_more() {
    let t = TestIdentity::start().await;
    let (user, tokens) = t.customer("ada@example.org").await;

    let header = part(&tokens.access_token, 0);
    let mut names: Vec<_> = header.as_object().expect("an object").keys().map(String::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["alg", "kid", "typ"]);
    assert_eq!((&header["alg"], &header["typ"]), (&"EdDSA".into(), &"at+jwt".into()));

    let claims = part(&tokens.access_token, 1);
    let number = |name: &str| claims[name].as_i64().expect("a number");
    assert_eq!(number("exp") - number("iat"), 900);
    assert_eq!(number("nbf"), number("iat"));
    assert_eq!(number("auth_time"), number("iat"));
    assert_eq!(number("sv"), 1);
    let expected = [
        ("iss", mesh::run::ISSUER.into()),
        ("aud", "jetway".into()),
        ("sub", user.uid.into()),
        ("sid", tokens.session_id.clone().into()),
        ("amr", serde_json::json!(["pwd"])),
        ("acr", "aal1".into()),
        ("roles", serde_json::json!(["customer"])),
        ("client_id", "jetway".into()),
        ("scope", "".into()),
    ];
    for (name, value) in expected {
        assert_eq!(claims[name], value, "{name}");
    }
    // Those, jti, and nothing else: no address, no name.
    assert_eq!(claims.as_object().expect("an object").len(), 15);
    assert_eq!((tokens.message.token_type.as_str(), tokens.message.expires_in), ("Bearer", 900));
    assert!(tokens.access_token.len() <= 2048);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_published_keys_verify_the_token() {
    let t = TestIdentity::start().await;
    let (user, tokens) = t.customer("ada@example.org").await;

    let jwks = t.discovery().get_jwks(GetJwksRequest {}).await.expect("keys").into_inner();
    let keys: Vec<_> = jwks.keys.into_iter().map(|key| PublicKey { kid: key.kid, x: key.x }).collect();
    let verifier = Verifier::new(mesh::run::ISSUER);
    verifier.set_keys(&keys);

    let claims = verifier.verify(&tokens.access_token).expect("it verifies");
    assert_eq!(PrincipalId::from(claims.sub).to_string(), user.uid);
    assert_eq!(claims.sid.to_string(), tokens.session_id);
    assert_eq!(claims.roles, ["customer"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_header_names_nobody() {
    let t = TestIdentity::start().await;
    let (ada, tokens) = t.customer("ada@example.org").await;
    let (eve, _) = t.customer("eve@example.org").await;

    let mut client = proto::identity::v1::account_service_client::AccountServiceClient::new(
        t.channel_of(&tokens.access_token),
    );
    let mut request = tonic::Request::new(proto::identity::v1::GetMeRequest {});
    for name in ["x-user-id", "x-jetway-user", "x-forwarded-user"] {
        request.metadata_mut().insert(name, eve.uid.parse().expect("ASCII"));
    }
    assert_eq!(client.get_me(request).await.expect("it is me").into_inner().uid, ada.uid);

    let mut client = proto::identity::v1::account_service_client::AccountServiceClient::new(t.channel());
    let mut request = tonic::Request::new(proto::identity::v1::GetMeRequest {});
    request.metadata_mut().insert("x-user-id", eve.uid.parse().expect("ASCII"));
    assert_eq!(client.get_me(request).await.expect_err("no token").code(), Code::Unauthenticated);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hash_of_old_parameters_is_renewed_by_the_next_sign_in() {
    let t = TestIdentity::start().await;
    t.sign_up("ada@example.org").await.expect("signed up");
    let mut config = t.config.clone();
    config.password = identity::config::PasswordConfig { memory_kib: 16, ..cheap() };
    let renewed = TestIdentity::start_with(config).await;
    let parameters = async || t.texts("SELECT substring(phc from 'm=[0-9]+') AS text FROM credentials").await;

    renewed.sign_in("ada@example.org", "wrong password").await.expect_err("wrong");
    assert_eq!(parameters().await, ["m=8"]);
    renewed.sign_in("ada@example.org", PASSWORD).await.expect("signed in");
    assert_eq!(parameters().await, ["m=16"]);
    renewed.sign_in("ada@example.org", PASSWORD).await.expect("the new hash is of the same password");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_twenty_first_session_ends_the_oldest() {
    let t = TestIdentity::start().await;
    let (_, oldest) = t.customer("ada@example.org").await;
    let second = t.sign_in("ada@example.org", PASSWORD).await.expect("signed in");
    for _ in 2..=20 {
        t.sign_in("ada@example.org", PASSWORD).await.expect("signed in");
    }

    assert_eq!(reason(t.refresh(&oldest.refresh_token).await), "REFRESH_INVALID");
    t.refresh(&second.refresh_token).await.expect("the second is one of twenty");
    assert_eq!(t.audit("session.evict").await, ["done"]);
}
