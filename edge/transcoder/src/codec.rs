//! The codec by itself, for the fuzz targets and the benches. No part of the stable interface.

use std::sync::Arc;

use prost_reflect::DescriptorPool;

use crate::builder::BuildError;
pub use crate::editions::pool;
use crate::json::DEPTH_MAX_DEFAULT;
use crate::json::encode::{self, EncodeOptions};
use crate::json::parse::{self, ParseOptions};
use crate::table::Tables;

/// The tables of a descriptor set, with the settings that a `Builder` has by default.
#[derive(Clone, Debug)]
pub struct Codec {
    tables: Arc<Tables>,
    parse: ParseOptions,
    encode: EncodeOptions,
}

/// A message type of a [`Codec`].
#[derive(Clone, Copy, Debug)]
pub struct MessageType(usize);

impl Codec {
    /// Compiles the messages of `pool`.
    ///
    /// # Errors
    ///
    /// As `Builder::build` has for the descriptor set.
    pub fn new(pool: &DescriptorPool) -> Result<Self, BuildError> {
        let tables = Arc::new(Tables::compile(&[pool], false));
        let parse =
            ParseOptions { ignore_unknown: false, keep_defaults: false, depth_max: DEPTH_MAX_DEFAULT };
        Ok(Self { tables, parse, encode: EncodeOptions::default() })
    }

    /// Discards unknown fields and unknown names of enum values.
    #[must_use]
    pub fn ignore_unknown_fields(mut self, yes: bool) -> Self {
        self.parse.ignore_unknown = yes;
        self
    }

    /// Prints fields without presence even when they hold their default.
    #[must_use]
    pub fn always_print_primitive_fields(mut self, yes: bool) -> Self {
        self.encode.always_print = yes;
        self
    }

    /// The type of this full name.
    pub fn message_type(&self, full_name: &str) -> Option<MessageType> {
        self.tables.find(full_name).map(MessageType)
    }

    /// Appends the wire bytes of the JSON `text` of one message to `out`.
    ///
    /// # Errors
    ///
    /// The field and the rule that it breaks.
    pub fn json_to_wire(&self, message: MessageType, text: &str, out: &mut Vec<u8>) -> Result<(), String> {
        parse::message(&self.tables, message.0, text, out, self.parse)
            .map_err(|fault| format!("{}: {}", fault.field(), fault.rule()))
    }

    /// Appends the JSON of the message that `wire` is to `out`.
    ///
    /// # Errors
    ///
    /// Why `wire` is no message of the type, or one that JSON cannot say.
    pub fn wire_to_json(
        &self,
        message: MessageType,
        wire: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), &'static str> {
        encode::message(&self.tables, message.0, wire, out, self.encode).map_err(|malformed| malformed.0)
    }
}
