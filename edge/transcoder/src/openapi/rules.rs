//! The rules of `buf.validate`, read by reflection from whatever version of them the descriptor set has, as JSON Schema.
//!
//! What JSON Schema cannot say is said in words. An unknown rule changes nothing.
//!
//! Source: the comments of `buf/validate/validate.proto`.

mod numbers;
mod strings;

use std::borrow::Cow;

use prost_reflect::{
    DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, OneofDescriptor, ReflectMessage as _,
    Value as Rule,
};
use serde_json::{Value, json};

/// `buf.validate.Ignore`, by number.
const IGNORE_IF_ZERO_VALUE: i32 = 1;
const IGNORE_ALWAYS: i32 = 3;

/// What the rules of a field say besides the schema.
#[derive(Default)]
pub(super) struct Outcome {
    /// Whether a request without the field is refused.
    pub(super) required: bool,
    /// In words, a sentence each.
    pub(super) remarks: Vec<String>,
    /// Values that the rules give as examples, as JSON.
    pub(super) examples: Vec<Value>,
}

/// Narrows the schema of a field to what its rules allow.
pub(super) fn constrain(schema: &mut Value, field: &FieldDescriptor) -> Outcome {
    let options = field.options();
    match option(&options, field.parent_pool().get_extension_by_name("buf.validate.field")) {
        Some(rules) => apply(schema, &rules, &field.kind(), field.supports_presence()),
        None => Outcome::default(),
    }
}

/// Whether one member of the oneof must be set.
pub(super) fn oneof_required(oneof: &OneofDescriptor) -> bool {
    let options = oneof.options();
    option(&options, oneof.parent_pool().get_extension_by_name("buf.validate.oneof"))
        .is_some_and(|rules| flag(&rules, "required"))
}

/// The rules of a whole message, in words.
pub(super) fn of_message(message: &MessageDescriptor) -> Vec<String> {
    let options = message.options();
    let extension = message.parent_pool().get_extension_by_name("buf.validate.message");
    let Some(rules) = option(&options, extension) else { return Vec::new() };
    let mut remarks = expressions(&rules);
    for group in list(&rules, "oneof").iter().filter_map(|group| group.as_message().cloned()) {
        let fields: Vec<String> = list(&group, "fields").iter().filter_map(text).map(quoted).collect();
        let count = if flag(&group, "required") { "Exactly one" } else { "At most one" };
        remarks.push(format!("{count} of {} may be set.", fields.join(", ")));
    }
    remarks
}

/// The message in an extension of `options`, when it is set.
fn option(
    options: &DynamicMessage,
    extension: Option<prost_reflect::ExtensionDescriptor>,
) -> Option<DynamicMessage> {
    let extension = extension.filter(|extension| extension.containing_message() == options.descriptor())?;
    if !options.has_extension(&extension) {
        return None;
    }
    options.get_extension(&extension).as_message().cloned()
}

fn apply(schema: &mut Value, rules: &DynamicMessage, kind: &Kind, presence: bool) -> Outcome {
    let ignore = given(rules, "ignore").and_then(|value| value.as_enum_number()).unwrap_or(0);
    let mut outcome = Outcome::default();
    if ignore == IGNORE_ALWAYS {
        return outcome;
    }
    outcome.remarks = expressions(rules);
    let mut narrow = Narrow { zero_refused: flag(rules, "required"), kind, schema, outcome: &mut outcome };
    for (rule, value) in rules.fields() {
        if let Some(typed) = value.as_message() {
            narrow.by(rule.name(), typed);
        }
    }
    let zero_refused = narrow.zero_refused;
    // Without presence nobody can tell an unset field from a zero: the rules hold for it.
    outcome.required =
        flag(rules, "required") || (!presence && zero_refused && ignore != IGNORE_IF_ZERO_VALUE);
    if zero_refused && ignore == IGNORE_IF_ZERO_VALUE {
        outcome.required = false;
        if let Some(zero) = zero(kind, schema) {
            let narrowed = schema.take();
            *schema = json!({"anyOf": [narrowed, {"const": zero}]});
        }
    }
    outcome
}

