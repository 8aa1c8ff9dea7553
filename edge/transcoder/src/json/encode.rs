//! Wire bytes to JSON text, in one pass.

use std::ops::Range;

use super::DEPTH_MAX_DEFAULT;
use super::merge::{TOO_DEEP, may_be_overridden, merge};
use super::scratch::{Scratch, has_duplicates};
use crate::table::{Field, Form, Label, Message, Scalar, Seen, Tables, Type};
use crate::wire::{self, Malformed, Reader};

/// How a reply is printed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EncodeOptions {
    /// Print fields without presence, lists and maps even when they are empty.
    pub(crate) always_print: bool,
    /// Print enum values as numbers.
    pub(crate) enums_as_ints: bool,
    /// How many objects and arrays may be open at once: as many as may be in what is read.
    pub(crate) depth_max: usize,
}

impl Default for EncodeOptions {
    fn default() -> Self {
        Self { always_print: false, enums_as_ints: false, depth_max: DEPTH_MAX_DEFAULT }
    }
}

/// Appends the JSON of a message of table `index`.
pub(crate) fn message(
    tables: &Tables,
    index: usize,
    bytes: &[u8],
    out: &mut Vec<u8>,
    options: EncodeOptions,
) -> Result<(), Malformed> {
    let start = out.len();
    let mut encoder = Encoder::new(tables, out, options);
    match encoder.message(index, bytes, 0) {
        Err(fault) if may_be_overridden(fault) => {
            encoder.back_to(start, 0);
            encoder.message(index, &merge(tables, &tables.messages[index], bytes)?, 0)
        }
        done => done,
    }?;
    encoder.scratch.keep();
    Ok(())
}

/// Appends the JSON of one field of a message of table `index`: its default when it is absent, null for an absent message.
pub(crate) fn field(
    tables: &Tables,
    index: usize,
    field: usize,
    bytes: &[u8],
    out: &mut Vec<u8>,
    options: EncodeOptions,
) -> Result<(), Malformed> {
    let mut encoder = Encoder::new(tables, out, options);
    encoder.only_field(index, field, bytes)?;
    encoder.scratch.keep();
    Ok(())
}

pub(super) struct Encoder<'t, 'o> {
    pub(super) tables: &'t Tables,
    pub(super) out: &'o mut Vec<u8>,
    pub(super) options: EncodeOptions,
    pub(super) scratch: Scratch,
}

/// Whether a message could be printed in one pass. When a field's occurrences are not next to each other they must first be
/// merged, which no encoder of one's own upstream causes but the wire format allows.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Pass {
    Done,
    NeedsMerge,
}

impl<'t, 'o> Encoder<'t, 'o> {
    fn new(tables: &'t Tables, out: &'o mut Vec<u8>, options: EncodeOptions) -> Self {
        Self { tables, out, options, scratch: Scratch::take() }
    }

    /// Takes back what was printed since `start`, and the keys of the maps that were open, from `base` on.
    pub(super) fn back_to(&mut self, start: usize, base: usize) {
        self.out.truncate(start);
        self.scratch.keys.truncate(base);
    }

    /// How many objects and arrays are open when one more is begun inside `depth` of them.
    pub(super) fn enter(&self, depth: usize) -> Result<usize, Malformed> {
        if depth < self.options.depth_max { Ok(depth + 1) } else { Err(TOO_DEEP) }
    }

    /// A message inside `depth` objects and arrays.
    pub(super) fn message(&mut self, index: usize, bytes: &[u8], depth: usize) -> Result<(), Malformed> {
        let message = &self.tables.messages[index];
        let (start, base) = (self.out.len(), self.scratch.keys.len());
        if self.attempt(message, bytes, depth)? == Pass::Done {
            return Ok(());
        }
        self.back_to(start, base);
        let merged = merge(self.tables, message, bytes)?;
        match self.attempt(message, &merged, depth)? {
            Pass::Done => Ok(()),
            Pass::NeedsMerge => Err(Malformed("fields cannot be merged")),
        }
    }

    fn attempt(&mut self, message: &'t Message, bytes: &[u8], depth: usize) -> Result<Pass, Malformed> {
        if message.form != Form::Plain {
            return self.well_known(message, bytes, depth);
        }
        let depth = self.enter(depth)?;
        self.out.push(b'{');
        let pass = self.members(message, bytes, depth, self.options.always_print)?;
        self.out.push(b'}');
        Ok(pass)
    }

