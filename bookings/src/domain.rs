//! What a booking is, whatever stores it or asks for it: values in, values out. No time, no randomness, no database in here.

#![warn(clippy::arithmetic_side_effects)]

pub mod booking;
pub mod cancellation;
pub mod catalog;
pub mod flight;
pub mod hold;
pub mod locator;
pub mod saga;

/// Declares an enum whose variants are stored and sent as words.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
        pub enum $name {
            $($(#[$variant_doc])* #[serde(rename = $word)] $variant,)+
        }

        impl $name {
            /// Every variant, in order.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The word that is stored for it.
            pub const fn word(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                }
            }

            /// The variant of a stored word.
            pub fn of_word(word: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|variant| variant.word() == word)
            }
        }
    };
}

use words;

/// Money of one currency: whole minor units, never a fraction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Money {
    /// ISO 4217 code in upper case.
    pub currency: String,
    /// In the currency's minor unit.
    pub minor: i64,
}
