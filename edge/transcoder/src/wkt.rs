//! Text forms of `Timestamp`, `Duration` and `FieldMask`.
//!
//! Source: the ProtoJSON format, and RFC 3339 for times.

use std::io::Write as _;

/// 0001-01-01T00:00:00Z.
const TIMESTAMP_SECONDS_MIN: i64 = -62_135_596_800;
/// 9999-12-31T23:59:59Z.
const TIMESTAMP_SECONDS_MAX: i64 = 253_402_300_799;
/// 10,000 years.
const DURATION_SECONDS_MAX: i64 = 315_576_000_000;

fn digits(bytes: &[u8]) -> Option<i64> {
    bytes
        .iter()
        .try_fold(0_i64, |value, byte| byte.is_ascii_digit().then(|| value * 10 + i64::from(byte - b'0')))
}

/// Fractional digits, 1 to 9 of them, as nanoseconds.
fn nanos(fraction: &[u8]) -> Option<i32> {
    if fraction.is_empty() || fraction.len() > 9 {
        return None;
    }
    let mut value = digits(fraction)?;
    for _ in fraction.len()..9 {
        value *= 10;
    }
    i32::try_from(value).ok()
}

/// Days since 1970-01-01 of a date of the proleptic Gregorian calendar.
///
/// Source: Howard Hinnant, *chrono-Compatible Low-Level Date Algorithms*, `days_from_civil`.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// The inverse of [`days_from_civil`]: year, month, day.
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Seconds since 1970 and nanoseconds, 0 to 999,999,999, of an RFC 3339 time with `T`, and `Z` or an offset.
pub(crate) fn parse_timestamp(text: &str) -> Option<(i64, i32)> {
    let bytes = text.as_bytes();
    if bytes.len() < 20 {
        return None;
    }
    let (head, mut tail) = bytes.split_at(19);
    if head[4] != b'-' || head[7] != b'-' || head[10] != b'T' || head[13] != b':' || head[16] != b':' {
        return None;
    }
    let (year, month, day) = (digits(&head[0..4])?, digits(&head[5..7])?, digits(&head[8..10])?);
    let (hour, minute, second) = (digits(&head[11..13])?, digits(&head[14..16])?, digits(&head[17..19])?);
    if !(1..=9999).contains(&year)
        || !(1..=12).contains(&month)
        || !(1..=days_in_month(year, month)).contains(&day)
        || hour > 23
        || minute > 59
        || second > 59
    {
        return None;
    }
    let mut fraction = 0;
    if let Some(rest) = tail.strip_prefix(b".") {
        let length = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        fraction = nanos(&rest[..length])?;
        tail = &rest[length..];
    }
    let offset = match tail {
        b"Z" => 0,
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] => {
            let (hours, minutes) = (digits(&[*h1, *h2])?, digits(&[*m1, *m2])?);
            if hours > 23 || minutes > 59 {
                return None;
            }
            let seconds = hours * 3600 + minutes * 60;
            if *sign == b'+' { seconds } else { -seconds }
        }
        _ => return None,
    };
    let seconds = days_from_civil(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second - offset;
    (TIMESTAMP_SECONDS_MIN..=TIMESTAMP_SECONDS_MAX).contains(&seconds).then_some((seconds, fraction))
}

/// Appends the canonical text, without quotes; false when it is out of the range of a `Timestamp`.
pub(crate) fn put_timestamp(out: &mut Vec<u8>, seconds: i64, nanos: i32) -> bool {
    if !(TIMESTAMP_SECONDS_MIN..=TIMESTAMP_SECONDS_MAX).contains(&seconds)
        || !(0..=999_999_999).contains(&nanos)
    {
        return false;
    }
    let (year, month, day) = civil_from_days(seconds.div_euclid(86_400));
    let of_day = seconds.rem_euclid(86_400);
    let [[y0, y1], [y2, y3]] = [two_digits(year / 100), two_digits(year % 100)];
    let [[m0, m1], [d0, d1]] = [two_digits(month), two_digits(day)];
    let [h0, h1] = two_digits(of_day / 3600);
    let [[i0, i1], [s0, s1]] = [two_digits(of_day / 60 % 60), two_digits(of_day % 60)];
    out.extend_from_slice(&[
        y0, y1, y2, y3, b'-', m0, m1, b'-', d0, d1, b'T', h0, h1, b':', i0, i1, b':', s0, s1,
    ]);
    put_fraction(out, nanos);
    out.push(b'Z');
    true
}

