//! The codec: JSON text to wire bytes and back, each in one pass over the tables.

pub(crate) mod encode;
pub(crate) mod escape;
pub(crate) mod lex;
mod merge;
pub(crate) mod number;
pub(crate) mod parse;
mod print;
mod scratch;
pub(crate) mod text;
mod wkt_in;
mod wkt_out;
