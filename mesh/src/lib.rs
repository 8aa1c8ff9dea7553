//! The `mesh` crate.
