//! Access tokens: the only place that decodes one.
//!
//! Tokens are JWTs (RFC 9068) signed with Ed25519. Keys come from the issuer as a JSON Web Key Set, are kept for a day when the issuer is down, and
//! are fetched again at most every thirty seconds when a token names a key that is not among them.
//!
//! A signature is checked once for each token, see [`cache`]; times, whether its key is still one, and whether it was revoked ([`revocations`]), on every use.

mod cache;
pub(crate) mod feed;
pub mod revocations;

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

use arc_swap::ArcSwap;
use jiff::Timestamp;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde::Deserialize;
use tokio::sync::Notify;
use uuid::Uuid;

pub use self::revocations::{Revocation, Revocations, Revoked};

use self::cache::{Cache, Signed};
use crate::clock::Clock;

/// Longest token that is looked at, in bytes.
pub const LENGTH_MAX: usize = 8 * 1024;

/// Clocks may differ by this much, in seconds.
pub const LEEWAY_SECONDS: i64 = 5;

/// Longest life that a token may claim, in seconds.
pub const LIFE_SECONDS_MAX: i64 = 3600;

/// Keys may be fetched out of turn this often, in seconds.
const FETCH_INTERVAL_SECONDS: i64 = 30;

/// How long keys are believed when the issuer does not answer, in seconds.
const STALE_SECONDS_MAX: i64 = 24 * 3600;

/// The value of the `aud` claim: one realm, one audience.
pub const AUDIENCE: &str = "jetway";

/// Header members that could point a verifier at somebody else's key.
const FORBIDDEN_HEADERS: [&str; 6] = ["crit", "jku", "jwk", "x5u", "x5c", "b64"];

/// What a valid token says.
#[derive(Clone, Debug, Deserialize)]
pub struct Claims {
    /// The user.
    pub sub: Uuid,
    /// The session.
    pub sid: Uuid,
    /// The token itself.
    pub jti: Uuid,
    /// When it was issued, in Unix seconds.
    pub iat: i64,
    /// When it begins to be good, in Unix seconds.
    pub nbf: i64,
    /// When it ends, in Unix seconds.
    pub exp: i64,
    /// When the user last proved who they are, in Unix seconds.
    pub auth_time: i64,
    /// The version of the user's rights.
    pub sv: i64,
    /// The user's roles.
    #[serde(default)]
    pub roles: Vec<String>,
}

/// Why a token is refused. Says nothing of the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not a token of ours at all.
    #[error("the access token is malformed")]
    Malformed,
    /// Signed by nobody that we know.
    #[error("the access token is signed with an unknown key")]
    UnknownKey,
    /// Altered, expired, not yet valid, or for somebody else.
    #[error("the access token is not valid")]
    Invalid,
    /// Out of date.
    #[error("the access token has expired")]
    Expired,
    /// Its session is over, or its key is not to be trusted.
    #[error("the access token was revoked")]
    Revoked,
    /// What its user may do has changed since.
    #[error("the access token is out of date; refresh it")]
    Stale,
    /// No keys were fetched yet.
    #[error("token keys are not available yet")]
    NoKeys,
    /// Not looked at: see [`Verifier::verify_if`].
    #[error("the access token was not checked")]
    NotChecked,
}

/// One public key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey {
    /// What tokens call it.
    pub kid: String,
    /// 32 bytes, base64url without padding.
    pub x: String,
}

/// One public key, ready to verify with.
struct Key {
    public: PublicKey,
    decoding: DecodingKey,
}

/// Keys by what tokens call them.
type Keys = HashMap<String, Arc<Key>>;

/// Verifies tokens. Cheap to clone; clones share their keys and what they remember.
#[derive(Clone)]
pub struct Verifier {
    issuer: Arc<str>,
    keys: Arc<ArcSwap<Keys>>,
    cache: Arc<Cache>,
    revocations: Revocations,
    fetched_at: Arc<AtomicI64>,
    /// When keys were last asked for out of turn: an issuer that does not answer is not asked more often than one that does.
    wanted_at: Arc<AtomicI64>,
    wanted: Arc<Notify>,
}

