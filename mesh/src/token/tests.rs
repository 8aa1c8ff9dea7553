use std::sync::LazyLock;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use futures::FutureExt as _;
use jsonwebtoken::{EncodingKey, Header};
use rcgen::{KeyPair, PKCS_ED25519};
use serde_json::{Value, json};

use super::{cache::TOKENS_MAX, *};

const ISSUER: &str = "https://identity.example";

static PAIR: LazyLock<KeyPair> = LazyLock::new(|| KeyPair::generate_for(&PKCS_ED25519).expect("a key pair"));

fn now() -> i64 {
    Clock::system_now().as_second()
}

fn verifier() -> Verifier {
    let verifier = Verifier::new(ISSUER);
    verifier
        .set_keys(&[PublicKey { kid: "k1".to_owned(), x: URL_SAFE_NO_PAD.encode(PAIR.public_key_raw()) }]);
    verifier
}

fn header() -> Value {
    json!({ "alg": "EdDSA", "typ": "at+jwt", "kid": "k1" })
}

fn claims() -> Value {
    let id = "00000000-0000-7000-8000-000000000001";
    json!({
        "iss": ISSUER, "aud": AUDIENCE, "sub": id, "sid": id, "jti": id, "sv": 1, "roles": ["customer"],
        "iat": now(), "nbf": now(), "exp": now() + 900, "auth_time": now(),
    })
}

fn encode(part: &str) -> String {
    URL_SAFE_NO_PAD.encode(part)
}

/// Signs whatever header and payload there are, however wrong.
fn sign(header: &str, payload: &str) -> String {
    let content = format!("{}.{}", encode(header), encode(payload));
    let key = EncodingKey::from_ed_der(&PAIR.serialize_der());
    let signature =
        jsonwebtoken::crypto::sign(content.as_bytes(), &key, Algorithm::EdDSA).expect("a signature");
    format!("{content}.{signature}")
}

/// The value with one member replaced, or taken out by `null`.
fn with(mut value: Value, name: &str, member: Value) -> String {
    let members = value.as_object_mut().expect("an object");
    if member.is_null() {
        members.remove(name).expect("the member was there");
    } else {
        members.insert(name.to_owned(), member);
    }
    value.to_string()
}

fn with_header(name: &str, member: Value) -> Result<Arc<Claims>, TokenError> {
    verifier().verify(&sign(&with(header(), name, member), &claims().to_string()))
}

fn with_claim(name: &str, member: Value) -> Result<Arc<Claims>, TokenError> {
    verifier().verify(&sign(&header().to_string(), &with(claims(), name, member)))
}

#[track_caller]
fn assert_refused(outcome: Result<Arc<Claims>, TokenError>, expected: TokenError) {
    assert_eq!(outcome.map(drop), Err(expected));
}

#[test]
fn a_right_token_says_who_its_user_is() {
    let claims =
        verifier().verify(&sign(&header().to_string(), &claims().to_string())).expect("a right token");

    assert_eq!((claims.sub.as_u128() & 0xff, claims.sv), (1, 1));
    assert_eq!(claims.roles, ["customer"]);
}

#[test]
fn the_type_may_be_written_as_a_media_type() {
    for kind in ["AT+JWT", "application/at+jwt"] {
        with_header("typ", json!(kind)).expect("the same type");
    }
}

#[test]
fn a_token_with_another_algorithm_is_refused() {
    for algorithm in ["none", "None", "HS256", "RS256", "ES256", "eddsa", "Ed25519", ""] {
        assert_refused(with_header("alg", json!(algorithm)), TokenError::Malformed);
    }
    assert_refused(with_header("alg", Value::Null), TokenError::Malformed);
}

#[test]
fn an_unsigned_token_is_refused() {
    let header = with(header(), "alg", json!("none"));
    let token = format!("{}.{}.", encode(&header), encode(&claims().to_string()));

    assert_refused(verifier().verify(&token), TokenError::Malformed);
    let token = format!("{}.{}.", encode(&self::header().to_string()), encode(&claims().to_string()));
    assert_refused(verifier().verify(&token), TokenError::Invalid);
}

