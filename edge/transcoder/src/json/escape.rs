//! Writing JSON strings and base64.

use base64::Engine as _;

const PLAIN: u8 = 0;
const UNICODE: u8 = b'u';

/// For each byte: 0 when it stands for itself, else the letter of its escape.
const ESCAPES: [u8; 256] = {
    let mut table = [PLAIN; 256];
    let mut control = 0;
    while control < 0x20 {
        table[control] = UNICODE;
        control += 1;
    }
    table[0x08] = b'b';
    table[0x09] = b't';
    table[0x0a] = b'n';
    table[0x0c] = b'f';
    table[0x0d] = b'r';
    table[0x22] = b'"';
    table[0x5c] = b'\\';
    table
};

const HEX: &[u8; 16] = b"0123456789abcdef";

/// Appends `bytes` as a JSON string, quotes included; false when they are not UTF-8.
pub(crate) fn put_utf8(out: &mut Vec<u8>, bytes: &[u8]) -> bool {
    if is_plain(bytes) {
        out.reserve(bytes.len() + 2);
        out.push(b'"');
        out.extend_from_slice(bytes);
        out.push(b'"');
        return true;
    }
    let Ok(text) = str::from_utf8(bytes) else { return false };
    put_string(out, text);
    true
}

const ONES: u64 = u64::MAX / 0xff;
const HIGH: u64 = ONES * 0x80;

/// The high bit of each byte of the result tells whether the byte of `word` cannot stand for itself in a JSON string. Above the
/// lowest that cannot, others may be marked by mistake.
fn special(word: [u8; 8]) -> u64 {
    let word = u64::from_le_bytes(word);
    let below = |word: u64, limit: u64| word.wrapping_sub(ONES * limit) & !word;
    (below(word, 0x20) | below(word ^ (ONES * 0x22), 1) | below(word ^ (ONES * 0x5c), 1)) & HIGH
}

/// Whether all bytes are ASCII that stands for itself in a JSON string. Most text is, and one test for eight bytes at a time
/// tells so faster than it can be validated and escaped.
fn is_plain(bytes: &[u8]) -> bool {
    let (words, rest) = bytes.as_chunks::<8>();
    words.iter().all(|word| special(*word) | (u64::from_le_bytes(*word) & HIGH) == 0)
        && rest.iter().all(|&byte| byte < 0x80 && ESCAPES[usize::from(byte)] == PLAIN)
}

/// How many bytes come before the first quote, backslash or control character.
pub(super) fn plain_length(bytes: &[u8]) -> usize {
    let (words, rest) = bytes.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let found = special(*word);
        if found != 0 {
            let within = found.trailing_zeros() / 8;
            return index * 8 + usize::try_from(within).expect("at most 7");
        }
    }
    let tail = rest.iter().take_while(|&&byte| ESCAPES[usize::from(byte)] == PLAIN).count();
    words.len() * 8 + tail
}

/// Appends `text` as a JSON string, quotes included.
pub(crate) fn put_string(out: &mut Vec<u8>, text: &str) {
    let bytes = text.as_bytes();
    out.reserve(bytes.len() + 2);
    out.push(b'"');
    let mut from = 0;
    for (at, &byte) in bytes.iter().enumerate() {
        let escape = ESCAPES[usize::from(byte)];
        if escape == PLAIN {
            continue;
        }
        out.extend_from_slice(&bytes[from..at]);
        from = at + 1;
        out.push(b'\\');
        out.push(escape);
        if escape == UNICODE {
            out.extend_from_slice(b"00");
            out.push(HEX[usize::from(byte >> 4)]);
            out.push(HEX[usize::from(byte & 15)]);
        }
    }
    out.extend_from_slice(&bytes[from..]);
    out.push(b'"');
}

/// Appends `bytes` as a JSON string in padded standard base64, quotes included.
pub(crate) fn put_base64(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(b'"');
    let start = out.len();
    out.resize(start + bytes.len().div_ceil(3) * 4, 0);
    let written = base64::engine::general_purpose::STANDARD
        .encode_slice(bytes, &mut out[start..])
        .expect("the space was computed from the same length");
    out.truncate(start + written);
    out.push(b'"');
}

const NOT_BASE64: u8 = 0xff;

const SEXTETS: [u8; 256] = {
    let mut table = [NOT_BASE64; 256];
    let mut value = 0_u8;
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut at = 0;
    while at < 64 {
        // Indexing by a widened byte is not possible in a const without `as`; walk the table instead.
        let mut slot = 0;
        let mut byte = 0_u8;
        while byte != alphabet[at] {
            byte += 1;
            slot += 1;
        }
        table[slot] = value;
        value += 1;
        at += 1;
    }
    table[0x2d] = 62;
    table[0x5f] = 63;
    table
};

/// The decoded length of base64 `text` in either alphabet, padded or not, or `None` when no bytes have that length.
pub(crate) fn base64_length(text: &str) -> Option<usize> {
    let unpadded = unpad(text)?;
    match unpadded.len() % 4 {
        0 => Some(unpadded.len() / 4 * 3),
        2 => Some(unpadded.len() / 4 * 3 + 1),
        3 => Some(unpadded.len() / 4 * 3 + 2),
        _ => None,
    }
}

fn unpad(text: &str) -> Option<&str> {
    let unpadded = text.trim_end_matches('=');
    match text.len() - unpadded.len() {
        0 => Some(unpadded),
        1 | 2 if text.len().is_multiple_of(4) => Some(unpadded),
        _ => None,
    }
}

/// Appends what base64 `text` stands for; false when a character is of neither alphabet.
pub(crate) fn decode_base64(out: &mut Vec<u8>, text: &str) -> bool {
    let Some(unpadded) = unpad(text) else { return false };
    for chunk in unpadded.as_bytes().chunks(4) {
        let mut group = 0_u32;
        for &byte in chunk {
            let sextet = SEXTETS[usize::from(byte)];
            if sextet == NOT_BASE64 {
                return false;
            }
            group = (group << 6) | u32::from(sextet);
        }
        let missing = 4 - chunk.len();
        for _ in 0..missing {
            group <<= 6;
        }
        let [_, a, b, c] = group.to_be_bytes();
        out.extend_from_slice(&[a, b, c][..3 - missing]);
    }
    true
}