impl Verifier {
    /// A verifier of tokens by `issuer`, without any keys yet.
    pub fn new(issuer: &str) -> Self {
        Self {
            issuer: issuer.into(),
            keys: Arc::default(),
            cache: Arc::default(),
            revocations: Revocations::default(),
            fetched_at: Arc::default(),
            wanted_at: Arc::default(),
            wanted: Arc::default(),
        }
    }

    /// Replaces the keys. Keys that cannot be read are left out. Tokens that were signed with a key that is gone are good no more.
    pub fn set_keys(&self, keys: &[PublicKey]) {
        let old = self.keys.load();
        let keys = keys
            .iter()
            .filter_map(|public| {
                let key = match old.get(&public.kid) {
                    Some(known) if known.public == *public => Arc::clone(known),
                    Some(_) | None => {
                        let decoding = DecodingKey::from_ed_components(&public.x).ok()?;
                        Arc::new(Key { public: public.clone(), decoding })
                    }
                };
                Some((public.kid.clone(), key))
            })
            .collect();
        self.keys.store(Arc::new(keys));
        self.fetched_at.store(Clock::system_now().as_second(), Ordering::Relaxed);
    }

    /// Whether there are keys to verify with.
    pub fn has_keys(&self) -> bool {
        !self.keys.load().is_empty()
    }

    /// The tokens that are good no more.
    pub fn revocations(&self) -> &Revocations {
        &self.revocations
    }

    /// What has to come before tokens can be judged; `None` when all is there.
    pub fn waits_for(&self) -> Option<&'static str> {
        if !self.has_keys() {
            Some("no token keys yet")
        } else if self.revocations.age().is_none() {
            Some("it is not known yet which tokens were revoked")
        } else {
            None
        }
    }

    /// Asks for the keys to be fetched, unless they just were, or were just asked for.
    fn want_keys(&self, now: i64) {
        let asked = self.wanted_at.load(Ordering::Relaxed);
        if now - asked.max(self.fetched_at.load(Ordering::Relaxed)) >= FETCH_INTERVAL_SECONDS
            && self.wanted_at.compare_exchange(asked, now, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        {
            self.wanted.notify_one();
        }
    }

    /// Completes when a token named a key that is not there and the keys are old enough to be fetched again.
    pub(crate) async fn keys_wanted(&self) {
        self.wanted.notified().await;
    }

    /// Checks form, signature, issuer, audience and times, and that it was not revoked.
    ///
    /// # Errors
    ///
    /// Why the token is refused, without a word of it.
    pub fn verify(&self, token: &str) -> Result<Arc<Claims>, TokenError> {
        self.verify_at(token, Clock::system_now())
    }

    /// As [`Self::verify`], but asks before the work of checking a token that is not remembered.
    ///
    /// # Errors
    ///
    /// Why the token is refused, or [`TokenError::NotChecked`].
    pub fn verify_if(
        &self,
        token: &str,
        may_check: impl FnOnce() -> bool,
    ) -> Result<Arc<Claims>, TokenError> {
        self.verify_if_at(token, Clock::system_now(), may_check)
    }

    fn verify_at(&self, token: &str, now: Timestamp) -> Result<Arc<Claims>, TokenError> {
        self.verify_if_at(token, now, || true)
    }

    fn verify_if_at(
        &self,
        token: &str,
        now: Timestamp,
        may_check: impl FnOnce() -> bool,
    ) -> Result<Arc<Claims>, TokenError> {
        if token.len() > LENGTH_MAX {
            return Err(TokenError::Malformed);
        }
        let fingerprint = Cache::fingerprint(token);
        let keys = self.keys.load();
        if let Some(known) = self.cache.get(&fingerprint) {
            if is_current(&keys, &known.key) {
                self.check_now(&known, now)?;
                return Ok(known.claims);
            }
            self.cache.remove(&fingerprint);
        }
        if !may_check() {
            return Err(TokenError::NotChecked);
        }
        let signed = self.decode(token, &keys, now)?;
        self.check_now(&signed, now)?;
        let claims = Arc::clone(&signed.claims);
        self.cache.insert(fingerprint, signed);
        Ok(claims)
    }

    /// Checks whatever may end a token that was good before: for the remembered and the new alike, on every use.
    fn check_now(&self, token: &Signed, now: Timestamp) -> Result<(), TokenError> {
        if self.is_stale(now) {
            return Err(TokenError::NoKeys);
        }
        check_times(&token.claims, now)?;
        self.revocations.check(&token.claims, &token.key.public.kid)
    }

    fn is_stale(&self, now: Timestamp) -> bool {
        now.as_second() - self.fetched_at.load(Ordering::Relaxed) > STALE_SECONDS_MAX
    }

    /// Checks everything that time does not change.
    fn decode(&self, token: &str, keys: &Keys, now: Timestamp) -> Result<Signed, TokenError> {
        let kid = key_id(token)?;
        if keys.is_empty() || self.is_stale(now) {
            return Err(TokenError::NoKeys);
        }
        let Some(key) = keys.get(&kid) else {
            self.want_keys(now.as_second());
            return Err(TokenError::UnknownKey);
        };
        let mut validation = Validation::new(Algorithm::EdDSA);
        // Times are checked on every use of the token: see `check_times`.
        validation.validate_exp = false;
        validation.validate_nbf = false;
        validation.set_issuer(&[&self.issuer]);
        validation.set_audience(&[AUDIENCE]);
        validation.set_required_spec_claims(&["exp", "nbf", "iat", "iss", "aud", "sub"]);
        let decoded = jsonwebtoken::decode::<Claims>(token, &key.decoding, &validation)
            .map_err(|_| TokenError::Invalid)?;
        Ok(Signed { claims: Arc::new(decoded.claims), key: Arc::clone(key) })
    }
}

