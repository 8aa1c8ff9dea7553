//! Where the vault's outermost keys come from.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use zeroize::Zeroizing;

use super::cipher::{self, KEY_BYTES, NONCE_BYTES};

/// A key, wrapped by a key-encryption key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrappedKey {
    /// Which version of the key-encryption key wraps it.
    pub kek_version: i32,
    /// Nonce and ciphertext.
    pub bytes: Vec<u8>,
}

/// Holds the key-encryption keys: a file here, a key management service elsewhere.
#[tonic::async_trait]
pub trait KeyProvider: Send + Sync + 'static {
    /// Wraps a key with the newest key-encryption key, bound to `binding`.
    ///
    /// # Errors
    ///
    /// [`KeyError`].
    async fn wrap(&self, key: &[u8; KEY_BYTES], binding: &str) -> Result<WrappedKey, KeyError>;

    /// Unwraps what [`KeyProvider::wrap`] wrapped with the same binding.
    ///
    /// # Errors
    ///
    /// [`KeyError`].
    async fn unwrap(
        &self,
        wrapped: &WrappedKey,
        binding: &str,
    ) -> Result<Zeroizing<[u8; KEY_BYTES]>, KeyError>;

    /// The key of card fingerprints. It never changes, or the same card would be two.
    fn fingerprint_key(&self) -> &[u8; KEY_BYTES];
}

/// Why keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be read.
    #[error("{} cannot be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A line is not `<version> <64 hexadecimal digits>` or `fingerprint <64 hexadecimal digits>`.
    #[error("line {line} of {} is not a key", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
    },
    /// The file lacks a key-encryption key or the fingerprint key.
    #[error("{} lacks a key", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// There is no key-encryption key of this version.
    #[error("there is no key-encryption key of version {0}")]
    NoVersion(i32),
    /// The wrapped key was not wrapped by this key for this purpose.
    #[error("a wrapped key is not authentic")]
    NotAuthentic,
}

/// Keys of a file, one a line: `<version> <64 hexadecimal digits>` for key-encryption keys, the highest version in use; `fingerprint <64 hexadecimal
/// digits>` for the fingerprint key.
pub struct FileKeys {
    keks: BTreeMap<i32, Zeroizing<[u8; KEY_BYTES]>>,
    fingerprint: Zeroizing<[u8; KEY_BYTES]>,
}

impl std::fmt::Debug for FileKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FileKeys").field("versions", &self.keks.keys()).finish_non_exhaustive()
    }
}

impl FileKeys {
    /// Reads the file.
    ///
    /// # Errors
    ///
    /// [`KeyError::Read`], [`KeyError::Malformed`], [`KeyError::Missing`].
    pub fn read(path: &Path) -> Result<Self, KeyError> {
        let text = Zeroizing::new(
            fs::read_to_string(path).map_err(|source| KeyError::Read { path: path.to_owned(), source })?,
        );
        let mut keks = BTreeMap::new();
        let mut fingerprint = None;
        for (at, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let malformed = || KeyError::Malformed { path: path.to_owned(), line: at + 1 };
            let (name, digits) = line.trim().split_once(' ').ok_or_else(malformed)?;
            let mut key = Zeroizing::new([0; KEY_BYTES]);
            hex::decode_to_slice(digits.trim(), key.as_mut_slice()).map_err(|_| malformed())?;
            let repeated = if name == "fingerprint" {
                fingerprint.replace(key).is_some()
            } else {
                let version = name.parse().ok().filter(|version| *version > 0).ok_or_else(malformed)?;
                keks.insert(version, key).is_some()
            };
            if repeated {
                return Err(malformed());
            }
        }
        match fingerprint {
            Some(fingerprint) if !keks.is_empty() => Ok(Self { keks, fingerprint }),
            Some(_) | None => Err(KeyError::Missing { path: path.to_owned() }),
        }
    }
}

#[tonic::async_trait]
impl KeyProvider for FileKeys {
    async fn wrap(&self, key: &[u8; KEY_BYTES], binding: &str) -> Result<WrappedKey, KeyError> {
        let (version, kek) = self.keks.last_key_value().ok_or(KeyError::NoVersion(0))?;
        let nonce: [u8; NONCE_BYTES] = cipher::random();
        let ciphertext = cipher::seal(kek, &nonce, key, binding).ok_or(KeyError::NotAuthentic)?;
        Ok(WrappedKey { kek_version: *version, bytes: [nonce.as_slice(), &ciphertext].concat() })
    }

    async fn unwrap(
        &self,
        wrapped: &WrappedKey,
        binding: &str,
    ) -> Result<Zeroizing<[u8; KEY_BYTES]>, KeyError> {
        let kek = self.keks.get(&wrapped.kek_version).ok_or(KeyError::NoVersion(wrapped.kek_version))?;
        let (nonce, ciphertext) = wrapped.bytes.split_first_chunk().ok_or(KeyError::NotAuthentic)?;
        let key = cipher::open(kek, nonce, ciphertext, binding).ok_or(KeyError::NotAuthentic)?;
        let key = key.as_slice().try_into().map_err(|_| KeyError::NotAuthentic)?;
        Ok(Zeroizing::new(key))
    }

    fn fingerprint_key(&self) -> &[u8; KEY_BYTES] {
        &self.fingerprint
    }
}

/// Writes a file with a new key-encryption key of version 1 and a new fingerprint key, readable by its owner only. A file that is there already is
/// left alone: without its keys no stored card can be read.
///
/// # Errors
///
/// When the file cannot be written.
pub fn create_keys_file(path: &Path) -> io::Result<()> {
    if path.exists() {
        return Ok(());
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // Made with mode 0600, and put in place whole, so that a crash leaves no half of a file behind.
    let mut file = tempfile::NamedTempFile::new_in(parent)?;
    let key = || Zeroizing::new(hex::encode(cipher::random::<KEY_BYTES>()));
    let text = Zeroizing::new(format!("1 {}\nfingerprint {}\n", *key(), *key()));
    file.write_all(text.as_bytes())?;
    file.as_file().sync_all()?;
    match file.persist_noclobber(path) {
        Ok(_) => Ok(()),
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error.error),
    }
}
