//! The `mesh` crate.

pub mod postgres;
