//! Amounts: whole minor units of one currency, never a fraction.

/// The most that one payment may be, in minor units.
pub const AMOUNT_MAX: i64 = 99_999_999_999;

/// The currencies that are accepted: ISO 4217 codes of active currencies.
const CURRENCIES: [&str; 40] = [
    "AED", "ARS", "AUD", "BDT", "BHD", "BRL", "CAD", "CHF", "CLP", "CNY", "COP", "CZK", "DKK", "EGP", "EUR",
    "GBP", "HKD", "HUF", "IDR", "ILS", "INR", "JPY", "KES", "KRW", "KWD", "LKR", "MXN", "MYR", "NOK", "NPR",
    "NZD", "OMR", "PLN", "QAR", "SAR", "SEK", "SGD", "THB", "TRY", "USD",
];

/// A currency that is accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Currency(&'static str);

impl Currency {
    /// The currency with this ISO 4217 code; `None` when it is not accepted.
    pub fn parse(code: &str) -> Option<Self> {
        CURRENCIES.iter().find(|known| **known == code).map(|known| Self(known))
    }

    /// Its ISO 4217 code.
    pub fn code(self) -> &'static str {
        self.0
    }
}

/// An amount of 1 to [`AMOUNT_MAX`] minor units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Money {
    currency: Currency,
    minor: i64,
}

/// Why there is no such amount.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MoneyError {
    /// The currency is not accepted.
    #[error("must be a currency that is accepted")]
    Currency,
    /// The amount is out of range.
    #[error("must be 1 to 99999999999 minor units")]
    Range,
}

impl Money {
    /// This many minor units of this currency.
    ///
    /// # Errors
    ///
    /// [`MoneyError`].
    pub fn new(code: &str, minor: i64) -> Result<Self, MoneyError> {
        let currency = Currency::parse(code).ok_or(MoneyError::Currency)?;
        Self::of(currency, minor).ok_or(MoneyError::Range)
    }

    /// This many minor units of this currency; `None` when out of range.
    pub fn of(currency: Currency, minor: i64) -> Option<Self> {
        (1..=AMOUNT_MAX).contains(&minor).then_some(Self { currency, minor })
    }

    /// The currency.
    pub fn currency(self) -> Currency {
        self.currency
    }

    /// How many minor units.
    pub fn minor(self) -> i64 {
        self.minor
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_positive_and_bounded() {
        assert_eq!(Money::new("INR", 0), Err(MoneyError::Range));
        assert_eq!(Money::new("INR", -1), Err(MoneyError::Range));
        assert_eq!(Money::new("INR", i64::MAX), Err(MoneyError::Range));
        assert_eq!(Money::new("INR", AMOUNT_MAX).map(Money::minor), Ok(AMOUNT_MAX));
        assert_eq!(Money::new("XXX", 1), Err(MoneyError::Currency));
    }

    #[test]
    fn currencies_are_listed_once_in_order() {
        assert!(CURRENCIES.is_sorted_by(|a, b| a < b));
    }
}
