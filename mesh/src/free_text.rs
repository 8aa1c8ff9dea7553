//! What free text of a request must not hold: a card number belongs into a vault, not into a remark.

/// Fewest digits of a card number that is looked for. The shorter ones of ISO/IEC 7812 cannot be told from other numbers.
const LENGTH_MIN: usize = 13;

/// Most digits of a card number (ISO/IEC 7812).
const LENGTH_MAX: usize = 19;

/// Length of a UUID in its usual form.
const UUID_LENGTH: usize = 36;

/// Whether a text holds what looks like a card number: 13 to 19 digits that begin with 3 to 6 and pass the checksum.
///
/// The digits may be in groups with spaces or hyphens between them. Every window of whole groups is looked at, so that other numbers before or behind a
/// card number do not hide it. Any other character ends a window. UUIDs are left out: their hyphens would join digits that do not belong together.
pub fn holds_card_number(text: &str) -> bool {
    let bytes = text.as_bytes();
    let mut groups: Vec<&[u8]> = Vec::new();
    let mut at = 0_usize;
    while let Some(byte) = bytes.get(at) {
        let rest = bytes.get(at..).unwrap_or_default();
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        // Groups are taken whole, so a UUID never begins in the middle of one.
        let length = if starts_with_uuid(rest) {
            if any_window(&groups) {
                return true;
            }
            groups.clear();
            UUID_LENGTH
        } else if digits > 0 {
            groups.push(rest.get(..digits).unwrap_or_default());
            digits
        } else {
            if !matches!(byte, b' ' | b'-') {
                if any_window(&groups) {
                    return true;
                }
                groups.clear();
            }
            1
        };
        at = at.saturating_add(length);
    }
    any_window(&groups)
}

/// The checksum of ISO/IEC 7812 (Luhn), over ASCII digits.
pub fn luhn(digits: &[u8]) -> bool {
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

/// Whether any neighbouring groups are a card number together.
fn any_window(mut groups: &[&[u8]]) -> bool {
    while let Some((first, rest)) = groups.split_first() {
        let mut digits = first.to_vec();
        let mut behind = rest.iter();
        while digits.len() <= LENGTH_MAX {
            if is_card_like(&digits) {
                return true;
            }
            let Some(group) = behind.next() else { break };
            digits.extend_from_slice(group);
        }
        groups = rest;
    }
    false
}

fn is_card_like(digits: &[u8]) -> bool {
    (LENGTH_MIN..=LENGTH_MAX).contains(&digits.len())
        && matches!(digits.first(), Some(b'3'..=b'6'))
        && luhn(digits)
}

/// Whether a UUID stands at the beginning, and ends where it should.
fn starts_with_uuid(text: &[u8]) -> bool {
    let Some((uuid, behind)) = text.split_at_checked(UUID_LENGTH) else { return false };
    let whole = behind.first().is_none_or(|byte| !byte.is_ascii_digit());
    whole
        && uuid.iter().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => *byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_card_number_is_found_however_it_is_grouped() {
        for text in [
            "4242424242424242",
            "card 4242 4242-4242 4242, please",
            "3782 822463 10005",
            "x4242424242424242x",
            "4242  4242  4242  4242",
        ] {
            assert!(holds_card_number(text), "{text}");
        }
    }

    #[test]
    fn other_numbers_around_a_card_number_do_not_hide_it() {
        for text in [
            "12 4242424242424242",
            "4242424242424242 12",
            "7 4242 4242 4242 4242 123",
            "2026-11-21 4242-4242-4242-4242",
            "00000000000000000000 4242424242424242",
            "bookings/42424242-4242-4242-8242-424242424243 4242424242424242",
        ] {
            assert!(holds_card_number(text), "{text}");
        }
    }

    #[test]
    fn what_is_no_card_number_is_let_through() {
        for text in [
            "",
            "two seats, 42",
            "4242424242424241",
            "order 9242424242424247",
            "4242,4242,4242,4242",
            "42424242424242420000",
            "bookings/42424242-4242-4242-8242-424242424242",
            "42424242-4242-4242-8242-424242424242",
        ] {
            assert!(!holds_card_number(text), "{text}");
        }
    }

    #[test]
    fn what_only_resembles_a_uuid_hides_nothing() {
        assert!(holds_card_number("42424242-4242-4242-4242-4242424242424242"));
        assert!(holds_card_number("4242424242424242-4242-4242-4242-424242424242"));
    }

    #[test]
    fn a_long_text_of_digits_is_looked_through_at_once() {
        assert!(!holds_card_number(&"1 ".repeat(100_000)));
        assert!(!holds_card_number(&"1".repeat(100_000)));
    }
}
