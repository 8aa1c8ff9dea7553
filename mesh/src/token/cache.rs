//! Tokens whose signature has been checked already: checking one costs more than all the rest of a small call.
//!
//! Only what does not change with time is remembered: that this token was signed with that key, and what it says. Refused tokens are not remembered,
//! so nobody can push good ones out with bad ones. A token itself is never kept, only its SHA-256.

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use metrics::Counter;
use quick_cache::{DefaultHashBuilder, UnitWeighter, sync::DefaultLifecycle};

use super::{Claims, Key};

/// Most tokens that one verifier remembers; those that are used least make room.
pub(super) const TOKENS_MAX: u64 = 10_000;

/// How many tokens there is room for from the start.
const TOKENS_EXPECTED: usize = 256;

/// A token by its SHA-256.
pub(super) type Fingerprint = [u8; 32];

/// A token with a good signature.
#[derive(Clone)]
pub(super) struct Signed {
    /// What it says.
    pub(super) claims: Arc<Claims>,
    /// What it was signed with.
    pub(super) key: Arc<Key>,
}

/// The tokens with a good signature that were seen of late.
pub(super) struct Cache {
    tokens: quick_cache::sync::Cache<Fingerprint, Signed>,
    hits: Counter,
    misses: Counter,
}

impl Default for Cache {
    fn default() -> Self {
        let tokens = quick_cache::sync::Cache::with(
            TOKENS_EXPECTED,
            TOKENS_MAX,
            UnitWeighter,
            DefaultHashBuilder::default(),
            DefaultLifecycle::default(),
        );
        // Looked up once: this is on the way of every call.
        let hits = metrics::counter!("token_cache_total", "result" => "hit");
        let misses = metrics::counter!("token_cache_total", "result" => "miss");
        Self { tokens, hits, misses }
    }
}

impl Cache {
    /// What a token is remembered by.
    pub(super) fn fingerprint(token: &str) -> Fingerprint {
        let mut fingerprint = Fingerprint::default();
        fingerprint.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
        fingerprint
    }

    /// What is known of a token.
    pub(super) fn get(&self, fingerprint: &Fingerprint) -> Option<Signed> {
        let found = self.tokens.get(fingerprint);
        if found.is_some() { &self.hits } else { &self.misses }.increment(1);
        found
    }

    /// Remembers a token with a good signature.
    pub(super) fn insert(&self, fingerprint: Fingerprint, signed: Signed) {
        self.tokens.insert(fingerprint, signed);
    }

    /// Forgets a token.
    pub(super) fn remove(&self, fingerprint: &Fingerprint) {
        self.tokens.remove(fingerprint);
    }

    /// How many tokens are remembered.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.tokens.len()
    }
}
