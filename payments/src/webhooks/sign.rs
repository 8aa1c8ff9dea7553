//! How deliveries are signed: in our own way, and in that of Standard Webhooks.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use jiff::Timestamp;
use sha2::Sha256;
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::vault;

/// What a secret begins with, as its owner sees it.
const PREFIX: &str = "whsec_";

/// Bytes of a secret.
pub(crate) const SECRET_BYTES: usize = 32;

/// A secret, in memory only: wiped when dropped, never shown but to its owner.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub(crate) struct Secret([u8; SECRET_BYTES]);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[redacted]")
    }
}

impl Secret {
    pub(crate) fn new(bytes: [u8; SECRET_BYTES]) -> Self {
        Self(bytes)
    }

    /// A new one.
    pub(crate) fn generate() -> Self {
        Self(vault::random())
    }

    pub(crate) fn expose(&self) -> &[u8; SECRET_BYTES] {
        &self.0
    }

    /// As its owner is shown it.
    pub(crate) fn show(&self) -> String {
        format!("{PREFIX}{}", BASE64_STANDARD.encode(self.0))
    }

    fn mac(&self, parts: &[&[u8]]) -> Vec<u8> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes keys of any length");
        for part in parts {
            mac.update(part);
        }
        mac.finalize().into_bytes().to_vec()
    }
}

/// The headers that sign a delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Signed {
    /// `Jetway-Signature`.
    pub(crate) jetway: String,
    /// `webhook-id`.
    pub(crate) id: String,
    /// `webhook-timestamp`.
    pub(crate) timestamp: String,
    /// `webhook-signature`.
    pub(crate) standard: String,
}

/// Signs the body of an event for an attempt at `at`, with every secret that is good then, the newest first.
///
/// Source: <https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md> for `webhook-signature`.
pub(crate) fn sign(secrets: &[Secret], id: &str, at: Timestamp, body: &[u8]) -> Signed {
    let timestamp = at.as_second().to_string();
    let time = timestamp.as_bytes();
    let mut jetway = format!("t={timestamp}");
    let mut standard = Vec::new();
    for secret in secrets {
        jetway.push_str(",v1=");
        jetway.push_str(&hex::encode(secret.mac(&[time, b".", body])));
        let mac = secret.mac(&[id.as_bytes(), b".", time, b".", body]);
        standard.push(format!("v1,{}", BASE64_STANDARD.encode(mac)));
    }
    Signed { jetway, id: id.to_owned(), timestamp, standard: standard.join(" ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_delivery_has_its_known_signatures() {
        let secret = Secret::new([0x2a; SECRET_BYTES]);
        let at = Timestamp::from_second(1_763_726_400).unwrap();

        let signed = sign(std::slice::from_ref(&secret), "id-1", at, br#"{"id":"id-1"}"#);

        assert_eq!(secret.show(), "whsec_KioqKioqKioqKioqKioqKioqKioqKioqKioqKioqKio=");
        // From another implementation: Python's hmac.
        assert_eq!(signed.jetway, JETWAY);
        assert_eq!(signed.standard, STANDARD);
        assert_eq!((signed.id.as_str(), signed.timestamp.as_str()), ("id-1", "1763726400"));
    }

    #[test]
    fn every_good_secret_signs_and_the_newest_is_first() {
        let (new, old) = (Secret::new([1; SECRET_BYTES]), Secret::new([2; SECRET_BYTES]));
        let at = Timestamp::from_second(1_763_726_400).unwrap();
        let alone = |secret: &Secret| sign(std::slice::from_ref(secret), "id", at, b"{}");

        let both = sign(&[new.clone(), old.clone()], "id", at, b"{}");

        let (_, of_old) =
            alone(&old).jetway.split_once(',').map(|(t, v)| (t.to_owned(), v.to_owned())).unwrap();
        assert_eq!(both.jetway, format!("{},{of_old}", alone(&new).jetway));
        assert_eq!(both.standard, format!("{} {}", alone(&new).standard, alone(&old).standard));
    }

    #[test]
    fn a_secret_does_not_show_itself() {
        assert_eq!(format!("{:?}", Secret::new([7; SECRET_BYTES])), "[redacted]");
    }

    const JETWAY: &str = "t=1763726400,v1=2b0e9e21ca3c2eb2f5faa6c8ce50d0be652940066cd43fd390657d09a206a511";
    const STANDARD: &str = "v1,ac6YtXUM9JWWi2LgP+mMut0jPzYQeYnUDNb0Ah5U5dQ=";
}
