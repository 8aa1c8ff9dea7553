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

/// How many objects and arrays of a JSON text may be open at once, read or printed, unless somebody says otherwise.
pub(crate) const DEPTH_MAX_DEFAULT: usize = 100;
