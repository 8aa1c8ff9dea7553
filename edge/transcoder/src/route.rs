//! From an HTTP method and path to a rule.

pub(crate) mod matcher;
pub(crate) mod rule;
pub(crate) mod template;
