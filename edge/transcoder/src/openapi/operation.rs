//! One operation for each binding of each method.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::parameter::{self, Query};
use super::path::Paths;
use super::schema::{self, Face, Schemas};
use super::{Notes, Requirement, comment, response};
use crate::route::rule::{BodyRule, FieldPath, Route, resolve};
use crate::service::{Entry, Shared};
use crate::stream::Framing;
use crate::table::Type;

/// What an item of `paths` has operations for.
const METHODS: [&str; 8] = ["GET", "PUT", "POST", "DELETE", "OPTIONS", "HEAD", "PATCH", "TRACE"];

/// The methods under which a rule for every method is shown.
const ANY: [&str; 5] = ["GET", "PUT", "POST", "DELETE", "PATCH"];

/// Of a path: operations by what OpenAPI has no place for.
const ADDITIONAL: &str = "x-additional-operations";

/// Collects the operations and what they refer to.
pub(super) struct Operations<'s> {
    shared: &'s Shared,
    schemas: Schemas<'s>,
    paths: Paths,
    items: BTreeMap<String, Map<String, Value>>,
    ids: BTreeSet<String>,
    services: Vec<Value>,
    known_services: BTreeSet<String>,
    /// Whether credentials are described at all.
    secured: bool,
}

impl<'s> Operations<'s> {
    pub(super) fn new(shared: &'s Shared, secured: bool) -> Self {
        Self {
            shared,
            schemas: Schemas::new(&shared.tables, shared.settings),
            paths: Paths::default(),
            items: BTreeMap::new(),
            ids: BTreeSet::new(),
            services: Vec::new(),
            known_services: BTreeSet::new(),
            secured,
        }
    }

    /// Paths, tags, schemas and responses.
    pub(super) fn finish(mut self) -> (Value, Value, Value, Value) {
        let responses = response::components(&mut self.schemas);
        let paths: Map<String, Value> =
            self.items.into_iter().map(|(path, item)| (path, Value::Object(item))).collect();
        (Value::Object(paths), Value::Array(self.services), Value::Object(self.schemas.finish()), responses)
    }

    /// Adds the operation of a route.
    pub(super) fn add(&mut self, route: &Route, notes: &Notes) {
        let entry = &self.shared.entries[route.method];
        self.tag(entry);
        let path = self.paths.of(&self.shared.tables, &mut self.schemas, route, entry.input);
        let http_method = route.http_method.as_str();
        let methods: &[&str] = if http_method == "*" { &ANY } else { &[http_method] };
        for method in methods {
            let key = method.to_ascii_lowercase();
            let taken = self.items.get(&path.template).is_some_and(|item| item.contains_key(&key));
            let expressible = METHODS.contains(method);
            if http_method == "*" && taken {
                continue;
            }
            let operation = self.operation(route, entry, notes, method, path.parameters.clone());
            let item = self.items.entry(path.template.clone()).or_default();
            if expressible && !taken {
                item.insert(key, operation);
                continue;
            }
            // Of `*` and `**` in one place, the place belongs to `*`: where both are, requests go there first.
            let mut moved = operation;
            let mut name = (*method).to_owned();
            if expressible {
                name.push_str(" **");
                if !path.open_ended
                    && let Some(other) = item.insert(key, moved.take())
                {
                    moved = other;
                }
            }
            item.entry(ADDITIONAL).or_insert_with(|| json!({}))[name] = moved;
        }
    }

    /// Puts down the service, in the order of the descriptor set.
    fn tag(&mut self, entry: &Entry) {
        let name = entry.method.service();
        if !self.known_services.insert(name.to_owned()) {
            return;
        }
        let service = entry.method.descriptor().parent_service().clone();
        let mut tag = json!({"name": name, "x-displayName": service.name()});
        let comment = self.schemas.comments.at(&service.parent_file(), service.path());
        tag["description"] = json!(comment.unwrap_or(name));
        self.services.push(tag);
    }

    fn id(&mut self, entry: &Entry) -> String {
        let method = &entry.method;
        let service = method.descriptor().parent_service().name().to_owned();
        let mut id = format!("{service}_{}", method.name());
        let mut number = 1;
        while !self.ids.insert(id.clone()) {
            number += 1;
            id = format!("{service}_{}_{number}", method.name());
        }
        id
    }

    fn operation(
        &mut self,
        route: &Route,
        entry: &Entry,
        notes: &Notes,
        http_method: &str,
        mut parameters: Vec<Value>,
    ) -> Value {
        let method = &entry.method;
        let tables = &self.shared.tables;
        let mut elsewhere: Vec<FieldPath> =
            route.captures.iter().map(|capture| capture.field.clone()).collect();
        elsewhere.extend(
            notes
                .headers
                .iter()
                .filter_map(|header| header.field.as_deref())
                .filter_map(|field| resolve(tables, entry.input, field)),
        );
        if route.body != BodyRule::Whole {
            let mut query =
                Query { tables, schemas: &mut self.schemas, route, elsewhere: &elsewhere, found: Vec::new() };
            query.fields(entry.input, &mut Vec::new(), "");
            parameters.append(&mut query.found);
        }
        parameters.extend(notes.headers.iter().map(parameter::header));

        let body = self.body(route, entry, http_method, &elsewhere);
        let mut operation = json!({
            "operationId": self.id(entry),
            "tags": [method.service()],
            "responses": self.responses(route, entry, body.is_some()),
        });
        let comment =
            self.schemas.comments.at(&method.descriptor().parent_file(), method.descriptor().path());
        let comment = comment.map_or_else(|| method.name().to_owned(), str::to_owned);
        operation["summary"] = json!(comment::first_sentence(&comment));
        let mut words = vec![comment];
        words.extend(notes.remarks.iter().cloned());
        schema::describe(&mut operation, &words);
        schema::deprecate(&mut operation, &method.descriptor().options());
        if self.secured {
            operation["security"] = Value::Array(notes.security.iter().map(requirement).collect());
        }
        if !parameters.is_empty() {
            operation["parameters"] = Value::Array(parameters);
        }
        if let Some(body) = body {
            operation["requestBody"] = body;
        }
        operation
    }

