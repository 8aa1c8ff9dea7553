//! Keys that encrypt keys: what keeps signing keys and session keys unreadable in the database and its backups.
//!
//! They come from a file, `{"1": "64 hexadecimal digits"}`: 32 bytes for each version. The highest version encrypts, all of them decrypt, so a
//! key is replaced by adding one. What is encrypted (AES-256-GCM) is bound to its place: a value copied into another row does not open.

use std::{
    collections::BTreeMap,
    fmt, io,
    io::Write as _,
    path::{Path, PathBuf},
};

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use zeroize::Zeroizing;

/// Length of a key in bytes.
const KEY_LENGTH: usize = 32;

/// Length of the version in front of what is encrypted.
const VERSION_LENGTH: usize = 4;

/// Why a key file could not be used. Says nothing of the keys.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// It cannot be read or written.
    #[error("the key file {} cannot be used", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is not what it should be.
    #[error("the key file {} {rule}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// The broken rule.
        rule: &'static str,
    },
}

/// What is encrypted cannot be opened: its key is not in the file, it was altered, or it belongs elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an encrypted value cannot be opened with the keys of the key file")]
pub struct OpenError;

/// The members of a key file in order, those of one name twice too, which a map would hide.
struct Entries(Vec<(String, Zeroizing<String>)>);

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;

        impl<'de> Visitor<'de> for Members {
            type Value = Entries;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of version and key")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
                let mut members = Vec::new();
                while let Some((version, digits)) = map.next_entry::<String, String>()? {
                    members.push((version, Zeroizing::new(digits)));
                }
                Ok(Entries(members))
            }
        }

        deserializer.deserialize_map(Members)
    }
}

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
        let text = std::fs::read(path)
            .map(Zeroizing::new)
            .map_err(|source| KeyFileError::File { path: path.to_owned(), source })?;
        let wrong = |rule| KeyFileError::Content { path: path.to_owned(), rule };
        let entries: Entries =
            serde_json::from_slice(&text).map_err(|_| wrong("is not a JSON object of version and key"))?;
        let mut keys = BTreeMap::new();
        for (written, digits) in entries.0 {
            let version: u32 = written.parse().map_err(|_| wrong("has a version that is not a number"))?;
            if version.to_string() != written {
                return Err(wrong("has a version with a sign or leading zeros"));
            }
            let mut bytes = Zeroizing::new([0; KEY_LENGTH]);
            hex::decode_to_slice(digits.as_str(), bytes.as_mut_slice())
                .map_err(|_| wrong("has a key that is not 64 hexadecimal digits"))?;
            let key = RandomizedNonceKey::new(&AES_256_GCM, bytes.as_slice())
                .map_err(|_| wrong("has a key that cannot be used"))?;
            // A key that another one hides is a key that is lost.
            if keys.insert(version, key).is_some() {
                return Err(wrong("has a version twice"));
            }
        }
        if keys.is_empty() { Err(wrong("holds no key")) } else { Ok(Self { keys }) }
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

/// Makes a key file with one new key, readable by its owner only. A file that is there already is left as it is.
///
/// # Errors
///
/// When it cannot be written.
pub fn create_file(path: &Path) -> Result<(), KeyFileError> {
    let create = || {
        let mut key = Zeroizing::new([0_u8; KEY_LENGTH]);
        aws_lc_rs::rand::fill(key.as_mut_slice()).map_err(|_| io::Error::other("no random numbers"))?;
        let digits = Zeroizing::new(hex::encode(key.as_slice()));
        let parent = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
        // Made with mode 0600, and put in place whole, so that a crash leaves no half of a key behind.
        let mut file = tempfile::NamedTempFile::new_in(parent)?;
        writeln!(file, "{{\"1\": \"{}\"}}", digits.as_str())?;
        file.as_file().sync_all()?;
        match file.persist_noclobber(path) {
            Ok(_) => Ok(()),
            Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(error.error),
        }
    };
    if path.exists() {
        return Ok(());
    }
    create().map_err(|source| KeyFileError::File { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests;
