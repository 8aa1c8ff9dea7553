//! Examples that are valid by their schemas, made from the schemas themselves.

use serde_json::{Map, Value, json};

use super::pattern;
use super::schema::{DURATION, FIELD_MASK, INT64, SCHEMAS, UINT64, fits};

/// How deep optional parts of an example go.
const DEPTH_MAX: usize = 4;

/// Below this, not even required parts are followed: the schema holds itself.
const DEPTH_END: usize = 12;

/// Adds an example to every request body, every successful answer and every parameter that can have one.
pub(super) fn add(document: &mut Value) {
    let schemas = document["components"]["schemas"].clone();
    let Some(paths) = document["paths"].as_object_mut() else { return };
    for item in paths.values_mut().filter_map(Value::as_object_mut) {
        for (key, operation) in item.iter_mut() {
            if key.starts_with("x-") {
                operation
                    .as_object_mut()
                    .into_iter()
                    .flat_map(Map::values_mut)
                    .for_each(|one| of_operation(&schemas, one));
            } else {
                of_operation(&schemas, operation);
            }
        }
    }
}

fn of_operation(schemas: &Value, operation: &mut Value) {
    let request = Maker { schemas, request: true };
    for parameter in operation.get_mut("parameters").and_then(Value::as_array_mut).into_iter().flatten() {
        // An optional parameter has an example only where somebody gave one: an invented filter would find nothing.
        let wanted = parameter["required"] == true || parameter["schema"].get("examples").is_some();
        if let Some(example) =
            request.of(&parameter["schema"], 0).filter(|_| wanted && parameter.get("schema").is_some())
        {
            parameter["example"] = example;
        }
    }
    if let Some(content) = operation.pointer_mut("/requestBody/content") {
        of_content(&request, content);
    }
    if let Some(content) = operation.pointer_mut("/responses/200/content") {
        of_content(&Maker { schemas, request: false }, content);
    }
}

fn of_content(maker: &Maker<'_>, content: &mut Value) {
    for (media, body) in content.as_object_mut().into_iter().flatten() {
        if !media.ends_with("json") {
            continue;
        }
        if let Some(example) = maker.of(&body["schema"], 0) {
            body["example"] = example;
        }
    }
}

/// An example of a scalar that stands for itself, for a schema without references.
pub(super) fn of_text(schema: &Value) -> Option<Value> {
    let telling = ["pattern", "format", "enum", "const"].iter().any(|keyword| schema.get(keyword).is_some());
    let numeric = matches!(schema["format"].as_str(), Some("int64" | "uint64"));
    if schema["type"] != "string" || !telling || numeric {
        return None;
    }
    Maker { schemas: &Value::Null, request: true }.of(schema, 0)
}

struct Maker<'s> {
    schemas: &'s Value,
    request: bool,
}

impl Maker<'_> {
    /// A value that is valid by `schema`; `None` when none is found.
    fn of(&self, schema: &Value, depth: usize) -> Option<Value> {
        if depth > DEPTH_END {
            return None;
        }
        if let Some(given) = schema["examples"].as_array().and_then(|examples| examples.first()) {
            return Some(given.clone());
        }
        if let Some(constant) = schema.get("const") {
            return Some(constant.clone());
        }
        if let Some(allowed) = schema["enum"].as_array() {
            return one_of(schema, allowed);
        }
        if let Some(reference) = schema["$ref"].as_str() {
            return self.of(self.schemas.get(reference.strip_prefix(SCHEMAS)?)?, depth + 1);
        }
        match schema["type"].as_str() {
            Some("object") => self.object(schema, depth),
            Some("array") => self.array(schema, depth),
            Some("string") => string(schema),
            Some("integer") => integer(schema),
            Some("number") => number(schema),
            Some("boolean") => Some(json!(true)),
            Some("null") => Some(Value::Null),
            Some(_) => None,
            None => match schema["anyOf"].as_array() {
                Some(alternatives) => alternatives.iter().find_map(|one| self.of(one, depth + 1)),
                None => Some(json!({})),
            },
        }
    }

    fn object(&self, schema: &Value, depth: usize) -> Option<Value> {
        let required: Vec<&str> =
            schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let mut example = Map::new();
        let properties = schema["properties"].as_object();
        for group in oneofs(schema) {
            // One member, the first that can be made; none where none is needed and the example is deep enough.
            let made = group.members.iter().find_map(|name| {
                let value = self.of(properties?.get(*name)?, depth + 1)?;
                Some(((*name).to_owned(), value))
            });
            match made {
                Some((name, value)) if group.needed || depth < DEPTH_MAX => {
                    example.insert(name, value);
                }
                None if group.needed => return None,
                Some(_) | None => {}
            }
        }
        for (name, property) in properties.into_iter().flatten() {
            let needed = required.contains(&name.as_str());
            let away = self.request && property["readOnly"] == true;
            let member = oneofs(schema).any(|group| group.members.contains(&name.as_str()));
            if away || member || (!needed && depth >= DEPTH_MAX) {
                continue;
            }
            match self.of(property, depth + 1) {
                Some(value) => {
                    example.insert(name.clone(), value);
                }
                None if needed => return None,
                None => {}
            }
        }
        if let Some(values) = schema.get("additionalProperties").filter(|values| values.is_object()) {
            let key = self.key(schema);
            if let (Some(key), Some(value)) = (key, self.of(values, depth + 1)) {
                example.insert(key, value);
            }
        }
        let size = u64::try_from(example.len()).unwrap_or(0);
        (schema["minProperties"].as_u64().is_none_or(|min| size >= min)
            && schema["maxProperties"].as_u64().is_none_or(|max| size <= max))
        .then_some(Value::Object(example))
    }

    /// A key of a map.
    fn key(&self, schema: &Value) -> Option<String> {
        let Some(names) = schema.get("propertyNames") else { return Some("key".to_owned()) };
        let mut names = names.clone();
        names["type"] = json!("string");
        self.of(&names, 0)?.as_str().map(str::to_owned)
    }

    fn array(&self, schema: &Value, depth: usize) -> Option<Value> {
        let min = schema["minItems"].as_u64().unwrap_or(0);
        let max = schema["maxItems"].as_u64().unwrap_or(u64::MAX);
        let item = if depth < DEPTH_MAX || min > 0 { self.of(&schema["items"], depth + 1) } else { None };
        let wanted = min.max(1).min(max);
        match item {
            Some(item) if wanted <= 1 || schema["uniqueItems"] != true => {
                Some(Value::Array((0..wanted).map(|_| item.clone()).collect()))
            }
            Some(_) | None => (min == 0).then(|| json!([])),
        }
    }
}