/// The zero of a scalar in JSON.
fn zero(kind: &Kind, schema: &Value) -> Option<Value> {
    match (kind, schema["type"].as_str()) {
        (Kind::Enum(_) | Kind::Message(_), _) | (_, None | Some("array" | "object")) => None,
        (Kind::String | Kind::Bytes, _) => Some(json!("")),
        (Kind::Bool, _) => Some(json!(false)),
        (_, Some("string")) => Some(json!("0")),
        (_, Some(_)) => Some(json!(0)),
    }
}

/// The rules in CEL, by what they say of themselves.
fn expressions(rules: &DynamicMessage) -> Vec<String> {
    let named = list(rules, "cel").into_iter().filter_map(|rule| {
        let rule = rule.as_message()?;
        let said = |name: &str| given(rule, name).as_deref().and_then(text).filter(|text| !text.is_empty());
        said("message").map(sentence).or_else(|| said("expression").map(quoted).map(sentence))
    });
    let bare = list(rules, "cel_expression");
    let bare = bare.iter().filter_map(text).map(quoted).map(sentence);
    named.chain(bare).collect()
}

fn sentence(text: impl Into<String>) -> String {
    let text = text.into();
    let mut characters = text.trim().trim_end_matches('.').chars();
    characters
        .next()
        .map_or_else(String::new, |first| format!("{}{}.", first.to_uppercase(), characters.as_str()))
}

fn quoted(text: impl AsRef<str>) -> String {
    format!("`{}`", text.as_ref())
}

/// The value of a field that is set.
fn given<'m>(message: &'m DynamicMessage, name: &str) -> Option<Cow<'m, Rule>> {
    let field = message.descriptor().get_field_by_name(name)?;
    if message.has_field(&field) { message.get_field_by_name(name) } else { None }
}

fn flag(message: &DynamicMessage, name: &str) -> bool {
    given(message, name).and_then(|value| value.as_bool()).unwrap_or(false)
}

fn size(message: &DynamicMessage, name: &str) -> Option<u64> {
    given(message, name).and_then(|value| value.as_u64())
}

fn list(message: &DynamicMessage, name: &str) -> Vec<Rule> {
    given(message, name).and_then(|value| value.as_list().map(<[Rule]>::to_vec)).unwrap_or_default()
}

fn text(value: &Rule) -> Option<String> {
    value.as_str().map(str::to_owned)
}

/// An integer of any width.
fn integer(value: &Rule) -> Option<i128> {
    value
        .as_i32()
        .map(i128::from)
        .or_else(|| value.as_i64().map(i128::from))
        .or_else(|| value.as_u32().map(i128::from))
        .or_else(|| value.as_u64().map(i128::from))
}

fn float(value: &Rule) -> Option<f64> {
    value.as_f64().or_else(|| value.as_f32().map(f64::from)).filter(|number| number.is_finite())
}

/// One schema on its way to be narrower.
struct Narrow<'a> {
    kind: &'a Kind,
    schema: &'a mut Value,
    outcome: &'a mut Outcome,
    /// Whether a rule refuses the type's zero.
    zero_refused: bool,
}

