//! The rules of one field, compiled, and what each says.

use prost_reflect::{
    DynamicMessage, EnumDescriptor, ExtensionDescriptor, FieldDescriptor, Kind, MessageDescriptor, Value,
};
use regex::Regex;

use super::Violation;

/// `buf.validate.Ignore`, by number.
const IGNORE_IF_ZERO_VALUE: i32 = 1;
const IGNORE_ALWAYS: i32 = 3;

/// What is checked about one field.
#[derive(Debug)]
pub(super) struct Field {
    pub(super) descriptor: FieldDescriptor,
    required: bool,
    ignore_if_zero: bool,
    constraint: Constraint,
    /// The type of a message field, whose own fields are checked in turn.
    pub(super) nested: Option<MessageDescriptor>,
}

/// What a value must be, by the type of the field.
#[derive(Debug)]
enum Constraint {
    None,
    Text(Box<Text>),
    Integer(Integer),
    Items { min: Option<u64>, max: Option<u64> },
    Defined(EnumDescriptor),
}

/// Rules of a string.
#[derive(Debug)]
struct Text {
    /// PostgreSQL keeps no NUL in a text. A password is hashed and may have it.
    nul_allowed: bool,
    /// In characters.
    min_len: Option<u64>,
    /// In characters.
    max_len: Option<u64>,
    max_bytes: Option<u64>,
    pattern: Option<Regex>,
    uuid: bool,
    /// Anything when empty.
    one_of: Vec<String>,
}

/// Rules of an `int32` or an `int64`; a missing bound is the end of the type.
#[derive(Debug)]
struct Integer {
    min: Option<i64>,
    max: Option<i64>,
    reason_min: &'static str,
    reason_max: &'static str,
}

impl Field {
    /// Compiles the rules of a field; `None` when there is nothing to check.
    ///
    /// # Panics
    ///
    /// When the rules do not fit the field's type, or a pattern is not a regular expression: the contract is broken.
    pub(super) fn compile(descriptor: FieldDescriptor, extension: &ExtensionDescriptor) -> Option<Self> {
        let kind = descriptor.kind();
        let nested = kind.as_message().filter(|_| !descriptor.is_map()).cloned();
        let mut field = Self {
            descriptor,
            required: false,
            ignore_if_zero: false,
            constraint: Constraint::None,
            nested: nested.filter(|message| message.package_name().starts_with("jetway.")),
        };
        let options = field.descriptor.options();
        if options.has_extension(extension) {
            let value = options.get_extension(extension);
            let rules = value.as_message().expect("`buf.validate.field` is a message");
            let ignore = number(rules, "ignore");
            if ignore == Some(IGNORE_ALWAYS.into()) {
                return None;
            }
            field.required = flag(rules, "required");
            field.ignore_if_zero = ignore == Some(IGNORE_IF_ZERO_VALUE.into());
            field.constraint = Constraint::compile(rules, &field.descriptor);
        }
        let idle = !field.required && matches!(field.constraint, Constraint::None) && field.nested.is_none();
        (!idle).then_some(field)
    }

    /// Whether the field may be looked at; says so when a required one is missing.
    pub(super) fn is_due(&self, message: &DynamicMessage, path: &str, found: &mut Vec<Violation>) -> bool {
        let present = message.has_field(&self.descriptor);
        if present || !self.descriptor.supports_presence() {
            let zero = !present
                || (self.descriptor.supports_presence()
                    && message.get_field(&self.descriptor).is_default(&self.descriptor.kind()));
            if zero && self.ignore_if_zero {
                return false;
            }
        }
        if present {
            return true;
        }
        if self.required {
            if !self.ignore_if_zero {
                found.push(Violation::new(path, "REQUIRED", "is required".to_owned()));
            }
            return false;
        }
        // Without presence nobody can tell an unset field from a zero: rules hold for it.
        !self.descriptor.supports_presence()
    }

    /// Checks the value itself, not what is inside of it. Whether its items may be looked at.
    pub(super) fn check(&self, value: &Value, path: &str, found: &mut Vec<Violation>) -> bool {
        let before = found.len();
        match &self.constraint {
            Constraint::None => {}
            Constraint::Text(rules) => {
                rules.check(value.as_str().unwrap_or_default(), path, found);
            }
            Constraint::Integer(rules) => rules.check(integer(value), path, found),
            Constraint::Items { min, max } => {
                let length = value.as_list().map_or(0, <[Value]>::len);
                check_items(*min, *max, count(length), path, found);
            }
            Constraint::Defined(descriptor) => {
                if value.as_enum_number().is_none_or(|number| descriptor.get_value(number).is_none()) {
                    let rule = "must be one of the values of the enumeration".to_owned();
                    found.push(Violation::new(path, "ENUM_DEFINED_ONLY", rule));
                }
            }
        }
        found.len() == before
    }
}

impl Constraint {
    fn compile(rules: &DynamicMessage, field: &FieldDescriptor) -> Self {
        let Some((name, rules)) =
            rules.fields().find_map(|(rule, value)| Some((rule.name().to_owned(), value.as_message()?)))
        else {
            return Self::None;
        };
        match (name.as_str(), field.is_list(), field.kind()) {
            ("string", false, Kind::String) => Self::Text(Box::new(Text::compile(rules, field))),
            ("int32", false, Kind::Int32) => Self::Integer(Integer::compile(rules, "INT32_GTE", "INT32_LTE")),
            ("int64", false, Kind::Int64) => Self::Integer(Integer::compile(rules, "INT64_GTE", "INT64_LTE")),
            ("enum", false, Kind::Enum(descriptor)) => {
                if flag(rules, "defined_only") {
                    Self::Defined(descriptor)
                } else {
                    Self::None
                }
            }
            ("repeated", true, _) => {
                Self::Items { min: size(rules, "min_items"), max: size(rules, "max_items") }
            }
            _ => panic!("the `{name}` rules of {} do not fit its type", field.full_name()),
        }
    }
}

