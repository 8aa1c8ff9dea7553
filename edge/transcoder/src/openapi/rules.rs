//! The rules of `buf.validate`, read by reflection from whatever version of them the descriptor set has, as JSON Schema.
//!
//! What JSON Schema cannot say is said in words. An unknown rule changes nothing.
//!
//! Source: the comments of `buf/validate/validate.proto`.

use std::borrow::Cow;

use prost_reflect::{
    DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, OneofDescriptor, ReflectMessage as _,
    Value as Rule,
};
use serde_json::{Value, json};

use super::pattern;

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

    fn string(&mut self, rules: &DynamicMessage) {
        let exact = size(rules, "len");
        let min_bytes = size(rules, "len_bytes").or_else(|| size(rules, "min_bytes"));
        let max_bytes = size(rules, "len_bytes").or_else(|| size(rules, "max_bytes"));
        // A character has at least one byte and at most four.
        let min = exact.or_else(|| size(rules, "min_len")).max(min_bytes.map(|bytes| bytes.div_ceil(4)));
        let max = exact.or_else(|| size(rules, "max_len"));
        let max = max.into_iter().chain(max_bytes).min();
        if let Some(min) = min.filter(|min| *min > 0) {
            self.set("minLength", json!(min));
            self.zero_refused = true;
        }
        if let Some(max) = max {
            self.set("maxLength", json!(max));
        }
        match (min_bytes, max_bytes) {
            (Some(min), Some(max)) if min == max => self.remark(format!("Exactly {min} bytes in UTF-8.")),
            (Some(min), Some(max)) => self.remark(format!("{min} to {max} bytes in UTF-8.")),
            (Some(min), None) => self.remark(format!("At least {min} bytes in UTF-8.")),
            (None, Some(max)) => self.remark(format!("At most {max} bytes in UTF-8.")),
            (None, None) => {}
        }
        self.patterns(rules);
        self.well_known(rules);
        if let Some(constant) = given(rules, "const").as_deref().and_then(text) {
            self.zero_refused |= !constant.is_empty();
            self.set("const", json!(constant));
        }
        let allowed: Vec<String> = list(rules, "in").iter().filter_map(text).collect();
        if !allowed.is_empty() {
            self.zero_refused |= allowed.iter().all(|value| !value.is_empty());
            self.set("enum", json!(allowed));
        }
        let refused: Vec<String> = list(rules, "not_in").iter().filter_map(text).collect();
        if !refused.is_empty() {
            self.zero_refused |= refused.iter().any(String::is_empty);
            self.set("not", json!({"enum": refused}));
        }
        for example in list(rules, "example").iter().filter_map(text) {
            self.example(json!(example));
        }
    }

    fn patterns(&mut self, rules: &DynamicMessage) {
        let mut patterns = Vec::new();
        if let Some(pattern) = given(rules, "pattern").as_deref().and_then(text) {
            self.zero_refused |= !pattern::matches(&pattern, "");
            if pattern::portable(&pattern) {
                patterns.push(pattern);
            } else {
                self.remark(format!("Matches the RE2 expression `{pattern}`."));
            }
        }
        for (rule, before, after) in [("prefix", "^", ""), ("suffix", "", "$"), ("contains", "", "")] {
            if let Some(part) = given(rules, rule).as_deref().and_then(text).filter(|part| !part.is_empty()) {
                self.zero_refused = true;
                patterns.push(format!("{before}{}{after}", regex_syntax::escape(&part)));
            }
        }
        if let Some(part) = given(rules, "not_contains").as_deref().and_then(text) {
            self.remark(format!("Does not contain `{part}`."));
        }
        // Escaping may use what ECMA-262 has not: then it stays with the words.
        for pattern in patterns {
            if !pattern::portable(&pattern) {
                self.remark(format!("Matches the expression `{pattern}`."));
            } else if self.schema.get("pattern").is_none() {
                self.set("pattern", json!(pattern));
            } else {
                let mut all = self.schema["allOf"].as_array().cloned().unwrap_or_default();
                all.push(json!({"pattern": pattern}));
                self.set("allOf", json!(all));
            }
        }
    }

    fn well_known(&mut self, rules: &DynamicMessage) {
        let formats = [
            ("email", "email"),
            ("hostname", "hostname"),
            ("ipv4", "ipv4"),
            ("ipv6", "ipv6"),
            ("uri", "uri"),
            ("uri_ref", "uri-reference"),
            ("uuid", "uuid"),
        ];
        let alternatives: [(&str, &[&str]); 2] =
            [("ip", &["ipv4", "ipv6"]), ("address", &["hostname", "ipv4", "ipv6"])];
        let shapes = [("tuuid", "^[0-9a-fA-F]{32}$"), ("ulid", "^[0-7][0-9A-HJKMNP-TV-Za-hjkmnp-tv-z]{25}$")];
        let described = [
            ("ip_with_prefixlen", "An IP address with the length of its prefix, as `192.0.2.1/24`."),
            ("ipv4_with_prefixlen", "An IPv4 address with the length of its prefix, as `192.0.2.1/24`."),
            ("ipv6_with_prefixlen", "An IPv6 address with the length of its prefix, as `2001:db8::1/64`."),
            ("ip_prefix", "An IP prefix, as `192.0.2.0/24`."),
            ("ipv4_prefix", "An IPv4 prefix, as `192.0.2.0/24`."),
            ("ipv6_prefix", "An IPv6 prefix, as `2001:db8::/32`."),
            ("host_and_port", "A host and a port, as `example.com:443`."),
            ("protobuf_fqn", "A full protobuf name, as `package.Message`."),
            ("protobuf_dot_fqn", "A full protobuf name with a dot in front, as `.package.Message`."),
        ];
        for (rule, format) in formats {
            if flag(rules, rule) {
                self.set("format", json!(format));
                // An empty reference is one.
                self.zero_refused |= rule != "uri_ref";
            }
        }
        for (rule, formats) in alternatives {
            if flag(rules, rule) {
                let any: Vec<Value> = formats.iter().map(|format| json!({"format": format})).collect();
                self.set("anyOf", json!(any));
                self.zero_refused = true;
            }
        }
        for (rule, shape) in shapes {
            if flag(rules, rule) {
                self.set("pattern", json!(shape));
                self.zero_refused = true;
            }
        }
        for (rule, words) in described {
            if flag(rules, rule) {
                self.remark(words);
                self.zero_refused = true;
            }
        }
        match given(rules, "well_known_regex").and_then(|value| value.as_enum_number()) {
            Some(1) => {
                self.set("pattern", json!("^:?[0-9a-zA-Z!#$%&'*+.^_|~`-]+$"));
                self.zero_refused = true;
            }
            Some(2) => self.set("pattern", json!("^[^\\u0000-\\u0008\\u000A-\\u001F\\u007F]*$")),
            _ => {}
        }
    }

    fn bytes(&mut self, rules: &DynamicMessage) {
        let exact = size(rules, "len");
        let (min, max) = (exact.or_else(|| size(rules, "min_len")), exact.or_else(|| size(rules, "max_len")));
        if let Some(min) = min.filter(|min| *min > 0) {
            // Base64 may come without its padding.
            self.set("minLength", json!(min.saturating_mul(4).div_ceil(3)));
            self.remark(format!("At least {min} bytes."));
            self.zero_refused = true;
        }
        if let Some(max) = max {
            self.set("maxLength", json!(max.div_ceil(3).saturating_mul(4)));
            self.remark(format!("At most {max} bytes."));
        }
        if let Some(pattern) = given(rules, "pattern").as_deref().and_then(text) {
            self.remark(format!("The bytes match the RE2 expression `{pattern}`."));
        }
    }

    fn floats(&mut self, rules: &DynamicMessage) {
        let bound = |name: &str| given(rules, name).as_deref().and_then(float);
        let bounds = [
            ("gt", "exclusiveMinimum"),
            ("gte", "minimum"),
            ("lt", "exclusiveMaximum"),
            ("lte", "maximum"),
            ("const", "const"),
        ];
        let mut numbers: Vec<(&str, f64)> =
            bounds.iter().filter_map(|(rule, keyword)| Some((*keyword, bound(rule)?))).collect();
        let low = bound("gt").or_else(|| bound("gte"));
        let high = bound("lt").or_else(|| bound("lte"));
        if low > high && high.is_some() {
            self.remark("Outside of the range between the two bounds of its rule.");
            numbers.clear();
        }
        let allowed: Vec<f64> = list(rules, "in").iter().filter_map(float).collect();
        if numbers.is_empty() && allowed.is_empty() && !flag(rules, "finite") {
            return;
        }
        // No rule admits NaN, and infinities neither: a number it is.
        let format = if matches!(self.kind, Kind::Float) { "float" } else { "double" };
        *self.schema = json!({"type": "number", "format": format});
        for (keyword, value) in numbers {
            self.zero_refused |= match keyword {
                "exclusiveMinimum" => value >= 0.0,
                "minimum" => value > 0.0,
                "exclusiveMaximum" => value <= 0.0,
                "maximum" => value < 0.0,
                _ => value != 0.0,
            };
            self.set(keyword, json!(value));
        }
        if !allowed.is_empty() {
            self.zero_refused |= allowed.iter().all(|value| *value != 0.0);
            self.set("enum", json!(allowed));
        }
    }

    /// Integers of 32 bits are numbers, those of 64 are strings of digits.
    fn integers(&mut self, rules: &DynamicMessage, wide: bool) {
        let bound = |name: &str| given(rules, name).as_deref().and_then(integer);
        let low = bound("gte").or_else(|| bound("gt").map(|value| value + 1));
        let high = bound("lte").or_else(|| bound("lt").map(|value| value - 1));
        let write =
            |value: i128| if wide { json!(value.to_string()) } else { json!(i64::try_from(value).ok()) };
        if let (Some(low), Some(high)) = (low, high)
            && low > high
        {
            self.remark(format!("Not between {high} and {low}."));
        } else {
            self.zero_refused |= low.is_some_and(|low| low > 0) || high.is_some_and(|high| high < 0);
            if wide {
                self.wide_range(low, high);
            } else {
                for (keyword, value) in [("minimum", low), ("maximum", high)] {
                    if let Some(value) = value {
                        self.set(keyword, write(value));
                    }
                }
            }
        }
        if let Some(constant) = bound("const") {
            self.zero_refused |= constant != 0;
            self.set("const", write(constant));
        }
        let numbers = |name: &str| -> Vec<i128> { list(rules, name).iter().filter_map(integer).collect() };
        let (allowed, refused) = (numbers("in"), numbers("not_in"));
        if !allowed.is_empty() {
            self.zero_refused |= !allowed.contains(&0);
            self.set("enum", Value::Array(allowed.into_iter().map(write).collect()));
        }
        if !refused.is_empty() {
            self.zero_refused |= refused.contains(&0);
            self.set("not", json!({"enum": refused.into_iter().map(write).collect::<Vec<_>>()}));
        }
        for example in numbers("example") {
            self.example(write(example));
        }
    }

    /// Bounds of a number that is written as a string: its sign and its digits in a pattern, the rest in words.
    fn wide_range(&mut self, low: Option<i128>, high: Option<i128>) {
        if low.is_none() && high.is_none() {
            return;
        }
        let digits = |value: i128| value.unsigned_abs().to_string().len();
        let most = match (low, high) {
            (Some(low), Some(high)) => digits(low).max(digits(high)),
            _ => 20,
        };
        let rest = most.saturating_sub(1);
        let pattern = match low {
            Some(low) if low > 0 => format!("^[1-9][0-9]{{0,{rest}}}$"),
            Some(0) => format!("^(0|[1-9][0-9]{{0,{rest}}})$"),
            Some(_) | None => format!("^(0|-?[1-9][0-9]{{0,{rest}}})$"),
        };
        self.set("pattern", json!(pattern));
        match (low, high) {
            (Some(low), Some(high)) => self.remark(format!("From {low} to {high}.")),
            (Some(low), None) => self.remark(format!("At least {low}.")),
            (None, Some(high)) => self.remark(format!("At most {high}.")),
            (None, None) => {}
        }
    }

    fn enumeration(&mut self, rules: &DynamicMessage) {
        let Kind::Enum(descriptor) = self.kind else { return };
        let numbers = |name: &str| -> Vec<i128> {
            list(rules, name)
                .iter()
                .filter_map(|value| integer(value).or_else(|| value.as_enum_number().map(i128::from)))
                .collect()
        };
        let constant = given(rules, "const").as_deref().and_then(integer);
        let (allowed, refused) = (numbers("in"), numbers("not_in"));
        if constant.is_none() && allowed.is_empty() && refused.is_empty() {
            return;
        }
        let names: Vec<String> = super::schema::declared(descriptor)
            .into_iter()
            .filter(|value| {
                let number = i128::from(value.number());
                constant.is_none_or(|constant| constant == number)
                    && (allowed.is_empty() || allowed.contains(&number))
                    && !refused.contains(&number)
            })
            .map(|value| value.name().to_owned())
            .collect();
        self.zero_refused |= constant.is_some_and(|constant| constant != 0)
            || (!allowed.is_empty() && !allowed.contains(&0))
            || refused.contains(&0);
        if !names.is_empty() {
            self.set("enum", json!(names));
        }
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
