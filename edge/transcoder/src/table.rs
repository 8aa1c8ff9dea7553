//! Message and enum descriptors, compiled once into flat tables that the codec walks.

mod keys;
mod seen;

use std::collections::HashMap;

use prost_reflect::{
    Cardinality, DescriptorPool, EnumDescriptor, ExtensionDescriptor, FieldDescriptor, Kind,
    MessageDescriptor,
};

use crate::wire;

use self::keys::KeyIndex;
pub(crate) use self::seen::Seen;

/// How a field's value is written, on the wire and in JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scalar {
    Double,
    Float,
    Int32,
    Int64,
    Uint32,
    Uint64,
    Sint32,
    Sint64,
    Fixed32,
    Fixed64,
    Sfixed32,
    Sfixed64,
    Bool,
    String,
    Bytes,
    /// Index into [`Tables::enums`].
    Enum(usize),
}

impl Scalar {
    pub(crate) fn wire_type(self) -> u8 {
        match self {
            Self::Double | Self::Fixed64 | Self::Sfixed64 => wire::FIXED64,
            Self::Float | Self::Fixed32 | Self::Sfixed32 => wire::FIXED32,
            Self::String | Self::Bytes => wire::LEN,
            Self::Int32
            | Self::Int64
            | Self::Uint32
            | Self::Uint64
            | Self::Sint32
            | Self::Sint64
            | Self::Bool
            | Self::Enum(_) => wire::VARINT,
        }
    }

