//! Rules of numbers and of enum values.

use prost_reflect::{DynamicMessage, Kind};
use serde_json::{Value, json};

use super::{Narrow, flag, float, given, integer, list};
use crate::openapi::schema;

impl Narrow<'_> {
    pub(super) fn floats(&mut self, rules: &DynamicMessage) {
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
    pub(super) fn integers(&mut self, rules: &DynamicMessage, wide: bool) {
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

    pub(super) fn enumeration(&mut self, rules: &DynamicMessage) {
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
        let names: Vec<String> = schema::declared(descriptor)
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
}
