//! Files of editions, rewritten as what the reflection library reads: proto2, or proto3 where a field has no presence.
//!
//! Only what the codec can see is resolved: presence, packing and groups. The library has no fields for features, so the
//! rewriting is done on the wire bytes, and whatever else a file says, custom options above all, is copied as it is.
//!
//! Source: `google/protobuf/descriptor.proto` for the numbers of the fields, and the defaults of editions 2023 and 2024.

use std::borrow::Cow;

use prost_reflect::{DescriptorError, DescriptorPool};

use crate::wire::{LEN, Malformed, Reader, VARINT, put_bytes, put_tag, put_varint};

/// The pool of a serialized `FileDescriptorSet`.
///
/// # Errors
///
/// What is missing or wrong in the set.
pub fn pool(descriptor_set: &[u8]) -> Result<DescriptorPool, DescriptorError> {
    // A set that cannot be read here is the library's to refuse: it says why.
    let lowered = lower(descriptor_set).unwrap_or(Cow::Borrowed(descriptor_set));
    DescriptorPool::decode(&*lowered)
}

fn lower(descriptor_set: &[u8]) -> Result<Cow<'_, [u8]>, Malformed> {
    let files = Record::all(descriptor_set)?;
    let is_edition = |file: &Record<'_>| {
        file.number == 1
            && Record::all(file.content).is_ok_and(|fields| {
                fields.iter().any(|field| field.number == file::SYNTAX && field.content == b"editions")
            })
    };
    if !files.iter().any(is_edition) {
        return Ok(Cow::Borrowed(descriptor_set));
    }
    let mut lowered = Vec::with_capacity(descriptor_set.len() + 64);
    for file in files {
        if is_edition(&file) {
            put_bytes(&mut lowered, 1, &lower_file(file.content)?);
        } else {
            lowered.extend_from_slice(file.whole);
        }
    }
    Ok(Cow::Owned(lowered))
}

/// Field numbers of `FileDescriptorProto`.
mod file {
    pub(super) const MESSAGE_TYPE: u32 = 4;
    pub(super) const EXTENSION: u32 = 7;
    pub(super) const OPTIONS: u32 = 8;
    pub(super) const SYNTAX: u32 = 12;
    pub(super) const EDITION: u32 = 14;
    /// In `FileOptions`.
    pub(super) const FEATURES: u32 = 50;
}

/// Field numbers of `DescriptorProto`.
mod message {
    pub(super) const NAME: u32 = 1;
    pub(super) const FIELD: u32 = 2;
    pub(super) const NESTED_TYPE: u32 = 3;
    pub(super) const EXTENSION: u32 = 6;
    pub(super) const OPTIONS: u32 = 7;
    /// In `MessageOptions`.
    pub(super) const MAP_ENTRY: u32 = 7;
}

/// Field numbers and values of `FieldDescriptorProto`.
mod field {
    pub(super) const LABEL: u32 = 4;
    pub(super) const TYPE: u32 = 5;
    pub(super) const TYPE_NAME: u32 = 6;
    pub(super) const OPTIONS: u32 = 8;
    pub(super) const ONEOF_INDEX: u32 = 9;
    pub(super) const PROTO3_OPTIONAL: u32 = 17;
    /// In `FieldOptions`.
    pub(super) const PACKED: u32 = 2;
    /// In `FieldOptions`.
    pub(super) const FEATURES: u32 = 21;

    pub(super) const LABEL_REQUIRED: u64 = 2;
    pub(super) const LABEL_REPEATED: u64 = 3;
    pub(super) const TYPE_STRING: u64 = 9;
    pub(super) const TYPE_GROUP: u64 = 10;
    pub(super) const TYPE_MESSAGE: u64 = 11;
    pub(super) const TYPE_BYTES: u64 = 12;
}

