//! An OpenAPI 3.1 document from the same tables that serve the requests.
//!
//! It says what is routed: paths, parameters, bodies, replies, and the comments of the `.proto` files when the descriptor
//! set carries them. Methods beyond the ones OpenAPI knows (`custom` kinds) are left out.

mod schema;

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use crate::route::rule::{BodyRule, Route};
use crate::route::template::Segment;
use crate::service::{Entry, Shared};
use crate::stream::Framing;
use crate::table::{Field, Form, Label, Type};
use schema::Schemas;

/// How deep query parameters name the fields of nested messages.
const PARAMETER_DEPTH: usize = 3;

const METHODS: [&str; 7] = ["GET", "PUT", "POST", "DELETE", "PATCH", "HEAD", "OPTIONS"];

/// The document.
pub(crate) fn document(shared: &Shared, title: &str, version: &str) -> Value {
    let mut generator =
        Generator { shared, schemas: Schemas::new(&shared.tables), operations: BTreeSet::new() };
    let mut paths: Map<String, Value> = Map::new();
    let mut tags: BTreeSet<String> = BTreeSet::new();
    for route in &shared.routes {
        if !METHODS.contains(&route.http_method.as_str()) {
            continue;
        }
        let entry = &shared.entries[route.method];
        tags.insert(entry.method.service().to_owned());
        let (path, mut parameters) = path_of(route);
        let operation = generator.operation(route, entry, &mut parameters);
        let item = paths.entry(path).or_insert_with(|| json!({}));
        item[route.http_method.to_ascii_lowercase()] = operation;
    }
    let status = generator.schemas.named("google.rpc.Status");
    let mut document = json!({
        "openapi": "3.1.0",
        "info": {"title": title, "version": version},
        "tags": tags.into_iter().map(|name| json!({"name": name})).collect::<Vec<_>>(),
        "paths": paths,
        "components": {
            "responses": {"Error": {
                "description": "The error, as google.rpc.Status. The HTTP status follows from its code.",
                "content": {"application/json": {"schema": status}},
            }},
        },
    });
    document["components"]["schemas"] = Value::Object(generator.schemas.finish());
    document
}

struct Generator<'s> {
    shared: &'s Shared,
    schemas: Schemas<'s>,
    operations: BTreeSet<String>,
}

/// The path with one parameter for each wildcard, and those parameters.
fn path_of(route: &Route) -> (String, Vec<Value>) {
    let mut path = String::new();
    let mut parameters = Vec::new();
    for (index, segment) in route.template.segments.iter().enumerate() {
        path.push('/');
        let (pattern, several) = match segment {
            Segment::Literal(text) => {
                path.push_str(text);
                continue;
            }
            Segment::Star => ("^[^/]+$", false),
            Segment::DoubleStar => ("^.*$", true),
        };
        let variable = route
            .template
            .variables
            .iter()
            .find(|variable| variable.from <= index && variable.to.is_none_or(|to| index < to));
        let before = variable.map_or(0, |variable| {
            let wild = |segment: &&Segment| !matches!(segment, Segment::Literal(_));
            route.template.segments[variable.from..index].iter().filter(wild).count()
        });
        let name = match variable {
            Some(variable) if before == 0 => variable.field_path.clone(),
            Some(variable) => format!("{}_{}", variable.field_path, before + 1),
            None => format!("segment_{index}"),
        };
        let mut parameter = json!({"name": name, "in": "path", "required": true, "schema": {"type": "string", "pattern": pattern}});
        if several {
            parameter["description"] = json!("Any number of path segments.");
        }
        path.push('{');
        path.push_str(&name);
        path.push('}');
        parameters.push(parameter);
    }
    if let Some(verb) = &route.template.verb {
        path.push(':');
        path.push_str(verb);
    }
    (path, parameters)
}

