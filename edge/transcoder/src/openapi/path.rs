//! Path templates of `google.api.http` as paths of OpenAPI, whose parameters are one segment each.

use std::collections::{BTreeSet, HashMap};

use serde_json::{Value, json};

use super::parameter;
use super::schema::Schemas;
use crate::route::rule::{Capture, Route};
use crate::route::template::Segment;
use crate::table::Tables;

/// The names of the parameters by the shape of the path: paths that differ only in these names are the same to OpenAPI.
#[derive(Default)]
pub(super) struct Paths {
    names: HashMap<String, Vec<String>>,
}

/// Where a route is found.
pub(super) struct Path {
    /// With the parameters in braces.
    pub(super) template: String,
    pub(super) parameters: Vec<Value>,
    /// Whether a wildcard stands for any number of segments, which OpenAPI cannot say.
    pub(super) open_ended: bool,
}

/// A `*` or `**` of a template, and the variable around it.
struct Wildcard<'r> {
    capture: Option<&'r Capture>,
    segment: usize,
    several: bool,
}

impl Paths {
    /// The path of a route to a method that takes the message of table index `input`.
    pub(super) fn of(
        &mut self,
        tables: &Tables,
        schemas: &mut Schemas<'_>,
        route: &Route,
        input: usize,
    ) -> Path {
        let segments = &route.template.segments;
        let mut wildcards = Vec::new();
        for (index, segment) in segments.iter().enumerate() {
            if !matches!(segment, Segment::Literal(_)) {
                let capture = route
                    .captures
                    .iter()
                    .find(|capture| capture.from <= index && capture.to.is_none_or(|to| index < to));
                wildcards.push(Wildcard {
                    capture,
                    segment: index,
                    several: *segment == Segment::DoubleStar,
                });
            }
        }
        let verb = route.template.verb.as_ref().map_or_else(String::new, |verb| format!(":{verb}"));
        let written = |names: &mut dyn Iterator<Item = &str>| {
            let mut text = String::new();
            for segment in segments {
                text.push('/');
                match segment {
                    Segment::Literal(literal) => text.push_str(literal),
                    Segment::Star | Segment::DoubleStar => {
                        text.push('{');
                        text.push_str(names.next().unwrap_or_default());
                        text.push('}');
                    }
                }
            }
            text + &verb
        };
        let shape = written(&mut std::iter::empty());
        let names = self.names.entry(shape).or_insert_with(|| own_names(&wildcards));
        let template = written(&mut names.iter().map(String::as_str));
        let parameters = wildcards
            .iter()
            .zip(names.iter())
            .map(|(wildcard, name)| one(tables, schemas, route, input, wildcard, name))
            .collect();
        Path { template, parameters, open_ended: wildcards.iter().any(|wildcard| wildcard.several) }
    }
}

/// The path of the field that a wildcard is part of, with a number where the field has several; each only once. Without
/// dots, which not every reader of paths expects there.
fn own_names(wildcards: &[Wildcard<'_>]) -> Vec<String> {
    let mut taken = BTreeSet::new();
    wildcards
        .iter()
        .map(|wildcard| {
            let stem = wildcard.capture.map_or_else(
                || format!("segment_{}", wildcard.segment + 1),
                |capture| capture.name.replace('.', "_"),
            );
            let mut name = stem.clone();
            let mut number = 1;
            while !taken.insert(name.clone()) {
                number += 1;
                name = format!("{stem}_{number}");
            }
            name
        })
        .collect()
}

fn one(
    tables: &Tables,
    schemas: &mut Schemas<'_>,
    route: &Route,
    input: usize,
    wildcard: &Wildcard<'_>,
    name: &str,
) -> Value {
    let found = wildcard
        .capture
        .and_then(|capture| Some((capture, parameter::field_at(tables, input, &capture.field)?)));
    let Some((capture, (field, descriptor))) = found else {
        return json!({"name": name, "in": "path", "required": true, "schema": segment(wildcard, None)});
    };
    let (mut schema, _) = schemas.field(field, &descriptor, super::schema::Face::Request);
    let description = parameter::take_annotations(&mut schema);
    let whole = !capture.multi && capture.to == Some(capture.from + 1);
    if !whole {
        let variable =
            &route.template.segments[capture.from..capture.to.unwrap_or(route.template.segments.len())];
        let part = schema["pattern"]
            .as_str()
            .and_then(|pattern| part_of(pattern, variable, wildcard.segment - capture.from));
        schema = segment(wildcard, part);
    } else if schema["type"] == "string"
        && schema.get("minLength").is_none()
        && schema.get("pattern").is_none()
    {
        schema["minLength"] = json!(1);
    }
    let mut parameter = json!({"name": name, "in": "path", "required": true, "schema": schema});
    let description = if wildcard.several {
        Some(format!(
            "{}Any number of path segments.",
            description.map_or_else(String::new, |text| text + "\n\n")
        ))
    } else {
        description
    };
    if let Some(description) = description {
        parameter["description"] = json!(description);
    }
    parameter
}

/// The schema of one segment of a longer variable.
fn segment(wildcard: &Wildcard<'_>, pattern: Option<String>) -> Value {
    let any = if wildcard.several { "^.*$" } else { "^[^/]+$" };
    json!({"type": "string", "pattern": pattern.unwrap_or_else(|| any.to_owned())})
}

/// What a pattern of a whole variable, such as `^shelves/[a-z]+/books/[0-9]+$`, says of the segment at `place`; `None` when
/// it cannot be taken apart.
fn part_of(pattern: &str, variable: &[Segment], place: usize) -> Option<String> {
    let inner = pattern.strip_prefix('^')?.strip_suffix('$')?;
    let mut parts = vec![String::new()];
    let mut open = 0_usize;
    let mut class = false;
    let mut characters = inner.chars();
    while let Some(character) = characters.next() {
        match character {
            '/' if open == 0 && !class => {
                parts.push(String::new());
                continue;
            }
            '|' if open == 0 && !class => return None,
            '(' if !class => open += 1,
            ')' if !class => open = open.checked_sub(1)?,
            '[' => class = true,
            ']' => class = false,
            _ => {}
        }
        let part = parts.last_mut()?;
        part.push(character);
        if character == '\\' {
            part.extend(characters.next());
        }
    }
    if parts.len() != variable.len() {
        return None;
    }
    let literal = |(part, segment): (&String, &Segment)| match segment {
        Segment::Literal(text) => part == text,
        Segment::Star | Segment::DoubleStar => true,
    };
    parts.iter().zip(variable).all(literal).then(|| format!("^{}$", parts[place]))
}
