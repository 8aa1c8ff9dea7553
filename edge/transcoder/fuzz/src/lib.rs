//! What the fuzz targets check, as functions of the fuzzer's bytes: each panics where the transcoder and its reference differ.
//!
//! `tests/it` compiles the same files and runs them over the corpus in `corpus/`, and over random bytes, on every `make test`.
//! The references are `prost-reflect`, and where that is laxer or stricter than ProtoJSON, [`reference`] and [`printable`], which
//! say so case by case. Nothing else may differ.

pub mod headers;
pub mod json_in;
pub mod message;
pub mod paths;
pub mod printable;
pub mod random_descriptors;
pub mod reference;
pub mod round_trip;
pub mod schema;
pub mod subject;
pub mod tree;
pub mod upstream;
pub mod wire_in;
