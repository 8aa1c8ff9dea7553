//! The ids of server-sent events, by which a client that lost its connection asks for the rest.
//!
//! Events are numbered from 1. A client that comes back with `Last-Event-ID` has the header passed upstream as metadata
//! `last-event-id`: the upstream knows what comes after it. Where the header is a number, the ids go on from it, so that ids
//! stay unique over all connections of one client and count its events, provided that the upstream goes on where it left
//! off. Any other id is passed on as well; the ids then begin at 1.
//!
//! Source: the HTML standard, section *Server-sent events*.

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::error::Problem;

/// The header of the client, and the metadata of the upstream.
pub(crate) const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// The longest id that is taken, in bytes.
const ID_BYTES_MAX: usize = 256;

/// The largest number that JavaScript counts exactly.
const NUMBER_MAX: u64 = (1 << 53) - 1;

/// The id of the last event that the client saw; `None` without one.
///
/// # Errors
///
/// 400 when it cannot be passed on: longer than 256 bytes, sent twice, or of other characters than visible ASCII and spaces,
/// as gRPC metadata has them.
pub(crate) fn last_event_id(headers: &HeaderMap) -> Result<Option<&HeaderValue>, Box<Problem>> {
    let mut values = headers.get_all(LAST_EVENT_ID).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Problem::bad_request("the header `Last-Event-ID` must be sent once"));
    }
    let plain = value.as_bytes().iter().all(|byte| (b' '..=b'~').contains(byte));
    if !plain || value.len() > ID_BYTES_MAX {
        let message =
            "the header `Last-Event-ID` must have at most 256 bytes, all of them visible ASCII or spaces";
        return Err(Problem::bad_request(message));
    }
    Ok(Some(value).filter(|value| !value.is_empty()))
}

/// The number that an id is, if it is one that was given out here.
pub(crate) fn number(id: &HeaderValue) -> Option<u64> {
    let text = id.to_str().ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))?;
    text.parse().ok().filter(|number| *number <= NUMBER_MAX && !text.starts_with('0'))
}
