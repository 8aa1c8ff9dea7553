//! Values from text: quoted in JSON, in a query, or in a path.

use super::escape::{base64_length, decode_base64};
use super::number;
use super::parse::{ParseOptions, message};
use crate::table::{Form, Scalar, Tables, Type};
use crate::violation::Violation;
use crate::wire::{self, put_tag, put_varint};

pub(super) const UNKNOWN_ENUM: &str = "is not a value of the enum";

/// Appends the value that `text` stands for, without a tag; true when it is the default. For enums the name or the number.
///
/// # Errors
///
/// The rule that `text` breaks.
pub(crate) fn put_text(
    tables: &Tables,
    out: &mut Vec<u8>,
    scalar: Scalar,
    text: &str,
) -> Result<bool, &'static str> {
    match scalar {
        Scalar::Double => {
            let value = number::double(text).ok_or("must be a number in the range of a double")?;
            out.extend_from_slice(&value.to_le_bytes());
            Ok(value.to_bits() == 0)
        }
        Scalar::Float => {
            let value = number::float(text).ok_or("must be a number in the range of a float")?;
            out.extend_from_slice(&value.to_le_bytes());
            Ok(value.to_bits() == 0)
        }
        Scalar::Int32 | Scalar::Sint32 | Scalar::Sfixed32 => {
            let value: i32 = integer(text, "must be an integer from -2147483648 to 2147483647")?;
            if scalar == Scalar::Sfixed32 {
                out.extend_from_slice(&value.to_le_bytes());
            } else if scalar == Scalar::Sint32 {
                put_varint(out, wire::zigzag(i64::from(value)));
            } else {
                put_varint(out, i64::from(value).cast_unsigned());
            }
            Ok(value == 0)
        }
        Scalar::Int64 | Scalar::Sint64 | Scalar::Sfixed64 => {
            let value: i64 = integer(text, "must be an integer from -2^63 to 2^63 - 1")?;
            if scalar == Scalar::Sfixed64 {
                out.extend_from_slice(&value.to_le_bytes());
            } else if scalar == Scalar::Sint64 {
                put_varint(out, wire::zigzag(value));
            } else {
                put_varint(out, value.cast_unsigned());
            }
            Ok(value == 0)
        }
        Scalar::Uint32 | Scalar::Fixed32 => {
            let value: u32 = integer(text, "must be an integer from 0 to 4294967295")?;
            if scalar == Scalar::Fixed32 {
                out.extend_from_slice(&value.to_le_bytes());
            } else {
                put_varint(out, u64::from(value));
            }
            Ok(value == 0)
        }
        Scalar::Uint64 | Scalar::Fixed64 => {
            let value: u64 = integer(text, "must be an integer from 0 to 2^64 - 1")?;
            if scalar == Scalar::Fixed64 {
                out.extend_from_slice(&value.to_le_bytes());
            } else {
                put_varint(out, value);
            }
            Ok(value == 0)
        }
        Scalar::Bool => {
            let value = match text {
                "true" => true,
                "false" => false,
                _ => return Err("must be true or false"),
            };
            out.push(u8::from(value));
            Ok(!value)
        }
        Scalar::String => {
            put_varint(out, wire::wide(text.len()));
            out.extend_from_slice(text.as_bytes());
            Ok(text.is_empty())
        }
        Scalar::Bytes => {
            const RULE: &str = "must be base64, standard or URL-safe";
            let length = base64_length(text).ok_or(RULE)?;
            put_varint(out, wire::wide(length));
            if decode_base64(out, text) { Ok(length == 0) } else { Err(RULE) }
        }
        Scalar::Enum(index) => {
            let number = match tables.enums[index].number(text) {
                Some(number) => number,
                None if number::is_number(text) => integer(text, "must be a 32-bit integer")?,
                None => return Err(UNKNOWN_ENUM),
            };
            if tables.enums[index].null && number != 0 {
                return Err("must be null");
            }
            put_varint(out, i64::from(number).cast_unsigned());
            Ok(number == tables.enums[index].default)
        }
    }
}

fn integer<N: TryFrom<i128>>(text: &str, rule: &'static str) -> Result<N, &'static str> {
    number::integer(text).and_then(|value| N::try_from(value).ok()).ok_or(rule)
}

/// Appends the content of a message whose JSON form is a string, a number or any JSON text, from a query parameter.
pub(crate) fn put_text_message(
    tables: &Tables,
    index: usize,
    text: &str,
    out: &mut Vec<u8>,
    options: ParseOptions,
) -> Result<(), Violation> {
    let table = &tables.messages[index];
    match table.form {
        Form::Timestamp | Form::Duration | Form::FieldMask => super::wkt_in::put_text(table.form, text, out),
        Form::Wrapper => match table.fields.first().map(|field| (field.number, field.ty)) {
            Some((number, Type::Scalar(scalar))) => {
                let start = out.len();
                put_tag(out, number, scalar.wire_type());
                if put_text(tables, out, scalar, text).map_err(Violation::new)? {
                    out.truncate(start);
                }
                Ok(())
            }
            _ => Err(Violation::new("unsupported type")),
        },
        Form::Struct | Form::Value | Form::ListValue => message(tables, index, text, out, options),
        Form::Plain | Form::Any => Err(Violation::new("is a message: set its fields by `name.field=`")),
    }
}
