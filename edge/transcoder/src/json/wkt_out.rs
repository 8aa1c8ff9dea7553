//! Well-known types whose JSON is not an object of their fields, written.

use super::encode::{Encoder, Pass, WRONG_WIRE_TYPE, utf8};
use super::escape::{put_base64, put_string};
use super::merge::{NO_PATH, NOT_FINITE, TIME_OUT_OF_RANGE, merge};
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
                let Some((seconds, nanos)) = seconds_and_nanos(bytes)? else { return Ok(Pass::NeedsMerge) };
                self.out.push(b'"');
                let valid = if message.form == Form::Timestamp {
                    wkt::put_timestamp(self.out, seconds, nanos)
                } else {
                    wkt::put_duration(self.out, seconds, nanos)
                };
                self.out.push(b'"');
                if valid { Ok(Pass::Done) } else { Err(TIME_OUT_OF_RANGE) }
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
        match only(bytes, 1)? {
            Only::One(wire_type, mut reader) => self.scalar(scalar, wire_type, &mut reader).map(drop)?,
            Only::None => self.put_default(scalar),
            Only::Several => return Ok(Pass::NeedsMerge),
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
            let path = utf8(reader.bytes()?)?;
            if path.is_empty() || !wkt::put_camel(self.out, path) {
                return Err(NO_PATH);
            }
        }
        self.out.push(b'"');
        Ok(Pass::Done)
    }

    fn structure(&mut self, message: &'t Message, bytes: &[u8], depth: usize) -> Result<Pass, Malformed> {
        let Some(Type::Message(entry)) = message.fields.first().map(|field| field.ty) else {
            return Err(Malformed("struct without fields"));
        };
        let base = self.scratch.keys.len();
        let depth = self.enter(depth)?;
        self.out.push(b'{');
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
            let Some(key) = self.entry(entry, reader.bytes()?, depth)? else { return Ok(Pass::NeedsMerge) };
            self.scratch.keys.push(key);
        }
        self.out.push(b'}');
        Ok(self.keys_end(base))
    }

    fn list_value(&mut self, message: &'t Message, bytes: &[u8], depth: usize) -> Result<Pass, Malformed> {
        let Some(Type::Message(value)) = message.fields.first().map(|field| field.ty) else {
            return Err(Malformed("list without values"));
        };
        let depth = self.enter(depth)?;
        self.out.push(b'[');
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
            self.comma();
            self.message(value, reader.bytes()?, depth)?;
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
                reader.skip(number, wire_type, 0)?;
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
                            return Err(NOT_FINITE);
                        }
                    }
                    self.scalar(scalar, wire_type, &mut reader)?;
                }
                Type::Message(index) if wire_type == wire::LEN => {
                    self.message(index, reader.bytes()?, depth)?;
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
        let type_url = match only(bytes, 1)? {
            Only::One(wire::LEN, mut reader) => utf8(reader.bytes()?)?,
            Only::One(..) => return Err(WRONG_WIRE_TYPE),
            Only::None => "",
            Only::Several => return Ok(Pass::NeedsMerge),
        };
        let value = match only(bytes, 2)? {
            Only::One(wire::LEN, mut reader) => reader.bytes()?,
            Only::One(..) => return Err(WRONG_WIRE_TYPE),
            Only::None => &[],
            Only::Several => return Ok(Pass::NeedsMerge),
        };
        if type_url.is_empty() && value.is_empty() {
            self.enter(depth)?;
            self.out.extend_from_slice(b"{}");
        } else {
            self.put_any(type_url, value, depth)?;
        }
        Ok(Pass::Done)
    }

    /// An `Any`, expanded when its type is known; else its `@type` with the bytes in base64.
    pub(super) fn put_any(&mut self, type_url: &str, value: &[u8], depth: usize) -> Result<(), Malformed> {
        let depth = self.enter(depth)?;
        self.out.extend_from_slice(b"{\"@type\":");
        put_string(self.out, type_url);
        match type_url.rsplit_once('/').and_then(|(_, name)| self.tables.find(name)) {
            None => {
                self.out.extend_from_slice(b",\"value\":");
                put_base64(self.out, value);
            }
            Some(index) if self.tables.messages[index].form == Form::Plain => {
                let message = &self.tables.messages[index];
                let (start, base) = (self.out.len(), self.scratch.keys.len());
                let fill = self.options.always_print;
                if self.members(message, value, depth, fill)? == Pass::NeedsMerge {
                    self.back_to(start, base);
                    let merged = merge(self.tables, message, value)?;
                    if self.members(message, &merged, depth, fill)? == Pass::NeedsMerge {
                        return Err(Malformed("fields cannot be merged"));
                    }
                }
            }
            Some(index) => {
                self.out.extend_from_slice(b",\"value\":");
                self.message(index, value, depth)?;
            }
        }
        self.out.push(b'}');
        Ok(())
    }
}

/// A field of a message that is read field by field.
enum Only<'b> {
    None,
    /// The wire type, and a reader in front of the value.
    One(u8, Reader<'b>),
    /// Each must be valid, and the last one counts: left to a merge.
    Several,
}

fn only(bytes: &[u8], number: u32) -> Result<Only<'_>, Malformed> {
    let mut reader = Reader::new(bytes);
    let mut found = Only::None;
    while !reader.is_empty() {
        let (candidate, wire_type) = reader.tag()?;
        if candidate == number {
            found = match found {
                Only::None => Only::One(wire_type, reader.clone()),
                Only::One(..) | Only::Several => Only::Several,
            };
        }
        reader.skip(candidate, wire_type, 0)?;
    }
    Ok(found)
}

/// The two fields of a `Timestamp` or a `Duration`; `None` when one is there more than once.
fn seconds_and_nanos(bytes: &[u8]) -> Result<Option<(i64, i32)>, Malformed> {
    let varint = |number| match only(bytes, number)? {
        Only::One(wire::VARINT, mut reader) => reader.varint().map(Some),
        Only::One(..) => Err(WRONG_WIRE_TYPE),
        Only::None => Ok(Some(0)),
        Only::Several => Ok(None),
    };
    let (Some(seconds), Some(nanos)) = (varint(1)?, varint(2)?) else { return Ok(None) };
    Ok(Some((seconds.cast_signed(), wire::low_u32(nanos).cast_signed())))
}
