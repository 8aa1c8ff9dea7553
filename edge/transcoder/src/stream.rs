//! Server streams as NDJSON, as one JSON array, or as server-sent events.

use std::io::Write as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode};
use http_body::Frame;
use tokio::time::{Instant, Sleep};
use tonic::Code;

use crate::answer::{raw, reply};
use crate::body::BoxError;
use crate::error::Problem;
use crate::flush::FlushPause;
use crate::grpc::{LEFT, Messages, Next};
use crate::link::LinkEnd;
use crate::metadata::Naming;
use crate::route::rule::Route;
use crate::service::{Entry, Shared};
use crate::timed::{Timed, Timer};
use crate::upstream;

/// How the messages of a stream are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// One JSON text a line; an error is a line `{"error": status}`.
    Ndjson,
    /// One JSON array; after an error, its last element `{"error": status}`, the closing bracket is missing.
    Array,
    /// One event a message; after the last comes one of the type `end`, or after an error one of the type `error`.
    Events,
    /// The data of `google.api.HttpBody` messages; an error can only break it off.
    Raw,
}

impl Framing {
    /// In the order of preference when the client has none.
    pub(crate) const MEDIA_TYPES: [&'static str; 3] =
        ["application/x-ndjson", "application/json", "text/event-stream"];

    /// The framing of an index into [`Self::MEDIA_TYPES`].
    pub(crate) fn of(offer: usize) -> Self {
        match offer {
            1 => Self::Array,
            2 => Self::Events,
            _ => Self::Ndjson,
        }
    }
}

/// How much is printed before it is handed on, in bytes, when the upstream is faster than the client.
const BATCH_BYTES: usize = 32 << 10;

/// By which a client of events knows that there are no more. The HTML standard has it come back whenever a connection ends, and
/// only the client itself can close an `EventSource` for good.
const END_EVENT: &[u8] = b"event: end\ndata: {}\n\n";

/// How long a stream of events may be silent before a comment is sent, so that nobody on the way takes it for dead.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// The body of a streamed answer. It reads the upstream only when it is itself read, and dropping it ends the call.
pub(crate) struct JsonStream {
    shared: Arc<Shared>,
    /// Index of the route, which is behind `shared`.
    route: usize,
    framing: Framing,
    messages: Messages<Timed>,
    content_type: HeaderValue,
    /// What is printed and not yet handed on.
    ready: Vec<u8>,
    /// How many messages have been printed.
    count: u64,
    /// The id of the event before the first, of a stream of events.
    last_event_id: u64,
    /// Whether the client takes trailers.
    trailers: bool,
    /// To the request, when that is a stream: ends it with the answer.
    link: Option<LinkEnd>,
    deadline: Option<Instant>,
    /// Before the body fails, from when the error has been handed on.
    pause: FlushPause,
    /// Of a stream of events: when the next comment is due.
    heartbeat: Option<Pin<Box<Sleep>>>,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Not handed out yet: whoever makes it tells of what goes wrong.
    Unstarted,
    Open,
    /// All is printed; after it the body ends well.
    Ended,
    /// The error is printed; after it the body ends with an error.
    Broken,
    Done,
}

/// Why a body was broken off; the error itself was sent before.
#[derive(Debug, thiserror::Error)]
#[error("the stream was broken off")]
struct BrokenOff;

/// What a stream begins with.
pub(crate) struct Start {
    pub(crate) shared: Arc<Shared>,
    /// Index of the route, which is behind `shared`.
    pub(crate) route: usize,
    pub(crate) framing: Framing,
    pub(crate) last_event_id: Option<u64>,
    pub(crate) messages: Messages,
    pub(crate) deadline: Option<Instant>,
    pub(crate) trailers: bool,
    pub(crate) link: Option<LinkEnd>,
}

impl JsonStream {
    /// Begins with what the upstream sent first, if it has come. [`Framing::Raw`] has its content type from it.
    pub(crate) fn start(start: Start, first: Option<Next>) -> Result<Self, Box<Problem>> {
        let Start { shared, route, framing, last_event_id, messages, deadline, trailers, link } = start;
        let content_type = match framing {
            Framing::Ndjson => HeaderValue::from_static("application/x-ndjson"),
            Framing::Array => HeaderValue::from_static("application/json"),
            Framing::Events => HeaderValue::from_static("text/event-stream"),
            Framing::Raw => HeaderValue::from_static("application/octet-stream"),
        };
        let mut stream = Self {
            shared,
            route,
            framing,
            messages: messages.timed(Timer::at(deadline)),
            content_type,
            ready: Vec::new(),
            count: 0,
            last_event_id: last_event_id.unwrap_or(0),
            trailers,
            link,
            deadline,
            pause: FlushPause::default(),
            heartbeat: (framing == Framing::Events).then(|| Box::pin(tokio::time::sleep(HEARTBEAT))),
            state: State::Unstarted,
        };
        if framing == Framing::Array {
            stream.ready.push(b'[');
        }
        match first {
            None => {}
            Some(Next::Message(message)) => {
                if framing == Framing::Raw {
                    stream.content_type = raw(&stream.shared, stream.route(), &message)?.0;
                }
                stream.print(&message)?;
            }
            Some(Next::End) => {
                stream.end();
                return Ok(stream);
            }
        }
        stream.state = State::Open;
        Ok(stream)
    }

