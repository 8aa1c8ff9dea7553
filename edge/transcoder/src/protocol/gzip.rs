//! Decompression of single messages, bounded.

use bytes::Bytes;
use http::HeaderValue;

use crate::builder::Codings;
use crate::coding::Coding;
use crate::coding::decode::{self, Fault};
use crate::error::Problem;

/// How the compressed messages of a request are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compression {
    Identity,
    Gzip,
    /// In a way that is not read here; with the names of those that are.
    Unknown(&'static str),
}

impl Compression {
    /// By the value of the header that names it.
    pub(super) fn of(value: Option<&HeaderValue>, codings: Codings) -> Self {
        Self::named(value.map_or(b"", HeaderValue::as_bytes), codings)
    }

    /// By its name.
    pub(super) fn named(name: &[u8], codings: Codings) -> Self {
        match name {
            b"" | b"identity" => Self::Identity,
            b"gzip" if codings.requests => Self::Gzip,
            _ if codings.requests => Self::Unknown("gzip, identity"),
            _ => Self::Unknown("identity"),
        }
    }

    /// The content of a compressed message.
    ///
    /// # Errors
    ///
    /// When it is not what the header says, or larger than `limit` bytes.
    pub(super) fn decompress(self, message: Bytes, limit: usize) -> Result<Vec<u8>, Box<Problem>> {
        match self {
            Self::Gzip => {}
            Self::Identity => {
                return Err(Problem::bad_request("a message is compressed, but no header says how"));
            }
            Self::Unknown(known) => return Err(Problem::compression_unsupported(known)),
        }
        decode::whole(Coding::Gzip, message, limit).map_err(|fault| match fault {
            Fault::Miscoded => Problem::bad_request("a message is not what its compression says"),
            Fault::TooLarge => Problem::message_too_large(limit),
        })
    }
}
