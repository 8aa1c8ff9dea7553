//! Requests that are refused before they are read.

use http::StatusCode;

/// Why a request could not be read. In the extensions of the request that stands for it, of which nothing else is the client's.
///
/// After the answer the connection ends, because nobody can say where the next request would begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Violation {
    /// The request line is longer than a whole header may be.
    TargetTooLong,
    /// The header is larger than [`super::Limits::max_header_list_bytes`].
    HeaderTooLarge,
    /// The header took longer than [`super::Limits::header_read_timeout`].
    HeaderTimeout,
    /// `Transfer-Encoding` is something else than `chunked`.
    TransferEncodingUnknown,
    /// The header breaks a rule that two readers of it might see differently.
    Malformed(&'static str),
}

impl Violation {
    /// The status of the answer.
    pub fn status(self) -> StatusCode {
        match self {
            Self::TargetTooLong => StatusCode::URI_TOO_LONG,
            Self::HeaderTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::HeaderTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::TransferEncodingUnknown => StatusCode::NOT_IMPLEMENTED,
            Self::Malformed(_) => StatusCode::BAD_REQUEST,
        }
    }

    /// The broken rule, a sentence without its full stop.
    pub fn rule(self) -> &'static str {
        match self {
            Self::TargetTooLong => "the request line is too long",
            Self::HeaderTooLarge => "the header of the request is too large",
            Self::HeaderTimeout => "the header of the request took too long",
            Self::TransferEncodingUnknown => "`Transfer-Encoding` must be `chunked`",
            Self::Malformed(rule) => rule,
        }
    }
}
