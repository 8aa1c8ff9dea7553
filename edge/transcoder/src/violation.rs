//! What is wrong with a request, and where.

/// A rule that a value in the request breaks. One word wide, because a `Result` of the codec is returned for every value.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Violation(Box<Inner>);

#[derive(Debug, PartialEq, Eq)]
struct Inner {
    /// Innermost first: it grows while the error travels outwards, so the good path pays nothing for it.
    path: Vec<String>,
    rule: String,
}

impl Violation {
    pub(crate) fn new(rule: impl Into<String>) -> Self {
        Self(Box::new(Inner { path: Vec::new(), rule: rule.into() }))
    }

    /// A violation of `field`, a path that needs no joining.
    pub(crate) fn at(field: &str, rule: impl Into<String>) -> Self {
        Self::new(rule).under(field)
    }

    /// The same violation, one level further out.
    pub(crate) fn under(mut self, segment: &str) -> Self {
        self.0.path.push(segment.to_owned());
        self
    }

    /// The same violation, inside element `index` of a list.
    pub(crate) fn under_index(mut self, index: usize) -> Self {
        self.0.path.push(format!("[{index}]"));
        self
    }

    /// The same violation, inside the map value of `key`.
    pub(crate) fn under_key(mut self, key: &str) -> Self {
        self.0.path.push(format!("[{key:?}]"));
        self
    }

    /// What the value should be, or what is wrong with it, without its name.
    pub(crate) fn rule(&self) -> &str {
        &self.0.rule
    }

    /// Whether the rule is `rule`, and no part of the value but the whole of it breaks it.
    pub(crate) fn is_of_the_value_itself(&self, rule: &str) -> bool {
        self.0.path.is_empty() && self.0.rule == rule
    }

    /// The path as `google.rpc.BadRequest` writes it: `guests[2].email`. Empty for the request as a whole.
    pub(crate) fn field(&self) -> String {
        let mut joined = String::new();
        for segment in self.0.path.iter().rev() {
            if !joined.is_empty() && !segment.starts_with('[') {
                joined.push('.');
            }
            joined.push_str(segment);
        }
        joined
    }
}
