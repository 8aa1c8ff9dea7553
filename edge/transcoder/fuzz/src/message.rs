//! A random message of any type, from the fuzzer's bytes.

use std::collections::HashMap;

use arbitrary::{Result, Unstructured};
use prost::Message as _;
use prost_reflect::{
    DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, Value,
};

/// Messages deeper than this have no messages in them.
const DEPTH_MAX: u32 = 5;

/// A message of the type `descriptor`. Most are valid for ProtoJSON; some are not: a `Timestamp` of the year 20000, a `Value` of
/// infinity, an `Any` of noise.
pub fn random(
    descriptor: &MessageDescriptor,
    bytes: &mut Unstructured<'_>,
    depth: u32,
) -> Result<DynamicMessage> {
    let mut message = DynamicMessage::new(descriptor.clone());
    if let Some(name) = descriptor.full_name().strip_prefix("google.protobuf.") {
        match name {
            "Timestamp" => {
                let seconds = [0, 1, -1, -62_135_596_800, 253_402_300_799, 951_782_400, 253_402_300_800];
                set(&mut message, "seconds", Value::I64(either(bytes, &seconds)?));
                set(&mut message, "nanos", Value::I32(nanos(bytes)?));
                return Ok(message);
            }
            "Duration" => {
                let sign: i32 = either(bytes, &[1, -1])?;
                let seconds = either(bytes, &[0, 1, 59, 315_576_000_000, 315_576_000_001])?;
                set(&mut message, "seconds", Value::I64(seconds * i64::from(sign)));
                set(&mut message, "nanos", Value::I32(nanos(bytes)? * sign));
                return Ok(message);
            }
            "FieldMask" => {
                let paths = ["a", "a_b.c", "display_name", "x1.y_z", "_a", "A", "a_", "a_1", "", "*", "a.*"];
                let count = bytes.int_in_range(0..=3)?;
                let list = (0..count).map(|_| Ok(Value::String(either(bytes, &paths)?.to_owned())));
                let list = list.collect::<Result<_>>()?;
                set(&mut message, "paths", Value::List(list));
                return Ok(message);
            }
            "Any" => {
                let (url, value) = any(descriptor.parent_pool(), bytes, depth)?;
                set(&mut message, "type_url", Value::String(url));
                set(&mut message, "value", Value::Bytes(value.into()));
                return Ok(message);
            }
            _ => {}
        }
    }
    for field in descriptor.fields() {
        if bytes.is_empty() || !bytes.ratio(1, 3)? {
            continue;
        }
        if depth >= DEPTH_MAX && matches!(field.kind(), Kind::Message(_)) {
            continue;
        }
        let value = field_value(&field, bytes, depth)?;
        message.set_field(&field, value);
    }
    for extension in descriptor.extensions() {
        if bytes.is_empty() || depth >= DEPTH_MAX || !bytes.ratio(1, 3)? {
            continue;
        }
        let value = if extension.is_list() {
            list(&extension.kind(), bytes, depth)?
        } else {
            value(&extension.kind(), bytes, depth)?
        };
        message.set_extension(&extension, value);
    }
    Ok(message)
}

fn set(message: &mut DynamicMessage, name: &str, value: Value) {
    message.set_field_by_name(name, value);
}

fn either<T: Copy>(bytes: &mut Unstructured<'_>, choices: &[T]) -> Result<T> {
    bytes.choose(choices).copied()
}

fn nanos(bytes: &mut Unstructured<'_>) -> Result<i32> {
    either(bytes, &[0, 1, 500_000_000, 120_000, 999_999_999, 1_000_000_000])
}

fn any(pool: &DescriptorPool, bytes: &mut Unstructured<'_>, depth: u32) -> Result<(String, Vec<u8>)> {
    let types: Vec<MessageDescriptor> =
        pool.all_messages().filter(|message| !message.is_map_entry()).collect();
    let inner = bytes.choose(&types)?;
    let url = format!("type.googleapis.com/{}", inner.full_name());
    Ok(match bytes.int_in_range(0..=5)? {
        0 => ("type.googleapis.com/no.Such".to_owned(), bytes.arbitrary()?),
        1 => (url, bytes.arbitrary()?),
        _ if depth >= DEPTH_MAX => (url, Vec::new()),
        _ => (url, random(inner, bytes, depth + 1)?.encode_to_vec()),
    })
}

