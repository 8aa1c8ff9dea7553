//! Keys that encrypt keys: what keeps signing keys and session keys unreadable in the database and its backups.
//!
//! They come from a [key file](mesh::key_file). The newest encrypts, all of them decrypt. What is encrypted (AES-256-GCM) is bound to its place: a value copied into another row does not open.

use std::{collections::BTreeMap, fmt, path::Path};

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use mesh::key_file::{self, KeyFileError};
use zeroize::Zeroizing;

/// Length of the version in front of what is encrypted.
const VERSION_LENGTH: usize = 4;

/// What is encrypted cannot be opened: its key is not in the file, it was altered, or it belongs elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an encrypted value cannot be opened with the keys of the key file")]
pub struct OpenError;

/// The keys of a key file.
pub struct KeyRing {
    keys: BTreeMap<u32, RandomizedNonceKey>,
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyRing").field("versions", &self.keys.keys()).finish_non_exhaustive()
    }
}

impl KeyRing {
    /// Reads a key file.
    ///
    /// # Errors
    ///
    /// When it cannot be read, or does not hold keys.
    pub fn load(path: &Path) -> Result<Self, KeyFileError> {
        let key = |bytes: &[u8]| {
            RandomizedNonceKey::new(&AES_256_GCM, bytes).expect("a key of AES-256 has 32 bytes")
        };
        let keys = key_file::load(path)?;
        Ok(Self { keys: keys.iter().map(|(version, bytes)| (*version, key(bytes.as_slice()))).collect() })
    }

    /// Encrypts `secret` with the newest key. `place` says where the result will be kept, and must be said again to open it.
    ///
    /// The result is the version, the nonce and the ciphertext with its tag.
    pub fn seal(&self, place: &str, secret: &[u8]) -> Vec<u8> {
        let (version, key) = self.keys.last_key_value().expect("a key ring has a key");
        let mut ciphertext = secret.to_vec();
        let nonce = key
            .seal_in_place_append_tag(Aad::from(place.as_bytes()), &mut ciphertext)
            .expect("a short text can be encrypted");
        [&version.to_be_bytes(), nonce.as_ref().as_slice(), &ciphertext].concat()
    }

    /// Decrypts what [`KeyRing::seal`] gave for the same place.
    ///
    /// # Errors
    ///
    /// See [`OpenError`].
    pub fn open(&self, place: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        let (version, rest) = sealed.split_first_chunk::<VERSION_LENGTH>().ok_or(OpenError)?;
        let (nonce, ciphertext) = rest.split_first_chunk::<NONCE_LEN>().ok_or(OpenError)?;
        let key = self.keys.get(&u32::from_be_bytes(*version)).ok_or(OpenError)?;
        let mut text = Zeroizing::new(ciphertext.to_vec());
        let length = key
            .open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::from(place.as_bytes()), &mut text)
            .map_err(|_| OpenError)?
            .len();
        text.truncate(length);
        Ok(text)
    }
}

#[cfg(test)]
mod tests;
