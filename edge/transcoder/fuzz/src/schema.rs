//! Random descriptors: any file that `protoc` could have compiled, from the fuzzer's bytes.

use std::sync::LazyLock;

use arbitrary::{Result, Unstructured};
use prost::Message as _;
use prost_reflect::DescriptorPool;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{
    DescriptorProto, EnumDescriptorProto, EnumValueDescriptorProto, FieldDescriptorProto, FieldOptions,
    FileDescriptorProto, FileDescriptorSet, MessageOptions, OneofDescriptorProto,
    descriptor_proto::ExtensionRange,
};

/// The first message of [`random`].
pub const ROOT: &str = "random.v1.M0";

const PACKAGE: &str = ".random.v1";

const WELL_KNOWN: [&str; 17] = [
    "Any",
    "Timestamp",
    "Duration",
    "FieldMask",
    "Struct",
    "Value",
    "ListValue",
    "Empty",
    "DoubleValue",
    "FloatValue",
    "Int64Value",
    "UInt64Value",
    "Int32Value",
    "UInt32Value",
    "BoolValue",
    "StringValue",
    "BytesValue",
];

const FILES: [&str; 7] = ["any", "timestamp", "duration", "field_mask", "struct", "empty", "wrappers"];

const SCALARS: [Type; 15] = [
    Type::Double,
    Type::Float,
    Type::Int64,
    Type::Uint64,
    Type::Int32,
    Type::Fixed64,
    Type::Fixed32,
    Type::Bool,
    Type::String,
    Type::Bytes,
    Type::Uint32,
    Type::Sfixed32,
    Type::Sfixed64,
    Type::Sint32,
    Type::Sint64,
];

const KEYS: [Type; 12] = [
    Type::Int64,
    Type::Uint64,
    Type::Int32,
    Type::Fixed64,
    Type::Fixed32,
    Type::Bool,
    Type::String,
    Type::Uint32,
    Type::Sfixed32,
    Type::Sfixed64,
    Type::Sint32,
    Type::Sint64,
];

/// The files of [`WELL_KNOWN`] and no others, because the tables of all are compiled for every input.
static WELL_KNOWN_TYPES: LazyLock<DescriptorPool> = LazyLock::new(|| {
    let mut pool = DescriptorPool::new();
    let global = DescriptorPool::global();
    for file in FILES {
        let file =
            global.get_file_by_name(&format!("google/protobuf/{file}.proto")).expect("in prost-reflect");
        pool.add_file_descriptor_proto(file.file_descriptor_proto().clone()).expect("imports nothing");
    }
    pool
});

/// A pool with the messages `M0`, `M1` and so on; `None` when the bytes made one that breaks a rule of protobuf.
pub fn random(bytes: &mut Unstructured<'_>) -> Result<Option<DescriptorPool>> {
    let proto3 = bytes.arbitrary()?;
    let mut file =
        File { proto3, messages: bytes.int_in_range(1..=4)?, enums: bytes.int_in_range(1..=2)?, bytes };
    let mut descriptor = FileDescriptorProto {
        name: Some("random.proto".to_owned()),
        package: Some(PACKAGE[1..].to_owned()),
        syntax: Some(if proto3 { "proto3" } else { "proto2" }.to_owned()),
        dependency: FILES.iter().map(|file| format!("google/protobuf/{file}.proto")).collect(),
        ..Default::default()
    };
    for index in 0..file.enums {
        descriptor.enum_type.push(file.enumeration(index)?);
    }
    for index in 0..file.messages {
        descriptor.message_type.push(file.message(index)?);
    }
    if !proto3 {
        for index in 0..file.bytes.int_in_range(0..=3)? {
            descriptor.extension.push(file.extension(index)?);
        }
    }
    let mut pool = WELL_KNOWN_TYPES.clone();
    let set = FileDescriptorSet { file: vec![descriptor] };
    // Through bytes, as a descriptor set comes to the transcoder.
    Ok(pool.decode_file_descriptor_set(&*set.encode_to_vec()).is_ok().then_some(pool))
}

struct File<'a, 'b> {
    proto3: bool,
    messages: usize,
    enums: usize,
    bytes: &'a mut Unstructured<'b>,
}

impl File<'_, '_> {
    fn enumeration(&mut self, index: usize) -> Result<EnumDescriptorProto> {
        let numbers = [0, 1, -1, 2, i32::MAX, i32::MIN];
        let first = if self.proto3 { 0 } else { self.bytes.int_in_range(0..=3)? };
        let value = |number: i32| EnumValueDescriptorProto {
            name: Some(format!("E{index}_{}", number.to_string().replace('-', "NEG"))),
            number: Some(number),
            options: None,
        };
        Ok(EnumDescriptorProto {
            name: Some(format!("E{index}")),
            value: numbers[first..].iter().copied().map(value).collect(),
            ..Default::default()
        })
    }

