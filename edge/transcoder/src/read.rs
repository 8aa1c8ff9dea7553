//! Reading a request body within its limits.

use std::future::{Future as _, poll_fn};
use std::task::Poll;

use bytes::{Buf as _, Bytes};
use http::HeaderMap;
use http::header::CONTENT_LENGTH;
use http::request::Parts;
use tokio::time::Instant;

use crate::coding::Coding;
use crate::coding::decode::{self, Fault};
use crate::error::Problem;
use crate::gate::Admission;
use crate::pace::Pace;
use crate::service::Shared;

/// How much of a body is taken, and how long one waits for it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) bytes_max: usize,
    pub(crate) deadline: Option<Instant>,
    /// 0 for none.
    pub(crate) bytes_per_second_min: u32,
}

impl Limits {
    /// Those of a call.
    pub(crate) fn of(shared: &Shared, admission: &Admission, deadline: Option<Instant>) -> Self {
        let bytes_per_second_min = shared.settings.body_bytes_per_second_min;
        Self { bytes_max: admission.max_body_bytes, deadline, bytes_per_second_min }
    }
}

/// The whole body, decoded: the limit is for what comes and for what it decodes to.
///
/// # Errors
///
/// As [`body`], and 415 for a coding that is not taken.
pub(crate) async fn coded<B>(
    parts: &Parts,
    coded: B,
    limits: Limits,
    decodes: bool,
) -> Result<Bytes, Box<Problem>>
where
    B: http_body::Body + Send,
    B::Data: Send,
{
    let coding = Coding::of_request(&parts.headers, decodes)?;
    let bytes = body(&parts.headers, coded, limits).await?;
    let Some(coding) = coding else { return Ok(bytes) };
    decode::whole(coding, bytes, limits.bytes_max).map(Bytes::from).map_err(|fault| match fault {
        Fault::Miscoded => Problem::body_unreadable(),
        Fault::TooLarge => Problem::too_large(limits.bytes_max),
    })
}

/// Waits for the end of a body that must be empty. Of another, nothing is read when `Content-Length` tells of it, else its
/// first bytes.
///
/// # Errors
///
/// `refusal` when the body is not empty, else as [`body`].
pub(crate) async fn nothing<B>(
    headers: &HeaderMap,
    body: B,
    limits: Limits,
    refusal: impl Fn() -> Box<Problem>,
) -> Result<(), Box<Problem>>
where
    B: http_body::Body + Send,
    B::Data: Send,
{
    collect(headers, body, Limits { bytes_max: 0, ..limits }, refusal).await.map(drop)
}

/// The whole body.
///
/// # Errors
///
/// 413 when it is longer than the limit: before any of it is read (and thus before `100 Continue` is sent) when
/// `Content-Length` says so. 400 when it cannot be read, 408 when it comes too slowly, 504 at the deadline.
pub(crate) async fn body<B>(headers: &HeaderMap, body: B, limits: Limits) -> Result<Bytes, Box<Problem>>
where
    B: http_body::Body + Send,
    B::Data: Send,
{
    collect(headers, body, limits, || Problem::too_large(limits.bytes_max)).await
}

/// The whole body, or `too_long` when it is longer than the limit.
async fn collect<B>(
    headers: &HeaderMap,
    body: B,
    limits: Limits,
    too_long: impl Fn() -> Box<Problem>,
) -> Result<Bytes, Box<Problem>>
where
    B: http_body::Body + Send,
    B::Data: Send,
{
    if body.is_end_stream() {
        return Ok(Bytes::new());
    }
    let limit = limits.bytes_max;
    let declared: Option<u64> =
        headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()).and_then(|text| text.parse().ok());
    if declared.is_some_and(|length| length > crate::wire::wide(limit)) {
        return Err(too_long());
    }
    let mut body = std::pin::pin!(body);
    let mut pace = Pace::new(limits.bytes_per_second_min);
    let alarm = |pace: &Pace| [limits.deadline, pace.due()].into_iter().flatten().min();
    // One timer for both limits, and none is started for a body that has come already.
    let mut timer = std::pin::pin!(alarm(&pace).map(tokio::time::sleep_until));
    let mut first = Bytes::new();
    let mut rest: Vec<u8> = Vec::new();
    // Not asked for what comes behind the last byte of a known length: that would start the timer.
    while !body.is_end_stream() {
        let frame = poll_fn(|cx| {
            if let Poll::Ready(frame) = body.as_mut().poll_frame(cx) {
                return Poll::Ready(Ok(frame));
            }
            let Some(mut timer) = timer.as_mut().as_pin_mut() else { return Poll::Pending };
            while timer.as_mut().poll(cx).is_ready() {
                if limits.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                    return Poll::Ready(Err(Problem::deadline_exceeded()));
                }
                if !pace.keeps() {
                    return Poll::Ready(Err(Problem::body_too_slow(limits.bytes_per_second_min)));
                }
                let Some(next) = alarm(&pace) else { break };
                timer.as_mut().reset(next);
            }
            Poll::Pending
        })
        .await?;
        let Some(frame) = frame else { break };
        let frame = frame.map_err(|_| Problem::body_unreadable())?;
        let Ok(mut data) = frame.into_data() else { continue };
        let length = data.remaining();
        if first.len() + rest.len() + length > limit {
            return Err(too_long());
        }
        pace.received(length);
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
