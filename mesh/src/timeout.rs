//! The `grpc-timeout` header: how long the caller waits (gRPC over HTTP/2, `TimeoutValue TimeoutUnit`).

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};

const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// The largest value that the eight digits of the header hold.
const VALUE_MAX: u128 = 99_999_999;

/// What the header says; `None` without one, or with one that is malformed.
pub(crate) fn of(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(GRPC_TIMEOUT)?.to_str().ok()?;
    let (value, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if value.is_empty() || value.len() > 8 || !value.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let value: u64 = value.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_hours(value)),
        "M" => Some(Duration::from_mins(value)),
        "S" => Some(Duration::from_secs(value)),
        "m" => Some(Duration::from_millis(value)),
        "u" => Some(Duration::from_micros(value)),
        "n" => Some(Duration::from_nanos(value)),
        _ => None,
    }
}

/// Says how long the caller waits, in the finest unit that holds it, rounded down.
pub(crate) fn set(headers: &mut HeaderMap, remaining: Duration) {
    let units =
        [(remaining.as_micros(), 'u'), (remaining.as_millis(), 'm'), (u128::from(remaining.as_secs()), 'S')];
    let (value, unit) = units.into_iter().find(|(value, _)| *value <= VALUE_MAX).unwrap_or((VALUE_MAX, 'S'));
    let value = HeaderValue::from_str(&format!("{value}{unit}")).expect("digits and a letter");
    headers.insert(GRPC_TIMEOUT, value);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_is_read_back_rounded_down_to_its_unit() {
        for (remaining, expected) in [
            (Duration::from_nanos(1_999), Duration::from_micros(1)),
            (Duration::from_secs(99), Duration::from_secs(99)),
            (Duration::from_micros(100_000_999), Duration::from_millis(100_000)),
            (Duration::from_millis(100_000_999), Duration::from_secs(100_000)),
            (Duration::MAX, Duration::from_secs(99_999_999)),
        ] {
            let mut headers = HeaderMap::new();
            set(&mut headers, remaining);
            assert_eq!(of(&headers), Some(expected), "{remaining:?}");
        }
    }

    #[test]
    fn malformed_timeouts_count_as_none() {
        for text in ["", "S", "1", "1s", "-1S", "+1S", "1.5S", "123456789S", "1 S", "é"] {
            let mut headers = HeaderMap::new();
            headers.insert(GRPC_TIMEOUT, HeaderValue::from_bytes(text.as_bytes()).expect("a header value"));
            assert_eq!(of(&headers), None, "{text}");
        }
    }
}