    fn message(&mut self, index: usize) -> Result<DescriptorProto> {
        let mut message = DescriptorProto { name: Some(format!("M{index}")), ..Default::default() };
        let oneofs: i32 = self.bytes.int_in_range(0..=2)?;
        for oneof in 0..oneofs {
            let name = Some(format!("choice{oneof}"));
            message.oneof_decl.push(OneofDescriptorProto { name, options: None });
        }
        let count = self.bytes.int_in_range(1..=10)?;
        let mut number = 0;
        for position in 0..count {
            number += *self.bytes.choose(&[1, 1, 1, 2, 7, 100, 2000])?;
            let name = format!("field_{position}");
            let mut field = FieldDescriptorProto {
                name: Some(name.clone()),
                number: Some(number),
                label: Some(Label::Optional.into()),
                ..Default::default()
            };
            if self.bytes.ratio(1, 8)? {
                field.json_name = Some(format!("Other-{position}"));
            }
            let shape = self.bytes.int_in_range(0..=9)?;
            if shape == 0 {
                message.nested_type.push(self.map(index, position, &mut field)?);
                message.field.push(field);
                continue;
            }
            self.of_any_type(index, &mut message, &mut field)?;
            match shape {
                1..=3 => self.repeat(&mut field)?,
                4 | 5 if oneofs > 0 => field.oneof_index = Some(self.bytes.int_in_range(0..=oneofs - 1)?),
                6 if !self.proto3 => field.label = Some(Label::Required.into()),
                6 | 7 if self.proto3 => field.proto3_optional = Some(true),
                _ => {}
            }
            message.field.push(field);
        }
        // A oneof without a member is invalid, and an optional field of proto3 has one of its own behind the others.
        let used = |oneof: i32| message.field.iter().any(|field| field.oneof_index == Some(oneof));
        if !(0..oneofs).all(used) {
            message.oneof_decl.clear();
            message.field.iter_mut().for_each(|field| field.oneof_index = None);
        }
        for field in message.field.iter_mut().filter(|field| field.proto3_optional()) {
            field.oneof_index = i32::try_from(message.oneof_decl.len()).ok();
            let name = Some(format!("_{}", field.name()));
            message.oneof_decl.push(OneofDescriptorProto { name, options: None });
        }
        if !self.proto3 {
            let range = ExtensionRange { start: Some(100_000), end: Some(200_000), options: None };
            message.extension_range.push(range);
        }
        Ok(message)
    }

    fn map(
        &mut self,
        message: usize,
        position: usize,
        field: &mut FieldDescriptorProto,
    ) -> Result<DescriptorProto> {
        let name = format!("Field{position}Entry");
        field.label = Some(Label::Repeated.into());
        field.set_type(Type::Message);
        field.type_name = Some(format!("{PACKAGE}.M{message}.{name}"));
        let member = |name: &str, number| FieldDescriptorProto {
            name: Some(name.to_owned()),
            number: Some(number),
            label: Some(Label::Optional.into()),
            ..Default::default()
        };
        let (mut key, mut value) = (member("key", 1), member("value", 2));
        key.set_type(*self.bytes.choose(&KEYS)?);
        self.of_named_type(&mut value)?;
        Ok(DescriptorProto {
            name: Some(name),
            field: vec![key, value],
            options: Some(MessageOptions { map_entry: Some(true), ..Default::default() }),
            ..Default::default()
        })
    }

    /// A scalar, an enum, a message or a well-known type.
    fn of_named_type(&mut self, field: &mut FieldDescriptorProto) -> Result<()> {
        match self.bytes.int_in_range(0..=5)? {
            0 => {
                field.set_type(Type::Enum);
                let null = self.bytes.ratio(1, 4)?;
                let index = self.bytes.int_in_range(0..=self.enums - 1)?;
                field.type_name = Some(if null {
                    ".google.protobuf.NullValue".to_owned()
                } else {
                    format!("{PACKAGE}.E{index}")
                });
            }
            1 => {
                field.set_type(Type::Message);
                let index = self.bytes.int_in_range(0..=self.messages - 1)?;
                field.type_name = Some(format!("{PACKAGE}.M{index}"));
            }
            2 => {
                field.set_type(Type::Message);
                field.type_name = Some(format!(".google.protobuf.{}", self.bytes.choose(&WELL_KNOWN)?));
            }
            _ => field.set_type(*self.bytes.choose(&SCALARS)?),
        }
        Ok(())
    }

    /// As [`Self::of_named_type`], or a group, whose type is nested in the message.
    fn of_any_type(
        &mut self,
        index: usize,
        message: &mut DescriptorProto,
        field: &mut FieldDescriptorProto,
    ) -> Result<()> {
        if self.proto3 || !self.bytes.ratio(1, 6)? {
            return self.of_named_type(field);
        }
        let mut inner = FieldDescriptorProto {
            name: Some("inner".to_owned()),
            number: Some(1),
            label: Some(Label::Optional.into()),
            ..Default::default()
        };
        self.of_named_type(&mut inner)?;
        let name = format!("Group{}", field.number());
        field.name = Some(name.to_lowercase());
        field.set_type(Type::Group);
        field.type_name = Some(format!("{PACKAGE}.M{index}.{name}"));
        message.nested_type.push(DescriptorProto {
            name: Some(name),
            field: vec![inner],
            ..Default::default()
        });
        Ok(())
    }

    fn repeat(&mut self, field: &mut FieldDescriptorProto) -> Result<()> {
        field.label = Some(Label::Repeated.into());
        let packable = !matches!(field.r#type(), Type::String | Type::Bytes | Type::Message | Type::Group);
        if packable && self.bytes.arbitrary()? {
            field.options =
                Some(FieldOptions { packed: Some(self.bytes.arbitrary()?), ..Default::default() });
        }
        Ok(())
    }

    fn extension(&mut self, index: i32) -> Result<FieldDescriptorProto> {
        let extended = self.bytes.int_in_range(0..=self.messages - 1)?;
        let mut field = FieldDescriptorProto {
            name: Some(format!("extension_{index}")),
            number: Some(100_000 + index),
            label: Some(Label::Optional.into()),
            extendee: Some(format!("{PACKAGE}.M{extended}")),
            ..Default::default()
        };
        self.of_named_type(&mut field)?;
        if self.bytes.arbitrary()? {
            self.repeat(&mut field)?;
        }
        Ok(field)
    }
}
