//! The card vault: envelope encryption of cards, and their fingerprints.
//!
//! A key-encryption key, which is in no database, wraps a data-encryption key for each merchant; that one encrypts cards with AES-256-GCM under a
//! random nonce. The associated data binds a ciphertext to its row, so that no ciphertext can be moved to another. Travellers' cards lie under the
//! key of `merchants/jetway`. Nothing but [`crate::acquirer`] is ever given an opened card. The secrets that webhooks are signed with lie under the
//! same keys.

mod cipher;
mod keys;
mod secret;

use std::sync::Arc;

use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::domain::{
    card::{Card, Holder, Pan, VaultCardId},
    webhook::WebhookSecretId,
};

pub(crate) use self::cipher::random;
pub use self::{
    keys::{FileKeys, KeyError, KeyProvider, WrappedKey, create_keys_file},
    secret::SealedSecret,
};

/// Whose key travellers' cards lie under.
pub const MERCHANT: &str = "merchants/jetway";

/// Room for the plaintext of any card, so that it is never copied by growing.
const PLAINTEXT_BYTES: usize = 1024;

mesh::typed_id!(
    /// A data-encryption key.
    DekId,
    "vaultKeys"
);

/// Why the vault cannot do its work. Says nothing of what it holds.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// The card was forgotten.
    #[error("the card was deleted")]
    Deleted,
    /// The ciphertext is not the one that was written for this card: it, its nonce, its key or its row was changed.
    #[error("the ciphertext of card {0} is not authentic")]
    NotAuthentic(VaultCardId),
    /// The plaintext cannot be read.
    #[error("card {0} is not in a form that can be read")]
    Malformed(VaultCardId),
    /// Encryption failed.
    #[error("a card cannot be encrypted")]
    Seal,
    /// The ciphertext is not the one that was written for this secret.
    #[error("the ciphertext of {0:?} is not authentic")]
    SecretNotAuthentic(WebhookSecretId),
    /// Encryption of a secret failed.
    #[error("a secret cannot be encrypted")]
    SealSecret,
    /// A key cannot be wrapped or unwrapped.
    #[error("a vault key cannot be used")]
    Key(#[from] KeyError),
}

/// A data-encryption key as stored: wrapped.
#[derive(Clone, Debug)]
pub struct Dek {
    /// Which one.
    pub id: DekId,
    /// Whose.
    pub merchant: String,
    /// Its bytes, wrapped.
    pub wrapped: WrappedKey,
}

/// A card as stored: encrypted.
#[derive(Clone, Debug)]
pub struct SealedCard {
    /// Which one.
    pub id: VaultCardId,
    /// Under which key.
    pub dek: DekId,
    /// Unique under that key.
    pub nonce: [u8; cipher::NONCE_BYTES],
    /// Number, expiry and holder.
    pub ciphertext: Vec<u8>,
}

/// What is encrypted. Wiped when dropped.
#[derive(Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
struct Plaintext {
    number: String,
    exp_month: i16,
    exp_year: i16,
    holder: String,
}

/// Encrypts and decrypts. Cheap to clone.
#[derive(Clone)]
pub struct Vault {
    keys: Arc<dyn KeyProvider>,
}

impl std::fmt::Debug for Vault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Vault")
    }
}

impl Vault {
    /// A vault with these keys.
    pub fn new(keys: Arc<dyn KeyProvider>) -> Self {
        Self { keys }
    }

    /// The fingerprint of a card number, in hexadecimal: the same for the same number, and useless without the key.
    pub fn fingerprint(&self, pan: &Pan) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(self.keys.fingerprint_key())
            .expect("HMAC takes keys of any length");
        mac.update(pan.expose().as_bytes());
        hex::encode(mac.finalize().into_bytes())
    }

    /// A new data-encryption key for a merchant.
    ///
    /// # Errors
    ///
    /// [`VaultError::Key`].
    pub async fn generate_dek(&self, merchant: &str) -> Result<Dek, VaultError> {
        let id = DekId::generate();
        let key = Zeroizing::new(random::<{ cipher::KEY_BYTES }>());
        let wrapped = self.keys.wrap(&key, &dek_binding(merchant, id)).await?;
        Ok(Dek { id, merchant: merchant.to_owned(), wrapped })
    }

    /// Encrypts a card.
    ///
    /// # Errors
    ///
    /// [`VaultError::Key`], [`VaultError::Seal`].
    pub async fn seal(&self, dek: &Dek, id: VaultCardId, card: &Card) -> Result<SealedCard, VaultError> {
        let key = self.unwrap(dek).await?;
        let mut text = Zeroizing::new(Vec::with_capacity(PLAINTEXT_BYTES));
        let plaintext = Plaintext {
            number: card.pan.expose().to_owned(),
            exp_month: card.exp_month,
            exp_year: card.exp_year,
            holder: card.holder.0.clone(),
        };
        serde_json::to_writer(&mut *text, &plaintext).map_err(|_| VaultError::Seal)?;
        let nonce = random();
        let ciphertext = cipher::seal(&key, &nonce, &text, &card_binding(&dek.merchant, id, dek.id))
            .ok_or(VaultError::Seal)?;
        Ok(SealedCard { id, dek: dek.id, nonce, ciphertext })
    }

    /// Decrypts a card.
    ///
    /// # Errors
    ///
    /// [`VaultError::Key`], [`VaultError::NotAuthentic`], [`VaultError::Malformed`].
    pub async fn open(&self, dek: &Dek, card: &SealedCard) -> Result<Card, VaultError> {
        let key = self.unwrap(dek).await?;
        let binding = card_binding(&dek.merchant, card.id, dek.id);
        let text = cipher::open(&key, &card.nonce, &card.ciphertext, &binding)
            .ok_or(VaultError::NotAuthentic(card.id))?;
        let mut plaintext: Plaintext =
            serde_json::from_slice(&text).map_err(|_| VaultError::Malformed(card.id))?;
        Ok(Card {
            pan: Pan::parse(&plaintext.number).ok_or(VaultError::Malformed(card.id))?,
            exp_month: plaintext.exp_month,
            exp_year: plaintext.exp_year,
            holder: Holder(std::mem::take(&mut plaintext.holder)),
        })
    }

    async fn unwrap(&self, dek: &Dek) -> Result<Zeroizing<[u8; cipher::KEY_BYTES]>, VaultError> {
        Ok(self.keys.unwrap(&dek.wrapped, &dek_binding(&dek.merchant, dek.id)).await?)
    }
}

fn card_binding(merchant: &str, card: VaultCardId, dek: DekId) -> String {
    format!("v1|{merchant}|{card}|{dek}")
}

fn dek_binding(merchant: &str, dek: DekId) -> String {
    format!("v1|{merchant}|{dek}")
}

#[cfg(test)]
mod tests;
