//! JSON Schema of messages, as ProtoJSON writes them.

use std::collections::BTreeMap;

use prost_reflect::FileDescriptor;
use serde_json::{Map, Value, json};

use crate::table::{Field, Form, Label, Scalar, Tables, Type};

/// The schemas that a document refers to.
pub(super) struct Schemas<'t> {
    tables: &'t Tables,
    done: BTreeMap<String, Value>,
}

impl<'t> Schemas<'t> {
    pub(super) fn new(tables: &'t Tables) -> Self {
        Self { tables, done: BTreeMap::new() }
    }

    pub(super) fn finish(self) -> Map<String, Value> {
        self.done.into_iter().collect()
    }

    /// The schema of the message of this full name, or of anything when there is none.
    pub(super) fn named(&mut self, full_name: &str) -> Value {
        self.tables.find(full_name).map_or_else(|| json!({}), |index| self.message(index))
    }

    /// The schema of a message: a reference for all but the well-known types.
    pub(super) fn message(&mut self, index: usize) -> Value {
        let message = &self.tables.messages[index];
        match message.form {
            Form::Plain => {
                self.define(index);
                json!({"$ref": format!("#/components/schemas/{}", message.name)})
            }
            Form::Any => json!({
                "type": "object",
                "properties": {"@type": {"type": "string"}},
                "required": ["@type"],
                "additionalProperties": true,
            }),
            Form::Timestamp => json!({"type": "string", "format": "date-time"}),
            Form::Duration => json!({"type": "string", "pattern": "^-?[0-9]+(\\.[0-9]{1,9})?s$"}),
            Form::FieldMask => {
                json!({"type": "string", "description": "Paths in lowerCamelCase, joined with commas."})
            }
            Form::Struct => json!({"type": "object", "additionalProperties": true}),
            Form::Value => json!({}),
            Form::ListValue => json!({"type": "array", "items": {}}),
            Form::Wrapper => message.fields.first().map_or_else(|| json!({}), |field| self.field(field)),
        }
    }

    fn define(&mut self, index: usize) {
        let message = &self.tables.messages[index];
        if self.done.contains_key(&*message.name) {
            return;
        }
        // Put down first, so that a message that holds itself ends here.
        self.done.insert(message.name.to_string(), Value::Null);
        let mut properties = Map::new();
        for field in &message.fields {
            let mut schema = self.field(field);
            if let Some(comment) = self.field_comment(index, field) {
                schema["description"] = json!(comment);
            }
            properties.insert(field.json_name.to_string(), schema);
        }
        let mut schema = json!({"type": "object", "properties": properties});
        if let Some(comment) = comment(&message.descriptor.parent_file(), message.descriptor.path()) {
            schema["description"] = json!(comment);
        }
        self.done.insert(message.name.to_string(), schema);
    }

    pub(super) fn field_comment(&self, message: usize, field: &Field) -> Option<String> {
        let descriptor = self.tables.messages[message].descriptor.get_field(field.number)?;
        comment(&descriptor.parent_file(), descriptor.path())
    }

    /// The schema of a field's whole value.
    pub(super) fn field(&mut self, field: &Field) -> Value {
        match (field.label, field.ty) {
            (Label::Map, Type::Message(entry)) => {
                let value = self.tables.messages[entry].fields.get(1);
                let schema = value.map_or_else(|| json!({}), |value| self.value(value.ty));
                json!({"type": "object", "additionalProperties": schema})
            }
            (Label::Repeated | Label::Packed, ty) => json!({"type": "array", "items": self.value(ty)}),
            (_, ty) => self.value(ty),
        }
    }

    fn value(&mut self, ty: Type) -> Value {
        let scalar = match ty {
            Type::Message(index) | Type::Group(index) => return self.message(index),
            Type::Scalar(scalar) => scalar,
        };
        match scalar {
            Scalar::Double => json!({"type": "number", "format": "double"}),
            Scalar::Float => json!({"type": "number", "format": "float"}),
            Scalar::Int32 | Scalar::Sint32 | Scalar::Sfixed32 => {
                json!({"type": "integer", "format": "int32"})
            }
            Scalar::Uint32 | Scalar::Fixed32 => json!({"type": "integer", "minimum": 0, "maximum": u32::MAX}),
            Scalar::Int64 | Scalar::Sint64 | Scalar::Sfixed64 => {
                json!({"type": "string", "format": "int64", "pattern": "^-?[0-9]+$"})
            }
            Scalar::Uint64 | Scalar::Fixed64 => {
                json!({"type": "string", "format": "uint64", "pattern": "^[0-9]+$"})
            }
            Scalar::Bool => json!({"type": "boolean"}),
            Scalar::String => json!({"type": "string"}),
            Scalar::Bytes => json!({"type": "string", "contentEncoding": "base64"}),
            Scalar::Enum(index) if self.tables.enums[index].null => json!({"type": "null"}),
            Scalar::Enum(index) => {
                json!({"type": "string", "enum": self.tables.enums[index].names().collect::<Vec<_>>()})
            }
        }
    }
}

/// The comment in front of what lies at `path` of a file, when the descriptor set carries comments.
pub(super) fn comment(file: &FileDescriptor, path: &[i32]) -> Option<String> {
    let info = file.file_descriptor_proto().source_code_info.as_ref()?;
    let location = info.location.iter().find(|location| location.path == path)?;
    let comment = location.leading_comments.as_deref()?;
    let lines: Vec<&str> =
        comment.lines().map(|line| line.strip_prefix(' ').unwrap_or(line).trim_end()).collect();
    Some(lines.join("\n").trim().to_owned()).filter(|text| !text.is_empty())
}
