//! Fields that come from the path, the query or the host, as wire bytes that are added to a request.
//!
//! They are bound once, whatever they are added to: [`Binder`] takes them one by one, and the [`Bound`] that it makes joins a
//! message, or each message of a stream, in one look through it.
//!
//! A nested field is added as one more occurrence of the messages around it: by the wire format, occurrences of a message
//! merge.

mod places;

use std::collections::HashSet;
use std::ops::Range;

use smallvec::SmallVec;

use self::places::{Place, Places, ROOT};
use crate::json::parse::{ParseOptions, second_of_oneof};
use crate::json::text::{put_text, put_text_message};
use crate::table::{Field, Label, Tables, Type};
use crate::violation::Violation;
use crate::wire::{self, Reader, close_len, open_len, put_tag};

/// A field by the indices of the fields that lead to it.
pub(crate) type Path = SmallVec<[usize; 4]>;

/// The field at a path of indices.
pub(crate) fn field_at<'t>(tables: &'t Tables, message: usize, path: &[usize]) -> Option<&'t Field> {
    let (&first, rest) = path.split_first()?;
    let field = tables.messages[message].fields.get(first)?;
    if rest.is_empty() { Some(field) } else { field_at(tables, field.ty.message()?, rest) }
}

/// What is open around a value that is being written.
#[derive(Clone, Copy, Debug)]
enum Open {
    /// A length, at this place.
    Length(usize),
    /// A group of this number.
    Group(u32),
}

type Opens = SmallVec<[Open; 4]>;

/// Where a value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// The path or the host. It may say what the query says too.
    Given,
    /// A parameter of the query, which may name a singular field once.
    Query,
}

const TWICE: &str = "is given twice";

const TWO_VALUES: &str = "is given two values, by the path, the query, a header or the body";

/// Binds fields of one type of request.
pub(crate) struct Binder<'t> {
    tables: &'t Tables,
    options: ParseOptions,
    bound: Bound,
    /// The entries of maps so far: the path of the map, and the wire bytes of the key, which `1` and `1e0` share.
    entries: HashSet<(Path, Vec<u8>)>,
}

/// What is bound.
#[derive(Debug)]
pub(crate) struct Bound {
    /// Table index of the request message.
    message: usize,
    /// An occurrence of each field.
    wire: Vec<u8>,
    places: Places,
}

impl<'t> Binder<'t> {
    /// For the message of table index `message`. `length` is about how many bytes will be bound.
    pub(crate) fn new(tables: &'t Tables, message: usize, length: usize, options: ParseOptions) -> Self {
        let bound = Bound { message, wire: Vec::with_capacity(length), places: Places::default() };
        Self { tables, options, bound, entries: HashSet::new() }
    }