impl Text {
    fn compile(rules: &DynamicMessage, field: &FieldDescriptor) -> Self {
        let pattern = given(rules, "pattern").and_then(|value| value.as_str().map(str::to_owned));
        let pattern = pattern.map(|pattern| {
            Regex::new(&pattern)
                .unwrap_or_else(|error| panic!("the pattern of {}: {error}", field.full_name()))
        });
        let one_of = given(rules, "in").and_then(|value| value.as_list().map(<[Value]>::to_vec));
        let secret = field.options().get_field_by_name("debug_redact").and_then(|value| value.as_bool());
        Self {
            nul_allowed: secret.unwrap_or(false),
            min_len: size(rules, "min_len"),
            max_len: size(rules, "max_len"),
            max_bytes: size(rules, "max_bytes"),
            pattern,
            uuid: flag(rules, "uuid"),
            one_of: one_of
                .unwrap_or_default()
                .iter()
                .filter_map(|value| value.as_str().map(str::to_owned))
                .collect(),
        }
    }

    fn check(&self, text: &str, path: &str, found: &mut Vec<Violation>) {
        let mut violation = |reason, rule| found.push(Violation::new(path, reason, rule));
        if !self.nul_allowed && text.contains('\0') {
            violation("STRING_NUL", "must not contain the character U+0000".to_owned());
        }
        let length = count(text.chars().count());
        if let Some(min) = self.min_len.filter(|min| length < *min) {
            violation("STRING_MIN_LEN", format!("must have at least {}", units(min, "character")));
        }
        if let Some(max) = self.max_len.filter(|max| length > *max) {
            violation("STRING_MAX_LEN", format!("must have at most {}", units(max, "character")));
        }
        if let Some(max) = self.max_bytes.filter(|max| count(text.len()) > *max) {
            violation("STRING_MAX_BYTES", format!("must have at most {}", units(max, "byte")));
        }
        if let Some(pattern) = self.pattern.as_ref().filter(|pattern| !pattern.is_match(text)) {
            violation("STRING_PATTERN", format!("must match the pattern {pattern}"));
        }
        if self.uuid && !is_uuid(text) {
            violation("STRING_UUID", "must be a UUID".to_owned());
        }
        if !self.one_of.is_empty() && !self.one_of.iter().any(|allowed| allowed == text) {
            violation("STRING_IN", format!("must be one of {}", self.one_of.join(", ")));
        }
    }
}

impl Integer {
    fn compile(rules: &DynamicMessage, reason_min: &'static str, reason_max: &'static str) -> Self {
        Self { min: number(rules, "gte"), max: number(rules, "lte"), reason_min, reason_max }
    }

    fn check(&self, value: i64, path: &str, found: &mut Vec<Violation>) {
        let reason = if self.min.is_some_and(|min| value < min) {
            self.reason_min
        } else if self.max.is_some_and(|max| value > max) {
            self.reason_max
        } else {
            return;
        };
        let rule = match (self.min, self.max) {
            (Some(min), Some(max)) => format!("must be from {min} to {max}"),
            (Some(min), None) => format!("must be at least {min}"),
            (None, Some(max)) => format!("must be at most {max}"),
            (None, None) => return,
        };
        found.push(Violation::new(path, reason, rule));
    }
}

fn check_items(min: Option<u64>, max: Option<u64>, length: u64, path: &str, found: &mut Vec<Violation>) {
    if let Some(min) = min.filter(|min| length < *min) {
        let rule = format!("must have at least {}", units(min, "item"));
        found.push(Violation::new(path, "REPEATED_MIN_ITEMS", rule));
    }
    if let Some(max) = max.filter(|max| length > *max) {
        let rule = format!("must have at most {}", units(max, "item"));
        found.push(Violation::new(path, "REPEATED_MAX_ITEMS", rule));
    }
}

/// Whether the text is a UUID in its usual form, 8-4-4-4-12 hexadecimal digits of either case; `uuid` would read other forms too.
fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(index, byte)| match index {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

fn units(count: u64, unit: &str) -> String {
    if count == 1 { format!("{count} {unit}") } else { format!("{count} {unit}s") }
}

fn count(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

/// The value of a rule that is given.
fn given(rules: &DynamicMessage, name: &str) -> Option<Value> {
    rules.fields().find(|(rule, _)| rule.name() == name).map(|(_, value)| value.clone())
}

fn flag(rules: &DynamicMessage, name: &str) -> bool {
    given(rules, name).and_then(|value| value.as_bool()).unwrap_or(false)
}

fn size(rules: &DynamicMessage, name: &str) -> Option<u64> {
    given(rules, name).and_then(|value| value.as_u64())
}

fn number(rules: &DynamicMessage, name: &str) -> Option<i64> {
    given(rules, name).map(|value| integer(&value))
}

/// The number in a value of a field that holds an integer.
fn integer(value: &Value) -> i64 {
    value
        .as_i64()
        .or_else(|| value.as_i32().map(i64::from))
        .or_else(|| value.as_enum_number().map(i64::from))
        .unwrap_or_default()
}