    /// Ends the call without a fault, when nobody asked for more than the head of the answer.
    pub(crate) fn leave_out(&mut self) {
        if self.state == State::Open {
            self.messages.body_mut().close();
            self.state = State::Done;
            self.shared.observe(Some(self.entry()), Code::Ok, StatusCode::OK, None);
        }
    }

    pub(crate) fn content_type(&self) -> HeaderValue {
        self.content_type.clone()
    }

    fn route(&self) -> &Route {
        &self.shared.routes[self.route]
    }

    fn entry(&self) -> &Entry {
        &self.shared.entries[self.route().method]
    }

    fn print(&mut self, message: &Bytes) -> Result<(), Box<Problem>> {
        let start = self.ready.len();
        let printed = self.print_framed(message);
        match printed {
            Ok(()) => self.count += 1,
            Err(_) => self.ready.truncate(start),
        }
        printed
    }

    fn print_framed(&mut self, message: &Bytes) -> Result<(), Box<Problem>> {
        let Self { shared, route, framing, ready, count, last_event_id, .. } = self;
        let route = &shared.routes[*route];
        match framing {
            Framing::Ndjson => {
                reply(shared, route, message, ready)?;
                ready.push(b'\n');
            }
            Framing::Array => {
                if *count > 0 {
                    ready.push(b',');
                }
                reply(shared, route, message, ready)?;
            }
            Framing::Events => {
                write!(ready, "id: {}\ndata: ", *last_event_id + *count + 1)
                    .expect("a Vec takes every write");
                // JSON as printed here has no line breaks, so one data line holds it.
                reply(shared, route, message, ready)?;
                ready.extend_from_slice(b"\n\n");
            }
            Framing::Raw => ready.extend_from_slice(&raw(shared, route, message)?.1),
        }
        Ok(())
    }

    fn end(&mut self) {
        match self.framing {
            Framing::Array => self.ready.push(b']'),
            Framing::Events => self.ready.extend_from_slice(END_EVENT),
            Framing::Ndjson | Framing::Raw => {}
        }
        self.state = State::Ended;
        self.shared.observe(Some(self.entry()), Code::Ok, StatusCode::OK, None);
    }

