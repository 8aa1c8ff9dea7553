//! Secrets that are shared with others, sealed as cards are and bound to their rows as these are.

use zeroize::Zeroizing;

use super::{Dek, DekId, Vault, VaultError, cipher};
use crate::domain::webhook::WebhookSecretId;

/// A secret as stored: encrypted.
#[derive(Clone, Debug)]
pub struct SealedSecret {
    /// Which one.
    pub id: WebhookSecretId,
    /// Under which key.
    pub dek: DekId,
    /// Unique under that key.
    pub nonce: [u8; cipher::NONCE_BYTES],
    /// The secret.
    pub ciphertext: Vec<u8>,
}

impl Vault {
    /// Encrypts a secret.
    ///
    /// # Errors
    ///
    /// [`VaultError::Key`], [`VaultError::Seal`].
    pub async fn seal_secret(
        &self,
        dek: &Dek,
        id: WebhookSecretId,
        secret: &[u8],
    ) -> Result<SealedSecret, VaultError> {
        let key = self.unwrap(dek).await?;
        let nonce = cipher::random();
        let ciphertext =
            cipher::seal(&key, &nonce, secret, &binding(dek, id)).ok_or(VaultError::SealSecret)?;
        Ok(SealedSecret { id, dek: dek.id, nonce, ciphertext })
    }

    /// Decrypts a secret.
    ///
    /// # Errors
    ///
    /// [`VaultError::Key`], [`VaultError::SecretNotAuthentic`].
    pub async fn open_secret(
        &self,
        dek: &Dek,
        sealed: &SealedSecret,
    ) -> Result<Zeroizing<Vec<u8>>, VaultError> {
        let key = self.unwrap(dek).await?;
        cipher::open(&key, &sealed.nonce, &sealed.ciphertext, &binding(dek, sealed.id))
            .ok_or(VaultError::SecretNotAuthentic(sealed.id))
    }
}

/// Other than a card's, so that neither can be put in the place of the other.
fn binding(dek: &Dek, id: WebhookSecretId) -> String {
    format!("v1|{}|{}|{}", dek.merchant, id.name(), dek.id)
}
