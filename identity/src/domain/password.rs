//! Passwords on their way to the hash.

use std::{fmt, sync::Arc};

use unicode_normalization::UnicodeNormalization as _;
use zeroize::{Zeroize as _, Zeroizing};

/// Fewest code points of a password that is chosen (NIST SP 800-63B, 3.1.1.2).
const LENGTH_MIN: usize = 8;

/// Most code points.
const LENGTH_MAX: usize = 128;

/// Most bytes.
const BYTES_MAX: usize = 512;

/// Normalisation makes a text at most this many times longer (Unicode Standard Annex 15), so the buffer never moves and leaves no copy behind.
const NFC_GROWTH_MAX: usize = 3;

/// A password in Unicode normalisation form C, so that the same key strokes match on every keyboard. Wiped from memory with its last clone.
#[derive(Clone)]
pub struct Password(Arc<Zeroizing<String>>);

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password([redacted])")
    }
}

/// Why a password may not be chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PasswordError {
    /// Fewer than 8 code points.
    #[error("must be at least 8 characters")]
    TooShort,
    /// More than 128 code points, or 512 bytes.
    #[error("must be at most 128 characters and 512 bytes")]
    TooLong,
}

impl Password {
    /// A password that is presented to be checked: any text. The argument is wiped.
    pub fn presented(mut text: String) -> Self {
        let mut normal = Zeroizing::new(String::with_capacity(text.len() * NFC_GROWTH_MAX));
        normal.extend(text.nfc());
        text.zeroize();
        Self(Arc::new(normal))
    }

    /// A password that somebody wants to have. The argument is wiped.
    ///
    /// # Errors
    ///
    /// When it is too short or too long. There is no other rule: no character is demanded or refused.
    pub fn chosen(text: String) -> Result<Self, PasswordError> {
        let password = Self::presented(text);
        let length = password.0.chars().count();
        if length < LENGTH_MIN {
            Err(PasswordError::TooShort)
        } else if length > LENGTH_MAX || password.0.len() > BYTES_MAX {
            Err(PasswordError::TooLong)
        } else {
            Ok(password)
        }
    }

    /// What is hashed.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

#[cfg(test)]
mod tests;