    fn fail(&mut self, problem: &mut Problem) {
        let Self { shared, framing, ready, count, .. } = self;
        problem.name_reason(&shared.error_domain);
        match framing {
            Framing::Ndjson => {
                ready.extend_from_slice(b"{\"error\":");
                problem.put_json(&shared.tables, ready);
                ready.extend_from_slice(b"}\n");
            }
            Framing::Array => {
                if *count > 0 {
                    ready.push(b',');
                }
                ready.extend_from_slice(b"{\"error\":");
                problem.put_json(&shared.tables, ready);
                ready.push(b'}');
            }
            Framing::Events => {
                ready.extend_from_slice(b"event: error\ndata: ");
                problem.put_json(&shared.tables, ready);
                ready.extend_from_slice(b"\n\n");
            }
            Framing::Raw => {}
        }
        self.link = None;
        self.messages.body_mut().close();
        self.state = State::Broken;
        self.shared.observe(Some(self.entry()), problem.code, StatusCode::OK, problem.cause.as_deref());
    }

    /// What the client may see of the upstream's trailers, as the last frame.
    fn last_frame(&self) -> Option<Frame<Bytes>> {
        let all = self.messages.trailers().filter(|_| self.trailers)?;
        let mut trailers = HeaderMap::new();
        upstream::answered(&self.shared, self.entry(), Naming::Prefixed, all, &mut trailers);
        (!trailers.is_empty()).then(|| Frame::trailers(trailers))
    }

    /// While the upstream is silent.
    fn beat(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(heartbeat) = &mut self.heartbeat else { return Poll::Pending };
        ready!(heartbeat.as_mut().poll(cx));
        heartbeat.as_mut().reset(Instant::now() + HEARTBEAT);
        self.ready.extend_from_slice(b":\n\n");
        Poll::Ready(())
    }

    fn request_problem(&self, cx: &mut Context<'_>) -> Option<Box<Problem>> {
        self.link.as_ref().and_then(|link| link.problem(cx))
    }

    /// Prints what the upstream has, at most a batch of it.
    fn advance(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // What has come before the deadline and was not asked for until now is too late, too.
        if self.deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            self.fail(&mut Problem::deadline_exceeded());
            return Poll::Ready(());
        }
        if let Some(mut problem) = self.request_problem(cx) {
            self.fail(&mut problem);
            return Poll::Ready(());
        }
        loop {
            let Poll::Ready(next) = self.messages.poll_next(cx) else { return self.beat(cx) };
            let printed = match next {
                Ok(Next::Message(message)) => self.print(&message),
                Ok(Next::End) => {
                    self.end();
                    return Poll::Ready(());
                }
                Err(_) if self.messages.body().is_late() => Err(Problem::deadline_exceeded()),
                Err(problem) => Err(upstream::at_deadline(problem, self.deadline)),
            };
            if let Some(heartbeat) = &mut self.heartbeat {
                heartbeat.as_mut().reset(Instant::now() + HEARTBEAT);
            }
            if let Err(problem) = printed {
                // What the upstream says of a request that broke off is not why it did.
                let mut problem = self.request_problem(cx).unwrap_or(problem);
                self.fail(&mut problem);
                return Poll::Ready(());
            }
            if self.ready.len() >= BATCH_BYTES || !self.messages.has_message() {
                return Poll::Ready(());
            }
        }
    }
}

impl http_body::Body for JsonStream {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        loop {
            if !self.ready.is_empty() {
                let printed = std::mem::take(&mut self.ready);
                return Poll::Ready(Some(Ok(Frame::data(Bytes::from(printed)))));
            }
            match self.state {
                State::Unstarted | State::Open => ready!(self.advance(cx)),
                State::Ended => {
                    self.state = State::Done;
                    self.link = None;
                    return Poll::Ready(self.last_frame().map(Ok));
                }
                State::Broken => {
                    ready!(self.pause.poll(cx));
                    self.state = State::Done;
                    return Poll::Ready(Some(Err(Box::new(BrokenOff))));
                }
                State::Done => return Poll::Ready(None),
            }
        }
    }
}

impl Drop for JsonStream {
    fn drop(&mut self) {
        if self.state == State::Open {
            let code = if self.messages.body().is_late() { Code::DeadlineExceeded } else { LEFT };
            self.shared.observe(Some(self.entry()), code, StatusCode::OK, None);
        }
    }
}
