//! The test cards: how each number behaves. Any other number declines, so that no real card is ever "approved".

use jiff::civil::Date;

/// Cards that are approved: Visa, Mastercard, American Express.
const APPROVED: [&str; 3] = ["4242424242424242", "5555555555554444", "378282246310005"];

/// Cards that attach and then decline every charge, with the issuer's reason.
const DECLINED: [(&str, &str); 4] = [
    ("4000000000000002", "generic_decline"),
    ("4000000000000341", "generic_decline"),
    ("4000000000009995", "insufficient_funds"),
    ("4000000000000069", "expired_card"),
];

/// The card whose CVC is always wrong.
const WRONG_CVC: &str = "4000000000000127";

/// What an authorisation on this card is answered: `None` approves, else the decline code.
pub fn charge(number: &str) -> Option<&'static str> {
    if APPROVED.contains(&number) || number == WRONG_CVC {
        return None;
    }
    let declined = DECLINED.iter().find(|(card, _)| *card == number);
    Some(declined.map_or("unknown_test_card", |(_, code)| *code))
}

/// What a check of the card is answered: `None` when it is valid, else the decline code.
pub fn verify(number: &str, exp_month: i32, exp_year: i32, cvc: &str, today: Date) -> Option<&'static str> {
    if (exp_year, exp_month) < (i32::from(today.year()), i32::from(today.month())) {
        return Some("expired_card");
    }
    let cvc_length = if number.starts_with("34") || number.starts_with("37") { 4 } else { 3 };
    if number == WRONG_CVC || cvc.len() != cvc_length {
        return Some("incorrect_cvc");
    }
    None
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;

    use super::*;

    #[test]
    fn a_number_that_is_no_test_card_is_never_approved() {
        assert_eq!(charge("4111111111111111"), Some("unknown_test_card"));
        assert_eq!(charge("4242424242424242"), None);
        assert_eq!(charge("4000000000009995"), Some("insufficient_funds"));
    }

    #[test]
    fn a_card_is_good_to_the_end_of_its_month() {
        let verify = |month| verify("4242424242424242", month, 2026, "123", date(2026, 11, 30));

        assert_eq!(verify(11), None);
        assert_eq!(verify(10), Some("expired_card"));
    }

    #[test]
    fn the_cvc_of_american_express_has_four_digits() {
        let today = date(2026, 11, 1);

        assert_eq!(verify("378282246310005", 12, 2030, "1234", today), None);
        assert_eq!(verify("378282246310005", 12, 2030, "123", today), Some("incorrect_cvc"));
        assert_eq!(verify("4000000000000127", 12, 2030, "123", today), Some("incorrect_cvc"));
    }
}