impl Narrow<'_> {
    fn by(&mut self, name: &str, rules: &DynamicMessage) {
        match name {
            "string" => self.string(rules),
            "bytes" => self.bytes(rules),
            "bool" => {
                if let Some(constant) = given(rules, "const").and_then(|value| value.as_bool()) {
                    self.set("const", json!(constant));
                    self.zero_refused |= constant;
                }
            }
            "float" | "double" => self.floats(rules),
            "int32" | "sint32" | "sfixed32" | "uint32" | "fixed32" => self.integers(rules, false),
            "int64" | "sint64" | "sfixed64" | "uint64" | "fixed64" => self.integers(rules, true),
            "enum" => self.enumeration(rules),
            "repeated" => self.repeated(rules),
            "map" => self.map(rules),
            "any" => {
                let types: Vec<String> = list(rules, "in").iter().filter_map(text).collect();
                if !types.is_empty() {
                    self.set("properties", json!({"@type": {"type": "string", "enum": types}}));
                }
            }
            "duration" => self.times(rules, duration),
            "timestamp" => {
                self.times(rules, timestamp);
                for (rule, words) in [("lt_now", "In the past."), ("gt_now", "In the future.")] {
                    if flag(rules, rule) {
                        self.remark(words);
                    }
                }
            }
            "field_mask" => {
                let paths: Vec<String> = list(rules, "in").iter().filter_map(text).map(quoted).collect();
                if !paths.is_empty() {
                    self.remark(format!("Paths may be {}.", paths.join(", ")));
                }
            }
            _ => {}
        }
    }

    fn set(&mut self, keyword: &str, value: Value) {
        self.schema[keyword] = value;
    }

    fn remark(&mut self, words: impl Into<String>) {
        self.outcome.remarks.push(words.into());
    }

    fn example(&mut self, value: Value) {
        self.outcome.examples.push(value);
    }

    fn repeated(&mut self, rules: &DynamicMessage) {
        if let Some(min) = size(rules, "min_items") {
            self.set("minItems", json!(min));
            self.zero_refused |= min > 0;
        }
        if let Some(max) = size(rules, "max_items") {
            self.set("maxItems", json!(max));
        }
        if flag(rules, "unique") {
            self.set("uniqueItems", json!(true));
        }
        if let Some(rules) = given(rules, "items").and_then(|value| value.as_message().cloned()) {
            let mut items = self.schema["items"].take();
            let inner = apply(&mut items, &rules, self.kind, true);
            self.set("items", items);
            self.each("Each: ", inner);
        }
    }

    fn map(&mut self, rules: &DynamicMessage) {
        if let Some(min) = size(rules, "min_pairs") {
            self.set("minProperties", json!(min));
            self.zero_refused |= min > 0;
        }
        if let Some(max) = size(rules, "max_pairs") {
            self.set("maxProperties", json!(max));
        }
        let Kind::Message(entry) = self.kind.clone() else { return };
        if !entry.is_map_entry() {
            return;
        }
        if let Some(rules) = given(rules, "keys").and_then(|value| value.as_message().cloned()) {
            let kind = entry.map_entry_key_field().kind();
            // Keys are strings in JSON, whatever they are in the proto: only rules of strings can be shown.
            if matches!(kind, Kind::String) {
                let mut keys =
                    self.schema.get("propertyNames").cloned().unwrap_or_else(|| json!({"type": "string"}));
                let inner = apply(&mut keys, &rules, &kind, true);
                self.set("propertyNames", keys);
                self.each("Each key: ", inner);
            }
        }
        if let Some(rules) = given(rules, "values").and_then(|value| value.as_message().cloned()) {
            let mut values = self.schema["additionalProperties"].take();
            let inner = apply(&mut values, &rules, &entry.map_entry_value_field().kind(), true);
            self.set("additionalProperties", values);
            self.each("Each value: ", inner);
        }
    }

    fn each(&mut self, whose: &str, inner: Outcome) {
        for remark in inner.remarks {
            self.remark(format!("{whose}{remark}"));
        }
    }

    fn times(&mut self, rules: &DynamicMessage, write: fn(i64, i32) -> String) {
        let bounds = [
            ("gt", "More than"),
            ("gte", "At least"),
            ("lt", "Less than"),
            ("lte", "At most"),
            ("const", "Always"),
            ("within", "Now, give or take"),
        ];
        for (rule, words) in bounds {
            let Some(value) = given(rules, rule).and_then(|value| value.as_message().cloned()) else {
                continue;
            };
            let seconds = given(&value, "seconds").and_then(|value| value.as_i64()).unwrap_or(0);
            let nanos = given(&value, "nanos").and_then(|value| value.as_i32()).unwrap_or(0);
            let written = if rule == "within" { duration(seconds, nanos) } else { write(seconds, nanos) };
            self.remark(format!("{words} {written}."));
        }
    }
}

fn duration(seconds: i64, nanos: i32) -> String {
    let mut out = Vec::new();
    if crate::wkt::put_duration(&mut out, seconds, nanos) { plain(&out) } else { format!("{seconds}s") }
}

fn timestamp(seconds: i64, nanos: i32) -> String {
    let mut out = Vec::new();
    if crate::wkt::put_timestamp(&mut out, seconds, nanos) { plain(&out) } else { format!("{seconds}s") }
}

fn plain(out: &[u8]) -> String {
    String::from_utf8_lossy(out).trim_matches('"').to_owned()
}