#[test]
fn a_token_signed_with_the_public_key_as_a_shared_secret_is_refused() {
    for secret in [PAIR.public_key_raw().to_vec(), PAIR.public_key_pem().into_bytes()] {
        let header = Header {
            typ: Some("at+jwt".to_owned()),
            kid: Some("k1".to_owned()),
            ..Header::new(Algorithm::HS256)
        };
        let token =
            jsonwebtoken::encode(&header, &claims(), &EncodingKey::from_secret(&secret)).expect("signed");
        assert_refused(verifier().verify(&token), TokenError::Malformed);

        // The same signature under a header that says EdDSA.
        let content = format!("{}.{}", encode(&self::header().to_string()), encode(&claims().to_string()));
        let signature = jsonwebtoken::crypto::sign(
            content.as_bytes(),
            &EncodingKey::from_secret(&secret),
            Algorithm::HS256,
        )
        .expect("signed");
        assert_refused(verifier().verify(&format!("{content}.{signature}")), TokenError::Invalid);
    }
}

#[test]
fn a_token_of_another_type_is_refused() {
    for kind in [json!("JWT"), json!("id_token+jwt"), json!(""), json!(1), Value::Null] {
        assert_refused(with_header("typ", kind), TokenError::Malformed);
    }
}

#[test]
fn a_key_id_is_a_short_plain_word() {
    for kid in [
        json!(""),
        json!("../k1"),
        json!("k1\u{0}"),
        json!("k 1"),
        json!("k".repeat(65)),
        json!(1),
        Value::Null,
    ] {
        assert_refused(with_header("kid", kid), TokenError::Malformed);
    }
    assert_refused(with_header("kid", json!("k2")), TokenError::UnknownKey);
}

#[test]
fn header_members_that_point_at_other_keys_are_refused() {
    for name in ["crit", "jku", "jwk", "x5u", "x5c", "b64"] {
        assert_refused(with_header(name, json!("anything")), TokenError::Malformed);
    }
}