/// The decimal digits of a number below 100.
fn two_digits(value: i64) -> [u8; 2] {
    let value = value.to_le_bytes()[0];
    [b'0' + value / 10, b'0' + value % 10]
}

fn put_padded(out: &mut Vec<u8>, value: i64, width: usize) {
    let start = out.len();
    out.resize(start + width, b'0');
    let mut rest = value;
    for slot in out[start..].iter_mut().rev() {
        *slot = b'0' + rest.rem_euclid(10).to_le_bytes()[0];
        rest /= 10;
    }
}

/// Nothing, or a point and 3, 6 or 9 digits.
fn put_fraction(out: &mut Vec<u8>, nanos: i32) {
    let nanos = i64::from(nanos);
    if nanos == 0 {
        return;
    }
    out.push(b'.');
    if nanos % 1_000_000 == 0 {
        put_padded(out, nanos / 1_000_000, 3);
    } else if nanos % 1_000 == 0 {
        put_padded(out, nanos / 1_000, 6);
    } else {
        put_padded(out, nanos, 9);
    }
}

/// Seconds and nanoseconds, of one sign, of a text as `-1.5s`.
pub(crate) fn parse_duration(text: &str) -> Option<(i64, i32)> {
    let number = text.strip_suffix('s')?;
    let (negative, unsigned) = number.strip_prefix('-').map_or((false, number), |rest| (true, rest));
    let (whole, fraction) = match unsigned.split_once('.') {
        Some((whole, fraction)) => (whole, nanos(fraction.as_bytes())?),
        None => (unsigned, 0),
    };
    if whole.is_empty() {
        return None;
    }
    let whole = whole.trim_start_matches('0');
    if whole.len() > 12 {
        return None;
    }
    let seconds = digits(whole.as_bytes())?;
    if seconds > DURATION_SECONDS_MAX {
        return None;
    }
    Some(if negative { (-seconds, -fraction) } else { (seconds, fraction) })
}

/// Appends the canonical text, without quotes; false when it is not a valid `Duration`.
pub(crate) fn put_duration(out: &mut Vec<u8>, seconds: i64, nanos: i32) -> bool {
    if seconds.unsigned_abs() > DURATION_SECONDS_MAX.unsigned_abs()
        || nanos.unsigned_abs() > 999_999_999
        || (seconds > 0 && nanos < 0)
        || (seconds < 0 && nanos > 0)
    {
        return false;
    }
    if seconds < 0 || nanos < 0 {
        out.push(b'-');
    }
    write!(out, "{}", seconds.unsigned_abs()).expect("a Vec takes every write");
    put_fraction(out, nanos.abs());
    out.push(b's');
    true
}

/// The path of a mask that means all fields.
///
/// Source: AIP-134, "Update masks"; `ProtoJSON` knows nothing of it.
const ALL_FIELDS: &str = "*";

/// Appends one lowerCamelCase path as `snake_case`; false when it has a `_` or is empty.
pub(crate) fn put_snake(out: &mut Vec<u8>, path: &str) -> bool {
    if path == ALL_FIELDS {
        out.extend_from_slice(path.as_bytes());
        return true;
    }
    for byte in path.bytes() {
        match byte {
            b'A'..=b'Z' => out.extend_from_slice(&[b'_', byte.to_ascii_lowercase()]),
            b'a'..=b'z' | b'0'..=b'9' | b'.' => out.push(byte),
            _ => return false,
        }
    }
    !path.is_empty()
}

/// Appends one `snake_case` path as lowerCamelCase; false when it would not come back the same.
pub(crate) fn put_camel(out: &mut Vec<u8>, path: &str) -> bool {
    if path == ALL_FIELDS {
        out.extend_from_slice(path.as_bytes());
        return true;
    }
    let mut upper_next = false;
    for byte in path.bytes() {
        match byte {
            b'_' if upper_next => return false,
            b'_' => upper_next = true,
            b'a'..=b'z' if upper_next => {
                out.push(byte.to_ascii_uppercase());
                upper_next = false;
            }
            _ if upper_next => return false,
            b'a'..=b'z' | b'0'..=b'9' | b'.' => out.push(byte),
            _ => return false,
        }
    }
    !upper_next
}
