//! AES-256-GCM with random 96-bit nonces (NIST SP 800-38D).

use aes_gcm::{
    Aes256Gcm, KeyInit as _, Nonce,
    aead::{Aead as _, Payload},
};
use rand::RngCore as _;
use zeroize::Zeroizing;

/// Bytes of a key.
pub(super) const KEY_BYTES: usize = 32;

/// Bytes of a nonce.
pub(super) const NONCE_BYTES: usize = 12;

/// Random bytes from the operating system's generator.
pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    rand::rng().fill_bytes(&mut bytes);
    bytes
}

/// Encrypts `text` and binds it to `binding`.
pub(super) fn seal(
    key: &[u8; KEY_BYTES],
    nonce: &[u8; NONCE_BYTES],
    text: &[u8],
    binding: &str,
) -> Option<Vec<u8>> {
    let payload = Payload { msg: text, aad: binding.as_bytes() };
    Aes256Gcm::new(key.into()).encrypt(&Nonce::from(*nonce), payload).ok()
}

/// Decrypts; `None` when text, nonce, key or binding are not those of [`seal`].
pub(super) fn open(
    key: &[u8; KEY_BYTES],
    nonce: &[u8; NONCE_BYTES],
    ciphertext: &[u8],
    binding: &str,
) -> Option<Zeroizing<Vec<u8>>> {
    let payload = Payload { msg: ciphertext, aad: binding.as_bytes() };
    Aes256Gcm::new(key.into()).decrypt(&Nonce::from(*nonce), payload).ok().map(Zeroizing::new)
}