    fn body(
        &mut self,
        route: &Route,
        entry: &Entry,
        http_method: &str,
        elsewhere: &[FieldPath],
    ) -> Option<Value> {
        let tables = &self.shared.tables;
        // A change says what it changes: what it leaves out stays as it is.
        let partial = http_method == "PATCH" && entry.update_mask.is_some();
        let raw = |index| crate::http_body::is(tables, index);
        let (schema, required) = match route.body {
            BodyRule::None => return None,
            BodyRule::Whole if raw(entry.input) => return Some(binary()),
            BodyRule::Whole => {
                let schema = self.message_body(entry.input, elsewhere, partial);
                let required = self.has_required(&schema);
                (schema, required)
            }
            BodyRule::Field(position) => {
                let (field, descriptor) = parameter::field_at(tables, entry.input, &[position])?;
                let inner: Vec<FieldPath> = elsewhere
                    .iter()
                    .filter(|path| path.first() == Some(&position) && path.len() > 1)
                    .map(|path| path[1..].to_vec())
                    .collect();
                match field.ty {
                    Type::Message(index) if field.label.singular() && raw(index) => return Some(binary()),
                    Type::Message(index) if field.label.singular() && (partial || !inner.is_empty()) => {
                        (self.message_body(index, &inner, partial), true)
                    }
                    Type::Message(_) | Type::Group(_) | Type::Scalar(_) => {
                        self.schemas.field(field, &descriptor, Face::Request)
                    }
                }
            }
        };
        let content = if entry.client_stream {
            let [lines, array, _] = Framing::MEDIA_TYPES;
            json!({
                lines: {"schema": schema},
                array: {"schema": {"type": "array", "items": schema}},
            })
        } else {
            json!({"application/json": {"schema": schema}})
        };
        let mut body = json!({"required": required, "content": content});
        if entry.client_stream {
            body["description"] = json!("A stream of messages: one JSON text a line, or one JSON array.");
        }
        Some(body)
    }

    fn message_body(&mut self, index: usize, elsewhere: &[FieldPath], partial: bool) -> Value {
        if elsewhere.is_empty() && !partial {
            return self.schemas.message(index, Face::Request);
        }
        let plain = self.shared.tables.messages[index].form == crate::table::Form::Plain;
        if plain {
            self.schemas.object(index, Face::Request, elsewhere, partial)
        } else {
            self.schemas.message(index, Face::Request)
        }
    }

    /// Whether an empty object will not do.
    fn has_required(&self, schema: &Value) -> bool {
        let schema = self.schemas.resolve(schema);
        schema.get("required").is_some()
            || schema["allOf"].as_array().is_some_and(|all| {
                // A oneof that must be set has no alternative without it.
                all.iter().any(|one| {
                    one["oneOf"]
                        .as_array()
                        .is_some_and(|of| of.iter().all(|one| one.get("required").is_some()))
                })
            })
    }

    fn responses(&mut self, route: &Route, entry: &Entry, body: bool) -> Value {
        let mut responses = Map::new();
        responses.insert("200".to_owned(), self.reply(route, entry));
        for error in response::ERRORS {
            if error.applies(body) {
                let reference = format!("#/components/responses/{}", error.name);
                responses.insert(error.status.to_string(), json!({"$ref": reference}));
            }
        }
        Value::Object(responses)
    }

    fn reply(&mut self, route: &Route, entry: &Entry) -> Value {
        let tables = &self.shared.tables;
        if route.response.is_none() && crate::http_body::is(tables, entry.output) {
            return json!({
                "description": "The content, of whatever type it is.",
                "content": {"*/*": {"schema": {}}},
            });
        }
        let found = route.response.and_then(|field| parameter::field_at(tables, entry.output, &[field]));
        let mut schema = match found {
            None => self.schemas.message(entry.output, Face::Reply),
            Some((field, descriptor)) => self.schemas.field(field, &descriptor, Face::Reply).0,
        };
        let own = schema.get("description").cloned().filter(|_| route.response.is_some());
        if route.response.is_some()
            && let Some(object) = schema.as_object_mut()
        {
            object.remove("description");
        }
        let output = &tables.messages[entry.output].descriptor;
        let comment = self.schemas.comments.at(&output.parent_file(), output.path());
        let mut description = own.as_ref().and_then(Value::as_str).or(comment).unwrap_or("OK.").to_owned();
        if !entry.server_stream {
            return json!({"description": description, "content": {"application/json": {"schema": schema}}});
        }
        description.push_str(
            "\n\nA stream of messages: one JSON text a line, one JSON array, or server-sent events. An error after the \
             first message is the last element, `{\"error\": …}`, or an event of the type `error`; the connection then ends.",
        );
        let [lines, array, events] = Framing::MEDIA_TYPES;
        json!({"description": description, "content": {
            lines: {"schema": schema},
            array: {"schema": {"type": "array", "items": schema}},
            events: {"schema": {"type": "string", "description": "Each event has an `id` and one message as its `data`."}},
        }})
    }
}

/// A body of any type.
fn binary() -> Value {
    json!({"required": false, "content": {"*/*": {"schema": {}}}})
}

fn requirement(requirement: &Requirement) -> Value {
    let schemes: Map<String, Value> =
        requirement.iter().map(|(scheme, roles)| (scheme.clone(), json!(roles))).collect();
    Value::Object(schemes)
}
