//! Invariants: statements about what is stored that must hold, each checked by a query.

use diesel::{
    QueryableByName,
    sql_types::{Array, BigInt, Text},
};

/// What checking one invariant found. May be read straight from a query with columns of these names.
#[derive(Clone, Debug, PartialEq, Eq, QueryableByName)]
pub struct Report {
    /// Its short name, for example `l01`.
    #[diesel(sql_type = Text)]
    pub invariant: String,
    /// What it states.
    #[diesel(sql_type = Text)]
    pub statement: String,
    /// How many rows it looked at.
    #[diesel(sql_type = BigInt)]
    pub examined: i64,
    /// How many of them break it.
    #[diesel(sql_type = BigInt)]
    pub violations: i64,
    /// The first ten that do.
    #[diesel(sql_type = Array<Text>)]
    pub offenders: Vec<String>,
}

impl Report {
    /// Whether nothing breaks the invariant.
    pub fn is_clean(&self) -> bool {
        self.violations == 0
    }
}
