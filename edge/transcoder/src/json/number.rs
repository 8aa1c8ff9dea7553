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
    let fraction = fraction.trim_end_matches('0');
    if whole == "0" && fraction.is_empty() {
        return Some(0);
    }
    let exponent: i64 = exponent.parse().ok()?;
    let mut scale = exponent.checked_sub(i64::try_from(fraction.len()).ok()?)?;
    let mut digits: &str = &[whole, fraction].concat();
    while scale < 0 {
        digits = digits.strip_suffix('0')?;
        scale += 1;
    }
    let digits = digits.trim_start_matches('0');
    if digits.is_empty() {
        return Some(0);
    }
    if digits.len() > 20 || scale > 20 {
        return None;
    }
    let mut value: i128 = digits.parse().ok()?;
    for _ in 0..scale {
        value = value.checked_mul(10)?;
    }
    Some(if negative { -value } else { value })
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
