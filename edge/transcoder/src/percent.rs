//! Percent-decoding of paths and queries.

use std::borrow::Cow;

/// The byte that `%XX` at `at` stands for.
pub(crate) fn byte_at(raw: &[u8], at: usize) -> Option<u8> {
    let [b'%', high, low] = raw.get(at..at + 3)? else { return None };
    let digit = |byte: &u8| char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    Some(digit(high)? * 16 + digit(low)?)
}

/// Which encoded bytes stay encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keep {
    /// None: a query, or a literal.
    Nothing,
    /// `%2F`: a variable of one segment.
    Slash,
    /// All that RFC 3986 reserves: a variable of several segments, whose own slashes are not encoded.
    Reserved,
}

/// Decodes `raw`; in a query `+` is a space.
///
/// # Errors
///
/// The rule that is broken: a malformed `%`, or bytes that are not UTF-8.
pub(crate) fn decode(raw: &str, keep: Keep, query: bool) -> Result<Cow<'_, str>, &'static str> {
    if !raw.bytes().any(|byte| byte == b'%' || (query && byte == b'+')) {
        return Ok(Cow::Borrowed(raw));
    }
    let bytes = raw.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'%' => {
                let byte = byte_at(bytes, at).ok_or("has a `%` without two hexadecimal digits")?;
                let kept = match keep {
                    Keep::Nothing => false,
                    Keep::Slash => byte == b'/',
                    Keep::Reserved => b":/?#[]@!$&'()*+,;=".contains(&byte),
                };
                if kept {
                    decoded.extend_from_slice(&bytes[at..at + 3]);
                } else {
                    decoded.push(byte);
                }
                at += 3;
            }
            b'+' if query => {
                decoded.push(b' ');
                at += 1;
            }
            byte => {
                decoded.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8(decoded).map(Cow::Owned).map_err(|_| "is not UTF-8")
}

/// `text` as one segment of a relative reference: all but the unreserved characters of RFC 3986 encoded.
pub(crate) fn encode_segment(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push('%');
            encoded.extend([byte >> 4, byte & 15].iter().filter_map(|digit| {
                char::from_digit(u32::from(*digit), 16).map(|digit| digit.to_ascii_uppercase())
            }));
        }
    }
    encoded
}
