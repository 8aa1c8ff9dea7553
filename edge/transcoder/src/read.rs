//! Reading a request body within its limit.

use bytes::{Buf as _, Bytes};
use http::header::CONTENT_LENGTH;
use http::request::Parts;
use http_body_util::BodyExt as _;

use crate::error::Problem;

/// The whole body.
///
/// # Errors
///
/// 413 when it is longer than `limit` bytes, 400 when it cannot be read.
pub(crate) async fn body<B>(parts: &Parts, body: B, limit: usize) -> Result<Bytes, Box<Problem>>
where
    B: http_body::Body + Send,
    B::Data: Send,
{
    let declared: Option<u64> = parts
        .headers
        .get(CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok())
        .and_then(|text| text.parse().ok());
    if declared.is_some_and(|length| length > crate::wire::wide(limit)) {
        return Err(Problem::too_large(limit));
    }
    let mut body = std::pin::pin!(body);
    let mut first = Bytes::new();
    let mut rest: Vec<u8> = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Problem::body_unreadable())?;
        let Ok(mut data) = frame.into_data() else { continue };
        let length = data.remaining();
        if first.len() + rest.len() + length > limit {
            return Err(Problem::too_large(limit));
        }
        if first.is_empty() && rest.is_empty() {
            // The usual body comes in one frame and is not copied.
            first = data.copy_to_bytes(length);
            continue;
        }
        if rest.is_empty() {
            rest.extend_from_slice(&first);
            first = Bytes::new();
        }
        while data.has_remaining() {
            let piece = data.chunk();
            let taken = piece.len();
            rest.extend_from_slice(piece);
            data.advance(taken);
        }
    }
    Ok(if rest.is_empty() { first } else { Bytes::from(rest) })
}
