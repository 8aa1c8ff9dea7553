//! Key files, `{"1": "64 hexadecimal digits"}`: 32 bytes for each version. The highest version is the newest, so a key is replaced by adding one.

use std::{
    collections::BTreeMap,
    fmt, io,
    io::Write as _,
    path::{Path, PathBuf},
};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use zeroize::Zeroizing;

/// Length of a key in bytes.
pub const KEY_LENGTH: usize = 32;

/// The keys of a file by their versions; never empty.
pub type Keys = BTreeMap<u32, Zeroizing<[u8; KEY_LENGTH]>>;

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

/// Reads a key file.
///
/// # Errors
///
/// When it cannot be read, or does not hold keys.
pub fn load(path: &Path) -> Result<Keys, KeyFileError> {
    let text = std::fs::read(path)
        .map(Zeroizing::new)
        .map_err(|source| KeyFileError::File { path: path.to_owned(), source })?;
    let wrong = |rule| KeyFileError::Content { path: path.to_owned(), rule };
    let entries: Entries =
        serde_json::from_slice(&text).map_err(|_| wrong("is not a JSON object of version and key"))?;
    let mut keys = Keys::new();
    for (written, digits) in entries.0 {
        let version: u32 = written.parse().map_err(|_| wrong("has a version that is not a number"))?;
        if version.to_string() != written {
            return Err(wrong("has a version with a sign or leading zeros"));
        }
        let mut key = Zeroizing::new([0; KEY_LENGTH]);
        hex::decode_to_slice(digits.as_str(), key.as_mut_slice())
            .map_err(|_| wrong("has a key that is not 64 hexadecimal digits"))?;
        // A key that another one hides is a key that is lost.
        if keys.insert(version, key).is_some() {
            return Err(wrong("has a version twice"));
        }
    }
    if keys.is_empty() { Err(wrong("holds no key")) } else { Ok(keys) }
}

/// Makes a key file with one new key, readable by its owner only. A file that is there already is left as it is.
///
/// # Errors
///
/// When it cannot be written.
pub fn create(path: &Path) -> Result<(), KeyFileError> {
    let create = || {
        let mut key = Zeroizing::new([0; KEY_LENGTH]);
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
