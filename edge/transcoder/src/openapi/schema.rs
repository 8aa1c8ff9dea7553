//! JSON Schema of messages, as ProtoJSON reads and writes them.
//!
//! A message has two faces. As a request it is strict: required fields, the rules of `buf.validate`, nothing unknown. As a
//! reply it says what is printed, and leaves room for fields to come. A message that is both has two schemas, the request's
//! with [`INPUT`] behind its name, which no protobuf name can have.

use std::collections::{BTreeMap, BTreeSet};

use prost_reflect::{
    Cardinality, EnumDescriptor, EnumValueDescriptor, FieldDescriptor, FileDescriptor, Kind,
    MessageDescriptor,
};
use serde_json::{Map, Value, json};

use super::comment::{self, Comments};
use super::{behavior, pattern, rules};
use crate::builder::Settings;
use crate::route::rule::FieldPath;
use crate::table::{Field, Form, Label, Scalar, Tables, Type};

/// What distinguishes the name of a request's schema from that of the reply's.
pub(super) const INPUT: &str = "-Input";

/// Where schemas are.
pub(super) const SCHEMAS: &str = "#/components/schemas/";

/// A duration of at most 10,000 years, with at most nine fractional digits.
pub(super) const DURATION: &str = "^-?[0-9]{1,12}(\\.[0-9]{1,9})?s$";

/// Paths in lowerCamelCase, joined with commas.
pub(super) const FIELD_MASK: &str =
    "^([a-z][A-Za-z0-9]*(\\.[a-z][A-Za-z0-9]*)*(,[a-z][A-Za-z0-9]*(\\.[a-z][A-Za-z0-9]*)*)*)?$";

/// Integers of 64 bits, which are strings in JSON.
pub(super) const INT64: &str = "^-?[0-9]{1,19}$";
pub(super) const UINT64: &str = "^[0-9]{1,20}$";

/// Which way a message goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Face {
    Request,
    Reply,
}

/// The schemas that a document refers to.
pub(super) struct Schemas<'t> {
    tables: &'t Tables,
    settings: Settings,
    pub(super) comments: Comments,
    done: BTreeMap<String, Value>,
}

impl<'t> Schemas<'t> {
    pub(super) fn new(tables: &'t Tables, settings: Settings) -> Self {
        Self { tables, settings, comments: Comments::default(), done: BTreeMap::new() }
    }

    /// Puts down a schema that is no message's. Its name must be one that no protobuf name can be.
    pub(super) fn add(&mut self, name: &str, schema: Value) {
        self.done.insert(name.to_owned(), schema);
    }

    pub(super) fn finish(self) -> Map<String, Value> {
        self.done.into_iter().collect()
    }

    /// What a reference leads to; another schema is itself.
    pub(super) fn resolve<'a>(&'a self, schema: &'a Value) -> &'a Value {
        let name = schema["$ref"].as_str().and_then(|reference| reference.strip_prefix(SCHEMAS));
        name.and_then(|name| self.done.get(name)).unwrap_or(schema)
    }