/// The members of a oneof.
struct Choice<'s> {
    members: Vec<&'s str>,
    /// Whether one of them must be there.
    needed: bool,
}

/// The oneofs of a message, as its schema tells of them.
fn oneofs(schema: &Value) -> impl Iterator<Item = Choice<'_>> {
    let groups = schema["allOf"].as_array().into_iter().flatten();
    groups.filter_map(|group| group["oneOf"].as_array()).map(|choices| Choice {
        members: choices.iter().filter_map(|choice| choice["required"][0].as_str()).collect(),
        needed: choices.iter().all(|choice| choice.get("required").is_some()),
    })
}

/// Of the values of an enumeration rather not the first, which says that there is none.
fn one_of(schema: &Value, allowed: &[Value]) -> Option<Value> {
    let refused = schema["not"]["enum"].as_array();
    let fitting = |value: &&Value| !refused.is_some_and(|refused| refused.contains(value));
    let telling =
        |value: &&Value| !value.as_str().is_some_and(|name| name.is_empty() || name.ends_with("UNSPECIFIED"));
    let telling = allowed.iter().filter(fitting).find(telling);
    telling.or_else(|| allowed.iter().find(fitting)).cloned()
}

fn string(schema: &Value) -> Option<Value> {
    let bound = |keyword: &str| schema[keyword].as_u64().and_then(|bound| usize::try_from(bound).ok());
    let (min, max) = (bound("minLength").unwrap_or(0), bound("maxLength").unwrap_or(usize::MAX));
    let formatted = match schema["format"].as_str() {
        Some("date-time") => Some("2027-01-02T15:04:05Z"),
        Some("uuid") => Some(pattern::UUID),
        Some("email") => Some("ada@example.com"),
        Some("hostname") => Some("example.com"),
        Some("ipv4") => Some("192.0.2.1"),
        Some("ipv6") => Some("2001:db8::1"),
        Some("uri") => Some("https://example.com/a"),
        Some("uri-reference") => Some("/a"),
        Some(_) | None => None,
    };
    // The patterns that every field of a type has, without a search.
    let known = match schema["pattern"].as_str() {
        Some(DURATION) => Some("1.5s"),
        Some(FIELD_MASK) => Some("name"),
        Some(INT64 | UINT64) => Some("1"),
        Some(_) | None => None,
    };
    if known.is_some() {
        return known.map(|text| json!(text));
    }
    if let Some(text) = formatted {
        let plain = schema.get("pattern").is_none() && schema.get("allOf").is_none();
        return (plain && (min..=max).contains(&text.len())).then(|| json!(text));
    }
    let candidate = if let Some(pattern) = schema["pattern"].as_str() {
        pattern::sample(pattern, min, max)?
    } else if schema["contentEncoding"] == "base64" {
        // A whole number of quartets is valid base64 whatever the bytes.
        let length = min.max(4).next_multiple_of(4);
        if length > max {
            return None;
        }
        "AQID".repeat(length / 4)
    } else {
        "text".chars().cycle().take(min.max(4).min(max)).collect()
    };
    let candidate = json!(candidate);
    // An alternative of formats needs more than this.
    let mut own = schema.clone();
    own.as_object_mut()?.remove("format");
    fits(&own, &candidate).then_some(candidate)
}

fn integer(schema: &Value) -> Option<Value> {
    let min = schema["minimum"].as_i64().unwrap_or(i64::MIN);
    let max = schema["maximum"].as_i64().unwrap_or(i64::MAX);
    if min > max {
        return None;
    }
    let value = json!(1_i64.clamp(min, max));
    fits(schema, &value).then_some(value)
}

fn number(schema: &Value) -> Option<Value> {
    let low = schema["minimum"].as_f64().or_else(|| schema["exclusiveMinimum"].as_f64());
    let high = schema["maximum"].as_f64().or_else(|| schema["exclusiveMaximum"].as_f64());
    let value = match (low, high) {
        (Some(low), Some(high)) => f64::midpoint(low, high),
        (Some(low), None) => low + 1.0,
        (None, Some(high)) => high - 1.0,
        (None, None) => 1.5,
    };
    let outside = schema["exclusiveMinimum"].as_f64().is_some_and(|low| value <= low)
        || schema["exclusiveMaximum"].as_f64().is_some_and(|high| value >= high);
    (!outside).then(|| json!(value))
}
