//! gRPC as the upstream speaks it: message frames, trailers, timeouts.
//!
//! Source: *gRPC over HTTP2*, the protocol specification.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use tonic::Code;

use crate::error::Problem;
use crate::timed::{Timed, Timer};

/// Flag and length in front of each message.
pub(crate) const PREFIX_LEN: usize = 5;

/// Writes the prefix of the message that `framed` holds behind the space for it.
pub(crate) fn finish_frame(framed: &mut [u8]) {
    let length = u32::try_from(framed.len() - PREFIX_LEN).expect("the body limit is below 4 GiB");
    framed[0] = 0;
    framed[1..PREFIX_LEN].copy_from_slice(&length.to_be_bytes());
}

/// What the upstream sends next.
pub(crate) enum Next {
    Message(Bytes),
    /// The call ended well.
    End,
}

/// The messages of an answer, one by one as they come.
pub(crate) struct Messages<B = tonic::body::Body> {
    body: B,
    /// The last frame of the body, as far as it is unread.
    chunk: Bytes,
    /// A message of which only a part has come.
    partial: BytesMut,
    message_bytes_max: usize,
    trailers: Option<HeaderMap>,
    /// Whether the trailers are the headers, of an answer without a body, which has its status there.
    trailers_only: bool,
}

impl Messages {
    /// Checks the head of the answer.
    pub(crate) fn new(
        response: Response<tonic::body::Body>,
        message_bytes_max: usize,
    ) -> Result<(HeaderMap, Self), Box<Problem>> {
        let (parts, body) = response.into_parts();
        let trailers_only = check_head(parts.status, &parts.headers)?;
        let trailers = trailers_only.then(|| parts.headers.clone());
        Ok((parts.headers, Self { trailers, trailers_only, ..Self::of(body, message_bytes_max) }))
    }

    /// The same messages, up to the deadline of `timer`.
    pub(crate) fn timed(self, timer: Timer) -> Messages<Timed> {
        Messages {
            body: Timed::new(self.body, timer),
            chunk: self.chunk,
            partial: self.partial,
            message_bytes_max: self.message_bytes_max,
            trailers: self.trailers,
            trailers_only: self.trailers_only,
        }
    }
}

impl<B> Messages<B>
where
    B: http_body::Body<Data = Bytes> + Unpin,
    B::Error: fmt::Display,
{
    /// The messages of a body whose head is known to be good.
    pub(crate) fn of(body: B, message_bytes_max: usize) -> Self {
        Self {
            body,
            chunk: Bytes::new(),
            partial: BytesMut::new(),
            message_bytes_max,
            trailers: None,
            trailers_only: false,
        }
    }

    pub(crate) fn body(&self) -> &B {
        &self.body
    }

    pub(crate) fn body_mut(&mut self) -> &mut B {
        &mut self.body
    }

    /// The trailers behind the body, once [`Next::End`] or an error has come. An answer without a body has none: all that it
    /// says is in its headers.
    pub(crate) fn trailers(&self) -> Option<&HeaderMap> {
        self.trailers.as_ref().filter(|_| !self.trailers_only)
    }

    /// Whether a whole message is at hand.
    pub(crate) fn has_message(&self) -> bool {
        self.partial.is_empty()
            && self.chunk.len() >= PREFIX_LEN
            && declared(&self.chunk).is_ok_and(|length| self.chunk.len() - PREFIX_LEN >= length)
    }

    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Next, Box<Problem>>> {
        loop {
            if let Some(message) = self.take()? {
                return Poll::Ready(Ok(Next::Message(message)));
            }
            if let Some(trailers) = &self.trailers {
                return Poll::Ready(match Problem::from_trailers(trailers)? {
                    Some(problem) => Err(problem),
                    None if self.partial.is_empty() => Ok(Next::End),
                    None => Err(Problem::bad_gateway("answer ends inside a message")),
                });
            }
            match std::task::ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.chunk = data,
                    Err(frame) => self.trailers = Some(frame.into_trailers().unwrap_or_default()),
                },
                Some(Err(error)) => {
                    let cause = format!("reading the answer: {error}");
                    return Poll::Ready(Err(Problem::upstream_unavailable(cause)));
                }
                None => {
                    // Without trailers nobody can tell a whole answer from a broken one.
                    return Poll::Ready(Err(Problem::bad_gateway("answer ends without a status")));
                }
            }
        }
    }

    pub(crate) async fn next(&mut self) -> Result<Next, Box<Problem>> {
        std::future::poll_fn(|cx| self.poll_next(cx)).await
    }

    /// The next message as far as it has come, without a copy when one frame holds it.
    fn take(&mut self) -> Result<Option<Bytes>, Box<Problem>> {
        if self.partial.is_empty() {
            if self.chunk.is_empty() {
                return Ok(None);
            }
            if self.chunk.len() >= PREFIX_LEN {
                let length = self.checked_length(&self.chunk)?;
                if self.chunk.len() - PREFIX_LEN >= length {
                    self.chunk.advance(PREFIX_LEN);
                    return Ok(Some(self.chunk.split_to(length)));
                }
                self.partial.reserve(PREFIX_LEN + length);
            }
            self.partial.extend_from_slice(&self.chunk);
            self.chunk.clear();
            return Ok(None);
        }
        if self.partial.len() < PREFIX_LEN {
            let missing = (PREFIX_LEN - self.partial.len()).min(self.chunk.len());
            self.partial.extend_from_slice(&self.chunk.split_to(missing));
            if self.partial.len() < PREFIX_LEN {
                return Ok(None);
            }
        }
        let whole = PREFIX_LEN + self.checked_length(&self.partial)?;
        let missing = (whole - self.partial.len()).min(self.chunk.len());
        self.partial.extend_from_slice(&self.chunk.split_to(missing));
        if self.partial.len() < whole {
            return Ok(None);
        }
        let mut message = std::mem::take(&mut self.partial).freeze();
        message.advance(PREFIX_LEN);
        Ok(Some(message))
    }

    fn checked_length(&self, prefix: &[u8]) -> Result<usize, Box<Problem>> {
        let length = declared(prefix).map_err(Problem::bad_gateway)?;
        if length > self.message_bytes_max {
            return Err(Problem::bad_gateway(format!("message of {length} bytes")));
        }
        Ok(length)
    }
}