    /// The name of a field in JSON and in queries.
    pub(super) fn name<'f>(&self, field: &'f Field) -> &'f str {
        if self.settings.proto_names { &field.name } else { &field.json_name }
    }

    /// The schema of a message: a reference for all but the well-known types.
    pub(super) fn message(&mut self, index: usize, face: Face) -> Value {
        let message = &self.tables.messages[index];
        match message.form {
            Form::Plain => {
                let name = match face {
                    Face::Request => format!("{}{INPUT}", message.name),
                    Face::Reply => message.name.to_string(),
                };
                let reference = json!({"$ref": format!("{SCHEMAS}{name}")});
                if !self.done.contains_key(&name) {
                    // Put down first, so that a message that holds itself ends here.
                    self.done.insert(name.clone(), Value::Null);
                    let schema = self.object(index, face, &[], false);
                    self.done.insert(name, schema);
                }
                reference
            }
            Form::Any => json!({
                "type": "object",
                "description": "Any message: its type's URL, and its fields beside it.",
                "properties": {"@type": {"type": "string"}},
                "required": ["@type"],
            }),
            Form::Timestamp => json!({"type": "string", "format": "date-time"}),
            Form::Duration => json!({"type": "string", "pattern": DURATION}),
            Form::FieldMask => json!({"type": "string", "pattern": FIELD_MASK}),
            Form::Struct => json!({"type": "object"}),
            Form::Value => json!({}),
            Form::ListValue => json!({"type": "array", "items": {}}),
            Form::Wrapper => match message.fields.first() {
                Some(Field { ty: Type::Scalar(scalar), .. }) => self.scalar(*scalar, None, face),
                Some(_) | None => json!({}),
            },
        }
    }

    /// The object that a plain message is, without the fields at `elsewhere`, which something else than the body sets.
    /// When it is `partial`, nothing is required.
    pub(super) fn object(
        &mut self,
        index: usize,
        face: Face,
        elsewhere: &[FieldPath],
        partial: bool,
    ) -> Value {
        let message = &self.tables.messages[index];
        let mut properties = Map::new();
        let mut required = BTreeSet::new();
        let mut oneofs: Vec<Vec<&str>> = vec![Vec::new(); message.oneofs.len()];
        for (position, field) in message.fields.iter().enumerate() {
            let inner: Vec<FieldPath> = elsewhere
                .iter()
                .filter(|path| path.first() == Some(&position))
                .map(|path| path[1..].to_vec())
                .collect();
            let bound = |other: &Field| {
                field.oneof.is_some() && other.oneof == field.oneof || std::ptr::eq(field, other)
            };
            let set_elsewhere = elsewhere
                .iter()
                .any(|path| path.len() == 1 && message.fields.get(path[0]).is_some_and(bound));
            let Some(descriptor) = message.descriptor.get_field(field.number) else {
                if let Some(extension) = message.descriptor.get_extension(field.number) {
                    let value = self.value(field.ty, Some(&extension.kind()), face);
                    let list = matches!(field.label, Label::Repeated | Label::Packed);
                    let schema = if list { json!({"type": "array", "items": value}) } else { value };
                    properties.insert(self.name(field).to_owned(), schema);
                }
                continue;
            };
            let behavior = behavior::of(&descriptor);
            // What only a request has is no part of a reply.
            if set_elsewhere || (face == Face::Reply && behavior.input_only) {
                continue;
            }
            let (schema, needed) = match field.ty {
                Type::Message(nested) if !inner.is_empty() => {
                    (self.object(nested, face, &inner, partial), false)
                }
                Type::Message(_) | Type::Group(_) | Type::Scalar(_) => self.field(field, &descriptor, face),
            };
            let name = self.name(field);
            if needed && !partial {
                required.insert(name);
            }
            if let Some(oneof) = field.oneof.and_then(|oneof| oneofs.get_mut(oneof)) {
                oneof.push(name);
            }
            properties.entry(name.to_owned()).or_insert(schema);
        }
        let mut schema = json!({"type": "object", "properties": properties});
        if face == Face::Request && !self.settings.ignore_unknown_fields {
            schema["additionalProperties"] = json!(false);
        }
        if !required.is_empty() {
            schema["required"] = json!(required);
        }
        let choices = choices(&message.descriptor, face, &oneofs, partial);
        if !choices.is_empty() {
            schema["allOf"] = Value::Array(choices);
        }
        let descriptor = &message.descriptor;
        let mut words = self.words(&descriptor.parent_file(), descriptor.path());
        if face == Face::Request {
            words.extend(rules::of_message(descriptor));
        }
        describe(&mut schema, &words);
        deprecate(&mut schema, &descriptor.options());
        schema
    }

    /// What the comment at `path` of a file says, as the beginning of a description.
    fn words(&mut self, file: &FileDescriptor, path: &[i32]) -> Vec<String> {
        self.comments.at(file, path).map(str::to_owned).into_iter().collect()
    }

    /// The schema of a field's whole value with everything that is said of the field, and whether it is always there.
    pub(super) fn field(&mut self, field: &Field, descriptor: &FieldDescriptor, face: Face) -> (Value, bool) {
        let behavior = behavior::of(descriptor);
        let mut schema = self.shape(field, descriptor, face);
        let mut words = self.words(&descriptor.parent_file(), descriptor.path());
        let secret = descriptor.options().get_field_by_name("debug_redact").and_then(|value| value.as_bool());
        let required = match face {
            Face::Request => {
                let outcome = rules::constrain(&mut schema, descriptor);
                show_examples(&mut schema, &words, outcome.examples);
                words.extend(outcome.remarks);
                if behavior.output_only {
                    schema["readOnly"] = json!(true);
                }
                if behavior.input_only {
                    schema["writeOnly"] = json!(true);
                }
                if behavior.immutable {
                    words.push("Cannot be changed later.".to_owned());
                }
                if secret == Some(true) && schema["type"] == "string" && schema.get("format").is_none() {
                    schema["format"] = json!("password");
                }
                !behavior.output_only
                    && (outcome.required
                        || (behavior.required && field.oneof.is_none())
                        || descriptor.cardinality() == Cardinality::Required)
            }
            Face::Reply => {
                if field.label.singular() && matches!(field.ty, Type::Scalar(_)) {
                    let mut narrow = schema.clone();
                    let outcome = rules::constrain(&mut narrow, descriptor);
                    show_examples(&mut narrow, &words, outcome.examples);
                    let shown = narrow.get("examples").cloned().or_else(|| {
                        let sample = super::example::of_text(&narrow)?;
                        Some(json!([sample]))
                    });
                    if let Some(examples) = shown.filter(|_| secret != Some(true)) {
                        schema["examples"] = examples;
                    }
                }
                self.settings.encode.always_print && field.label != Label::Explicit
            }
        };
        describe(&mut schema, &words);
        deprecate(&mut schema, &descriptor.options());
        (schema, required)
    }

    /// The form of a field's value.
    fn shape(&mut self, field: &Field, descriptor: &FieldDescriptor, face: Face) -> Value {
        match (field.label, field.ty) {
            (Label::Map, Type::Message(entry)) => {
                let [key, value] = &*self.tables.messages[entry].fields else {
                    return json!({"type": "object"});
                };
                let kind = descriptor.kind();
                let value_kind = kind.as_message().map(|entry| entry.map_entry_value_field().kind());
                let values = self.value(value.ty, value_kind.as_ref(), face);
                let mut schema = json!({"type": "object", "additionalProperties": values});
                if let Some(names) = key_names(key.ty) {
                    schema["propertyNames"] = names;
                }
                schema
            }
            (Label::Repeated | Label::Packed, ty) => {
                json!({"type": "array", "items": self.value(ty, Some(&descriptor.kind()), face)})
            }
            (_, ty) => self.value(ty, Some(&descriptor.kind()), face),
        }
    }

    fn value(&mut self, ty: Type, kind: Option<&Kind>, face: Face) -> Value {
        match ty {
            Type::Message(index) | Type::Group(index) => self.message(index, face),
            Type::Scalar(scalar) => self.scalar(scalar, kind.and_then(Kind::as_enum), face),
        }
    }

    fn scalar(&mut self, scalar: Scalar, descriptor: Option<&EnumDescriptor>, face: Face) -> Value {
        match scalar {
            Scalar::Double => float("double"),
            Scalar::Float => float("float"),
            Scalar::Int32 | Scalar::Sint32 | Scalar::Sfixed32 => {
                json!({"type": "integer", "format": "int32", "minimum": i32::MIN, "maximum": i32::MAX})
            }
            Scalar::Uint32 | Scalar::Fixed32 => {
                json!({"type": "integer", "format": "uint32", "minimum": 0, "maximum": u32::MAX})
            }
            Scalar::Int64 | Scalar::Sint64 | Scalar::Sfixed64 => {
                json!({"type": "string", "format": "int64", "pattern": INT64})
            }
            Scalar::Uint64 | Scalar::Fixed64 => {
                json!({"type": "string", "format": "uint64", "pattern": UINT64})
            }
            Scalar::Bool => json!({"type": "boolean"}),
            Scalar::String => json!({"type": "string"}),
            Scalar::Bytes => json!({"type": "string", "contentEncoding": "base64"}),
            Scalar::Enum(index) if self.tables.enums[index].null => json!({"type": "null"}),
            Scalar::Enum(_) => {
                descriptor.map_or_else(|| json!({}), |descriptor| self.enumeration(descriptor, face))
            }
        }
    }

    fn enumeration(&mut self, descriptor: &EnumDescriptor, face: Face) -> Value {
        let numbers = self.settings.encode.enums_as_ints && face == Face::Reply;
        // Only where replies have numbers do the two faces differ.
        let input = self.settings.encode.enums_as_ints && face == Face::Request;
        let name = format!("{}{}", descriptor.full_name(), if input { INPUT } else { "" });
        let reference = json!({"$ref": format!("{SCHEMAS}{name}")});
        if self.done.contains_key(&name) {
            return reference;
        }
        let file = descriptor.parent_file();
        let mut words = self.words(&file, descriptor.path());
        let mut lines = Vec::new();
        let mut names = Vec::new();
        let mut seen = BTreeSet::new();
        for value in declared(descriptor) {
            if !numbers || seen.insert(value.number()) {
                names.push(if numbers { json!(value.number()) } else { json!(value.name()) });
            }
            if let Some(comment) = self.comments.at(&file, value.path()) {
                lines.push(format!("- `{}`: {}", value.name(), comment.replace('\n', " ")));
            } else if numbers {
                lines.push(format!("- {}: `{}`", value.number(), value.name()));
            }
        }
        if !lines.is_empty() {
            words.push(lines.join("\n"));
        }
        let mut schema = json!({"type": if numbers { "integer" } else { "string" }, "enum": names});
        describe(&mut schema, &words);
        deprecate(&mut schema, &descriptor.options());
        self.done.insert(name, schema);
        reference
    }
}

