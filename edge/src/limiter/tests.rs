use futures::FutureExt as _;
use http::{HeaderMap, HeaderValue};
use prost::Message as _;
use proto::identity::v1::SignInRequest;

use super::{settings::WINDOW, *};

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

const SIGN_IN: &str = "/jetway.identity.v1.AuthenticationService/SignIn";
const SIGN_UP: &str = "/jetway.identity.v1.AuthenticationService/SignUp";

/// Counts a call for an account as the gate does: the call, then what its message says. Without Redis, which needs no waiting.
fn attempt(limiter: &Limiter, method: &str, email: &str, address: impl Into<IpAddr>) -> Decision {
    let address = address.into();
    let call = count(limiter, Rate::Credentials, None, address);
    if !call.allowed {
        return call;
    }
    limiter.count_account(method, email, address).now_or_never().expect("nothing to wait for")
}

#[test]
fn calls_for_one_account_are_counted_together_for_each_network() {
    let limiter = limiter(&LimitsConfig { credentials_account_per_minute: 2, ..LimitsConfig::default() });
    let attempt = |email, last| attempt(&limiter, SIGN_IN, email, [203, 0, 113, last]);

    assert!(attempt("ada@jetway.example", 9).allowed);
    assert!(attempt(" Ada@Jetway.Example ", 9).allowed);
    let refused = attempt("ADA@JETWAY.EXAMPLE", 9);
    assert_eq!((refused.allowed, refused.lane), (false, Lane::CredentialsAccount));
    assert!(attempt("bob@jetway.example", 9).allowed);
    assert!(attempt("ada@jetway.example", 10).allowed, "a stranger elsewhere locks nobody out");
}

#[test]
fn signing_up_takes_nothing_from_the_attempts_to_sign_in() {
    let limiter = limiter(&LimitsConfig {
        credentials_account_per_minute: 1,
        credentials_account_everywhere_per_minute: 1,
        ..LimitsConfig::default()
    });
    let attempt = |method| attempt(&limiter, method, "ada@jetway.example", [203, 0, 113, 9]).allowed;

    assert!(attempt(SIGN_UP));
    assert!(!attempt(SIGN_UP));
    assert!(attempt(SIGN_IN));
}

#[test]
fn guesses_at_one_account_from_everywhere_are_slowed_for_a_second_at_most() {
    let config = LimitsConfig::default();
    let limiter = limiter(&config);
    let attempt = |network: u32| {
        let address = std::net::Ipv4Addr::from_bits(0x0a00_0000 + (network << 8));
        attempt(&limiter, SIGN_IN, "ada@jetway.example", address)
    };
    let everywhere = config.credentials_account_everywhere_per_minute;
    // The clock goes on meanwhile, and makes room for a few more.
    let refused = (0..=u32::MAX).map(attempt).find(|decision| !decision.allowed).expect("one of them is");
    assert_eq!(refused.lane, Lane::CredentialsAccountEverywhere);
    assert!(refused.reset <= WINDOW / everywhere && refused.reset <= Duration::from_secs(1), "{refused:?}");
}

#[test]
fn a_call_that_one_limit_refuses_is_counted_by_none() {
    let config = LimitsConfig {
        credentials_per_minute: 3,
        credentials_network_per_minute: 1,
        network_per_minute: 1,
        ..LimitsConfig::default()
    };
    let refusing = limiter(&config);
    let remaining = |limiter: &Limiter, who, lane| limiter.local.look(&Key { lane, who }).remaining + 1;
    let network = |last| Who::Network([203, 0, 113, last].into());

    assert!(count(&refusing, Rate::Credentials, None, [203, 0, 113, 9]).allowed);
    for _ in 0..5 {
        let refused = count(&refusing, Rate::Credentials, None, [203, 0, 113, 10]);
        assert_eq!((refused.allowed, refused.lane), (false, Lane::CredentialsNetwork));
    }
    assert_eq!(remaining(&refusing, network(10), Lane::Credentials), 3, "its own limit has seen nothing");

    assert!(count(&refusing, Rate::Default, Some(1), [203, 0, 113, 9]).allowed);
    let refused = count(&refusing, Rate::Default, Some(2), [203, 0, 113, 9]);
    assert_eq!((refused.allowed, refused.lane), (false, Lane::Network));
    assert_eq!(remaining(&refusing, Who::User(Uuid::from_u128(2)), Lane::Default), 600);
}

