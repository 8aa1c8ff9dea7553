use futures::FutureExt as _;
use http::HeaderMap;
use prost::Message as _;
use proto::identity::v1::SignInRequest;

use super::*;

fn limiter(config: &LimitsConfig) -> Limiter {
    Limiter::new(config).expect("no Redis to go wrong")
}

/// Counts without Redis, which needs no waiting.
fn count(limiter: &Limiter, rate: Rate, user: Option<u128>, address: impl Into<IpAddr>) -> Decision {
    let counted = limiter.count(rate, user.map(Uuid::from_u128), address.into());
    counted.now_or_never().expect("nothing to wait for")
}

#[test]
fn credentials_are_counted_by_network_whoever_is_signed_in() {
    let limiter = limiter(&LimitsConfig { credentials_per_minute: 2, ..LimitsConfig::default() });
    let count = |user, last| count(&limiter, Rate::Credentials, Some(user), [203, 0, 113, last]);

    assert!(count(1, 9).allowed);
    assert!(count(2, 9).allowed);
    let wait = count(3, 9).wait().expect("the third in a minute");
    assert!(wait > Duration::ZERO && wait <= Duration::from_mins(1), "{wait:?}");
    assert!(count(3, 10).allowed);
}

#[test]
fn credentials_from_many_addresses_of_one_network_are_counted_together() {
    let config = LimitsConfig { credentials_network_per_minute: 3, ..LimitsConfig::default() };
    let v4 = limiter(&config);
    for last in 1..=3 {
        assert!(count(&v4, Rate::Credentials, None, [203, 0, 113, last]).allowed);
    }
    let refused = count(&v4, Rate::Credentials, None, [203, 0, 113, 4]);
    assert_eq!((refused.allowed, refused.lane), (false, Lane::CredentialsNetwork));
    assert!(count(&v4, Rate::Credentials, None, [203, 0, 114, 4]).allowed);

    let v6 = limiter(&config);
    let address = |subnet| [0x2001, 0xdb8, 1, subnet, 0, 0, 0, 1];
    for subnet in 1..=3 {
        assert!(count(&v6, Rate::Credentials, None, address(subnet)).allowed);
    }
    assert!(!count(&v6, Rate::Credentials, None, address(4)).allowed, "one /48");
}

#[test]
fn credentials_for_one_account_are_counted_together_wherever_they_come_from() {
    let limiter = limiter(&LimitsConfig { credentials_account_per_minute: 2, ..LimitsConfig::default() });
    let count = |email| limiter.count_account(email).now_or_never().expect("nothing to wait for");

    assert!(count("ada@jetway.example").allowed);
    assert!(count(" Ada@Jetway.Example ").allowed);
    let refused = count("ADA@JETWAY.EXAMPLE");
    assert_eq!((refused.allowed, refused.lane), (false, Lane::CredentialsAccount));
    assert!(count("bob@jetway.example").allowed);
}

#[test]
fn users_behind_one_address_have_budgets_of_their_own() {
    let limiter = limiter(&LimitsConfig { default_per_minute: 1, ..LimitsConfig::default() });
    let count = |user| count(&limiter, Rate::Default, user, [203, 0, 113, 9]);

    assert!(count(Some(1)).allowed);
    assert!(count(Some(2)).allowed);
    assert!(!count(Some(1)).allowed);
    assert!(count(None).allowed, "and so has who is not signed in");
}

#[test]
fn the_headers_name_the_nearest_limit_and_all_of_its_class() {
    let limiter = limiter(&LimitsConfig { credentials_network_per_minute: 2, ..LimitsConfig::default() });
    let mut headers = HeaderMap::new();
    let mut after = |decision| {
        limiter.policies().describe(&decision, &mut headers);
        headers["ratelimit"].to_str().unwrap().to_owned()
    };
    let address = [203, 0, 113, 9];

    let first = after(count(&limiter, Rate::Credentials, None, address));
    assert_eq!(first, "\"credentials-network\";r=1;t=30");
    after(count(&limiter, Rate::Credentials, None, address));
    let refused = after(count(&limiter, Rate::Credentials, None, address));
    assert_eq!(refused, "\"credentials-network\";r=0;t=30");
    let default = after(count(&limiter, Rate::Default, None, address));
    assert_eq!(default, "\"default\";r=599;t=1");
    let policies = Policies::new(&LimitsConfig::default());
    policies.describe(&count(&limiter, Rate::Credentials, None, [1, 1, 1, 1]), &mut headers);
    assert_eq!(
        headers["ratelimit-policy"],
        "\"credentials\";q=20;w=60, \"credentials-network\";q=120;w=60, \"credentials-account\";q=20;w=60"
    );
}

#[test]
fn the_account_is_the_last_e_mail_address_of_the_message() {
    let descriptor = proto::descriptor_pool().get_message_by_name("jetway.identity.v1.SignInRequest");
    let descriptor = descriptor.expect("the contract has it");
    let message = |email: &str| {
        SignInRequest { email: email.to_owned(), password: "secret".to_owned(), ..Default::default() }
            .encode_to_vec()
    };
    let ada = message("ada@jetway.example");
    assert_eq!(email_of(&descriptor, &ada), Some("ada@jetway.example"));
    assert_eq!(
        email_of(&descriptor, &[ada.clone(), message("bob@jetway.example")].concat()),
        Some("bob@jetway.example")
    );
    assert_eq!(email_of(&descriptor, &message("")), None);
    assert_eq!(email_of(&descriptor, &ada[..ada.len() - 1]), None, "what is no message names nobody");
    let other = proto::descriptor_pool().get_message_by_name("jetway.identity.v1.GetMeRequest");
    assert_eq!(email_of(&other.expect("the contract has it"), &ada), None);
}

#[test]
fn a_wrong_setting_is_named_and_the_password_of_redis_never_shown() {
    let config = LimitsConfig {
        credentials_network_per_minute: 0,
        redis_url: "http://:hunter2@redis:6379".into(),
        redis_timeout_ms: 0,
        ..LimitsConfig::default()
    };
    let problems = config.check().join("\n");
    for name in ["limits.credentials_network_per_minute", "limits.redis_url", "limits.redis_timeout_ms"] {
        assert!(problems.contains(name), "{problems}");
    }
    let shown = [problems, format!("{config:?}"), serde_json::to_string(&config).unwrap()].concat();
    assert!(!shown.contains("hunter2"), "{shown}");
    assert!(
        LimitsConfig { redis_url: "rediss://redis:6379/1".into(), ..LimitsConfig::default() }
            .check()
            .is_empty()
    );
}
