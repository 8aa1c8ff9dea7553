//! Well-known types whose JSON is not an object of their fields, written.

use super::encode::{Encoder, MapKeys, Pass, WRONG_WIRE_TYPE, has_duplicates, merge, utf8};
use super::escape::{put_base64, put_string};
use crate::table::{Form, Message, Type};
use crate::wire::{self, Malformed, Reader};
use crate::wkt;

impl<'t> Encoder<'t, '_> {
    pub(super) fn well_known(
        &mut self,
        message: &'t Message,
        bytes: &[u8],
        depth: usize,
    ) -> Result<Pass, Malformed> {
        match message.form {
            Form::Timestamp | Form::Duration => {
                let (seconds, nanos) = seconds_and_nanos(bytes)?;
                self.out.push(b'"');
                let valid = if message.form == Form::Timestamp {
                    wkt::put_timestamp(self.out, seconds, nanos)
                } else {
                    wkt::put_duration(self.out, seconds, nanos)
                };
                self.out.push(b'"');
                if valid { Ok(Pass::Done) } else { Err(Malformed("time out of range")) }
            }
            Form::FieldMask => self.field_mask(bytes),
            Form::Struct => self.structure(message, bytes, depth),
            Form::ListValue => self.list_value(message, bytes, depth),
            Form::Value => self.dynamic_value(message, bytes, depth),
            Form::Any => self.any(bytes, depth),
            Form::Wrapper => self.wrapper(message, bytes),
            Form::Plain => Err(Malformed("not a well-known type")),
        }
    }

    fn wrapper(&mut self, message: &'t Message, bytes: &[u8]) -> Result<Pass, Malformed> {
        let Some(Type::Scalar(scalar)) = message.fields.first().map(|field| field.ty) else {
            return Err(Malformed("wrapper without a value"));
        };
        match last(bytes, 1)? {
            Some((wire_type, mut reader)) => self.scalar(scalar, wire_type, &mut reader).map(drop)?,
            None => self.put_default(scalar),
        }
        Ok(Pass::Done)
    }

    fn field_mask(&mut self, bytes: &[u8]) -> Result<Pass, Malformed> {
        self.out.push(b'"');
        let mut first = true;
        let mut reader = Reader::new(bytes);
        while !reader.is_empty() {
            let (number, wire_type) = reader.tag()?;
            if number != 1 {
                reader.skip(number, wire_type, 0)?;
                continue;
            }
            if wire_type != wire::LEN {
                return Err(WRONG_WIRE_TYPE);
            }
            if !first {
                self.out.push(b',');
            }
            first = false;
            if !wkt::put_camel(self.out, utf8(reader.bytes()?)?) {
                return Err(Malformed("field mask path has no JSON form"));
            }
        }
        self.out.push(b'"');
        Ok(Pass::Done)
    }

    fn structure(&mut self, message: &'t Message, bytes: &[u8], depth: usize) -> Result<Pass, Malformed> {
        let Some(Type::Message(entry)) = message.fields.first().map(|field| field.ty) else {
            return Err(Malformed("struct without fields"));
        };
        let mut keys = MapKeys::new();
        self.out.push(b'{');
        let mut reader = Reader::new(bytes);
        while !reader.is_empty() {
            let (number, wire_type) = reader.tag()?;
            if number != 1 {
                reader.skip(number, wire_type, depth)?;
                continue;
            }
            if wire_type != wire::LEN {
                return Err(WRONG_WIRE_TYPE);
            }
            let Some(key) = self.entry(entry, reader.bytes()?, depth)? else { return Ok(Pass::NeedsMerge) };
            keys.push(key);
        }
        self.out.push(b'}');
        Ok(if has_duplicates(&mut keys) { Pass::NeedsMerge } else { Pass::Done })
    }

    fn list_value(&mut self, message: &'t Message, bytes: &[u8], depth: usize) -> Result<Pass, Malformed> {
        let Some(Type::Message(value)) = message.fields.first().map(|field| field.ty) else {
            return Err(Malformed("list without values"));
        };
        self.out.push(b'[');
        let mut reader = Reader::new(bytes);
        while !reader.is_empty() {
            let (number, wire_type) = reader.tag()?;
            if number != 1 {
                reader.skip(number, wire_type, depth)?;
                continue;
            }
            if wire_type != wire::LEN {
                return Err(WRONG_WIRE_TYPE);
            }
            self.comma();
            self.message(value, reader.bytes()?, depth + 1)?;
        }
        self.out.push(b']');
        Ok(Pass::Done)
    }

    fn dynamic_value(&mut self, message: &'t Message, bytes: &[u8], depth: usize) -> Result<Pass, Malformed> {
        let start = self.out.len();
        let mut reader = Reader::new(bytes);
        while !reader.is_empty() {
            let (number, wire_type) = reader.tag()?;
            let Some(field) = message.by_number(number).map(|index| &message.fields[index]) else {
                reader.skip(number, wire_type, depth)?;
                continue;
            };
            if self.out.len() > start {
                return Ok(Pass::NeedsMerge);
            }
            match field.ty {
                Type::Scalar(scalar) => {
                    if number == 2 && wire_type == wire::FIXED64 {
                        let value = f64::from_le_bytes(reader.clone().fixed64()?);
                        if !value.is_finite() {
                            return Err(Malformed("a Value cannot hold NaN or infinity"));
                        }
                    }
                    self.scalar(scalar, wire_type, &mut reader)?;
                }
                Type::Message(index) if wire_type == wire::LEN => {
                    self.message(index, reader.bytes()?, depth + 1)?;
                }
                Type::Message(_) | Type::Group(_) => return Err(WRONG_WIRE_TYPE),
            }
        }
        if self.out.len() == start {
            self.out.extend_from_slice(b"null");
        }
        Ok(Pass::Done)
    }

    fn any(&mut self, bytes: &[u8], depth: usize) -> Result<Pass, Malformed> {
        let type_url = match last(bytes, 1)? {
            Some((wire::LEN, mut reader)) => utf8(reader.bytes()?)?,
            Some(_) => return Err(WRONG_WIRE_TYPE),
            None => "",
        };
        let value = match last(bytes, 2)? {
            Some((wire::LEN, mut reader)) => reader.bytes()?,
            Some(_) => return Err(WRONG_WIRE_TYPE),
            None => &[],
        };
        if type_url.is_empty() && value.is_empty() {
            self.out.extend_from_slice(b"{}");
        } else {
            self.put_any(type_url, value, depth)?;
        }
        Ok(Pass::Done)
    }

    /// An `Any`, expanded when its type is known; else its `@type` with the bytes in base64.
    pub(super) fn put_any(&mut self, type_url: &str, value: &[u8], depth: usize) -> Result<(), Malformed> {
        self.out.extend_from_slice(b"{\"@type\":");
        put_string(self.out, type_url);
        match type_url.rsplit_once('/').and_then(|(_, name)| self.tables.find(name)) {
            None => {
                self.out.extend_from_slice(b",\"value\":");
                put_base64(self.out, value);
            }
            Some(index) if self.tables.messages[index].form == Form::Plain => {
                let message = &self.tables.messages[index];
                let start = self.out.len();
                let fill = self.options.always_print;
                if depth > wire::WIRE_DEPTH_MAX {
                    return Err(Malformed("nested too deep"));
                }
                if self.members(message, value, depth + 1, fill)? == Pass::NeedsMerge {
                    self.out.truncate(start);
                    let merged = merge(message, value)?;
                    if self.members(message, &merged, depth + 1, fill)? == Pass::NeedsMerge {
                        return Err(Malformed("fields cannot be merged"));
                    }
                }
            }
            Some(index) => {
                self.out.extend_from_slice(b",\"value\":");
                self.message(index, value, depth + 1)?;
            }
        }
        self.out.push(b'}');
        Ok(())
    }
}

/// Wire type of the last occurrence of field `number`, and a reader in front of its value.
fn last(bytes: &[u8], number: u32) -> Result<Option<(u8, Reader<'_>)>, Malformed> {
    let mut reader = Reader::new(bytes);
    let mut found = None;
    while !reader.is_empty() {
        let (candidate, wire_type) = reader.tag()?;
        if candidate == number {
            found = Some((wire_type, reader.clone()));
        }
        reader.skip(candidate, wire_type, 0)?;
    }
    Ok(found)
}

/// The two fields of a `Timestamp` or a `Duration`.
pub(crate) fn seconds_and_nanos(bytes: &[u8]) -> Result<(i64, i32), Malformed> {
    let varint = |number| match last(bytes, number)? {
        Some((wire::VARINT, mut reader)) => reader.varint(),
        Some(_) => Err(WRONG_WIRE_TYPE),
        None => Ok(0),
    };
    Ok((varint(1)?.cast_signed(), wire::low_u32(varint(2)?).cast_signed()))
}