    /// Numbers, bools and enums: what may be packed.
    pub(crate) fn packable(self) -> bool {
        self.wire_type() != wire::LEN
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Type {
    Scalar(Scalar),
    /// Index into [`Tables::messages`].
    Message(usize),
    /// As `Message`, delimited by group tags.
    Group(usize),
}

impl Type {
    /// The index of the message, however it is delimited.
    pub(crate) fn message(self) -> Option<usize> {
        match self {
            Self::Message(index) | Self::Group(index) => Some(index),
            Self::Scalar(_) => None,
        }
    }

    /// How one value is delimited on the wire.
    pub(crate) fn wire_type(self) -> u8 {
        match self {
            Self::Scalar(scalar) => scalar.wire_type(),
            Self::Message(_) => wire::LEN,
            Self::Group(_) => wire::START_GROUP,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Label {
    /// Absent and default are the same.
    Implicit,
    /// Absent and default differ: `optional`, `oneof`, messages, proto2.
    Explicit,
    Repeated,
    Packed,
    /// The type is the synthetic entry message: key is its field 0, value its field 1.
    Map,
}

impl Label {
    pub(crate) fn singular(self) -> bool {
        matches!(self, Self::Implicit | Self::Explicit)
    }
}

#[derive(Debug)]
pub(crate) struct Field {
    pub(crate) number: u32,
    pub(crate) label: Label,
    pub(crate) ty: Type,
    /// Index among the real oneofs of the message.
    pub(crate) oneof: Option<usize>,
    /// `google.protobuf.Value` or `google.protobuf.NullValue`, for which JSON null is a value.
    pub(crate) nullable: bool,
    pub(crate) name: Box<str>,
    pub(crate) json_name: Box<str>,
    /// `"jsonName":`, as it is mostly read.
    pub(crate) member: Box<[u8]>,
    /// `,"jsonName":`, ready to be copied.
    pub(crate) json_key: Box<[u8]>,
}

impl Field {
    /// Whether the field is an extension, whose name is no part of a path.
    pub(crate) fn is_extension(&self) -> bool {
        self.name.starts_with('[')
    }
}

/// Messages that ProtoJSON gives a form of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Plain,
    Any,
    Timestamp,
    Duration,
    FieldMask,
    Struct,
    Value,
    ListValue,
    /// The value is field 0.
    Wrapper,
}

#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) name: Box<str>,
    pub(crate) form: Form,
    /// Ordered by field number.
    pub(crate) fields: Box<[Field]>,
    pub(crate) oneofs: Box<[Box<str>]>,
    /// `dense[number]` is the field's index + 1, 0 for none, for small numbers.
    dense: Box<[u16]>,
    keys: KeyIndex,
    /// For what is rare: merging repeated occurrences of one field.
    pub(crate) descriptor: MessageDescriptor,
}

impl Message {
    pub(crate) fn by_number(&self, number: u32) -> Option<usize> {
        let wanted = usize::try_from(number).ok()?;
        if let Some(&entry) = self.dense.get(wanted) {
            return usize::from(entry).checked_sub(1);
        }
        self.fields.binary_search_by_key(&number, |field| field.number).ok()
    }

    /// Finds a field by its JSON or proto name.
    pub(crate) fn by_key(&self, key: &str) -> Option<usize> {
        self.keys.find(key, &self.fields)
    }
}

#[derive(Debug)]
pub(crate) struct Enum {
    /// `google.protobuf.NullValue` is null in JSON.
    pub(crate) null: bool,
    /// The value declared first, which an absent field has.
    pub(crate) default: i32,
    /// Ordered by number; the first declared name of each.
    by_number: Box<[(i32, Box<str>)]>,
    /// Ordered by name.
    by_name: Box<[(Box<str>, i32)]>,
}

impl Enum {
    pub(crate) fn name(&self, number: i32) -> Option<&str> {
        let found = self.by_number.binary_search_by_key(&number, |(number, _)| *number).ok()?;
        Some(&self.by_number[found].1)
    }

    pub(crate) fn number(&self, name: &str) -> Option<i32> {
        let found = self.by_name.binary_search_by(|(candidate, _)| (**candidate).cmp(name)).ok()?;
        Some(self.by_name[found].1)
    }
}

/// Everything the codec knows of a descriptor set.
#[derive(Debug)]
pub(crate) struct Tables {
    pub(crate) messages: Vec<Message>,
    pub(crate) enums: Vec<Enum>,
    by_name: HashMap<Box<str>, usize>,
}

impl Tables {
    /// Compiles every message of `pools`; of two messages of one name, the first wins.
    pub(crate) fn compile(pools: &[&DescriptorPool], proto_names: bool) -> Self {
        let mut descriptors: Vec<MessageDescriptor> = Vec::new();
        let mut by_name = HashMap::new();
        let mut enum_descriptors: Vec<EnumDescriptor> = Vec::new();
        let mut enums_by_name: HashMap<String, usize> = HashMap::new();
        for pool in pools {
            for message in pool.all_messages() {
                by_name.entry(message.full_name().into()).or_insert_with(|| {
                    descriptors.push(message);
                    descriptors.len() - 1
                });
            }
            for descriptor in pool.all_enums() {
                enums_by_name.entry(descriptor.full_name().to_owned()).or_insert_with(|| {
                    enum_descriptors.push(descriptor);
                    enum_descriptors.len() - 1
                });
            }
        }
        let names = Names { messages: &by_name, enums: &enums_by_name, print_proto: proto_names };
        let messages = descriptors.iter().map(|message| names.message(message)).collect();
        let enums = enum_descriptors.iter().map(compile_enum).collect();
        Self { messages, enums, by_name }
    }

    pub(crate) fn find(&self, full_name: &str) -> Option<usize> {
        self.by_name.get(full_name).copied()
    }

    pub(crate) fn form(&self, field: &Field) -> Option<Form> {
        field.ty.message().map(|index| self.messages[index].form)
    }
}

struct Names<'a> {
    messages: &'a HashMap<Box<str>, usize>,
    enums: &'a HashMap<String, usize>,
    print_proto: bool,
}

impl Names<'_> {
    fn message(&self, descriptor: &MessageDescriptor) -> Message {
        let oneofs: Vec<_> = descriptor.oneofs().filter(|oneof| !oneof.is_synthetic()).collect();
        let mut fields: Vec<Field> = descriptor
            .fields()
            .map(|field| {
                let oneof = field
                    .containing_oneof()
                    .and_then(|containing| oneofs.iter().position(|oneof| *oneof == containing));
                self.field(&field, oneof)
            })
            .chain(descriptor.extensions().map(|extension| self.extension(&extension)))
            .collect();
        fields.sort_by_key(|field| field.number);
        let highest_dense = fields
            .iter()
            .map(|field| usize::try_from(field.number).unwrap_or(usize::MAX))
            .filter(|&number| number < DENSE_MAX)
            .max();
        let mut dense = vec![0_u16; highest_dense.map_or(0, |highest| highest + 1)];
        for (index, field) in fields.iter().enumerate() {
            let slot = usize::try_from(field.number).ok().and_then(|number| dense.get_mut(number));
            if let (Some(slot), Ok(entry)) = (slot, u16::try_from(index + 1)) {
                *slot = entry;
            }
        }
        Message {
            name: descriptor.full_name().into(),
            form: form(descriptor.full_name()),
            keys: KeyIndex::build(&fields),
            fields: fields.into(),
            oneofs: oneofs.iter().map(|oneof| oneof.name().into()).collect(),
            dense: dense.into(),
            descriptor: descriptor.clone(),
        }
    }

    fn field(&self, field: &FieldDescriptor, oneof: Option<usize>) -> Field {
        let kind = field.kind();
        let label = if field.is_map() {
            Label::Map
        } else if field.cardinality() == Cardinality::Repeated {
            if field.is_packed() { Label::Packed } else { Label::Repeated }
        } else if field.supports_presence() {
            Label::Explicit
        } else {
            Label::Implicit
        };
        let printed = if self.print_proto { field.name() } else { field.json_name() };
        Field {
            number: field.number(),
            label,
            ty: self.ty(&kind, field.is_group()),
            oneof,
            nullable: nullable(&kind),
            name: field.name().into(),
            json_name: field.json_name().into(),
            member: json_key(field.json_name())[1..].into(),
            json_key: json_key(printed),
        }
    }

    /// An extension is a field whose only name is `[package.name]`.
    fn extension(&self, extension: &ExtensionDescriptor) -> Field {
        let kind = extension.kind();
        let label = if extension.cardinality() != Cardinality::Repeated {
            Label::Explicit
        } else if extension.is_packed() {
            Label::Packed
        } else {
            Label::Repeated
        };
        let name = extension.json_name();
        Field {
            number: extension.number(),
            label,
            ty: self.ty(&kind, extension.is_group()),
            oneof: None,
            nullable: nullable(&kind),
            name: name.into(),
            json_name: name.into(),
            member: json_key(name)[1..].into(),
            json_key: json_key(name),
        }
    }

    fn ty(&self, kind: &Kind, group: bool) -> Type {
        let scalar = match kind {
            Kind::Double => Scalar::Double,
            Kind::Float => Scalar::Float,
            Kind::Int32 => Scalar::Int32,
            Kind::Int64 => Scalar::Int64,
            Kind::Uint32 => Scalar::Uint32,
            Kind::Uint64 => Scalar::Uint64,
            Kind::Sint32 => Scalar::Sint32,
            Kind::Sint64 => Scalar::Sint64,
            Kind::Fixed32 => Scalar::Fixed32,
            Kind::Fixed64 => Scalar::Fixed64,
            Kind::Sfixed32 => Scalar::Sfixed32,
            Kind::Sfixed64 => Scalar::Sfixed64,
            Kind::Bool => Scalar::Bool,
            Kind::String => Scalar::String,
            Kind::Bytes => Scalar::Bytes,
            Kind::Enum(descriptor) => Scalar::Enum(self.enums[descriptor.full_name()]),
            Kind::Message(message) => {
                let index = self.messages[message.full_name()];
                return if group { Type::Group(index) } else { Type::Message(index) };
            }
        };
        Type::Scalar(scalar)
    }
}

/// Whether JSON null is a value of the kind.
fn nullable(kind: &Kind) -> bool {
    let message = kind.as_message().map(MessageDescriptor::full_name);
    let enumeration = kind.as_enum().map(EnumDescriptor::full_name);
    message == Some("google.protobuf.Value") || enumeration == Some("google.protobuf.NullValue")
}

fn json_key(name: &str) -> Box<[u8]> {
    let mut key = Vec::with_capacity(name.len() + 4);
    key.push(b',');
    crate::json::escape::put_string(&mut key, name);
    key.push(b':');
    key.into()
}

/// Field numbers below this are looked up by index.
const DENSE_MAX: usize = 1024;

fn form(full_name: &str) -> Form {
    match full_name.strip_prefix("google.protobuf.") {
        Some("Any") => Form::Any,
        Some("Timestamp") => Form::Timestamp,
        Some("Duration") => Form::Duration,
        Some("FieldMask") => Form::FieldMask,
        Some("Struct") => Form::Struct,
        Some("Value") => Form::Value,
        Some("ListValue") => Form::ListValue,
        Some(
            "DoubleValue" | "FloatValue" | "Int64Value" | "UInt64Value" | "Int32Value" | "UInt32Value"
            | "BoolValue" | "StringValue" | "BytesValue",
        ) => Form::Wrapper,
        _ => Form::Plain,
    }
}

fn compile_enum(descriptor: &EnumDescriptor) -> Enum {
    // In the order of declaration, which `EnumDescriptor::values` does not keep: of several names of a number the first is printed.
    let declared = &descriptor.enum_descriptor_proto().value;
    let mut by_number: Vec<(i32, Box<str>)> =
        declared.iter().map(|value| (value.number(), value.name().into())).collect();
    by_number.sort_by_key(|(number, _)| *number);
    by_number.dedup_by_key(|(number, _)| *number);
    let mut by_name: Vec<(Box<str>, i32)> =
        declared.iter().map(|value| (value.name().into(), value.number())).collect();
    by_name.sort();
    Enum {
        default: descriptor.default_value().number(),
        null: descriptor.full_name() == "google.protobuf.NullValue",
        by_number: by_number.into(),
        by_name: by_name.into(),
    }
}