/// The values of an enumeration in the order of their declaration.
pub(super) fn declared(descriptor: &EnumDescriptor) -> Vec<EnumValueDescriptor> {
    let mut values: Vec<EnumValueDescriptor> = descriptor.values().collect();
    values.sort_by_key(|value| value.path().last().copied());
    values
}

/// NaN and the infinities are strings in JSON.
fn float(format: &str) -> Value {
    json!({"anyOf": [{"type": "number", "format": format}, {"type": "string", "enum": ["NaN", "Infinity", "-Infinity"]}]})
}

/// What the keys of a map are when they are not strings, which in JSON they all are.
fn key_names(ty: Type) -> Option<Value> {
    let Type::Scalar(scalar) = ty else { return None };
    match scalar {
        Scalar::Bool => Some(json!({"enum": ["true", "false"]})),
        Scalar::Uint32 | Scalar::Uint64 | Scalar::Fixed32 | Scalar::Fixed64 => {
            Some(json!({"pattern": "^[0-9]+$"}))
        }
        Scalar::Int32
        | Scalar::Int64
        | Scalar::Sint32
        | Scalar::Sint64
        | Scalar::Sfixed32
        | Scalar::Sfixed64 => Some(json!({"pattern": "^-?[0-9]+$"})),
        Scalar::Double | Scalar::Float | Scalar::String | Scalar::Bytes | Scalar::Enum(_) => None,
    }
}

