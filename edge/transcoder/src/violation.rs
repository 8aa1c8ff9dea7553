//! What is wrong with a request, and where.

/// A rule that a value in the request breaks.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Violation {
    /// Innermost first: it grows while the error travels outwards, so the good path pays nothing for it.
    path: Vec<String>,
    pub(crate) rule: String,
}

/// Boxed, because a `Result` of the codec is returned for every value.
pub(crate) type Fault = Box<Violation>;

impl Violation {
    pub(crate) fn new(rule: impl Into<String>) -> Fault {
        Box::new(Self { path: Vec::new(), rule: rule.into() })
    }

    /// A violation of `field`, a path that needs no joining.
    pub(crate) fn at(field: &str, rule: impl Into<String>) -> Fault {
        Self::new(rule).under(field)
    }

    /// The same violation, one level further out.
    pub(crate) fn under(mut self: Box<Self>, segment: &str) -> Fault {
        self.path.push(segment.to_owned());
        self
    }

    /// The same violation, inside element `index` of a list.
    pub(crate) fn under_index(mut self: Box<Self>, index: usize) -> Fault {
        self.path.push(format!("[{index}]"));
        self
    }

    /// The same violation, inside the map value of `key`.
    pub(crate) fn under_key(mut self: Box<Self>, key: &str) -> Fault {
        self.path.push(format!("[{key:?}]"));
        self
    }

    /// The path as `google.rpc.BadRequest` writes it: `guests[2].email`. Empty for the request as a whole.
    pub(crate) fn field(&self) -> String {
        let mut joined = String::new();
        for segment in self.path.iter().rev() {
            if !joined.is_empty() && !segment.starts_with('[') {
                joined.push('.');
            }
            joined.push_str(segment);
        }
        joined
    }
}
