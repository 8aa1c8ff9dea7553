//! The `payments` crate.