/// For each oneof that at most one of its members is there, or exactly one.
fn choices(message: &MessageDescriptor, face: Face, oneofs: &[Vec<&str>], partial: bool) -> Vec<Value> {
    let real = message.oneofs().filter(|oneof| !oneof.is_synthetic());
    real.zip(oneofs)
        .filter_map(|(oneof, members)| {
            let needed = face == Face::Request && !partial && rules::oneof_required(&oneof);
            if members.is_empty() || (members.len() == 1 && !needed) {
                return None;
            }
            let with: Vec<Value> = members.iter().map(|name| json!({"required": [name]})).collect();
            let mut one_of = with.clone();
            if !needed {
                one_of.push(json!({"not": {"anyOf": with}}));
            }
            Some(json!({"oneOf": one_of}))
        })
        .collect()
}

/// Examples that the rules or the comment give, as far as they fit the schema.
fn show_examples(schema: &mut Value, words: &[String], given: Vec<Value>) {
    let commented = words
        .iter()
        .flat_map(|text| comment::examples(text))
        .filter(|_| schema["type"] == "string" && schema.get("contentEncoding").is_none())
        .map(|word| json!(word));
    let fitting: Vec<Value> =
        given.into_iter().chain(commented).filter(|value| fits(schema, value)).collect();
    if !fitting.is_empty() {
        schema["examples"] = Value::Array(fitting);
    }
}

/// Whether a text or a number is valid by a schema without references.
pub(super) fn fits(schema: &Value, value: &Value) -> bool {
    if let Some(allowed) = schema["enum"].as_array()
        && !allowed.contains(value)
    {
        return false;
    }
    if schema.get("const").is_some_and(|constant| constant != value)
        || schema["not"]["enum"].as_array().is_some_and(|refused| refused.contains(value))
        || schema.get("allOf").is_some()
        || schema.get("anyOf").is_some()
    {
        return false;
    }
    if let Some(text) = value.as_str() {
        let length = u64::try_from(text.chars().count()).unwrap_or(u64::MAX);
        return schema["type"] == "string"
            && schema["minLength"].as_u64().is_none_or(|min| length >= min)
            && schema["maxLength"].as_u64().is_none_or(|max| length <= max)
            && schema["pattern"].as_str().is_none_or(|pattern| pattern::matches(pattern, text))
            && schema["format"]
                .as_str()
                .is_none_or(|format| matches!(format, "password" | "int64" | "uint64"));
    }
    if let Some(number) = value.as_i64() {
        return schema["type"] == "integer"
            && schema["minimum"].as_i64().is_none_or(|min| number >= min)
            && schema["maximum"].as_i64().is_none_or(|max| number <= max);
    }
    false
}

/// Joins a comment and what is to be said besides, a paragraph each.
pub(super) fn describe(schema: &mut Value, words: &[String]) {
    let words: Vec<&str> = words.iter().map(String::as_str).filter(|text| !text.is_empty()).collect();
    if !words.is_empty() {
        schema["description"] = json!(words.join("\n\n"));
    }
}

/// Marks what has the standard option `deprecated`.
pub(super) fn deprecate(schema: &mut Value, options: &prost_reflect::DynamicMessage) {
    if options.get_field_by_name("deprecated").and_then(|value| value.as_bool()) == Some(true) {
        schema["deprecated"] = json!(true);
    }
}