impl Generator<'_> {
    fn operation(&mut self, route: &Route, entry: &Entry, parameters: &mut Vec<Value>) -> Value {
        let method = &entry.method;
        let service = method.service().rsplit('.').next().unwrap_or_default();
        let mut id = format!("{service}_{}", method.name());
        let mut number = 1;
        while !self.operations.insert(id.clone()) {
            number += 1;
            id = format!("{service}_{}_{number}", method.name());
        }
        if route.body != BodyRule::Whole {
            self.query(entry.input, route, &mut Vec::new(), "", parameters);
        }
        let mut operation = json!({
            "operationId": id,
            "tags": [method.service()],
            "responses": {
                "200": {"description": "OK", "content": self.reply(route, entry)},
                "default": {"$ref": "#/components/responses/Error"},
            },
        });
        if let Some(comment) = schema::comment(&method.descriptor().parent_file(), method.descriptor().path())
        {
            let summary = comment.split_once(". ").map_or(comment.as_str(), |(first, _)| first);
            operation["summary"] = json!(summary.lines().next().unwrap_or_default().trim_end_matches('.'));
            operation["description"] = json!(comment);
        }
        if !parameters.is_empty() {
            operation["parameters"] = json!(parameters);
        }
        let body = match route.body {
            BodyRule::None => None,
            BodyRule::Whole => Some(self.schemas.message(entry.input)),
            BodyRule::Field(field) => {
                Some(self.schemas.field(&self.shared.tables.messages[entry.input].fields[field]))
            }
        };
        if let Some(schema) = body {
            operation["requestBody"] =
                json!({"required": true, "content": {"application/json": {"schema": schema}}});
        }
        operation
    }

    fn reply(&mut self, route: &Route, entry: &Entry) -> Value {
        if route.response.is_none() && crate::http_body::is(&self.shared.tables, entry.output) {
            return json!({"*/*": {"schema": {}}});
        }
        let schema = match route.response {
            None => self.schemas.message(entry.output),
            Some(field) => self.schemas.field(&self.shared.tables.messages[entry.output].fields[field]),
        };
        if !entry.server_stream {
            return json!({"application/json": {"schema": schema}});
        }
        let [lines, array, events] = Framing::MEDIA_TYPES;
        json!({
            lines: {"schema": schema},
            array: {"schema": {"type": "array", "items": schema}},
            events: {"schema": {"type": "string"}},
        })
    }

    /// A parameter for each field of message `index` that neither the path nor the body sets.
    fn query(
        &mut self,
        index: usize,
        route: &Route,
        at: &mut Vec<usize>,
        prefix: &str,
        parameters: &mut Vec<Value>,
    ) {
        let tables = &self.shared.tables;
        for (position, field) in tables.messages[index].fields.iter().enumerate() {
            at.push(position);
            let set_elsewhere = route.captures.iter().any(|capture| capture.field == *at)
                || (at.len() == 1 && route.body == BodyRule::Field(position));
            if !set_elsewhere && !field.is_extension() {
                let name = format!("{prefix}{}", field.json_name);
                match (field.ty, tables.form(field)) {
                    (Type::Message(inner), Some(Form::Plain)) if field.label.singular() => {
                        if at.len() < PARAMETER_DEPTH {
                            self.query(inner, route, at, &format!("{name}."), parameters);
                        }
                    }
                    (_, Some(Form::Plain | Form::Any)) if field.label != Label::Map => {}
                    _ => parameters.push(self.parameter(index, &name, field)),
                }
            }
            at.pop();
        }
    }

    fn parameter(&mut self, message: usize, name: &str, field: &Field) -> Value {
        let mut parameter = json!({"name": name, "in": "query", "schema": self.schemas.field(field)});
        if field.label == Label::Map {
            parameter["style"] = json!("deepObject");
            parameter["explode"] = json!(true);
        }
        if let Some(comment) = self.schemas.field_comment(message, field) {
            parameter["description"] = json!(comment);
        }
        parameter
    }
}
