//! The `transcoder` crate.
