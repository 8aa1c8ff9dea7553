//! The `acquirer` crate.
