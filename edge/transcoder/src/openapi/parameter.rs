//! Query parameters and headers.

use prost_reflect::FieldDescriptor;
use serde_json::{Value, json};

use super::RequestHeader;
use super::schema::{Face, Schemas};
use crate::route::rule::{FieldPath, Route};
use crate::table::{Field, Form, Label, Tables, Type};

/// How deep query parameters name the fields of nested messages.
const DEPTH_MAX: usize = 3;

/// The field at a path of indices, with its descriptor.
pub(super) fn field_at<'t>(
    tables: &'t Tables,
    message: usize,
    path: &[usize],
) -> Option<(&'t Field, FieldDescriptor)> {
    let (&first, rest) = path.split_first()?;
    let table = &tables.messages[message];
    let field = table.fields.get(first)?;
    if rest.is_empty() {
        return Some((field, table.descriptor.get_field(field.number)?));
    }
    field_at(tables, field.ty.message()?, rest)
}

/// Takes from a property's schema what a parameter says itself, or cannot say: gives the description.
pub(super) fn take_annotations(schema: &mut Value) -> Option<String> {
    let object = schema.as_object_mut()?;
    object.remove("readOnly");
    object.remove("writeOnly");
    object.remove("deprecated");
    object.remove("description").and_then(|text| text.as_str().map(str::to_owned))
}

/// A header that the host takes.
pub(super) fn header(header: &RequestHeader) -> Value {
    json!({
        "name": header.name,
        "in": "header",
        "required": header.required,
        "description": header.description,
        "schema": header.schema,
    })
}

/// Collects the query parameters of one route.
pub(super) struct Query<'a, 't> {
    pub(super) tables: &'t Tables,
    pub(super) schemas: &'a mut Schemas<'t>,
    pub(super) route: &'a Route,
    /// Fields that the path or a header sets.
    pub(super) elsewhere: &'a [FieldPath],
    pub(super) found: Vec<Value>,
}

impl Query<'_, '_> {
    /// A parameter for each field of message `index` that nothing else sets.
    pub(super) fn fields(&mut self, index: usize, at: &mut Vec<usize>, prefix: &str) {
        let tables = self.tables;
        let message = &tables.messages[index];
        for (position, field) in message.fields.iter().enumerate() {
            at.push(position);
            let body = at.len() == 1 && self.route.body_field() == Some(position);
            // What is set already, and the other members of its oneof.
            let taken = self.elsewhere.iter().any(|path| {
                path.len() == at.len()
                    && path[..path.len() - 1] == at[..at.len() - 1]
                    && path.last().is_some_and(|&last| {
                        last == position
                            || (field.oneof.is_some() && message.fields[last].oneof == field.oneof)
                    })
            });
            if !body && !taken && !field.is_extension() {
                let name = format!("{prefix}{}", self.schemas.name(field));
                match (field.ty, tables.form(field)) {
                    (Type::Message(inner), Some(Form::Plain)) if field.label.singular() => {
                        if at.len() < DEPTH_MAX {
                            self.fields(inner, at, &format!("{name}."));
                        }
                    }
                    // A list of messages, or a message of any type, has no text.
                    (_, Some(Form::Plain | Form::Any)) if field.label != Label::Map => {}
                    _ => self.parameter(index, &name, field, at.len() == 1),
                }
            }
            at.pop();
        }
    }

    fn parameter(&mut self, message: usize, name: &str, field: &Field, top: bool) {
        let Some(descriptor) = self.tables.messages[message].descriptor.get_field(field.number) else {
            return;
        };
        if field.label == Label::Map && self.map_of_messages(field) {
            return;
        }
        let (mut schema, required) = self.schemas.field(field, &descriptor, Face::Request);
        let deprecated = schema.get("deprecated").is_some();
        let description = take_annotations(&mut schema);
        let mut parameter = json!({"name": name, "in": "query"});
        if required && top {
            parameter["required"] = json!(true);
        }
        if let Some(text) = description {
            parameter["description"] = json!(text);
        }
        if deprecated {
            parameter["deprecated"] = json!(true);
        }
        let json_text = matches!(self.tables.form(field), Some(Form::Struct | Form::Value | Form::ListValue));
        if json_text && field.label.singular() {
            parameter["content"] = json!({"application/json": {"schema": schema}});
        } else {
            if field.label == Label::Map {
                parameter["style"] = json!("deepObject");
                parameter["explode"] = json!(true);
            }
            parameter["schema"] = schema;
        }
        self.found.push(parameter);
    }

    fn map_of_messages(&self, field: &Field) -> bool {
        let Type::Message(entry) = field.ty else { return false };
        let value = self.tables.messages[entry].fields.get(1);
        let form = value.and_then(|value| self.tables.form(value));
        matches!(form, Some(Form::Plain | Form::Any))
    }
}
