//! The `jetway` crate.

pub mod schedule;