#[test]
fn a_call_that_its_account_refuses_is_taken_back_from_its_network() {
    let limiter = limiter(&LimitsConfig {
        credentials_per_minute: 3,
        credentials_account_per_minute: 1,
        ..LimitsConfig::default()
    });
    let attempt = |email| attempt(&limiter, SIGN_IN, email, [203, 0, 113, 9]);

    assert!(attempt("ada@jetway.example").allowed);
    for _ in 0..5 {
        assert_eq!(attempt("ada@jetway.example").lane, Lane::CredentialsAccount);
    }
    assert!(attempt("bob@jetway.example").allowed);
    assert!(attempt("eve@jetway.example").allowed);
    assert_eq!(attempt("joe@jetway.example").lane, Lane::Credentials, "the fourth that was made");
}

#[test]
fn one_address_with_many_accounts_has_a_limit_for_all_of_them() {
    let limiter = limiter(&LimitsConfig { network_per_minute: 2, ..LimitsConfig::default() });
    assert!(count(&limiter, Rate::Default, Some(1), [203, 0, 113, 9]).allowed);
    assert!(count(&limiter, Rate::Expensive, Some(2), [203, 0, 113, 9]).allowed);
    let refused = count(&limiter, Rate::Default, Some(3), [203, 0, 113, 9]);
    assert_eq!((refused.allowed, refused.lane), (false, Lane::Network));
    assert!(count(&limiter, Rate::Default, Some(3), [203, 0, 113, 10]).allowed);
    assert!(
        count(&limiter, Rate::Default, None, [203, 0, 113, 9]).allowed,
        "it is of those who are signed in"
    );
}

#[test]
fn tokens_that_were_not_valid_are_counted_by_network() {
    let limiter = limiter(&LimitsConfig { failed_tokens_per_minute: 2, ..LimitsConfig::default() });
    let (address, other) = (IpAddr::from([203, 0, 113, 9]), IpAddr::from([203, 0, 113, 10]));
    for _ in 0..2 {
        assert!(limiter.may_check_token(address).allowed);
        assert!(limiter.may_check_token(address).allowed, "to ask costs nothing");
        limiter.count_failed_token(address);
    }
    let refused = limiter.may_check_token(address);
    assert_eq!((refused.allowed, refused.lane), (false, Lane::FailedTokens));
    assert!(limiter.may_check_token(other).allowed);
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
        "\"credentials\";q=20;w=60, \"credentials-network\";q=120;w=60, \"credentials-account\";q=10;w=60, \
         \"credentials-account-everywhere\";q=600;w=60"
    );
}

/// The members of a list of RFC 9651: each a string, with the integers that are its parameters.
fn members(value: &HeaderValue) -> Vec<(String, Vec<(String, i64)>)> {
    let list: sfv::List = sfv::Parser::new(value.as_bytes()).parse().expect("a list");
    let members = list.iter().map(|member| {
        let sfv::ListEntry::Item(item) = member else { panic!("no item: {member:?}") };
        let name = item.bare_item.as_string().expect("a string").as_str().to_owned();
        let number = |value: &sfv::BareItem| i64::from(value.as_integer().expect("an integer"));
        (name, item.params.iter().map(|(key, value)| (key.as_str().to_owned(), number(value))).collect())
    });
    members.collect()
}

#[test]
fn the_headers_are_structured_fields() {
    let limiter = limiter(&LimitsConfig { expensive_per_minute: 60, ..LimitsConfig::default() });
    let mut headers = HeaderMap::new();
    let address = [203, 0, 113, 9];
    let of = |name: &str, parameters: &[(&str, i64)]| {
        let parameters = parameters.iter().map(|(key, value)| ((*key).to_owned(), *value)).collect();
        (name.to_owned(), parameters)
    };
    limiter.policies().describe(&count(&limiter, Rate::Expensive, Some(1), address), &mut headers);
    assert_eq!(members(&headers["ratelimit"]), [of("expensive", &[("r", 59), ("t", 1)])]);
    let policies = [of("expensive", &[("q", 60), ("w", 60)]), of("network", &[("q", 6000), ("w", 60)])];
    assert_eq!(members(&headers["ratelimit-policy"]), policies);

    limiter.policies().describe(&count(&limiter, Rate::Credentials, None, address), &mut headers);
    let names: Vec<_> = members(&headers["ratelimit-policy"]).into_iter().map(|(name, _)| name).collect();
    let lanes = [
        Lane::Credentials,
        Lane::CredentialsNetwork,
        Lane::CredentialsAccount,
        Lane::CredentialsAccountEverywhere,
    ];
    assert_eq!(names, lanes.map(Lane::name));
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
        redis_roots: Some("roots.pem".into()),
        redis_timeout_ms: 0,
        ..LimitsConfig::default()
    };
    let problems = config.check().join("\n");
    for name in [
        "limits.credentials_network_per_minute",
        "limits.redis_url",
        "limits.redis_roots",
        "limits.redis_timeout_ms",
    ] {
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
