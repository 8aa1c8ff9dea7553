//! Refresh tokens: `art1.` and the base64url of session id, counter and a MAC over both.
//!
//! A token is computed, not stored: the session's key and counter give the same token again, so that a client which lost an answer gets what it
//! lost, and a stolen database holds no token.

use std::fmt;

use aws_lc_rs::hmac;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::SessionId;

/// The version of the form, which the MAC covers too.
const VERSION: &str = "art1";

const ID_LENGTH: usize = 16;
const COUNTER_LENGTH: usize = 8;
const MAC_LENGTH: usize = 32;

/// The secret that a session's refresh tokens are authenticated with: 256 random bits.
pub struct SessionKey(Zeroizing<[u8; SessionKey::LENGTH]>);

impl SessionKey {
    /// Its length in bytes.
    pub const LENGTH: usize = 32;

    /// Takes the bytes; `None` when there are too few or too many.
    pub fn new(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(|bytes| Self(Zeroizing::new(bytes)))
    }

    fn hmac(&self) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, self.0.as_slice())
    }
}

/// A refresh token that was presented; genuine only when [`RefreshToken::is_genuine`] says so.
#[derive(Clone, PartialEq, Eq)]
pub struct RefreshToken {
    session: SessionId,
    counter: i64,
    mac: [u8; MAC_LENGTH],
}

impl fmt::Debug for RefreshToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RefreshToken").field("session", &self.session).finish_non_exhaustive()
    }
}

impl RefreshToken {
    /// The token of a session at a counter.
    pub fn new(session: SessionId, counter: i64, key: &SessionKey) -> Self {
        let tag = hmac::sign(&key.hmac(), &signed(session, counter));
        let mac = tag.as_ref().try_into().expect("HMAC-SHA256 gives 32 bytes");
        Self { session, counter, mac }
    }

    /// Reads a token; `None` when it is not of the form. Each token has one spelling only.
    pub fn parse(text: &str) -> Option<Self> {
        let encoded = text.strip_prefix(VERSION)?.strip_prefix('.')?;
        let bytes = URL_SAFE_NO_PAD.decode(encoded).ok()?;
        let (id, rest) = bytes.split_first_chunk::<ID_LENGTH>()?;
        let (counter, mac) = rest.split_first_chunk::<COUNTER_LENGTH>()?;
        Some(Self {
            session: Uuid::from_bytes(*id).into(),
            counter: i64::from_be_bytes(*counter),
            mac: mac.try_into().ok()?,
        })
    }

    /// The text that is given to the client.
    pub fn to_text(&self) -> String {
        let mut bytes = Vec::with_capacity(ID_LENGTH + COUNTER_LENGTH + MAC_LENGTH);
        bytes.extend_from_slice(self.session.uuid().as_bytes());
        bytes.extend_from_slice(&self.counter.to_be_bytes());
        bytes.extend_from_slice(&self.mac);
        format!("{VERSION}.{}", URL_SAFE_NO_PAD.encode(bytes))
    }

    /// Which session it says it is of.
    pub fn session(&self) -> SessionId {
        self.session
    }

    /// How often it says the session was refreshed.
    pub fn counter(&self) -> i64 {
        self.counter
    }

    /// Whether it was made with this key. Takes the same time whatever the answer.
    pub fn is_genuine(&self, key: &SessionKey) -> bool {
        hmac::verify(&key.hmac(), &signed(self.session, self.counter), &self.mac).is_ok()
    }
}

/// What the MAC covers: version, session id, counter.
fn signed(session: SessionId, counter: i64) -> Vec<u8> {
    [VERSION.as_bytes(), session.uuid().as_bytes(), &counter.to_be_bytes()].concat()
}

#[cfg(test)]
mod tests;
