//! The `jetway` crate.
