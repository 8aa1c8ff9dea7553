//! The same message with every field once. Protobuf lets an encoder write a field in pieces, or one member of a oneof after
//! another, which no encoder of one's own upstream does; what is printed is the message that results.

use prost::Message as _;
use prost_reflect::{DynamicMessage, ReflectMessage as _, Value};

use crate::table::{Form, Message, Tables};
use crate::wire::{Malformed, WIRE_DEPTH_MAX};

pub(super) const TIME_OUT_OF_RANGE: Malformed = Malformed("time out of range");

pub(super) const NO_PATH: Malformed = Malformed("field mask path has no JSON form");

pub(super) const NOT_FINITE: Malformed = Malformed("a Value cannot hold NaN or infinity");

pub(super) const TOO_DEEP: Malformed = Malformed("nested too deep");

/// Whether `fault` is a value that the wire format allows and JSON has no form for. A later piece of the message may override
/// such a value, and then it is not part of the message.
pub(super) fn may_be_overridden(fault: Malformed) -> bool {
    [TIME_OUT_OF_RANGE, NO_PATH, NOT_FINITE, TOO_DEEP].contains(&fault)
}

/// Merges the pieces of a message, of those inside it, and of what is packed into an `Any`: printing the result asks for no
/// second merge, however deep it is nested.
pub(super) fn merge(tables: &Tables, message: &Message, bytes: &[u8]) -> Result<Vec<u8>, Malformed> {
    pieces(tables, message, bytes, 0).ok_or(Malformed("not a message of the type"))
}

fn pieces(tables: &Tables, message: &Message, bytes: &[u8], depth: usize) -> Option<Vec<u8>> {
    let mut merged = DynamicMessage::decode(message.descriptor.clone(), bytes).ok()?;
    packed_of_message(tables, &mut merged, depth);
    Some(merged.encode_to_vec())
}

fn packed_of_message(tables: &Tables, message: &mut DynamicMessage, depth: usize) {
    // Deeper than this it is left as it is: it is not printed either.
    if depth > WIRE_DEPTH_MAX {
        return;
    }
    let descriptor = message.descriptor();
    let name = descriptor.full_name();
    if tables.find(name).is_some_and(|index| tables.messages[index].form == Form::Any) {
        if let Some(merged) = packed(tables, message, depth) {
            message.set_field_by_name("value", Value::Bytes(merged.into()));
        }
        return;
    }
    message.fields_mut().for_each(|(_, value)| packed_of_value(tables, value, depth));
    message.extensions_mut().for_each(|(_, value)| packed_of_value(tables, value, depth));
}

/// The merged bytes of an `Any`; `None` when its type is not known or the bytes are not of it, which printing finds out.
fn packed(tables: &Tables, any: &DynamicMessage, depth: usize) -> Option<Vec<u8>> {
    let url = any.get_field_by_name("type_url")?;
    let (_, name) = url.as_str()?.rsplit_once('/')?;
    let value = any.get_field_by_name("value")?;
    pieces(tables, &tables.messages[tables.find(name)?], value.as_bytes()?, depth + 1)
}

fn packed_of_value(tables: &Tables, value: &mut Value, depth: usize) {
    match value {
        Value::Message(message) => packed_of_message(tables, message, depth + 1),
        Value::List(values) => {
            for value in values {
                packed_of_value(tables, value, depth);
            }
        }
        Value::Map(entries) => {
            for value in entries.values_mut() {
                packed_of_value(tables, value, depth);
            }
        }
        Value::Bool(_)
        | Value::I32(_)
        | Value::I64(_)
        | Value::U32(_)
        | Value::U64(_)
        | Value::F32(_)
        | Value::F64(_)
        | Value::String(_)
        | Value::Bytes(_)
        | Value::EnumNumber(_) => {}
    }
}