    pub(crate) fn tables(&self) -> &'t Tables {
        self.tables
    }

    /// Table index of the request message.
    pub(crate) fn message(&self) -> usize {
        self.bound.message
    }

    pub(crate) fn finish(self) -> Bound {
        self.bound
    }

    /// Sets the field at `path`, called `name` in errors, to what `text` stands for; adds an element when it is repeated.
    /// The same value may be there already, another may not.
    pub(crate) fn set(
        &mut self,
        path: &[usize],
        name: &str,
        text: &str,
        source: Source,
    ) -> Result<(), Violation> {
        let Some(field) = field_at(self.tables, self.bound.message, path) else {
            return Err(Violation::at(name, "is not a field of the request"));
        };
        let (start, opens) = self.open(path);
        let from = self.bound.wire.len();
        put_value(self.tables, field, text, &mut self.bound.wire, self.options)
            .map_err(|fault| fault.under(name))?;
        self.close(path, name, start..from, &opens, source)
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
        let (start, opens) = self.open(path);
        let out = &mut self.bound.wire;
        let from = out.len();
        let open = open_len(out);
        put_tag(out, key_field.number, key_field.ty.wire_type());
        let key_from = out.len();
        let fault_at = |fault: Violation| fault.under_key(key).under(name);
        put_value(self.tables, key_field, key, out, self.options).map_err(fault_at)?;
        if !self.entries.insert((path.into(), out[key_from..].to_vec())) {
            return Err(Violation::at(&format!("{name}[{key}]"), TWICE));
        }
        put_tag(out, value_field.number, value_field.ty.wire_type());
        put_value(self.tables, value_field, text, out, self.options).map_err(fault_at)?;
        close_len(out, open);
        self.close(path, name, start..from, &opens, Source::Query)
    }

    /// Key and value of the map at `path`.
    fn entry_fields(&self, path: &[usize], name: &str) -> Result<&'t [Field; 2], Violation> {
        let map = field_at(self.tables, self.bound.message, path).filter(|field| field.label == Label::Map);
        let entry = match map.map(|field| field.ty) {
            Some(Type::Message(entry)) => self.tables.messages[entry].fields.first_chunk(),
            Some(Type::Scalar(_) | Type::Group(_)) | None => None,
        };
        entry.ok_or_else(|| Violation::at(name, "is not a map"))
    }

    /// Writes everything that comes before the value at `path`: returns where that begins, and what is to be ended behind it.
    fn open(&mut self, path: &[usize]) -> (usize, Opens) {
        let out = &mut self.bound.wire;
        let start = out.len();
        let mut opens = Opens::new();
        let mut message = self.bound.message;
        for (depth, &index) in path.iter().enumerate() {
            let field = &self.tables.messages[message].fields[index];
            put_tag(out, field.number, field.ty.wire_type());
            if depth + 1 == path.len() {
                break;
            }
            match field.ty {
                Type::Message(inner) => {
                    opens.push(Open::Length(open_len(out)));
                    message = inner;
                }
                Type::Group(inner) => {
                    opens.push(Open::Group(field.number));
                    message = inner;
                }
                Type::Scalar(_) => break,
            }
        }
        (start, opens)
    }

    /// Keeps the value that was written at the end of `before`, unless it is there already.
    fn close(
        &mut self,
        path: &[usize],
        name: &str,
        before: Range<usize>,
        opens: &[Open],
        source: Source,
    ) -> Result<(), Violation> {
        let Bound { message, wire, places } = &mut self.bound;
        let mut table = &self.tables.messages[*message];
        let mut parent = ROOT;
        for (depth, &index) in path.iter().enumerate() {
            let field = &table.fields[index];
            if let Some(oneof) = field.oneof {
                match places.find((parent, table.fields.len() + oneof)) {
                    None => {
                        places.add((parent, table.fields.len() + oneof), Place::Member(index));
                    }
                    Some((_, Place::Member(member))) if *member == index => {}
                    Some(_) => {
                        return Err(Violation::at(name, second_of_oneof(table, field, oneof).rule()));
                    }
                }
            }
            if depth + 1 < path.len() {
                parent = match places.find((parent, index)) {
                    Some((around, _)) => around,
                    None => places.add((parent, index), Place::Around),
                };
                if let Some(inner) = field.ty.message() {
                    table = &self.tables.messages[inner];
                }
            } else if field.label.singular() {
                let value = &wire[before.end..];
                match places.find_mut((parent, index)) {
                    None => {}
                    Some(Place::Value { queried: true, .. }) if source == Source::Query => {
                        return Err(Violation::at(name, TWICE));
                    }
                    Some(Place::Value { value: known, queried, .. }) if wire[known.clone()] == *value => {
                        *queried |= source == Source::Query;
                        wire.truncate(before.start);
                        return Ok(());
                    }
                    Some(_) => return Err(Violation::at(name, TWO_VALUES)),
                }
            }
        }
        let length = wire.len() - before.end;
        // What comes behind the value: its distance from the end stays when lengths grow in front of it.
        let mut behind = 0;
        for open in opens.iter().rev() {
            match open {
                Open::Length(open) => {
                    close_len(wire, *open);
                }
                Open::Group(number) => {
                    let end = wire.len();
                    put_tag(wire, *number, wire::END_GROUP);
                    behind += wire.len() - end;
                }
            }
        }
        if field_at(self.tables, *message, path).is_some_and(|field| field.label.singular()) {
            let index = path.last().copied().unwrap_or_default();
            let value = wire.len() - behind - length..wire.len() - behind;
            let occurrence = before.start..wire.len();
            places.add((parent, index), Place::Value { occurrence, value, queried: source == Source::Query });
        }
        Ok(())
    }
}

