//! Decompression of single messages, bounded.

use std::io::Read as _;

use flate2::read::MultiGzDecoder;
use http::HeaderValue;

use crate::error::Problem;
use crate::wire::wide;

/// How the compressed messages of a request are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compression {
    Identity,
    Gzip,
    Unknown,
}

/// What [`Compression::of`] knows, for messages.
pub(super) const KNOWN: &str = "gzip, identity";

impl Compression {
    /// By the value of the header that names it.
    pub(super) fn of(value: Option<&HeaderValue>) -> Self {
        match value.map(HeaderValue::as_bytes) {
            None | Some(b"" | b"identity") => Self::Identity,
            Some(b"gzip") => Self::Gzip,
            Some(_) => Self::Unknown,
        }
    }

    /// The content of a compressed message.
    ///
    /// # Errors
    ///
    /// When it is not what the header says, or larger than `limit` bytes.
    pub(super) fn decompress(self, message: &[u8], limit: usize) -> Result<Vec<u8>, Box<Problem>> {
        match self {
            Self::Gzip => {}
            Self::Identity => {
                return Err(Problem::bad_request("a message is compressed, but no header says how"));
            }
            Self::Unknown => return Err(Problem::compression_unsupported(KNOWN)),
        }
        let mut content = Vec::new();
        // One byte more than allowed shows that there is more.
        let mut bounded = MultiGzDecoder::new(message).take(wide(limit) + 1);
        if bounded.read_to_end(&mut content).is_err() {
            return Err(Problem::bad_request("a message is not what its compression says"));
        }
        if content.len() > limit { Err(Problem::message_too_large(limit)) } else { Ok(content) }
    }
}