    /// The members of an object, without braces; it is one of the `depth` that are open. `fill` adds the defaults of the absent ones.
    pub(super) fn members(
        &mut self,
        message: &'t Message,
        bytes: &[u8],
        depth: usize,
        fill: bool,
    ) -> Result<Pass, Malformed> {
        let mut reader = Reader::new(bytes);
        let mut seen = Seen::new(message);
        let mut open: Option<usize> = None;
        let base = self.scratch.keys.len();
        while !reader.is_empty() {
            let (number, wire_type) = reader.tag()?;
            let Some(index) = message.by_number(number) else {
                reader.skip(number, wire_type, 0)?;
                continue;
            };
            let field = &message.fields[index];
            if open != Some(index) {
                if self.close(message, open.take(), base) == Pass::NeedsMerge {
                    return Ok(Pass::NeedsMerge);
                }
                if is_empty_packed(field, wire_type, &reader) {
                    reader.bytes()?;
                    continue;
                }
                let fresh = seen.mark(index)
                    && field.oneof.is_none_or(|oneof| seen.mark(message.fields.len() + oneof));
                if !fresh {
                    return Ok(Pass::NeedsMerge);
                }
                if field.label.singular() {
                    self.singular(field, wire_type, &mut reader, depth)?;
                    continue;
                }
                self.enter(depth)?;
                self.key(field);
                self.out.push(if field.label == Label::Map { b'{' } else { b'[' });
                open = Some(index);
            }
            match (field.label, field.ty) {
                (Label::Map, Type::Message(entry)) => {
                    if wire_type != wire::LEN {
                        return Err(WRONG_WIRE_TYPE);
                    }
                    let key = self.entry(entry, reader.bytes()?, depth + 1)?;
                    let Some(key) = key else { return Ok(Pass::NeedsMerge) };
                    self.scratch.keys.push(key);
                }
                (_, Type::Scalar(scalar)) if scalar.packable() && wire_type == wire::LEN => {
                    let mut packed = Reader::new(reader.bytes()?);
                    while !packed.is_empty() {
                        self.comma();
                        self.scalar(scalar, scalar.wire_type(), &mut packed)?;
                    }
                }
                _ => {
                    self.comma();
                    self.value(field, wire_type, &mut reader, depth + 1)?;
                }
            }
        }
        if self.close(message, open, base) == Pass::NeedsMerge {
            return Ok(Pass::NeedsMerge);
        }
        if fill {
            self.fill(message, &seen);
        }
        Ok(Pass::Done)
    }

    /// Key and value of a singular field, or nothing when it is the default of a field without presence.
    fn singular(
        &mut self,
        field: &'t Field,
        wire_type: u8,
        reader: &mut Reader<'_>,
        depth: usize,
    ) -> Result<(), Malformed> {
        let start = self.out.len();
        self.key(field);
        let default = self.value(field, wire_type, reader, depth)?;
        if default && field.label == Label::Implicit && !self.options.always_print {
            self.out.truncate(start);
        }
        Ok(())
    }

    /// One value, or one element; true when it is the default of its type.
    fn value(
        &mut self,
        field: &'t Field,
        wire_type: u8,
        reader: &mut Reader<'_>,
        depth: usize,
    ) -> Result<bool, Malformed> {
        match field.ty {
            Type::Scalar(scalar) => self.scalar(scalar, wire_type, reader),
            Type::Message(index) if wire_type == wire::LEN => {
                self.message(index, reader.bytes()?, depth).map(|()| false)
            }
            Type::Group(index) if wire_type == wire::START_GROUP => {
                self.message(index, reader.group(field.number, 0)?, depth).map(|()| false)
            }
            Type::Message(_) | Type::Group(_) => Err(WRONG_WIRE_TYPE),
        }
    }

    /// Ends the array or object of a repeated field. The keys from `base` on are those of a map.
    fn close(&mut self, message: &Message, open: Option<usize>, base: usize) -> Pass {
        let Some(index) = open else { return Pass::Done };
        if message.fields[index].label != Label::Map {
            self.out.push(b']');
            return Pass::Done;
        }
        self.out.push(b'}');
        self.keys_end(base)
    }

    /// Forgets the keys of a map, which begin at `base`, once they are known to be different. Their wire bytes may differ
    /// for one key.
    pub(super) fn keys_end(&mut self, base: usize) -> Pass {
        let repeated = has_duplicates(&mut self.scratch.keys[base..], self.out);
        self.scratch.keys.truncate(base);
        if repeated { Pass::NeedsMerge } else { Pass::Done }
    }