/// Appends what follows the tag.
fn put_value(
    tables: &Tables,
    field: &Field,
    text: &str,
    out: &mut Vec<u8>,
    options: ParseOptions,
) -> Result<(), Violation> {
    match field.ty {
        Type::Scalar(scalar) => put_text(tables, out, scalar, text).map(drop).map_err(Violation::new),
        Type::Message(index) => {
            let open = open_len(out);
            put_text_message(tables, index, text, out, options)?;
            close_len(out, open);
            Ok(())
        }
        Type::Group(index) => {
            put_text_message(tables, index, text, out, options)?;
            put_tag(out, field.number, wire::END_GROUP);
            Ok(())
        }
    }
}

impl Bound {
    /// Whether nothing is bound.
    pub(crate) fn is_empty(&self) -> bool {
        self.wire.is_empty()
    }

    /// How many bytes [`Self::join`] adds at most.
    pub(crate) fn len(&self) -> usize {
        self.wire.len()
    }

    /// Adds the fields to the message that `out` holds from `start` on. It may have them already, with the same values.
    ///
    /// # Errors
    ///
    /// A field that the message has with another value, or another member of its oneof.
    pub(crate) fn join(&self, tables: &Tables, out: &mut Vec<u8>, start: usize) -> Result<(), Violation> {
        let mut same: SmallVec<[Range<usize>; 4]> = SmallVec::new();
        if !self.places.is_empty() && out.len() > start {
            self.compare(tables, self.message, ROOT, &out[start..], &mut same)?;
        }
        same.sort_unstable_by_key(|occurrence| occurrence.start);
        same.dedup();
        let mut from = 0;
        for occurrence in same {
            out.extend_from_slice(&self.wire[from..occurrence.start]);
            from = occurrence.end;
        }
        out.extend_from_slice(&self.wire[from..]);
        Ok(())
    }

    /// Collects in `same` what `bytes`, the message that is `parent`, have already.
    fn compare(
        &self,
        tables: &Tables,
        message: usize,
        parent: usize,
        bytes: &[u8],
        same: &mut SmallVec<[Range<usize>; 4]>,
    ) -> Result<(), Violation> {
        let table = &tables.messages[message];
        let mut reader = Reader::new(bytes);
        while !reader.is_empty() {
            // What a client sent as wire bytes may be malformed, which is for the upstream to say.
            let Ok((number, wire_type)) = reader.tag() else { return Ok(()) };
            let at = reader.position();
            let mut content = reader.clone();
            if reader.skip(number, wire_type, 0).is_err() {
                return Ok(());
            }
            let Some(index) = table.by_number(number) else { continue };
            let field = &table.fields[index];
            if let Some(oneof) = field.oneof
                && let Some((_, Place::Member(member))) =
                    self.places.find((parent, table.fields.len() + oneof))
                && *member != index
            {
                let rule = second_of_oneof(table, &table.fields[*member], oneof);
                return Err(Violation::at(&self.name(tables, parent, *member), rule.rule()));
            }
            match self.places.find((parent, index)) {
                None | Some((_, Place::Member(_))) => {}
                Some((around, Place::Around)) => {
                    let inside = match field.ty {
                        Type::Message(inner) => content.bytes().map(|bytes| (inner, bytes)),
                        Type::Group(inner) => content.group(number, 0).map(|bytes| (inner, bytes)),
                        Type::Scalar(_) => continue,
                    };
                    if let Ok((inner, bytes)) = inside {
                        self.compare(tables, inner, around, bytes, same)?;
                    }
                }
                Some((_, Place::Value { occurrence, value, .. })) => {
                    if bytes[at..reader.position()] != self.wire[value.clone()] {
                        return Err(Violation::at(&self.name(tables, parent, index), TWO_VALUES));
                    }
                    same.push(occurrence.clone());
                }
            }
        }
        Ok(())
    }

    /// The dotted name of a field of the message that is `parent`.
    fn name(&self, tables: &Tables, parent: usize, index: usize) -> String {
        let mut table = &tables.messages[self.message];
        let mut name = String::new();
        for index in self.places.path(parent) {
            let field = &table.fields[index];
            name.push_str(&field.name);
            name.push('.');
            if let Some(inner) = field.ty.message() {
                table = &tables.messages[inner];
            }
        }
        name + &table.fields[index].name
    }
}

#[cfg(test)]
mod tests;