fn field_value(field: &FieldDescriptor, bytes: &mut Unstructured<'_>, depth: u32) -> Result<Value> {
    if let (true, Kind::Message(entry)) = (field.is_map(), field.kind()) {
        let mut entries = HashMap::new();
        for _ in 0..bytes.int_in_range(0..=3)? {
            let key: MapKey = value(&entry.map_entry_key_field().kind(), bytes, depth)?
                .into_map_key()
                .expect("of a kind that keys have");
            entries.insert(key, value(&entry.map_entry_value_field().kind(), bytes, depth)?);
        }
        return Ok(Value::Map(entries));
    }
    if field.is_list() { list(&field.kind(), bytes, depth) } else { value(&field.kind(), bytes, depth) }
}

fn list(kind: &Kind, bytes: &mut Unstructured<'_>, depth: u32) -> Result<Value> {
    let count = bytes.int_in_range(0..=3)?;
    (0..count).map(|_| value(kind, bytes, depth)).collect::<Result<_>>().map(Value::List)
}

fn value(kind: &Kind, bytes: &mut Unstructured<'_>, depth: u32) -> Result<Value> {
    Ok(match kind {
        Kind::Double => Value::F64(match bytes.int_in_range(0..=3)? {
            0 => bytes.arbitrary()?,
            _ => either(bytes, &[0.0, -0.0, 1.0, -1.5, 1e300, 5e-324, f64::MAX, f64::INFINITY, f64::NAN])?,
        }),
        Kind::Float => Value::F32(match bytes.int_in_range(0..=3)? {
            0 => bytes.arbitrary()?,
            _ => either(bytes, &[0.0, -0.0, 0.1, f32::MAX, f32::MIN_POSITIVE, f32::NEG_INFINITY, f32::NAN])?,
        }),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => Value::I32(match bytes.int_in_range(0..=3)? {
            0 => bytes.arbitrary()?,
            _ => either(bytes, &[0, 1, -1, i32::MIN, i32::MAX, 63, 64, 300])?,
        }),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => Value::I64(match bytes.int_in_range(0..=3)? {
            0 => bytes.arbitrary()?,
            _ => either(bytes, &[0, 1, -1, i64::MIN, i64::MAX, (1 << 53) + 1])?,
        }),
        Kind::Uint32 | Kind::Fixed32 => Value::U32(either(bytes, &[0, 1, 127, 128, u32::MAX])?),
        Kind::Uint64 | Kind::Fixed64 => Value::U64(either(bytes, &[0, 1, 1 << 63, u64::MAX])?),
        Kind::Bool => Value::Bool(bytes.arbitrary()?),
        Kind::String => Value::String(match bytes.int_in_range(0..=7)? {
            0 => "x".repeat(130),
            1 => "\"\\/\n\u{0}\u{1f}\u{7f}é\u{2028}😀".to_owned(),
            _ => bytes.arbitrary()?,
        }),
        Kind::Bytes => Value::Bytes(bytes.arbitrary::<Vec<u8>>()?.into()),
        Kind::Enum(descriptor) if descriptor.full_name() == "google.protobuf.NullValue" => {
            Value::EnumNumber(0)
        }
        Kind::Enum(descriptor) => {
            let declared: Vec<i32> = descriptor.values().map(|value| value.number()).collect();
            Value::EnumNumber(if bytes.ratio(1, 8)? { 77 } else { either(bytes, &declared)? })
        }
        Kind::Message(descriptor) if depth >= DEPTH_MAX => {
            let _ = depth;
            Value::Message(DynamicMessage::new(descriptor.clone()))
        }
        Kind::Message(descriptor) => Value::Message(random(descriptor, bytes, depth + 1)?),
    })
}
