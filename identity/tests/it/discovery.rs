//! Signing keys, and what others learn of them.

use futures::future::join_all;
use proto::identity::v1::{GetJwksRequest, GetOpenIdConfigurationRequest, Jwks};

use crate::harness::{TestIdentity, part};

async fn keys(t: &TestIdentity) -> Jwks {
    t.discovery().get_jwks(GetJwksRequest {}).await.expect("keys").into_inner()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_one_key_is_published_as_a_jwk() {
    let t = TestIdentity::start().await;
    let (_, tokens) = t.customer("ada@example.org").await;

    let keys = keys(&t).await.keys;

    let [key] = &keys[..] else { panic!("one key: {keys:?}") };
    assert_eq!((key.kty.as_str(), key.crv.as_str()), ("OKP", "Ed25519"));
    assert_eq!((key.alg.as_str(), key.r#use.as_str()), ("EdDSA", "sig"));
    assert_eq!(key.x.len(), 43);
    assert_eq!(part(&tokens.access_token, 0)["kid"], key.kid.as_str());
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_that_start_together_agree_on_one_key() {
    let config = TestIdentity::config().await;
    let replicas = join_all((0..3).map(|_| TestIdentity::start_with(config.clone()))).await;

    let first = keys(&replicas[0]).await;
    assert_eq!(first.keys.len(), 1);
    for replica in &replicas {
        assert_eq!(keys(replica).await, first);
    }
    let (user, tokens) = replicas[0].customer("ada@example.org").await;
    assert_eq!(
        replicas[1].me(&tokens.access_token).await.expect("verified by another replica").uid,
        user.uid
    );
    let refreshed = replicas[2].refresh(&tokens.refresh_token).await.expect("refreshed by another replica");
    replicas[0].me(&refreshed.access_token).await.expect("and back");
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_outlive_a_restart_and_need_their_key_file() {
    let t = TestIdentity::start().await;
    let before = keys(&t).await;
    let config = t.config.clone();
    t.running.stop().await;

    let again = TestIdentity::start_with(config.clone()).await;
    assert_eq!(keys(&again).await, before);
    again.running.stop().await;

    let mut other = config;
    other.keys.file = mesh::testing::directory().join("other-keys.json");
    mesh::key_file::create(&other.keys.file).expect("another key file");
    let started = mesh::run::start::<identity::Identity>(other, mesh::clock::Clock::system(None)).await;
    let error = started.map(drop).expect_err("the key file is not the one");
    assert!(format!("{error:#}").contains("key file"), "{error:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_metadata_names_the_issuer_of_the_tokens() {
    let t = TestIdentity::start().await;
    let (_, tokens) = t.customer("ada@example.org").await;

    let request = GetOpenIdConfigurationRequest {};
    let metadata = t.discovery().get_open_id_configuration(request).await.expect("metadata").into_inner();

    assert_eq!(part(&tokens.access_token, 1)["iss"], metadata.issuer.as_str());
    assert_eq!(metadata.jwks_uri, format!("{}/.well-known/jwks.json", metadata.issuer));
    assert_eq!(metadata.id_token_signing_alg_values_supported, ["EdDSA"]);
    assert_eq!(metadata.subject_types_supported, ["public"]);
}
