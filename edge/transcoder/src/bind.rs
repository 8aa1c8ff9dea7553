//! Fields that come from the path, the query or the host, added to the wire bytes of a request.
//!
//! A nested field is added as one more occurrence of the messages around it: by the wire format, occurrences of a message
//! merge.

use crate::json::parse::{ParseOptions, second_of_oneof};
use crate::json::text::{put_text, put_text_message};
use crate::table::{Field, Label, Message, Tables, Type};
use crate::violation::Violation;
use crate::wire::{self, Reader, close_len, open_len, put_tag};

/// The field at a path of indices.
pub(crate) fn field_at<'t>(tables: &'t Tables, message: usize, path: &[usize]) -> Option<&'t Field> {
    let (&first, rest) = path.split_first()?;
    let field = tables.messages[message].fields.get(first)?;
    match (rest.is_empty(), field.ty) {
        (true, _) => Some(field),
        (false, Type::Message(inner)) => field_at(tables, inner, rest),
        (false, Type::Group(_) | Type::Scalar(_)) => None,
    }
}

/// Sets fields of one request message.
pub(crate) struct Binder<'t, 'o> {
    pub(crate) tables: &'t Tables,
    /// Table index of the request message.
    pub(crate) message: usize,
    /// The request so far; its message begins at `start`.
    pub(crate) out: &'o mut Vec<u8>,
    pub(crate) start: usize,
    pub(crate) options: ParseOptions,
    value: Vec<u8>,
}

/// What the request already says about a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Probe {
    Absent,
    Same,
    Different,
    /// Another member of its oneof is set.
    OtherMember,
}

impl<'t, 'o> Binder<'t, 'o> {
    pub(crate) fn new(
        tables: &'t Tables,
        message: usize,
        out: &'o mut Vec<u8>,
        start: usize,
        options: ParseOptions,
    ) -> Self {
        Self { tables, message, out, start, options, value: Vec::new() }
    }

    /// Sets the field at `path`, called `name` in errors, to what `text` stands for; adds an element when it is repeated.
    /// The same value may be there already, another may not.
    pub(crate) fn set(&mut self, path: &[usize], name: &str, text: &str) -> Result<(), Violation> {
        let Some(field) = field_at(self.tables, self.message, path) else {
            return Err(Violation::at(name, "is not a field of the request"));
        };
        let mut value = std::mem::take(&mut self.value);
        value.clear();
        let written = self.put_value(field, text, &mut value).map_err(|fault| fault.under(name));
        let bound = written.and_then(|()| self.set_raw(path, name, &value));
        self.value = value;
        bound
    }

    /// As [`Self::set`], with the bytes that follow the tag.
    pub(crate) fn set_raw(&mut self, path: &[usize], name: &str, value: &[u8]) -> Result<(), Violation> {
        let singular = field_at(self.tables, self.message, path).is_some_and(|field| field.label.singular());
        match probe(self.tables, self.message, &self.out[self.start..], path, value) {
            Probe::Same if singular => return Ok(()),
            Probe::Different if singular => {
                return Err(Violation::at(
                    name,
                    "is given two values, by the path, the query, a header or the body",
                ));
            }
            Probe::OtherMember => {
                return Err(self.other_member(path, name));
            }
            Probe::Absent | Probe::Same | Probe::Different => {}
        }
        append(self.tables, self.message, self.out, path, value);
        Ok(())
    }

    fn other_member(&self, path: &[usize], name: &str) -> Violation {
        let parent = parent_of(self.tables, self.message, path);
        match field_at(self.tables, self.message, path).and_then(|field| Some((field, field.oneof?))) {
            Some((field, oneof)) => Violation::at(name, second_of_oneof(parent, field, oneof).rule()),
            None => Violation::at(name, "is a second member of a oneof"),
        }
    }

    fn put_value(&self, field: &Field, text: &str, value: &mut Vec<u8>) -> Result<(), Violation> {
        match field.ty {
            Type::Scalar(scalar) => {
                put_text(self.tables, value, scalar, text).map(drop).map_err(Violation::new)
            }
            Type::Message(index) => {
                let open = open_len(value);
                put_text_message(self.tables, index, text, value, self.options)?;
                close_len(value, open);
                Ok(())
            }
            Type::Group(_) => Err(Violation::new("is a message: set its fields by `name.field=`")),
        }
    }

