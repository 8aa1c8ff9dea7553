//! Exact numbers from JSON text: no integer passes through a float.

use super::lex::number_length;

/// Whether `text` is one JSON number, whole.
pub(crate) fn is_number(text: &str) -> bool {
    !text.is_empty() && number_length(text.as_bytes()) == text.len()
}

/// The integer that a JSON number stands for: `12`, `-3`, `1e3`, `100.0`. `None` for another text, for a fraction, and for
/// what is beyond 64 bits of either sign.
pub(crate) fn integer(text: &str) -> Option<i128> {
    if !is_number(text) {
        return None;
    }
    if text.len() <= 18
        && let Ok(small) = text.parse::<i64>()
    {
        return Some(i128::from(small));
    }
    let (negative, unsigned) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent),
        None => (unsigned, "0"),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = whole.bytes().chain(fraction.bytes()).map(|byte| i128::from(byte - b'0'));
    if digits.clone().all(|digit| digit == 0) {
        return Some(0);
    }
    // How many digits come before the point, once the exponent has moved it.
    let before = i64::try_from(whole.len()).ok()?.checked_add(exponent.parse().ok()?)?;
    let mut value: i128 = 0;
    let mut at = 0;
    for digit in digits {
        if at >= before && digit != 0 {
            return None;
        }
        if at < before {
            value = beyond(value * 10 + digit)?;
        }
        at += 1;
    }
    while at < before {
        value = beyond(value * 10)?;
        at += 1;
    }
    Some(if negative { -value } else { value })
}

/// `None` for what has more than 64 bits: it ends the reading of a number however long it is.
fn beyond(value: i128) -> Option<i128> {
    (value <= i128::from(u64::MAX)).then_some(value)
}

/// A double from a JSON number or one of the three names that ProtoJSON gives to what JSON cannot write.
pub(crate) fn double(text: &str) -> Option<f64> {
    match text {
        "NaN" => Some(f64::NAN),
        "Infinity" => Some(f64::INFINITY),
        "-Infinity" => Some(f64::NEG_INFINITY),
        _ if is_number(text) => text.parse().ok().filter(|value: &f64| value.is_finite()),
        _ => None,
    }
}

/// As [`double`], for a float.
pub(crate) fn float(text: &str) -> Option<f32> {
    match text {
        "NaN" => Some(f32::NAN),
        "Infinity" => Some(f32::INFINITY),
        "-Infinity" => Some(f32::NEG_INFINITY),
        _ if is_number(text) => text.parse().ok().filter(|value: &f32| value.is_finite()),
        _ => None,
    }
}