/// The features that show in a field's wire or JSON form.
#[derive(Clone, Copy)]
struct Features {
    presence: Presence,
    packed: bool,
    /// Messages are groups.
    delimited: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Presence {
    Explicit,
    Implicit,
    Required,
}

impl Features {
    const DEFAULT: Self = Self { presence: Presence::Explicit, packed: true, delimited: false };

    /// These, overridden by the `FeatureSet` in field `number` of `options`.
    fn overridden(mut self, options: &[Record<'_>], number: u32) -> Result<Self, Malformed> {
        for set in options.iter().filter(|option| option.number == number) {
            for feature in Record::all(set.content)? {
                match (feature.number, feature.value) {
                    (1, 1) => self.presence = Presence::Explicit,
                    (1, 2) => self.presence = Presence::Implicit,
                    (1, 3) => self.presence = Presence::Required,
                    (3, 1 | 2) => self.packed = feature.value == 1,
                    (5, 1 | 2) => self.delimited = feature.value == 2,
                    _ => {}
                }
            }
        }
        Ok(self)
    }
}

/// One field of a message on the wire.
struct Record<'a> {
    number: u32,
    /// Tag and value.
    whole: &'a [u8],
    /// What a length-delimited field holds, else nothing.
    content: &'a [u8],
    /// What a varint says, else 0.
    value: u64,
}

impl<'a> Record<'a> {
    fn all(bytes: &'a [u8]) -> Result<Vec<Self>, Malformed> {
        let mut reader = Reader::new(bytes);
        let mut records = Vec::new();
        while !reader.is_empty() {
            let from = reader.position();
            let (number, wire_type) = reader.tag()?;
            let mut at = reader.clone();
            reader.skip(number, wire_type, 0)?;
            records.push(Self {
                number,
                whole: &bytes[from..reader.position()],
                content: if wire_type == LEN { at.bytes()? } else { &[] },
                value: if wire_type == VARINT { at.varint()? } else { 0 },
            });
        }
        Ok(records)
    }
}

fn nested<'a>(records: &[Record<'a>], number: u32) -> Result<Vec<Record<'a>>, Malformed> {
    let mut inner = Vec::new();
    for record in records.iter().filter(|record| record.number == number) {
        inner.extend(Record::all(record.content)?);
    }
    Ok(inner)
}

fn lower_file(bytes: &[u8]) -> Result<Vec<u8>, Malformed> {
    let records = Record::all(bytes)?;
    let features = Features::DEFAULT.overridden(&nested(&records, file::OPTIONS)?, file::FEATURES)?;
    // proto3 is the syntax in which a field can be without presence; all else can be said in proto2 as well, and more.
    let mut lowering = Lowering { features, proto3: features.presence == Presence::Implicit };
    for record in records.iter().filter(|record| record.number == file::MESSAGE_TYPE) {
        lowering.proto3 |= lowering.has_implicit(record.content)?;
    }
    let mut lowered = Vec::with_capacity(bytes.len() + 16);
    for record in &records {
        match record.number {
            file::SYNTAX | file::EDITION => {}
            file::MESSAGE_TYPE => {
                put_bytes(&mut lowered, record.number, &lowering.message(record.content)?);
            }
            file::EXTENSION => {
                put_bytes(&mut lowered, record.number, &lowering.field(record.content, &[], true)?);
            }
            _ => lowered.extend_from_slice(record.whole),
        }
    }
    put_bytes(&mut lowered, file::SYNTAX, if lowering.proto3 { b"proto3" } else { b"proto2" });
    Ok(lowered)
}

struct Lowering {
    /// Of the file.
    features: Features,
    proto3: bool,
}