/// Whether an answer is without a body and has its status in its headers.
///
/// A `grpc-status` says more than the status of HTTP, whichever that is: only without one the latter is all that there is.
///
/// # Errors
///
/// When its head is not one of gRPC.
///
/// Source: *HTTP to gRPC Status Code Mapping*. What it would tell a client of 401, 403 and 404, though, nobody said about the
/// client: they are the words of something between us and the upstream, and their meaning is that the upstream gave no answer.
pub(crate) fn check_head(status: StatusCode, headers: &HeaderMap) -> Result<bool, Box<Problem>> {
    let code = headers.get("grpc-status");
    if status != StatusCode::OK {
        // No failure of HTTP is a success of gRPC.
        let failed = |value: &HeaderValue| {
            let code = value.to_str().ok().and_then(|text| text.parse().ok());
            code.is_some_and(|code| Code::from_i32(code) != Code::Ok)
        };
        if code.is_some_and(failed) {
            return Ok(true);
        }
        let cause = format!("HTTP status {} from upstream", status.as_u16());
        return Err(match status {
            StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT => Problem::upstream_unavailable(cause),
            _ => Problem::bad_gateway(cause),
        });
    }
    let grpc = headers
        .get(http::header::CONTENT_TYPE)
        .and_then(|value| value.as_bytes().strip_prefix(b"application/grpc"))
        .is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')));
    if !grpc && code.is_none() {
        return Err(Problem::bad_gateway("content type is not application/grpc"));
    }
    Ok(code.is_some())
}

/// The length that a prefix declares.
fn declared(prefix: &[u8]) -> Result<usize, &'static str> {
    let [flag, a, b, c, d, ..] = *prefix else { return Err("short prefix") };
    if flag != 0 {
        // No encoding was offered, so none may be used.
        return Err("compressed message");
    }
    usize::try_from(u32::from_be_bytes([a, b, c, d])).map_err(|_| "message too large")
}

/// The value of a `grpc-timeout` header: at most eight digits and a unit.
pub(crate) fn parse_timeout(value: &HeaderValue) -> Option<Duration> {
    let text = value.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let amount: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(amount * 3600)),
        "M" => Some(Duration::from_secs(amount * 60)),
        "S" => Some(Duration::from_secs(amount)),
        "m" => Some(Duration::from_millis(amount)),
        "u" => Some(Duration::from_micros(amount)),
        "n" => Some(Duration::from_nanos(amount)),
        _ => None,
    }
}

/// The time that a client's `grpc-timeout` gives the call.
///
/// # Errors
///
/// 400 when it is malformed.
pub(crate) fn client_timeout(headers: &HeaderMap) -> Result<Option<Duration>, Box<Problem>> {
    let Some(value) = headers.get("grpc-timeout") else { return Ok(None) };
    let timeout = parse_timeout(value);
    let malformed = || Problem::bad_request("`grpc-timeout` must be at most 8 digits and a unit");
    timeout.map(Some).ok_or_else(malformed)
}

/// The header for a timeout, in the finest unit that holds it in eight digits, rounded down.
pub(crate) fn timeout_value(timeout: Duration) -> Option<HeaderValue> {
    const LIMIT: u64 = 100_000_000;
    let in_units = |units: u128| u64::try_from(units).ok().filter(|units| *units < LIMIT);
    let (amount, unit) = match (in_units(timeout.as_micros()), in_units(timeout.as_millis())) {
        (Some(micros), _) => (micros, b'u'),
        (None, Some(millis)) => (millis, b'm'),
        (None, None) => (timeout.as_secs().min(LIMIT - 1), b'S'),
    };
    let mut digits = itoa::Buffer::new();
    let digits = digits.format(amount).as_bytes();
    let mut text = BytesMut::with_capacity(digits.len() + 1);
    text.extend_from_slice(digits);
    text.extend_from_slice(&[unit]);
    HeaderValue::from_maybe_shared(text.freeze()).ok()
}

/// Whether a header of the host may go upstream: not what belongs to the connection or to gRPC itself.
pub(crate) fn forwardable(name: &str) -> bool {
    !name.starts_with("grpc-")
        && !name.starts_with("content-")
        && !matches!(
            name,
            "connection"
                | "host"
                | "keep-alive"
                | "proxy-connection"
                | "te"
                | "trailer"
                | "transfer-encoding"
                | "upgrade"
        )
}

/// The code that tells of a call that its caller left.
pub(crate) const LEFT: Code = Code::Cancelled;