/// Whether a token's key is still among the keys: not replaced by another of the same name either.
fn is_current(keys: &Keys, key: &Arc<Key>) -> bool {
    keys.get(&key.public.kid).is_some_and(|current| Arc::ptr_eq(current, key))
}

fn check_times(claims: &Claims, now: Timestamp) -> Result<(), TokenError> {
    let now = now.as_second();
    if claims.exp < now - LEEWAY_SECONDS {
        return Err(TokenError::Expired);
    }
    let life = claims.exp.checked_sub(claims.iat).ok_or(TokenError::Invalid)?;
    let begun = claims.iat.max(claims.nbf) <= now + LEEWAY_SECONDS;
    if begun && (0..=LIFE_SECONDS_MAX).contains(&life) { Ok(()) } else { Err(TokenError::Invalid) }
}

/// The key id of a token whose header says what ours do and nothing that could mislead: one `alg`, `typ` and `kid`.
fn key_id(token: &str) -> Result<String, TokenError> {
    if token.len() > LENGTH_MAX || token.bytes().filter(|byte| *byte == b'.').count() != 2 {
        return Err(TokenError::Malformed);
    }
    let header = header_members(token).ok_or(TokenError::Malformed)?;
    let member =
        |name: &str| header.iter().find(|(key, _)| key == name).and_then(|(_, value)| value.as_str());
    let mut names: Vec<_> = header.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    let repeated = names.windows(2).any(|pair| pair[0] == pair[1]);
    let kind = member("typ").unwrap_or_default().to_ascii_lowercase();
    let kid = member("kid").unwrap_or_default();
    let kid_is_plain = (1..=64).contains(&kid.len())
        && kid.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-');
    let is_ours = !repeated
        && member("alg") == Some("EdDSA")
        && matches!(kind.as_str(), "at+jwt" | "application/at+jwt")
        && kid_is_plain
        && !names.iter().any(|name| FORBIDDEN_HEADERS.contains(name));
    if is_ours { Ok(kid.to_owned()) } else { Err(TokenError::Malformed) }
}

/// The members of the header in order, repeated ones too, which a map would hide.
fn header_members(token: &str) -> Option<Vec<(String, serde_json::Value)>> {
    use base64::Engine as _;

    struct Members;
    impl<'de> serde::de::Visitor<'de> for Members {
        type Value = Vec<(String, serde_json::Value)>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a JSON object")
        }

        fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut members = Vec::new();
            while let Some(member) = map.next_entry()? {
                members.push(member);
            }
            Ok(members)
        }
    }

    let encoded = token.split('.').next()?;
    let header = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(encoded).ok()?;
    let mut deserializer = serde_json::Deserializer::from_slice(&header);
    let members = serde::Deserializer::deserialize_map(&mut deserializer, Members).ok()?;
    deserializer.end().ok()?;
    Some(members)
}

#[cfg(test)]
mod tests;