impl Lowering {
    fn has_implicit(&self, message: &[u8]) -> Result<bool, Malformed> {
        let records = Record::all(message)?;
        for record in &records {
            let found = match record.number {
                message::FIELD => {
                    let options = nested(&Record::all(record.content)?, field::OPTIONS)?;
                    self.features.overridden(&options, field::FEATURES)?.presence == Presence::Implicit
                }
                message::NESTED_TYPE => self.has_implicit(record.content)?,
                _ => false,
            };
            if found {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn message(&self, bytes: &[u8]) -> Result<Vec<u8>, Malformed> {
        let records = Record::all(bytes)?;
        if is_map_entry(&records)? {
            return Ok(bytes.to_vec());
        }
        let mut entries: Vec<&[u8]> = Vec::new();
        for record in records.iter().filter(|record| record.number == message::NESTED_TYPE) {
            let inner = Record::all(record.content)?;
            if is_map_entry(&inner)? {
                entries.extend(
                    inner.iter().find(|field| field.number == message::NAME).map(|name| name.content),
                );
            }
        }
        let mut lowered = Vec::with_capacity(bytes.len() + 16);
        for record in &records {
            match record.number {
                message::FIELD => {
                    put_bytes(&mut lowered, record.number, &self.field(record.content, &entries, false)?);
                }
                message::EXTENSION => {
                    put_bytes(&mut lowered, record.number, &self.field(record.content, &[], true)?);
                }
                message::NESTED_TYPE => {
                    put_bytes(&mut lowered, record.number, &self.message(record.content)?);
                }
                _ => lowered.extend_from_slice(record.whole),
            }
        }
        Ok(lowered)
    }

    /// `entries` are the names of the message's map entries, which are never groups.
    fn field(&self, bytes: &[u8], entries: &[&[u8]], extension: bool) -> Result<Vec<u8>, Malformed> {
        let records = Record::all(bytes)?;
        let options = nested(&records, field::OPTIONS)?;
        let features = self.features.overridden(&options, field::FEATURES)?;
        let value =
            |number| records.iter().rfind(|record| record.number == number).map(|record| record.value);
        let label = value(field::LABEL);
        let ty = value(field::TYPE);
        let type_name =
            records.iter().rfind(|record| record.number == field::TYPE_NAME).map(|name| name.content);
        let is_map = type_name.is_some_and(|name| {
            entries.iter().any(|entry| name.strip_suffix(*entry).is_some_and(|rest| rest.ends_with(b".")))
        });
        let is_message = ty == Some(field::TYPE_MESSAGE);

        let mut lowered = Vec::with_capacity(bytes.len() + 8);
        for record in &records {
            match record.number {
                field::TYPE if is_message && features.delimited && !is_map => {
                    put_tag(&mut lowered, field::TYPE, VARINT);
                    put_varint(&mut lowered, field::TYPE_GROUP);
                }
                field::LABEL
                    if features.presence == Presence::Required && label != Some(field::LABEL_REPEATED) =>
                {
                    put_tag(&mut lowered, field::LABEL, VARINT);
                    put_varint(&mut lowered, field::LABEL_REQUIRED);
                }
                field::OPTIONS => {}
                _ => lowered.extend_from_slice(record.whole),
            }
        }
        let mut all_options: Vec<u8> = options.iter().flat_map(|option| option.whole).copied().collect();
        let packable =
            !is_message && !matches!(ty, Some(field::TYPE_STRING | field::TYPE_BYTES | field::TYPE_GROUP));
        if label == Some(field::LABEL_REPEATED) && packable {
            put_tag(&mut all_options, field::PACKED, VARINT);
            all_options.push(u8::from(features.packed));
        }
        if !all_options.is_empty() {
            put_bytes(&mut lowered, field::OPTIONS, &all_options);
        }
        let singular = label != Some(field::LABEL_REPEATED) && value(field::ONEOF_INDEX).is_none();
        if self.proto3 && singular && !is_message && !extension && features.presence != Presence::Implicit {
            put_tag(&mut lowered, field::PROTO3_OPTIONAL, VARINT);
            lowered.push(1);
        }
        Ok(lowered)
    }
}

fn is_map_entry(message: &[Record<'_>]) -> Result<bool, Malformed> {
    let options = nested(message, message::OPTIONS)?;
    Ok(options.iter().any(|option| option.number == message::MAP_ENTRY && option.value == 1))
}
