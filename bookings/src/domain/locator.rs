//! Record locators: six characters that a traveller can read out without being misunderstood.

use std::fmt;

/// No `I`, `O`, `0` or `1`: they are mistaken for each other.
const ALPHABET: [char; 32] = [
    'A', 'B', 'C', 'D', 'E', 'F', 'G', 'H', 'J', 'K', 'L', 'M', 'N', 'P', 'Q', 'R', 'S', 'T', 'U', 'V', 'W',
    'X', 'Y', 'Z', '2', '3', '4', '5', '6', '7', '8', '9',
];

/// What no traveller should have to read out, in letters of the alphabet.
const UNWANTED: [&str; 18] = [
    "ANAL", "ANUS", "ARSE", "BUM", "CUM", "CUNT", "DAMN", "FAG", "FART", "FUCK", "FUK", "HELL", "KKK", "NAZ",
    "PEE", "SEX", "SUCK", "TWAT",
];

/// How many there are of each of the six characters.
pub const CHOICES: u8 = 32;

/// A record locator: 32⁶ ≈ 1.07 × 10⁹ of them, less the unwanted ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Locator(String);

impl Locator {
    /// The locator of six numbers, each taken modulo [`CHOICES`]; `None` when it spells something unwanted.
    pub fn of_draw(draw: [u8; 6]) -> Option<Self> {
        let text: String = draw.iter().filter_map(|number| ALPHABET.get(usize::from(number & 31))).collect();
        let spelled = text.replace('5', "S").replace('3', "E").replace('4', "A");
        let unwanted = UNWANTED.iter().any(|word| spelled.contains(word));
        (!unwanted).then_some(Self(text))
    }

    /// The six characters.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Locator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draw(text: &str) -> [u8; 6] {
        let index = |c: char| u8::try_from(ALPHABET.iter().position(|&a| a == c).unwrap()).unwrap();
        text.chars().map(index).collect::<Vec<_>>().try_into().unwrap()
    }

    #[test]
    fn a_locator_is_six_characters_that_are_not_mistaken_for_others() {
        let locator = Locator::of_draw([0, 31, 32, 255, 8, 13]).unwrap();
        assert_eq!(locator.as_str(), "A9A9JP");
    }

    #[test]
    fn an_unwanted_word_is_drawn_again() {
        for text in ["XXFUCK", "FUCKXX", "X5EXXX", "XS3XXX"] {
            assert_eq!(Locator::of_draw(draw(text)), None, "{text}");
        }
        assert!(Locator::of_draw(draw("K7QX2M")).is_some());
    }
}
