//! `Content-Type` and `Accept`.

use http::HeaderMap;
use http::header::{ACCEPT, CONTENT_TYPE};

/// Whether the request says that its body is JSON in UTF-8.
pub(crate) fn is_json(headers: &HeaderMap) -> bool {
    is(headers, "application/json")
}

/// Whether the request says that its body is of this media type, in UTF-8.
pub(crate) fn is(headers: &HeaderMap, wanted: &str) -> bool {
    let Some((media, mut parameters)) = content_type(headers) else { return false };
    media.eq_ignore_ascii_case(wanted)
        && parameters.all(|parameter| parameter.is_empty() || charset_of(parameter) == Some(Charset::Utf8))
}

/// The media type of the body, without parameters and in the client's own case; `None` when it is absent, given twice or in
/// a charset other than UTF-8.
pub(crate) fn media_type(headers: &HeaderMap) -> Option<&str> {
    let (media, mut parameters) = content_type(headers)?;
    parameters.all(|parameter| charset_of(parameter) != Some(Charset::Other)).then_some(media)
}

/// The media type of the body and its parameters; `None` when it is absent or given twice.
fn content_type(headers: &HeaderMap) -> Option<(&str, impl Iterator<Item = &str>)> {
    let mut values = headers.get_all(CONTENT_TYPE).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    let mut parts = value.to_str().ok()?.split(';').map(str::trim);
    Some((parts.next()?, parts))
}

/// What a parameter leaves of the charset, which is UTF-8 unless one says otherwise.
#[derive(PartialEq, Eq)]
enum Charset {
    Utf8,
    Other,
}

/// `None` for what is no parameter.
fn charset_of(parameter: &str) -> Option<Charset> {
    let (name, value) = parameter.split_once('=')?;
    let is_other = name.trim().eq_ignore_ascii_case("charset")
        && !value.trim().trim_matches('"').eq_ignore_ascii_case("utf-8");
    Some(if is_other { Charset::Other } else { Charset::Utf8 })
}

/// The index of the offered media type that the client likes best, the first of equals; `None` when it takes none.
///
/// Source: RFC 9110, section 12.5.1.
pub(crate) fn negotiate(headers: &HeaderMap, offered: &[&str]) -> Option<usize> {
    if !headers.contains_key(ACCEPT) {
        return Some(0);
    }
    let mut best: Option<(u16, usize)> = None;
    for (index, offer) in offered.iter().enumerate() {
        let quality = quality_of(headers, offer);
        if quality > 0 && best.is_none_or(|(known, _)| quality > known) {
            best = Some((quality, index));
        }
    }
    best.map(|(_, index)| index)
}

/// Whether an error is to be told as `application/problem+json`: when the client names it, and does not like
/// `application/json` better. Else, and when the client takes neither, it is the default form.
pub(crate) fn wants_problem(headers: &HeaderMap) -> bool {
    let (specificity, quality) = best_range(headers, "application/problem+json");
    specificity == EXACT && quality > 0 && quality >= quality_of(headers, "application/json")
}

/// In thousandths, from the most specific range that covers `offer`.
fn quality_of(headers: &HeaderMap, offer: &str) -> u16 {
    best_range(headers, offer).1
}

/// How specific a range is that names a media type.
const EXACT: u8 = 3;

/// The most specific range that covers `offer`: how specific it is, 0 for none, and its quality in thousandths.
fn best_range(headers: &HeaderMap, offer: &str) -> (u8, u16) {
    let (offer_type, _) = offer.split_once('/').unwrap_or((offer, ""));
    let mut found = (0, 0);
    for value in headers.get_all(ACCEPT) {
        let Ok(text) = value.to_str() else { continue };
        for range in text.split(',') {
            let mut parts = range.split(';').map(str::trim);
            let media = parts.next().unwrap_or("");
            let specificity = if media.eq_ignore_ascii_case(offer) {
                EXACT
            } else if media.strip_suffix("/*").is_some_and(|range| range.eq_ignore_ascii_case(offer_type)) {
                2
            } else if media == "*/*" {
                1
            } else {
                continue;
            };
            let quality = parts
                .find_map(|parameter| parameter.strip_prefix("q=").or_else(|| parameter.strip_prefix("Q=")))
                .map_or(1000, thousandths);
            if specificity > found.0 || (specificity == found.0 && quality > found.1) {
                found = (specificity, quality);
            }
        }
    }
    found
}

/// A quality value in thousandths.
pub(crate) fn thousandths(text: &str) -> u16 {
    let (whole, fraction) = text.trim().split_once('.').unwrap_or((text.trim(), ""));
    let whole: u16 = if whole == "1" { 1000 } else { 0 };
    let digits = fraction.chars().chain("000".chars()).take(3);
    let fraction = digits.fold(0, |value, digit| {
        value * 10 + digit.to_digit(10).and_then(|digit| u16::try_from(digit).ok()).unwrap_or(0)
    });
    (whole + fraction).min(1000)
}
