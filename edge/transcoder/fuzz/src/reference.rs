//! JSON as ProtoJSON reads it, put so that prost-reflect reads the same.
//!
//! prost-reflect is laxer than ProtoJSON in some places (a key twice, `+1` as an integer, any text in a `FieldMask`) and stricter
//! in others (`"1e2"` as an integer). Each such place is one function here, which either finds the rule that is broken or rewrites
//! the value. Everything else goes through as it is and is prost-reflect's to judge.

use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};
use serde_json::{Map, Value, json};

use super::tree::{Tree, is_number};

/// Why a text has no equal for prost-reflect.
#[derive(Debug)]
pub enum Refusal {
    /// ProtoJSON refuses it.
    Broken(&'static str),
    /// prost-reflect has no way to say it.
    NoReference,
}

type Normal = Result<Value, Refusal>;

fn broken<T>(rule: &'static str) -> Result<T, Refusal> {
    Err(Refusal::Broken(rule))
}

/// The JSON of a message of the type `message`, rewritten.
pub fn normalised(message: &MessageDescriptor, tree: &Tree) -> Normal {
    match (message.full_name(), tree) {
        ("google.protobuf.Any", Tree::Object(members)) => any(message, members),
        ("google.protobuf.Timestamp", Tree::Text(text)) => timestamp(text),
        ("google.protobuf.Duration", Tree::Text(text)) => duration(text),
        ("google.protobuf.FieldMask", Tree::Text(text)) => field_mask(text),
        ("google.protobuf.Struct" | "google.protobuf.Value" | "google.protobuf.ListValue", _) => {
            as_it_is(tree)
        }
        (name, _) if is_wrapper(name) => {
            kind(&message.get_field(1).expect("wrappers have a value").kind(), tree)
        }
        (_, Tree::Object(members)) => plain(message, members, false).map(Value::Object),
        _ => as_it_is(tree),
    }
}

fn is_wrapper(name: &str) -> bool {
    name.starts_with("google.protobuf.")
        && ["Double", "Float", "Int64", "UInt64", "Int32", "UInt32", "Bool", "String", "Bytes"]
            .iter()
            .any(|scalar| name["google.protobuf.".len()..].strip_suffix("Value") == Some(*scalar))
}

fn plain(
    message: &MessageDescriptor,
    members: &[(String, Tree)],
    inside_any: bool,
) -> Result<Map<String, Value>, Refusal> {
    let mut object = Map::new();
    for (key, value) in members {
        if inside_any && key == "@type" {
            continue;
        }
        let found = message.get_field_by_json_name(key).or_else(|| message.get_field_by_name(key));
        if let Some(found) = found {
            let rewritten = field(&found, value)?;
            if object.insert(found.json_name().to_owned(), rewritten.unwrap_or(Value::Null)).is_some() {
                return broken("a field twice");
            }
        } else if let Some(extension) = message.get_extension_by_json_name(key) {
            let rewritten = if extension.is_list() && *value != Tree::Null {
                list(&extension.kind(), value)?
            } else if *value == Tree::Null {
                Value::Null
            } else {
                kind(&extension.kind(), value)?
            };
            if object.insert(key.clone(), rewritten).is_some() {
                return broken("an extension twice");
            }
        } else {
            return broken("an unknown field");
        }
    }
    // prost-reflect panics over a null for a list of values or a map of them.
    object.retain(|key, value| {
        !value.is_null()
            || message.get_field_by_json_name(key).is_some_and(|field| !field.is_list() && !field.is_map())
            || message.get_extension_by_json_name(key).is_some_and(|extension| !extension.is_list())
    });
    Ok(object)
}

/// `None` for a null that stands for an absent field.
fn field(field: &FieldDescriptor, tree: &Tree) -> Result<Option<Value>, Refusal> {
    if *tree == Tree::Null {
        return Ok(None);
    }
    if field.is_list() {
        return list(&field.kind(), tree).map(Some);
    }
    match (field.kind(), tree) {
        (Kind::Message(entry), Tree::Object(members)) if field.is_map() => {
            let value_kind = entry.map_entry_value_field().kind();
            let mut object = Map::new();
            for (key, value) in members {
                let key = map_key(&entry.map_entry_key_field().kind(), key)?;
                if object.insert(key, kind(&value_kind, value)?).is_some() {
                    return broken("a map key twice");
                }
            }
            Ok(Some(Value::Object(object)))
        }
        (_, _) if field.is_map() => as_it_is(tree).map(Some),
        (kind_of, _) => kind(&kind_of, tree).map(Some),
    }
}

fn list(of: &Kind, tree: &Tree) -> Normal {
    match tree {
        Tree::List(items) => items.iter().map(|item| kind(of, item)).collect(),
        Tree::Null | Tree::Bool(_) | Tree::Number(_) | Tree::Text(_) | Tree::Object(_) => as_it_is(tree),
    }
}

fn kind(of: &Kind, tree: &Tree) -> Normal {
    match (of, tree) {
        (Kind::Message(message), _) => normalised(message, tree),
        (Kind::Bytes, Tree::Text(text)) => bytes(text),
        (Kind::Enum(descriptor), Tree::Number(text)) => {
            let number = integer(text)?;
            if descriptor.full_name() == "google.protobuf.NullValue" {
                // The only value that there is: by its number as good as by null.
                return if number == 0 { Ok(Value::Null) } else { broken("a NullValue other than null") };
            }
            in_range(number, i32::MIN.into(), i32::MAX.into())
        }
        (Kind::Double | Kind::Float, Tree::Number(text) | Tree::Text(text)) => {
            if matches!(tree, Tree::Text(_)) && matches!(text.as_str(), "NaN" | "Infinity" | "-Infinity") {
                return Ok(json!(text));
            }
            if !is_number(text) {
                return broken("a text that is no number");
            }
            let value = if *of == Kind::Float {
                f64::from(text.parse::<f32>().expect("a JSON number"))
            } else {
                text.parse::<f64>().expect("a JSON number")
            };
            if value.is_finite() { Ok(json!(value)) } else { broken("a number out of range") }
        }
        (Kind::Int32 | Kind::Sint32 | Kind::Sfixed32, Tree::Number(text) | Tree::Text(text)) => {
            in_range(integer(text)?, i32::MIN.into(), i32::MAX.into())
        }
        (Kind::Int64 | Kind::Sint64 | Kind::Sfixed64, Tree::Number(text) | Tree::Text(text)) => {
            in_range(integer(text)?, i64::MIN.into(), i64::MAX.into())
        }
        (Kind::Uint32 | Kind::Fixed32, Tree::Number(text) | Tree::Text(text)) => {
            in_range(integer(text)?, 0, u32::MAX.into())
        }
        (Kind::Uint64 | Kind::Fixed64, Tree::Number(text) | Tree::Text(text)) => {
            in_range(integer(text)?, 0, u64::MAX.into())
        }
        _ => as_it_is(tree),
    }
}

fn in_range(value: i128, least: i128, greatest: i128) -> Normal {
    if value < least || value > greatest {
        return broken("an integer out of range");
    }
    Ok(i64::try_from(value)
        .map_or_else(|_| json!(u64::try_from(value).expect("in range")), |value| json!(value)))
}

/// Exactly the integer that a JSON number says.
pub fn integer(text: &str) -> Result<i128, Refusal> {
    if !is_number(text) {
        return broken("a text that is no number");
    }
    let lower = text.to_ascii_lowercase();
    let (mantissa, exponent) = lower.split_once('e').unwrap_or((&lower, "0"));
    let (negative, mantissa) = mantissa.strip_prefix('-').map_or((false, mantissa), |rest| (true, rest));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all = format!("{whole}{fraction}");
    let significant = all.trim_start_matches('0');
    if significant.is_empty() {
        return Ok(0);
    }
    let digits = significant.trim_end_matches('0');
    let Ok(exponent) = exponent.parse::<i64>() else {
        return broken("an exponent without end");
    };
    let dropped = i64::try_from(significant.len() - digits.len()).expect("short");
    let scale = i128::from(exponent) - i128::try_from(fraction.len()).expect("short") + i128::from(dropped);
    if scale < 0 {
        return broken("an integer with a fraction");
    }
    if i128::try_from(digits.len()).expect("short") + scale > 20 {
        return broken("an integer out of range");
    }
    let power = 10_i128.pow(u32::try_from(scale).expect("at most 20"));
    let value = digits.parse::<i128>().expect("at most 20 digits") * power;
    Ok(if negative { -value } else { value })
}

fn map_key(of: &Kind, key: &str) -> Result<String, Refusal> {
    Ok(match of {
        Kind::String | Kind::Bool => key.to_owned(),
        Kind::Double
        | Kind::Float
        | Kind::Int32
        | Kind::Int64
        | Kind::Uint32
        | Kind::Uint64
        | Kind::Sint32
        | Kind::Sint64
        | Kind::Fixed32
        | Kind::Fixed64
        | Kind::Sfixed32
        | Kind::Sfixed64
        | Kind::Bytes
        | Kind::Message(_)
        | Kind::Enum(_) => integer(key)?.to_string(),
    })
}

fn bytes(text: &str) -> Normal {
    let unpadded = text.trim_end_matches('=');
    let padding = text.len() - unpadded.len();
    if padding > 2 || (padding > 0 && !text.len().is_multiple_of(4)) || unpadded.len() % 4 == 1 {
        return broken("base64 of a length that there is not");
    }
    Ok(json!(unpadded.replace('-', "+").replace('_', "/")))
}

fn timestamp(text: &str) -> Normal {
    if text.get(17..19) == Some("60") {
        return broken("a leap second, which a Timestamp cannot hold");
    }
    let fraction = text.split_once('.').map_or("", |(_, fraction)| fraction);
    if fraction.bytes().take_while(u8::is_ascii_digit).count() > 9 {
        return broken("a time finer than nanoseconds");
    }
    Ok(json!(text))
}

fn duration(text: &str) -> Normal {
    let fraction = text.split_once('.').map_or("", |(_, fraction)| fraction);
    if fraction.bytes().take_while(u8::is_ascii_digit).count() > 9 {
        return broken("a duration finer than nanoseconds");
    }
    Ok(json!(text))
}

fn field_mask(text: &str) -> Normal {
    let path = |path: &str| {
        let letters = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'.';
        path == "*" || (!path.is_empty() && path.bytes().all(letters))
    };
    if text.is_empty() || text.split(',').all(path) {
        Ok(json!(text))
    } else {
        broken("a path of a FieldMask")
    }
}

fn any(message: &MessageDescriptor, members: &[(String, Tree)]) -> Normal {
    if members.is_empty() {
        // An Any without a type, which prost-reflect cannot read.
        return Err(Refusal::NoReference);
    }
    let mut types = members.iter().filter(|(key, _)| key == "@type");
    let (Some((_, Tree::Text(url))), None) = (types.next(), types.next()) else {
        return broken("an Any without one type");
    };
    let name = url.rsplit_once('/').map(|(_, name)| name);
    let Some(inner) = name.and_then(|name| message.parent_pool().get_message_by_name(name)) else {
        return broken("an Any of an unknown type");
    };
    let mut object = Map::new();
    object.insert("@type".to_owned(), json!(url));
    if inner.full_name() == "google.protobuf.Empty" {
        // An object of no fields for some, a well-known type for others: both are read.
        object.insert("value".to_owned(), json!({}));
        return match members.iter().filter(|(key, _)| key != "@type").collect::<Vec<_>>()[..] {
            [] => Ok(Value::Object(object)),
            [(key, value)] if key == "value" && *value == Tree::Object(Vec::new()) => {
                Ok(Value::Object(object))
            }
            _ => broken("a member of Empty"),
        };
    }
    if inner.full_name().starts_with("google.protobuf.") && is_special(inner.full_name()) {
        let mut values = members.iter().filter(|(key, _)| key != "@type");
        let (Some((key, value)), None) = (values.next(), values.next()) else {
            return broken("an Any around a well-known type without one value");
        };
        if key != "value" {
            return broken("an unknown field");
        }
        object.insert("value".to_owned(), normalised(&inner, value)?);
        return Ok(Value::Object(object));
    }
    object.extend(plain(&inner, members, true)?);
    Ok(Value::Object(object))
}

/// Whether a message of `google.protobuf` has a JSON form of its own.
pub fn is_special(name: &str) -> bool {
    is_wrapper(name)
        || ["Any", "Timestamp", "Duration", "FieldMask", "Struct", "Value", "ListValue"]
            .iter()
            .any(|special| name["google.protobuf.".len()..] == **special)
}

/// As it is. No object has a key twice, and no number is beyond a double.
pub fn as_it_is(tree: &Tree) -> Normal {
    Ok(match tree {
        Tree::Null => Value::Null,
        Tree::Bool(value) => json!(value),
        Tree::Text(text) => json!(text),
        Tree::Number(text) => {
            let value: f64 = text.parse().expect("a JSON number");
            if !value.is_finite() {
                return broken("a number out of range");
            }
            json!(value)
        }
        Tree::List(items) => items.iter().map(as_it_is).collect::<Result<_, _>>()?,
        Tree::Object(members) => {
            let mut object = Map::new();
            for (key, value) in members {
                if object.insert(key.clone(), as_it_is(value)?).is_some() {
                    return broken("a key twice");
                }
            }
            Value::Object(object)
        }
    })
}
