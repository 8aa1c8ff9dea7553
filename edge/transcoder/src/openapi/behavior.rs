//! `google.api.field_behavior`, read from the bytes of a field's options: the set need not carry its file.

use prost::Message as _;
use prost_reflect::FieldDescriptor;

use crate::wire::{LEN, Reader, VARINT};

/// Number of the extension `google.api.field_behavior` of `google.protobuf.FieldOptions`.
const FIELD_BEHAVIOR: u32 = 1052;

/// What a field is for.
///
/// Source: the comments of `google/api/field_behavior.proto`.
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "independent marks, as in the proto")]
pub(super) struct Behavior {
    pub(super) required: bool,
    pub(super) output_only: bool,
    pub(super) input_only: bool,
    pub(super) immutable: bool,
}

/// The marks of a field.
pub(super) fn of(field: &FieldDescriptor) -> Behavior {
    let options = field.options().encode_to_vec();
    let mut behavior = Behavior::default();
    let mut reader = Reader::new(&options);
    while !reader.is_empty() {
        let Ok((number, wire_type)) = reader.tag() else { return behavior };
        let read = match (number, wire_type) {
            (FIELD_BEHAVIOR, VARINT) => reader.varint().map(|mark| behavior.mark(mark)),
            (FIELD_BEHAVIOR, LEN) => reader.bytes().map(|packed| {
                let mut marks = Reader::new(packed);
                while let (false, Ok(mark)) = (marks.is_empty(), marks.varint()) {
                    behavior.mark(mark);
                }
            }),
            _ => reader.skip(number, wire_type, 0),
        };
        if read.is_err() {
            return behavior;
        }
    }
    behavior
}

impl Behavior {
    fn mark(&mut self, mark: u64) {
        match mark {
            2 => self.required = true,
            3 => self.output_only = true,
            4 => self.input_only = true,
            5 => self.immutable = true,
            _ => {}
        }
    }
}
