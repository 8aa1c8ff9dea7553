//! Rules of strings and of bytes.

use prost_reflect::DynamicMessage;
use serde_json::{Value, json};

use super::{Narrow, flag, given, list, size, text};
use crate::openapi::pattern;

impl Narrow<'_> {
    pub(super) fn string(&mut self, rules: &DynamicMessage) {
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

    pub(super) fn bytes(&mut self, rules: &DynamicMessage) {
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
}
