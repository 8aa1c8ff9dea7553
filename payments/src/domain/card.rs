//! Card numbers, and everything that may be known of one without it.

use jiff::civil::Date;
use mesh::{auth::PrincipalId, free_text};
use zeroize::{Zeroize, ZeroizeOnDrop};

mesh::typed_id!(
    /// A stored card, as its owner knows it.
    PaymentMethodId,
    "paymentMethods"
);

mesh::typed_id!(
    /// A card in the vault.
    VaultCardId,
    "vaultCards"
);

/// A card number, in memory only: wiped when dropped, never shown.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct Pan(String);

impl std::fmt::Debug for Pan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[redacted]")
    }
}

impl Pan {
    /// A card number; `None` unless it has 12 to 19 digits and their checksum is right (ISO/IEC 7812).
    pub fn parse(number: &str) -> Option<Self> {
        let digits = number.bytes().all(|byte| byte.is_ascii_digit());
        (digits && (12..=19).contains(&number.len()) && free_text::luhn(number.as_bytes()))
            .then(|| Self(number.to_owned()))
    }

    /// The number itself: for the vault and the acquirer.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The first six digits.
    pub fn bin6(&self) -> &str {
        self.0.get(..6).unwrap_or_default()
    }

    /// The last four digits.
    pub fn last4(&self) -> &str {
        self.0.len().checked_sub(4).and_then(|start| self.0.get(start..)).unwrap_or_default()
    }

    /// The card network, by the number's first digits.
    pub fn brand(&self) -> Brand {
        let first =
            |digits: usize| self.0.get(..digits).and_then(|text| text.parse::<u32>().ok()).unwrap_or(0);
        match (first(2), first(4)) {
            (34 | 37, _) => Brand::Amex,
            (40..=49, _) => Brand::Visa,
            (51..=55, _) | (_, 2221..=2720) => Brand::Mastercard,
            (60 | 65 | 81 | 82, _) => Brand::Rupay,
            _ => Brand::Unknown,
        }
    }
}

/// A card network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Brand {
    /// American Express: its CVC has four digits.
    Amex,
    /// Mastercard.
    Mastercard,
    /// `RuPay`.
    Rupay,
    /// Visa.
    Visa,
    /// Any other.
    Unknown,
}

impl Brand {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Amex => "amex",
            Self::Mastercard => "mastercard",
            Self::Rupay => "rupay",
            Self::Visa => "visa",
            Self::Unknown => "unknown",
        }
    }

    /// Digits of its CVC.
    pub fn cvc_length(self) -> usize {
        match self {
            Self::Amex => 4,
            Self::Mastercard | Self::Rupay | Self::Visa | Self::Unknown => 3,
        }
    }
}

/// A card, as the vault keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Card {
    /// Its number.
    pub pan: Pan,
    /// 1 to 12.
    pub exp_month: i16,
    /// Four digits.
    pub exp_year: i16,
    /// The name on it; empty when nobody said.
    pub holder: Holder,
}

/// The name on a card: wiped when dropped, never shown.
#[derive(Clone, Default, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct Holder(pub String);

impl std::fmt::Debug for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[redacted]")
    }
}

impl Card {
    /// Whether its last month was before `today`'s.
    pub fn has_expired(&self, today: Date) -> bool {
        (self.exp_year, self.exp_month) < (today.year(), i16::from(today.month()))
    }
}

/// A stored card, as its owner sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PaymentMethod {
    /// Which one.
    pub id: PaymentMethodId,
    /// Whose.
    pub customer: PrincipalId,
    /// `visa`, `mastercard`, …
    pub brand: String,
    /// The first six digits.
    pub bin6: String,
    /// The last four digits.
    pub last4: String,
    /// 1 to 12.
    pub exp_month: i16,
    /// Four digits.
    pub exp_year: i16,
    /// The same for the same number, in hexadecimal.
    pub fingerprint: String,
    /// Where the vault keeps it.
    pub card: VaultCardId,
    /// When it was stored.
    pub created_at: jiff::Timestamp,
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;

    use super::*;

    #[test]
    fn a_wrong_digit_is_no_card_number() {
        assert!(Pan::parse("4242424242424242").is_some());
        assert!(Pan::parse("4242424242424241").is_none());
        assert!(Pan::parse("42424242 4242424").is_none());
        assert!(Pan::parse("").is_none());
    }

    #[test]
    fn a_card_number_is_never_shown() {
        let pan = Pan::parse("378282246310005").unwrap();

        assert_eq!(format!("{pan:?}"), "[redacted]");
        assert_eq!((pan.brand(), pan.bin6(), pan.last4()), (Brand::Amex, "378282", "0005"));
    }

    #[test]
    fn a_card_is_good_to_the_end_of_its_month() {
        let pan = Pan::parse("4242424242424242").unwrap();
        let card = Card { pan, exp_month: 11, exp_year: 2026, holder: Holder::default() };

        assert!(!card.has_expired(date(2026, 11, 30)));
        assert!(card.has_expired(date(2026, 12, 1)));
    }
}