    /// Key and value of the map at `path`.
    fn entry_fields(&self, path: &[usize], name: &str) -> Result<&'t [Field; 2], Violation> {
        let map = field_at(self.tables, self.message, path).filter(|field| field.label == Label::Map);
        let entry = match map.map(|field| field.ty) {
            Some(Type::Message(entry)) => self.tables.messages[entry].fields.first_chunk(),
            Some(Type::Scalar(_) | Type::Group(_)) | None => None,
        };
        entry.ok_or_else(|| Violation::at(name, "is not a map"))
    }

    /// The wire bytes of a key of the map at `path`.
    pub(crate) fn entry_key(&self, path: &[usize], name: &str, key: &str) -> Result<Vec<u8>, Violation> {
        let [field, _] = self.entry_fields(path, name)?;
        let mut bytes = Vec::with_capacity(key.len() + 1);
        self.put_value(field, key, &mut bytes).map_err(|fault| fault.under_key(key).under(name))?;
        Ok(bytes)
    }

    /// Adds an entry to the map at `path`.
    pub(crate) fn set_entry(
        &mut self,
        path: &[usize],
        name: &str,
        key: &str,
        text: &str,
    ) -> Result<(), Violation> {
        let [key_field, value_field] = self.entry_fields(path, name)?;
        let mut bytes = Vec::with_capacity(key.len() + text.len() + 8);
        let open = open_len(&mut bytes);
        for (field, text) in [(key_field, key), (value_field, text)] {
            let wire_type = match field.ty {
                Type::Scalar(scalar) => scalar.wire_type(),
                Type::Message(_) | Type::Group(_) => wire::LEN,
            };
            put_tag(&mut bytes, field.number, wire_type);
            self.put_value(field, text, &mut bytes).map_err(|fault| fault.under_key(key).under(name))?;
        }
        close_len(&mut bytes, open);
        self.set_raw(path, name, &bytes)
    }
}

fn parent_of<'t>(tables: &'t Tables, message: usize, path: &[usize]) -> &'t Message {
    let mut parent = &tables.messages[message];
    for &index in &path[..path.len().saturating_sub(1)] {
        if let Type::Message(inner) = parent.fields[index].ty {
            parent = &tables.messages[inner];
        }
    }
    parent
}

fn probe(tables: &Tables, message: usize, bytes: &[u8], path: &[usize], value: &[u8]) -> Probe {
    let table = &tables.messages[message];
    let Some((&index, inner_path)) = path.split_first() else { return Probe::Absent };
    let field = &table.fields[index];
    let mut result = Probe::Absent;
    let mut reader = Reader::new(bytes);
    while !reader.is_empty() {
        // The bytes are our own, so a malformed one cannot occur; were it to, the upstream would refuse the request.
        let Ok((number, wire_type)) = reader.tag() else { return Probe::Absent };
        let at = reader.position();
        let mut content = reader.clone();
        if reader.skip(number, wire_type, 0).is_err() {
            return Probe::Absent;
        }
        let found = if number != field.number {
            let clash = field.oneof.is_some()
                && table.by_number(number).is_some_and(|other| table.fields[other].oneof == field.oneof);
            if clash { Probe::OtherMember } else { Probe::Absent }
        } else if inner_path.is_empty() {
            if bytes[at..reader.position()] == *value { Probe::Same } else { Probe::Different }
        } else if let (Type::Message(inner), Ok(content)) = (field.ty, content.bytes()) {
            probe(tables, inner, content, inner_path, value)
        } else {
            Probe::Absent
        };
        match found {
            Probe::Different | Probe::OtherMember => return found,
            Probe::Same => result = Probe::Same,
            Probe::Absent => {}
        }
    }
    result
}

fn append(tables: &Tables, message: usize, out: &mut Vec<u8>, path: &[usize], value: &[u8]) {
    let Some((&index, inner_path)) = path.split_first() else { return };
    let field = &tables.messages[message].fields[index];
    match (inner_path.is_empty(), field.ty) {
        (true, Type::Scalar(scalar)) => {
            put_tag(out, field.number, scalar.wire_type());
            out.extend_from_slice(value);
        }
        (true, Type::Message(_) | Type::Group(_)) => {
            put_tag(out, field.number, wire::LEN);
            out.extend_from_slice(value);
        }
        (false, Type::Message(inner)) => {
            put_tag(out, field.number, wire::LEN);
            let open = open_len(out);
            append(tables, inner, out, inner_path, value);
            close_len(out, open);
        }
        (false, Type::Group(_) | Type::Scalar(_)) => {}
    }
}
