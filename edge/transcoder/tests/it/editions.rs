//! Descriptor sets of editions, which `protoc` writes and the compiler of these tests does not: put together by hand.

use prost::Message as _;
use prost::encoding::encode_varint;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, FieldDescriptorProto, FileDescriptorProto, MessageOptions};
use transcoder::codec::{Codec, pool};

/// Tag and length in front of `content`.
fn record(number: u64, content: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_varint(number << 3 | 2, &mut bytes);
    encode_varint(u64::try_from(content.len()).unwrap(), &mut bytes);
    bytes.extend_from_slice(content);
    bytes
}

/// `FeatureSet` with one feature.
fn feature(number: u8, value: u8) -> Vec<u8> {
    vec![number << 3, value]
}

const IMPLICIT: (u8, u8) = (1, 2);
const EXPLICIT: (u8, u8) = (1, 1);
const REQUIRED: (u8, u8) = (1, 3);
const EXPANDED: (u8, u8) = (3, 2);
const DELIMITED: (u8, u8) = (5, 2);

fn field(name: &str, number: i32, label: Label, ty: Type, type_name: &str, features: &[(u8, u8)]) -> Vec<u8> {
    let mut field = FieldDescriptorProto {
        name: Some(name.to_owned()),
        number: Some(number),
        type_name: Some(type_name.to_owned()).filter(|name| !name.is_empty()),
        ..FieldDescriptorProto::default()
    };
    field.set_label(label);
    field.set_type(ty);
    let mut bytes = field.encode_to_vec();
    for (number, value) in features {
        // FieldDescriptorProto.options.features
        bytes.extend(record(8, &record(21, &feature(*number, *value))));
    }
    bytes
}

fn message(name: &str, fields: &[Vec<u8>], nested: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes =
        DescriptorProto { name: Some(name.to_owned()), ..DescriptorProto::default() }.encode_to_vec();
    bytes.extend(fields.iter().flat_map(|field| record(2, field)));
    bytes.extend(nested.iter().flat_map(|nested| record(3, nested)));
    bytes
}

/// A codec of the file's messages.
fn codec(features: &[(u8, u8)], messages: &[Vec<u8>]) -> Codec {
    let mut file = FileDescriptorProto {
        name: Some("e.proto".to_owned()),
        package: Some("e".to_owned()),
        syntax: Some("editions".to_owned()),
        ..FileDescriptorProto::default()
    }
    .encode_to_vec();
    // FileDescriptorProto.edition = EDITION_2023
    file.extend([14 << 3, 0xe8, 7]);
    for (number, value) in features {
        // FileDescriptorProto.options.features
        file.extend(record(8, &record(50, &feature(*number, *value))));
    }
    file.extend(messages.iter().flat_map(|message| record(4, message)));
    Codec::new(&pool(&record(1, &file)).expect("a descriptor set")).expect("tables")
}

fn wire(codec: &Codec, text: &str) -> Vec<u8> {
    let mut wire = Vec::new();
    codec.json_to_wire(codec.message_type("e.M").unwrap(), text, &mut wire).unwrap();
    wire
}

fn json(codec: &Codec, wire: &[u8]) -> String {
    let mut json = Vec::new();
    codec.wire_to_json(codec.message_type("e.M").unwrap(), wire, &mut json).unwrap();
    String::from_utf8(json).unwrap()
}

fn sample(inherited: &[(u8, u8)]) -> Codec {
    let entry = DescriptorProto {
        name: Some("CountsEntry".to_owned()),
        field: vec![
            FieldDescriptorProto::decode(&*field("key", 1, Label::Optional, Type::String, "", &[])).unwrap(),
            FieldDescriptorProto::decode(&*field("value", 2, Label::Optional, Type::Message, ".e.M", &[]))
                .unwrap(),
        ],
        options: Some(MessageOptions { map_entry: Some(true), ..MessageOptions::default() }),
        ..DescriptorProto::default()
    };
    let fields = [
        field("plain", 1, Label::Optional, Type::Int32, "", &[]),
        field("list", 2, Label::Repeated, Type::Int32, "", &[]),
        field("expanded", 3, Label::Repeated, Type::Int32, "", &[EXPANDED]),
        field("child", 4, Label::Optional, Type::Message, ".e.M", &[]),
        field("group", 5, Label::Optional, Type::Message, ".e.M", &[DELIMITED]),
        field("counts", 6, Label::Repeated, Type::Message, ".e.M.CountsEntry", &[]),
        field("explicit", 7, Label::Optional, Type::Int32, "", &[EXPLICIT]),
        field("required", 8, Label::Optional, Type::String, "", &[REQUIRED]),
        field("texts", 9, Label::Repeated, Type::String, "", &[]),
    ];
    codec(inherited, &[message("M", &fields, &[entry.encode_to_vec()])])
}

#[test]
fn an_edition_has_presence_and_packed_lists_unless_it_says_otherwise() {
    let codec = sample(&[]);
    assert_eq!(wire(&codec, r#"{"plain":0,"explicit":0,"required":""}"#), [0x08, 0, 0x38, 0, 0x42, 0]);
    assert_eq!(json(&codec, &[0x08, 0, 0x38, 0]), r#"{"plain":0,"explicit":0}"#);
    assert_eq!(wire(&codec, r#"{"list":[1,2],"expanded":[1,2]}"#), [0x12, 2, 1, 2, 0x18, 1, 0x18, 2]);
    assert_eq!(
        wire(&codec, r#"{"child":{"plain":1},"group":{"plain":2}}"#),
        [0x22, 2, 8, 1, 0x2b, 8, 2, 0x2c]
    );
}

#[test]
fn features_of_the_file_hold_for_its_fields() {
    let codec = sample(&[IMPLICIT, EXPANDED, DELIMITED]);
    assert_eq!(wire(&codec, r#"{"plain":0,"explicit":0,"required":""}"#), [0x38, 0, 0x42, 0]);
    assert_eq!(json(&codec, &[0x08, 0, 0x38, 0]), r#"{"explicit":0}"#);
    assert_eq!(wire(&codec, r#"{"list":[1,2]}"#), [0x10, 1, 0x10, 2]);
    assert_eq!(wire(&codec, r#"{"child":{"plain":1}}"#), [0x23, 8, 1, 0x24]);
    // The entries of a map, and the messages in them, keep their lengths.
    assert_eq!(wire(&codec, r#"{"counts":{"a":{"plain":1}}}"#), [0x32, 7, 0x0a, 1, b'a', 0x12, 2, 8, 1]);
    assert_eq!(json(&codec, &[0x32, 7, 0x0a, 1, b'a', 0x12, 2, 8, 1]), r#"{"counts":{"a":{"plain":1}}}"#);
}

#[test]
fn an_edition_that_cannot_be_read_is_a_build_error() {
    assert!(pool(&record(1, &[0x62, 0xff])).is_err());
    assert!(
        pool(&record(1, &[0x62, 8, b'e', b'd', b'i', b't', b'i', b'o', b'n', b's', 0x22, 1, 0xff])).is_err()
    );
}