#[test]
fn a_repeated_header_member_is_refused() {
    for twice in [r#""kid":"k1","kid":"k1""#, r#""kid":"k1","alg":"EdDSA""#, r#""kid":"k1","typ":"at+jwt""#] {
        let header = format!(r#"{{"alg":"EdDSA","typ":"at+jwt",{twice}}}"#);
        assert_refused(verifier().verify(&sign(&header, &claims().to_string())), TokenError::Malformed);
    }
}

#[test]
fn a_header_that_is_not_one_json_object_is_refused() {
    for header in ["", "[]", "null", "{", r#"{"alg":"EdDSA","typ":"at+jwt","kid":"k1"}{}"#] {
        assert_refused(verifier().verify(&sign(header, &claims().to_string())), TokenError::Malformed);
    }
}

#[test]
fn a_token_has_three_segments() {
    let token = sign(&header().to_string(), &claims().to_string());
    let two = token.rsplit_once('.').expect("segments").0;

    for text in ["", ".", "..", two, &format!("{token}.{two}"), &format!("{token}."), "eyJ é"] {
        assert_refused(verifier().verify(text), TokenError::Malformed);
    }
}

#[test]
fn a_token_of_more_than_8_kib_is_not_looked_at() {
    let token =
        |padding: usize| sign(&header().to_string(), &with(claims(), "padding", json!("x".repeat(padding))));
    let short = token(5_000);
    assert!(short.len() < LENGTH_MAX);
    verifier().verify(&short).expect("long, but not too long");

    let long = token(6_200);
    assert!(long.len() > LENGTH_MAX);
    assert_refused(verifier().verify(&long), TokenError::Malformed);
}

#[test]
fn every_required_claim_is_required() {
    for name in ["iss", "aud", "sub", "sid", "jti", "sv", "iat", "nbf", "exp", "auth_time"] {
        assert_refused(with_claim(name, Value::Null), TokenError::Invalid);
    }
    with_claim("roles", Value::Null).expect("a user may have no role");
}

#[test]
fn claims_of_another_kind_are_refused() {
    for (name, claim) in
        [("sub", json!("somebody")), ("sid", json!(1)), ("iat", json!("now")), ("roles", json!("admin"))]
    {
        assert_refused(with_claim(name, claim), TokenError::Invalid);
    }
}

#[test]
fn an_expired_token_is_good_within_the_leeway_only() {
    with_claim("exp", json!(now() - 2)).map(drop).expect_err("it would end before it began");
    let ended = |seconds: i64| {
        let mut claims = claims();
        claims["iat"] = json!(now() - 900);
        with_exp(claims, now() - seconds)
    };
    ended(3).expect("within the leeway");
    assert_refused(ended(7), TokenError::Expired);
}

fn with_exp(claims: Value, exp: i64) -> Result<Arc<Claims>, TokenError> {
    verifier().verify(&sign(&header().to_string(), &with(claims, "exp", json!(exp))))
}

#[test]
fn a_token_is_not_good_before_its_time() {
    for name in ["nbf", "iat"] {
        with_claim(name, json!(now() + 3)).expect("within the leeway");
        assert_refused(with_claim(name, json!(now() + 60)), TokenError::Invalid);
    }
}

#[test]
fn a_token_lives_for_an_hour_at_most() {
    let mut claims = claims();
    let iat = now();
    claims["iat"] = json!(iat);

    with_exp(claims.clone(), iat + 3600).expect("an hour");
    assert_refused(with_exp(claims.clone(), iat + 3601), TokenError::Invalid);
    assert_refused(with_exp(claims, i64::MAX), TokenError::Invalid);
}

#[test]
fn a_token_by_or_for_somebody_else_is_refused() {
    for issuer in [json!("https://identity.example/"), json!("https://evil.example"), json!(""), json!(1)] {
        assert_refused(with_claim("iss", issuer), TokenError::Invalid);
    }
    for audience in [json!("other"), json!(["other"]), json!(""), json!([])] {
        assert_refused(with_claim("aud", audience), TokenError::Invalid);
    }
    with_claim("aud", json!(["other", AUDIENCE])).expect("for us among others");
}

#[test]
fn a_token_whose_payload_was_changed_is_refused() {
    let token = sign(&header().to_string(), &claims().to_string());
    let mut segments: Vec<_> = token.split('.').collect();
    let forged = encode(&with(claims(), "roles", json!(["admin"])));
    segments[1] = &forged;

    assert_refused(verifier().verify(&segments.join(".")), TokenError::Invalid);
}

#[test]
fn a_token_signed_by_another_key_is_refused() {
    let other = KeyPair::generate_for(&PKCS_ED25519).expect("a key pair");
    let header = Header {
        typ: Some("at+jwt".to_owned()),
        kid: Some("k1".to_owned()),
        ..Header::new(Algorithm::EdDSA)
    };
    let key = EncodingKey::from_ed_der(&other.serialize_der());
    let token = jsonwebtoken::encode(&header, &claims(), &key).expect("signed");

    assert_refused(verifier().verify(&token), TokenError::Invalid);
}

#[test]
fn keys_that_were_not_renewed_for_a_day_are_not_believed() {
    let token = sign(&header().to_string(), &claims().to_string());
    let verifier = verifier();

    verifier.fetched_at.store(now() - STALE_SECONDS_MAX + 60, Ordering::Relaxed);
    verifier.verify(&token).expect("old keys, but not too old");
    verifier.fetched_at.store(now() - STALE_SECONDS_MAX - 60, Ordering::Relaxed);
    assert_refused(verifier.verify(&token), TokenError::NoKeys);
}

#[test]
fn without_keys_nothing_is_verified() {
    let verifier = Verifier::new(ISSUER);
    assert_refused(verifier.verify(&sign(&header().to_string(), &claims().to_string())), TokenError::NoKeys);

    verifier.set_keys(&[PublicKey { kid: "k1".to_owned(), x: "not a key".to_owned() }]);
    assert!(!verifier.has_keys(), "a key that cannot be read is left out");
}

/// Whether the keys are to be fetched out of turn. Asking takes the wish away.
fn is_wanted(verifier: &Verifier) -> bool {
    verifier.keys_wanted().now_or_never().is_some()
}

#[test]
fn an_unknown_key_asks_for_the_keys_once_in_thirty_seconds_also_when_nobody_answers() {
    let unknown = sign(&with(header(), "kid", json!("k2")), &claims().to_string());
    let verifier = verifier();
    let ask = || assert_refused(verifier.verify(&unknown), TokenError::UnknownKey);

    ask();
    assert!(!is_wanted(&verifier), "the keys have just been fetched");
    verifier.fetched_at.store(now() - 60, Ordering::Relaxed);
    ask();
    assert!(is_wanted(&verifier));
    // The issuer did not answer: `fetched_at` is as it was.
    for _ in 0..10 {
        ask();
    }
    assert!(!is_wanted(&verifier), "it was asked for within the last thirty seconds");
    verifier.wanted_at.store(now() - 31, Ordering::Relaxed);
    ask();
    assert!(is_wanted(&verifier));
}

/// A good token of its own: no two are the same.
fn token(number: u128) -> String {
    let mut claims = claims();
    claims["jti"] = json!(Uuid::from_u128(number));
    sign(&header().to_string(), &claims.to_string())
}

#[test]
fn a_remembered_token_is_refused_once_it_has_expired() {
    let (verifier, token) = (verifier(), token(1));
    verifier.verify(&token).expect("good");
    assert_eq!(verifier.cache.len(), 1);

    let after = |seconds| verifier.verify_at(&token, Timestamp::from_second(now() + seconds).unwrap());
    after(900).expect("good to the end");
    assert_refused(after(900 + LEEWAY_SECONDS + 2), TokenError::Expired);
}

#[test]
fn a_remembered_token_is_refused_before_its_time() {
    let (verifier, token) = (verifier(), token(1));
    verifier.verify(&token).expect("good");

    let earlier = Timestamp::from_second(now() - 60).unwrap();
    assert_refused(verifier.verify_at(&token, earlier), TokenError::Invalid);
}

#[test]
fn a_remembered_token_is_refused_when_its_key_is_gone_or_replaced() {
    let (verifier, token) = (verifier(), token(1));
    let ours = PublicKey { kid: "k1".to_owned(), x: URL_SAFE_NO_PAD.encode(PAIR.public_key_raw()) };
    let other = KeyPair::generate_for(&PKCS_ED25519).expect("a key pair");
    let other = URL_SAFE_NO_PAD.encode(other.public_key_raw());
    verifier.verify(&token).expect("good");

    verifier.set_keys(&[PublicKey { kid: "k2".to_owned(), ..ours.clone() }]);
    assert_refused(verifier.verify(&token), TokenError::UnknownKey);
    verifier.set_keys(std::slice::from_ref(&ours));
    verifier.verify(&token).expect("good again");
    verifier.set_keys(&[PublicKey { x: other, ..ours }]);
    assert_refused(verifier.verify(&token), TokenError::Invalid);
}

#[test]
fn a_remembered_token_stays_so_when_the_same_keys_are_fetched_again() {
    let (verifier, token) = (verifier(), token(1));
    let first = verifier.verify(&token).expect("good");
    verifier
        .set_keys(&[PublicKey { kid: "k1".to_owned(), x: URL_SAFE_NO_PAD.encode(PAIR.public_key_raw()) }]);

    assert!(Arc::ptr_eq(&first, &verifier.verify(&token).expect("good")), "it was not decoded again");
}

#[test]
fn a_refused_token_is_not_remembered() {
    let verifier = verifier();
    let forged = format!("{}x", token(1));
    for _ in 0..2 {
        assert_refused(verifier.verify(&forged), TokenError::Invalid);
    }
    let expired = {
        let mut claims = claims();
        (claims["iat"], claims["exp"]) = (json!(now() - 900), json!(now() - 60));
        sign(&header().to_string(), &claims.to_string())
    };
    assert_refused(verifier.verify(&expired), TokenError::Expired);

    assert_eq!(verifier.cache.len(), 0);
}

#[test]
fn no_more_than_so_many_tokens_are_remembered() {
    let (verifier, token) = (verifier(), token(1));
    verifier.verify(&token).expect("good");
    let signed = verifier.cache.get(&Cache::fingerprint(&token)).expect("remembered");
    let cache = Cache::default();
    for number in 0..TOKENS_MAX * 3 {
        cache.insert(Cache::fingerprint(&number.to_string()), signed.clone());
    }

    assert!(u64::try_from(cache.len()).unwrap() <= TOKENS_MAX, "{}", cache.len());
}

#[test]
fn a_token_that_was_good_is_refused_from_the_moment_on_that_its_revocation_is_known() {
    let verifier = verifier();
    let token = sign(&header().to_string(), &claims().to_string());
    let claims = verifier.verify(&token).expect("good so far");

    // Verified anew, and remembered: both ways are checked.
    for (what, expected) in [
        (Revoked::UserVersion { user: claims.sub, sv: 1 }, None),
        (Revoked::UserVersion { user: claims.sub, sv: 2 }, Some(TokenError::Stale)),
        (Revoked::Session(claims.sid), Some(TokenError::Revoked)),
    ] {
        let entry = Revocation { seq: 1, what, expires_at: now() + 900 };
        verifier.revocations().add(&[entry], Clock::system_now());
        assert_eq!(verifier.verify(&token).err(), expected, "the remembered token");
    }
    let token = sign(&header().to_string(), &with(self::claims(), "jti", json!(Uuid::from_u128(9))));
    assert_refused(verifier.verify(&token), TokenError::Revoked);
}

#[test]
fn tokens_cannot_be_judged_before_keys_and_revocations_are_known() {
    let unknown = Verifier::new(ISSUER);
    assert_eq!(unknown.waits_for(), Some("no token keys yet"));
    let verifier = verifier();
    assert_eq!(verifier.waits_for(), Some("it is not known yet which tokens were revoked"));
    verifier.revocations().heard(Clock::system_now());
    assert_eq!(verifier.waits_for(), None);
}
