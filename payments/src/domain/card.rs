//! Card numbers, and everything that may be known of one without it.

use jiff::civil::Date;
use mesh::auth::PrincipalId;
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
        (digits && (12..=19).contains(&number.len()) && luhn(number.as_bytes()))
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

/// Whether free text holds what looks like a card number: 13 to 19 digits, spaces and hyphens between them aside, that begin like one and have the
/// right checksum. UUIDs are left out: their hyphens would join digits that do not belong together.
pub fn holds_card_number(text: &str) -> bool {
    let mut run: Vec<u8> = Vec::new();
    let ends = |run: &mut Vec<u8>| {
        let found = is_card_like(run);
        run.clear();
        found
    };
    let bytes = text.as_bytes();
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        if is_uuid(bytes.get(at..at.saturating_add(36)).unwrap_or_default()) {
            if ends(&mut run) {
                return true;
            }
            at = at.saturating_add(36);
            continue;
        }
        match byte {
            b'0'..=b'9' => run.push(*byte),
            b' ' | b'-' => {}
            _ => {
                if ends(&mut run) {
                    return true;
                }
            }
        }
        at = at.saturating_add(1);
    }
    ends(&mut run)
}

fn is_card_like(digits: &[u8]) -> bool {
    (13..=19).contains(&digits.len()) && matches!(digits.first(), Some(b'3'..=b'6')) && luhn(digits)
}

fn is_uuid(text: &[u8]) -> bool {
    text.len() == 36
        && text.iter().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => *byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

/// The checksum of ISO/IEC 7812, over ASCII digits.
fn luhn(digits: &[u8]) -> bool {
    let sum = digits.iter().rev().enumerate().fold(0_u32, |sum, (place, byte)| {
        let digit = u32::from(byte.saturating_sub(b'0'));
        let doubled = digit.saturating_mul(2);
        let value = match place % 2 {
            0 => digit,
            _ if doubled > 9 => doubled.saturating_sub(9),
            _ => doubled,
        };
        sum.saturating_add(value)
    });
    sum % 10 == 0
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
    fn card_numbers_are_found_in_text_and_ids_are_not_taken_for_them() {
        assert!(holds_card_number("card 4242 4242-4242 4242, please"));
        assert!(holds_card_number("4242424242424242"));
        assert!(!holds_card_number("4242424242424241"));
        assert!(!holds_card_number("order 9242424242424247"));
        assert!(!holds_card_number("bookings/42424242-4242-4242-8242-424242424242"));
        assert!(!holds_card_number("two seats, 42"));
    }

    #[test]
    fn a_card_is_good_to_the_end_of_its_month() {
        let pan = Pan::parse("4242424242424242").unwrap();
        let card = Card { pan, exp_month: 11, exp_year: 2026, holder: Holder::default() };

        assert!(!card.has_expired(date(2026, 11, 30)));
        assert!(card.has_expired(date(2026, 12, 1)));
    }
}
