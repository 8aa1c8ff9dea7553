//! Invariants: statements about what is stored that must hold, each checked by a query.

/// What checking one invariant found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Its short name, for example `l01`.
    pub invariant: &'static str,
    /// What it states.
    pub statement: &'static str,
    /// How many rows it looked at.
    pub examined: i64,
    /// How many of them break it.
    pub violations: i64,
    /// The first ten that do.
    pub offenders: Vec<String>,
}

impl Report {
    /// Whether nothing breaks the invariant.
    pub fn is_clean(&self) -> bool {
        self.violations == 0
    }
}
