//! One line of log for each request, written at its end: for a stream, when it is over, with what truly became of it.
//!
//! A line says who asked for what and how it went. It never holds a query, a header but for the `User-Agent`, a path that has the value of a field
//! marked `debug_redact` in it, or either of them with what looks like a secret: see [`secrets`]. Lines are put together by hand and handed to the log's own thread in one piece: this is on the way of every request.
//!
//! The transcoder tells the gate how each call ended, but not which request it was. It does so while the request's future or body is polled or
//! dropped, so what belongs to the request is in a task-local variable meanwhile: see [`Notes::of_current`].

mod secrets;

use std::{
    cell::RefCell,
    io::Write as _,
    net::IpAddr,
    pin::Pin,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use axum::{
    body::{Body, Bytes, HttpBody},
    extract::Request,
};
use http::{
    HeaderValue, Method, Response, StatusCode, Uri, Version,
    header::{CONTENT_LENGTH, USER_AGENT},
};
use http_body::{Frame, SizeHint};
use jiff::Timestamp;
use mesh::{clock::Clock, telemetry};
use metrics::{Counter, Gauge};
use tonic::Code;
use transcoder::BoxError;
use uuid::{Uuid, fmt::Hyphenated};

use crate::{limiter::Decision, routes::Content, served::Served};

/// How much of a `User-Agent` is logged, in bytes.
const AGENT_LENGTH_MAX: usize = 128;

/// How much of a path is logged, in bytes.
const PATH_LENGTH_MAX: usize = 256;

/// The answers that are logged only when they are errors: probes come every few seconds.
const PROBES: [&str; 2] = ["/healthz", "/readyz"];

tokio::task_local! {
    static CURRENT: Arc<Notes>;
}

/// What is found out about a request on its way.
#[derive(Default)]
pub(crate) struct Notes {
    decision: Mutex<Option<Decision>>,
    user: OnceLock<Uuid>,
    served: OnceLock<Arc<Served>>,
    code: OnceLock<Code>,
    bytes_in: AtomicU64,
}

impl Notes {
    /// The notes of the request that is being worked on.
    pub(crate) fn of_current() -> Option<Arc<Self>> {
        CURRENT.try_with(Arc::clone).ok()
    }

    /// What the limiter said last.
    pub(crate) fn decision(&self) -> Option<Decision> {
        *self.decision.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what the limiter said: the nearest limit counts.
    pub(crate) fn decided(&self, decision: Decision) {
        let mut noted = self.decision.lock().unwrap_or_else(PoisonError::into_inner);
        *noted = Some(decision.nearer(*noted));
    }

    /// Notes who is signed in.
    pub(crate) fn signed_in(&self, user: Uuid) {
        // A request has one user: the first is as good as any.
        let _ = self.user.set(user);
    }

    /// Notes the method that the request is for.
    pub(crate) fn routed(&self, served: Arc<Served>) {
        let _ = self.served.set(served);
    }

    /// The method that the request is for.
    pub(crate) fn served(&self) -> Option<&Arc<Served>> {
        self.served.get()
    }

    /// Notes how the call ended.
    pub(crate) fn ended(&self, code: Code) {
        let _ = self.code.set(code);
    }
}

/// What all records share.
pub(crate) struct Meters {
    in_flight: Gauge,
    /// By status, from 100.
    responses: Vec<OnceLock<Counter>>,
    other: Served,
}

impl Default for Meters {
    fn default() -> Self {
        Self {
            in_flight: metrics::gauge!("edge_requests_in_flight"),
            responses: (100..600).map(|_| OnceLock::new()).collect(),
            other: Served::other(),
        }
    }
}

impl Meters {
    fn count(&self, status: StatusCode) {
        let slot = usize::from(status.as_u16()).checked_sub(100).and_then(|index| self.responses.get(index));
        let counter = slot.map(|slot| {
            slot.get_or_init(
                || metrics::counter!("edge_responses_total", "status" => status.as_str().to_owned()),
            )
        });
        if let Some(counter) = counter {
            counter.increment(1);
        }
    }
}

/// One request from its head to its end. Dropping it is the end, and writes the line.
pub(crate) struct Record {
    meters: Arc<Meters>,
    pub(crate) notes: Arc<Notes>,
    started: Instant,
    method: Method,
    uri: Uri,
    version: Version,
    agent: Option<HeaderValue>,
    address: IpAddr,
    request_id: HeaderValue,
    /// `None` when the client left before there was one.
    status: Option<StatusCode>,
    bytes_out: u64,
    /// Whether the whole answer was sent.
    complete: bool,
}

impl Record {
    /// Begins with a request, and counts its body as it is read.
    pub(crate) fn begin(
        meters: &Arc<Meters>,
        request: Request,
        address: IpAddr,
        request_id: &HeaderValue,
    ) -> (Self, Request) {
        let headers = request.headers();
        let notes = Arc::new(Notes::default());
        let record = Self {
            meters: Arc::clone(meters),
            notes: Arc::clone(&notes),
            started: Instant::now(),
            method: request.method().clone(),
            uri: request.uri().clone(),
            version: request.version(),
            agent: headers.get(USER_AGENT).cloned(),
            address,
            request_id: request_id.clone(),
            status: None,
            bytes_out: 0,
            complete: false,
        };
        meters.in_flight.increment(1.0);
        let declared = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        let request = match declared {
            Some(length) => {
                notes.bytes_in.store(length, Ordering::Relaxed);
                request
            }
            None if request.body().is_end_stream() => request,
            None => request.map(|body| Body::new(CountedBody { body, notes })),
        };
        (record, request)
    }

    /// The record ends with the answer's body.
    pub(crate) fn answer(mut self, response: Response<Content>) -> Response<Body> {
        self.status = Some(response.status());
        response.map(|body| Body::new(RecordedBody { record: self, body: Some(body) }))
    }

    /// The status of the answer. Of a request whose client left before there was one: 499, which is also what `CANCELLED` is in HTTP.
    fn told(&self) -> StatusCode {
        self.status.unwrap_or_else(|| StatusCode::from_u16(499).expect("a status has three digits"))
    }

    fn code(&self) -> Option<Code> {
        let gone = self.status.is_none() || !self.complete;
        self.notes.code.get().copied().or_else(|| gone.then_some(Code::Cancelled))
    }

    /// Appends the line, with its end.
    fn write(&self, line: &mut Vec<u8>, elapsed: Duration) {
        let served = self.notes.served();
        line.extend_from_slice(b"{\"timestamp\":\"");
        put_time(line, Clock::system_now());
        line.extend_from_slice(b"\",\"level\":\"INFO\",\"target\":\"");
        line.extend_from_slice(TARGET.as_bytes());
        line.extend_from_slice(b"\",\"message\":\"request\",\"method\":");
        put_text(line, self.method.as_str());
        if let Some(served) = served {
            line.extend_from_slice(b",\"rpc\":");
            put_text(line, &served.rpc);
        }
        let path = self.uri.path();
        if served.is_none_or(|served| served.shows_path) && !secrets::holds_any(path.as_bytes()) {
            line.extend_from_slice(b",\"path\":");
            put_text(line, cut(path, PATH_LENGTH_MAX));
        }
        line.extend_from_slice(b",\"status\":");
        line.extend_from_slice(self.told().as_str().as_bytes());
        if let Some(code) = self.code() {
            line.extend_from_slice(b",\"code\":\"");
            line.extend_from_slice(name(code).as_bytes());
            line.push(b'"');
        }
        if !self.complete {
            line.extend_from_slice(b",\"cut_off\":true");
        }
        let micros = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX);
        line.extend_from_slice(b",\"elapsed_ms\":");
        put_number(line, micros / 1000);
        line.push(b'.');
        put_padded(line, micros % 1000, 3);
        line.extend_from_slice(b",\"bytes_in\":");
        put_number(line, self.notes.bytes_in.load(Ordering::Relaxed));
        line.extend_from_slice(b",\"bytes_out\":");
        put_number(line, self.bytes_out);
        put(line, format_args!(",\"address\":\"{}\"", self.address));
        // The id is of letters, digits and three signs: see `answer::request_id`.
        line.extend_from_slice(b",\"request_id\":\"");
        line.extend_from_slice(self.request_id.as_bytes());
        line.push(b'"');
        if let Some(user) = self.notes.user.get() {
            line.extend_from_slice(b",\"user\":\"");
            line.extend_from_slice(user.hyphenated().encode_lower(&mut [0; Hyphenated::LENGTH]).as_bytes());
            line.push(b'"');
        }
        if let Some(agent) = self.agent.as_ref().filter(|agent| !secrets::holds_any(agent.as_bytes())) {
            line.extend_from_slice(b",\"user_agent\":");
            put_text(line, cut(&String::from_utf8_lossy(agent.as_bytes()), AGENT_LENGTH_MAX));
        }
        if let Some(refused) = self.notes.decision().filter(|decision| !decision.allowed) {
            put(line, format_args!(",\"limited\":\"{}\"", refused.lane.name()));
        }
        line.extend_from_slice(b",\"protocol\":\"");
        line.extend_from_slice(protocol(self.version).as_bytes());
        line.extend_from_slice(b"\"}\n");
    }
}

/// The name that the log's filter knows these lines by.
const TARGET: &str = "edge::access";

thread_local! {
    /// Where lines are put together, so that none needs memory of its own.
    static LINE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

impl Drop for Record {
    fn drop(&mut self) {
        self.meters.in_flight.decrement(1.0);
        self.meters.count(self.told());
        let served = self.notes.served().map_or(&self.meters.other, |served| &**served);
        let elapsed = self.started.elapsed();
        served.duration.record(elapsed.as_secs_f64());
        let is_quiet = PROBES.contains(&self.uri.path()) && self.status == Some(StatusCode::OK);
        if is_quiet || !tracing::enabled!(target: TARGET, tracing::Level::INFO) {
            return;
        }
        LINE.with_borrow_mut(|line| {
            line.clear();
            self.write(line, elapsed);
            telemetry::log_line(line);
        });
    }
}

thread_local! {
    /// A second since 1970, and how it is written: most lines are of the same second as the line before.
    static SECOND: RefCell<(i64, String)> = const { RefCell::new((i64::MIN, String::new())) };
}

/// Appends a time as RFC 3339 has it, with microseconds.
fn put_time(line: &mut Vec<u8>, at: Timestamp) {
    SECOND.with_borrow_mut(|(second, text)| {
        if *second != at.as_second() {
            *second = at.as_second();
            *text = at.strftime("%Y-%m-%dT%H:%M:%S.").to_string();
        }
        line.extend_from_slice(text.as_bytes());
    });
    put_padded(line, u64::try_from(at.subsec_microsecond()).unwrap_or(0), 6);
    line.push(b'Z');
}

/// Appends a number in decimal digits.
fn put_number(line: &mut Vec<u8>, number: u64) {
    line.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// Appends a number with zeros in front, in so many digits at least.
fn put_padded(line: &mut Vec<u8>, number: u64, digits: usize) {
    let mut buffer = itoa::Buffer::new();
    let text = buffer.format(number);
    line.extend(std::iter::repeat_n(b'0', digits.saturating_sub(text.len())));
    line.extend_from_slice(text.as_bytes());
}

/// The name of a version of HTTP.
fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_09 => "HTTP/0.9",
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_11 => "HTTP/1.1",
        Version::HTTP_2 => "HTTP/2.0",
        _ => "HTTP/3.0",
    }
}

fn put(line: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    line.write_fmt(text).expect("a Vec takes every write");
}

/// Appends a JSON string.
fn put_text(line: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(line, text).expect("a Vec takes every write");
}

/// The beginning of a text, of `length` bytes at most.
fn cut(text: &str, length: usize) -> &str {
    &text[..text.floor_char_boundary(length)]
}

/// The name of a code, as gRPC has it.
fn name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

/// Works on a request with its notes at hand.
pub(crate) async fn noted<T>(notes: Arc<Notes>, work: impl Future<Output = T>) -> T {
    CURRENT.scope(notes, work).await
}

/// A request's body whose length nobody declared.
struct CountedBody {
    body: Body,
    notes: Arc<Notes>,
}

impl HttpBody for CountedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if let Some(data) = frame.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref()) {
            self.notes.bytes_in.fetch_add(length(data), Ordering::Relaxed);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// An answer's body, and the record that ends with it.
struct RecordedBody {
    record: Record,
    /// `None` only while it is dropped.
    body: Option<Content>,
}

impl HttpBody for RecordedBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let Self { record, body } = &mut *self;
        let Some(body) = body else { return Poll::Ready(None) };
        let notes = Arc::clone(&record.notes);
        let frame = ready!(CURRENT.sync_scope(notes, || Pin::new(body).poll_frame(cx)));
        match &frame {
            Some(Ok(frame)) => record.bytes_out += frame.data_ref().map_or(0, length),
            Some(Err(_)) => {}
            None => record.complete = true,
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(SizeHint::default, HttpBody::size_hint)
    }
}

impl Drop for RecordedBody {
    fn drop(&mut self) {
        self.record.complete |= self.is_end_stream();
        let body = self.body.take();
        // A stream that is cut off says so when it is dropped.
        CURRENT.sync_scope(Arc::clone(&self.record.notes), || drop(body));
    }
}

fn length(data: &Bytes) -> u64 {
    u64::try_from(data.len()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
