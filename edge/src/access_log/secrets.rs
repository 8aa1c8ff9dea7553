//! What a client wrote where it does not belong: a card number or a token, in a path or a `User-Agent`.

use std::borrow::Cow;

use mesh::free_text::holds_card_number;

/// Fewest digits of a card number.
const CARD_DIGITS_MIN: usize = 13;

/// How every JSON Web Token begins, and its claims too: `{"` in base64.
const TOKEN: &[u8] = b"eyJ";

/// Whether a text, percent-encoded or not, holds what looks like a card number or a token.
pub(super) fn holds_any(text: &[u8]) -> bool {
    let text = decoded(text);
    // Most texts have too few digits to look any closer.
    let digits = text.iter().filter(|byte| byte.is_ascii_digit()).count();
    (digits >= CARD_DIGITS_MIN && holds_card_number(&String::from_utf8_lossy(&text)))
        || text.windows(TOKEN.len()).any(|window| window == TOKEN)
}

/// Without percent-encoding, as far as it is any.
fn decoded(text: &[u8]) -> Cow<'_, [u8]> {
    if !text.contains(&b'%') {
        return Cow::Borrowed(text);
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((byte, behind)) = rest.split_first() {
        let escaped = behind.split_first_chunk::<2>().filter(|_| *byte == b'%');
        let value = escaped.and_then(|(digits, behind)| {
            let digits = std::str::from_utf8(digits).ok()?;
            Some((u8::from_str_radix(digits, 16).ok()?, behind))
        });
        let (byte, behind) = value.unwrap_or((*byte, behind));
        bytes.push(byte);
        rest = behind;
    }
    Cow::Owned(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_card_number_and_a_token_are_found_however_they_are_written() {
        for text in [
            "/api/v1/cards/4242424242424242",
            "/api/v1/cards/4242%204242%2D4242 4242",
            "/api/v1/cards/%34%32%34%32424242424242",
            "shop/1.0 (card 4242-4242-4242-4242)",
            "/verify/eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiIxIn0.c2ln",
            "/verify/%65yJhbGciOiJFZERTQSJ9",
        ] {
            assert!(holds_any(text.as_bytes()), "{text}");
        }
    }

    #[test]
    fn what_is_neither_is_logged() {
        for text in [
            "/api/v1/holds/0198c0de-0000-7000-8000-000000000001:release",
            "/api/v1/flights/2026112112345678",
            "/100%/%zz/%4",
            "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36",
        ] {
            assert!(!holds_any(text.as_bytes()), "{text}");
        }
    }
}