    /// One map entry; returns the bytes of its key, or `None` when its value must be merged first.
    pub(super) fn entry(
        &mut self,
        entry: usize,
        bytes: &[u8],
        depth: usize,
    ) -> Result<Option<Range<usize>>, Malformed> {
        let [key_field, value_field] = &*self.tables.messages[entry].fields else {
            return Err(Malformed("map entry without key and value"));
        };
        let Type::Scalar(key_scalar) = key_field.ty else { return Err(Malformed("map key is a message")) };
        let start = self.out.len();
        if let Some(key) = self.entry_in_order(key_scalar, value_field, bytes, depth)? {
            return Ok(Some(key));
        }
        self.out.truncate(start);
        let mut reader = Reader::new(bytes);
        let mut key: Option<(u8, Reader<'_>)> = None;
        let mut value: Option<(u8, Reader<'_>)> = None;
        while !reader.is_empty() {
            let (number, wire_type) = reader.tag()?;
            let at = reader.clone();
            reader.skip(number, wire_type, 0)?;
            match number {
                1 if key.is_none() => key = Some((wire_type, at)),
                2 if value.is_none() => value = Some((wire_type, at)),
                1 | 2 => return Ok(None),
                _ => {}
            }
        }
        let printed =
            self.map_key(key_scalar, key.as_mut().map(|(wire_type, reader)| (*wire_type, reader)))?;
        match (value, value_field.ty) {
            (Some((wire_type, mut reader)), _) => {
                self.value(value_field, wire_type, &mut reader, depth)?;
            }
            (None, Type::Scalar(scalar)) => self.put_default(scalar),
            (None, Type::Message(index) | Type::Group(index)) => self.message(index, &[], depth)?,
        }
        Ok(Some(printed))
    }

    /// An entry as encoders write it, key and value once each and in this order; else `None`, with something printed or not.
    fn entry_in_order(
        &mut self,
        key_scalar: Scalar,
        value_field: &'t Field,
        bytes: &[u8],
        depth: usize,
    ) -> Result<Option<Range<usize>>, Malformed> {
        let mut reader = Reader::new(bytes);
        if reader.is_empty() {
            return Ok(None);
        }
        let (1, wire_type) = reader.tag()? else { return Ok(None) };
        let key = self.map_key(key_scalar, Some((wire_type, &mut reader)))?;
        if reader.is_empty() {
            return Ok(None);
        }
        let (2, wire_type) = reader.tag()? else { return Ok(None) };
        self.value(value_field, wire_type, &mut reader, depth)?;
        Ok(reader.is_empty().then_some(key))
    }

    /// The key of a map entry, which is always a string in JSON; its default when there is none on the wire. Returns where it
    /// was printed.
    fn map_key(
        &mut self,
        scalar: Scalar,
        key: Option<(u8, &mut Reader<'_>)>,
    ) -> Result<Range<usize>, Malformed> {
        self.comma();
        let from = self.out.len();
        let quoted = scalar != Scalar::String && !is_wide(scalar);
        if quoted {
            self.out.push(b'"');
        }
        match key {
            Some((wire_type, reader)) => self.scalar(scalar, wire_type, reader).map(drop)?,
            None => self.put_default(scalar),
        }
        if quoted {
            self.out.push(b'"');
        }
        let printed = from..self.out.len();
        self.out.push(b':');
        Ok(printed)
    }

    fn fill(&mut self, message: &'t Message, seen: &Seen) {
        for (index, field) in message.fields.iter().enumerate() {
            if seen.has(index) || field.label == Label::Explicit {
                continue;
            }
            self.key(field);
            self.put_absent(field);
        }
    }

    /// What stands for a field that is not there.
    fn put_absent(&mut self, field: &Field) {
        match (field.label, field.ty) {
            (Label::Map, _) => self.out.extend_from_slice(b"{}"),
            (Label::Repeated | Label::Packed, _) => self.out.extend_from_slice(b"[]"),
            (Label::Implicit | Label::Explicit, Type::Scalar(scalar)) => self.put_default(scalar),
            (Label::Implicit | Label::Explicit, Type::Message(_) | Type::Group(_)) => {
                self.out.extend_from_slice(b"null");
            }
        }
    }

    /// The name of a member, after a comma unless it is the first.
    fn key(&mut self, field: &Field) {
        let first = matches!(self.out.last(), None | Some(b'{' | b'['));
        self.out.extend_from_slice(if first { &field.json_key[1..] } else { &field.json_key });
    }

    /// A comma, unless an object or an array has just begun.
    pub(super) fn comma(&mut self) {
        if !matches!(self.out.last(), None | Some(b'{' | b'[')) {
            self.out.push(b',');
        }
    }

    fn only_field(&mut self, index: usize, field: usize, bytes: &[u8]) -> Result<(), Malformed> {
        let message = &self.tables.messages[index];
        let table = &message.fields[field];
        let mut reader = Reader::new(bytes);
        // What there is of the field, as far as its occurrences are next to each other; else all of them, copied.
        let mut wanted = 0..0;
        let mut apart: Option<Vec<u8>> = None;
        while !reader.is_empty() {
            let from = reader.position();
            let (number, wire_type) = reader.tag()?;
            reader.skip(number, wire_type, 0)?;
            let rival = table.oneof.is_some()
                && message.by_number(number).is_some_and(|other| message.fields[other].oneof == table.oneof);
            let to = reader.position();
            if number == table.number {
                if let Some(apart) = &mut apart {
                    apart.extend_from_slice(&bytes[from..to]);
                } else if wanted.is_empty() || wanted.end == from {
                    wanted = if wanted.is_empty() { from..to } else { wanted.start..to };
                } else {
                    apart = Some([&bytes[wanted.clone()], &bytes[from..to]].concat());
                }
            } else if rival {
                wanted = 0..0;
                apart = None;
            }
        }
        let wanted = apart.as_deref().unwrap_or(&bytes[wanted]);
        // The key is printed with the value and taken away again, so that there is one way to print a field.
        let start = self.out.len();
        let again = match self.members(message, wanted, 0, false) {
            Ok(pass) => pass == Pass::NeedsMerge,
            Err(fault) if may_be_overridden(fault) => true,
            Err(fault) => return Err(fault),
        };
        if again {
            self.back_to(start, 0);
            let merged = merge(self.tables, message, wanted)?;
            if self.members(message, &merged, 0, false)? == Pass::NeedsMerge {
                return Err(Malformed("fields cannot be merged"));
            }
        }
        let printed = &self.out[start..];
        if printed.is_empty() {
            self.put_absent(table);
        } else {
            let key = table.json_key.len() - usize::from(!printed.starts_with(b","));
            self.out.drain(start..start + key);
        }
        Ok(())
    }
}

pub(super) const NOT_UTF8: Malformed = Malformed("string is not UTF-8");

pub(super) const WRONG_WIRE_TYPE: Malformed = Malformed("wire type does not fit the field");

/// 64-bit integers, whose text is quoted already.
fn is_wide(scalar: Scalar) -> bool {
    matches!(scalar, Scalar::Int64 | Scalar::Uint64 | Scalar::Sint64 | Scalar::Fixed64 | Scalar::Sfixed64)
}

pub(super) fn utf8(bytes: &[u8]) -> Result<&str, Malformed> {
    str::from_utf8(bytes).map_err(|_| NOT_UTF8)
}

fn is_empty_packed(field: &Field, wire_type: u8, reader: &Reader<'_>) -> bool {
    matches!(field.label, Label::Repeated | Label::Packed)
        && wire_type == wire::LEN
        && matches!(field.ty, Type::Scalar(scalar) if scalar.packable())
        && reader.clone().bytes().is_ok_and(<[u8]>::is_empty)
}

/// Appends the JSON of a `google.protobuf.Any`.
pub(crate) fn any(
    tables: &Tables,
    type_url: &str,
    value: &[u8],
    out: &mut Vec<u8>,
    options: EncodeOptions,
) -> Result<(), Malformed> {
    let start = out.len();
    let mut encoder = Encoder::new(tables, out, options);
    let fault = match encoder.put_any(type_url, value, 0) {
        Err(fault) if may_be_overridden(fault) => fault,
        done => {
            encoder.scratch.keep();
            return done;
        }
    };
    let Some(index) = type_url.rsplit_once('/').and_then(|(_, name)| tables.find(name)) else {
        return Err(fault);
    };
    encoder.back_to(start, 0);
    encoder.put_any(type_url, &merge(tables, &tables.messages[index], value)?, 0)
}
