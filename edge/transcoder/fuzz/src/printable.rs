//! Whether a message can be said in ProtoJSON: not every message of a well-known type can.

use prost_reflect::{DynamicMessage, ReflectMessage as _, Value};

/// Whether all of `message` has a JSON form.
///
/// prost-reflect prints some that have none (nanoseconds out of range), and refuses some that have one (an `Any` of a type that
/// it does not know, whose bytes are printed in base64).
pub fn is_printable(message: &DynamicMessage) -> bool {
    let number = |name: &str| -> i64 {
        let value = message.get_field_by_name(name);
        value.and_then(|value| value.as_i64().or_else(|| value.as_i32().map(i64::from))).unwrap_or(0)
    };
    let (seconds, nanos) = (number("seconds"), number("nanos"));
    match message.descriptor().full_name() {
        "google.protobuf.Timestamp" => {
            (-62_135_596_800..=253_402_300_799).contains(&seconds) && (0..1_000_000_000).contains(&nanos)
        }
        "google.protobuf.Duration" => {
            (-315_576_000_000..=315_576_000_000).contains(&seconds)
                && (-999_999_999..1_000_000_000).contains(&nanos)
                && (seconds.signum() * nanos.signum()) >= 0
        }
        "google.protobuf.FieldMask" => texts(message).iter().all(|path| is_camel(path)),
        "google.protobuf.Value" => match message.get_field_by_name("number_value").as_deref() {
            Some(Value::F64(value)) if !value.is_finite() => false,
            _ => fields_are_printable(message),
        },
        "google.protobuf.Any" => any_is_printable(message),
        _ => fields_are_printable(message),
    }
}

fn texts(message: &DynamicMessage) -> Vec<String> {
    let paths = message.get_field_by_name("paths");
    let list = paths.as_deref().and_then(Value::as_list).unwrap_or(&[]);
    list.iter().filter_map(|path| path.as_str().map(str::to_owned)).collect()
}

/// Whether a path comes back from lowerCamelCase the same: lower-case letters, digits and dots, and `_` only in front of a letter.
fn is_camel(path: &str) -> bool {
    let bytes = path.as_bytes();
    let letters = || {
        bytes.iter().enumerate().all(|(at, byte)| match byte {
            b'_' => bytes.get(at + 1).is_some_and(u8::is_ascii_lowercase),
            b'a'..=b'z' | b'0'..=b'9' | b'.' => true,
            _ => false,
        })
    };
    path == "*" || (!bytes.is_empty() && letters())
}

fn any_is_printable(message: &DynamicMessage) -> bool {
    let url = message
        .get_field_by_name("type_url")
        .and_then(|url| url.as_str().map(str::to_owned))
        .unwrap_or_default();
    let bytes =
        message.get_field_by_name("value").and_then(|value| value.as_bytes().cloned()).unwrap_or_default();
    let known = url
        .rsplit_once('/')
        .and_then(|(_, name)| message.descriptor().parent_pool().get_message_by_name(name));
    match known {
        None => true,
        Some(inner) => DynamicMessage::decode(inner, bytes).is_ok_and(|inner| is_printable(&inner)),
    }
}

fn fields_are_printable(message: &DynamicMessage) -> bool {
    message.fields().all(|(_, value)| value_is_printable(value))
        && message.extensions().all(|(_, value)| value_is_printable(value))
}

fn value_is_printable(value: &Value) -> bool {
    match value {
        Value::Message(message) => is_printable(message),
        Value::List(values) => values.iter().all(value_is_printable),
        Value::Map(entries) => entries.values().all(value_is_printable),
        Value::Bool(_)
        | Value::I32(_)
        | Value::I64(_)
        | Value::U32(_)
        | Value::U64(_)
        | Value::F32(_)
        | Value::F64(_)
        | Value::String(_)
        | Value::Bytes(_)
        | Value::EnumNumber(_) => true,
    }
}
