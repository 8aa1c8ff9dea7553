//! Methods that take a stream: the request body becomes gRPC messages while it comes.
//!
//! The body is NDJSON or one JSON array, or bytes of any kind where the message (or the body's field) is a
//! `google.api.HttpBody`. What the path, the query and the host bind is part of every message, as it would be of a unary
//! one; a rule without a body makes one message of it. The upstream reads the body: nothing is read before it asks, and at
//! most one message is held. The body limit is for each message, not for all of them.
//!
//! The answer is that of a unary call, or a stream in any framing. It may begin before the request has ended, over HTTP/2
//! and over HTTP/1.1.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use ::http_body::Frame;
use bytes::{Buf, Bytes};
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{HeaderMap, Response};
use http_body_util::Full;

use crate::accept;
use crate::answer::{self, Ask};
use crate::bind::Bound;
use crate::body::{Body, poll_data};
use crate::coding::Coding;
use crate::coding::decode::Decoded;
use crate::error::Problem;
use crate::gate::Admission;
use crate::grpc::PREFIX_LEN;
use crate::http_body;
use crate::items::{Fault, Form, Splitter};
use crate::link::Link;
use crate::pace::MessagePace;
use crate::read::{self, Limits};
use crate::request::{self, Payload};
use crate::route::rule::BodyRule;
use crate::service::{Place, Shared};
use crate::upstream;
use crate::violation::Violation;

/// How much is handed to the upstream at once when the client is faster than the upstream, in bytes.
const BATCH_BYTES: usize = 32 << 10;

/// Calls the method of `ask` with the messages of `body`.
pub(crate) async fn call<B>(
    ask: Ask<'_>,
    body: B,
    admission: Admission,
    answered: &mut HeaderMap,
) -> Result<Response<Body>, Box<Problem>>
where
    B: ::http_body::Body + Send + 'static,
    B::Data: Send,
{
    let Ask { shared, place, parts, deadline, .. } = ask;
    if place.route.body == BodyRule::None {
        let limits = Limits::of(shared, &admission, deadline);
        let bound = request::bind(shared, place, parts, &admission.fields)
            .map_err(|fault| Problem::violation(&fault))?;
        read::nothing(&parts.headers, body, limits, || Problem::bad_request(request::NO_BODY)).await?;
        let message = request::frame(shared, place.route, parts, &[], &bound)
            .map_err(|fault| Problem::violation(&fault))?;
        let inspected = &message[PREFIX_LEN..];
        upstream::admit_message(shared, place.entry, parts, &admission, inspected).await?;
        let message = tonic::body::Body::new(Full::new(Bytes::from(message)));
        let response = upstream::call(place.entry, admission.metadata, deadline, message).await?;
        return answer::give(ask, response, None, answered).await;
    }
    let form = form(shared, place, parts, body.is_end_stream())?;
    // What is bound from elsewhere is checked before anything is sent, even if no message ever comes.
    let bound =
        request::bind(shared, place, parts, &admission.fields).map_err(|fault| Problem::violation(&fault))?;
    let (link, end) = Link::new();
    let body = match Coding::of_request(&parts.headers, shared.settings.codings.requests)? {
        None => tonic::body::Body::new(Upload::new(&ask, &admission, form, bound, Arc::clone(&link), body)),
        Some(coding) => {
            let body = Decoded::new(coding, body, admission.max_body_bytes)
                .map_err(|_| Problem::body_unreadable())?;
            tonic::body::Body::new(Upload::new(&ask, &admission, form, bound, Arc::clone(&link), body))
        }
    };
    let entry = place.entry;
    let work = async {
        let response = upstream::call(entry, admission.metadata, deadline, body).await?;
        answer::give(ask, response, Some(end), answered).await
    };
    link.watch(work).await
}

fn form(shared: &Shared, place: &Place<'_>, parts: &Parts, empty: bool) -> Result<Form, Box<Problem>> {
    if request::takes_raw(shared, place.route) {
        http_body::content_type(&parts.headers)
            .map_err(|rule| Problem::bad_request(&format!("the header `Content-Type` {rule}")))?;
        return Ok(Form::Raw);
    }
    if accept::is(&parts.headers, "application/x-ndjson") || empty {
        return Ok(Form::Lines);
    }
    if accept::is_json(&parts.headers) { Ok(Form::Array) } else { Err(Problem::not_a_stream()) }
}

/// A request body on its way upstream, as gRPC frames.
struct Upload<B> {
    shared: Arc<Shared>,
    /// Index of the route, which is behind `shared`.
    rule: usize,
    /// The request's method and content type.
    parts: Parts,
    /// What is part of every message.
    bound: Bound,
    body: Pin<Box<B>>,
    splitter: Splitter,
    link: Arc<Link>,
    limit: usize,
    /// How many messages have been made.
    count: usize,
    pace: MessagePace,
    state: State,
}

enum State {
    Open,
    /// The client has sent all.
    Ended,
    /// To be told when the messages before it are sent.
    Failed(Box<Problem>),
    Done,
}

/// Why the messages end; the answer says more.
#[derive(Debug, thiserror::Error)]
#[error("the request was broken off")]
struct BrokenOff;

impl<B> Upload<B> {
    fn new(ask: &Ask<'_>, admission: &Admission, form: Form, bound: Bound, link: Arc<Link>, body: B) -> Self {
        let (mut parts, ()) = http::Request::new(()).into_parts();
        parts.method = ask.parts.method.clone();
        if let Some(value) = ask.parts.headers.get(CONTENT_TYPE) {
            parts.headers.insert(CONTENT_TYPE, value.clone());
        }
        Self {
            shared: Arc::clone(ask.shared),
            rule: ask.place.rule,
            parts,
            bound,
            body: Box::pin(body),
            splitter: Splitter::new(form, admission.max_body_bytes),
            link,
            limit: admission.max_body_bytes,
            count: 0,
            pace: MessagePace::new(ask.shared.settings.body_bytes_per_second_min),
            state: State::Open,
        }
    }

    /// Appends the message that `item` is.
    fn put(&mut self, item: &[u8], out: &mut Vec<u8>) -> Result<(), Box<Problem>> {
        let route = &self.shared.routes[self.rule];
        let payload = Payload::Item { data: item, first: self.count == 0 };
        request::append(&self.shared, route, &self.parts, payload, &self.bound, out)
            .map_err(|fault| Problem::violation(&fault.under_index(self.count)))?;
        self.count += 1;
        Ok(())
    }

    fn problem(&self, fault: Fault) -> Box<Problem> {
        match fault {
            Fault::TooLarge => Problem::item_too_large(self.count, self.limit),
            Fault::Syntax(rule) => Problem::violation(&Violation::new(rule).under_index(self.count)),
        }
    }

    /// The messages that have come whole, at most a batch of them.
    fn collect(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        while out.len() < BATCH_BYTES {
            let found = match self.state {
                State::Open => self.splitter.next(),
                State::Ended => self.splitter.finish(),
                State::Failed(_) | State::Done => break,
            };
            let put = match found {
                Ok(Some(item)) => self.put(&item, &mut out),
                Ok(None) => {
                    if matches!(self.state, State::Ended) {
                        self.state = State::Done;
                    }
                    break;
                }
                Err(fault) => Err(self.problem(fault)),
            };
            match put {
                Err(problem) => self.state = State::Failed(problem),
                Ok(()) if matches!(self.state, State::Ended) => self.state = State::Done,
                Ok(()) => {}
            }
        }
        out
    }
}

impl<B> ::http_body::Body for Upload<B>
where
    B: ::http_body::Body + Send + 'static,
    B::Data: Buf,
{
    type Data = Bytes;
    type Error = crate::body::BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = &mut *self;
        if this.link.is_over(cx) {
            return Poll::Ready(Some(Err(Box::new(BrokenOff))));
        }
        this.pace.resume();
        loop {
            let out = this.collect();
            if !out.is_empty() {
                this.pace.hold();
                return Poll::Ready(Some(Ok(Frame::data(Bytes::from(out)))));
            }
            match std::mem::replace(&mut this.state, State::Done) {
                State::Done => return Poll::Ready(None),
                State::Failed(problem) => {
                    this.link.fail(problem);
                    return Poll::Ready(Some(Err(Box::new(BrokenOff))));
                }
                open @ (State::Open | State::Ended) => this.state = open,
            }
            match poll_data(this.body.as_mut(), cx) {
                Poll::Ready(Some(Ok(data))) => {
                    this.pace.received(data.len());
                    this.splitter.push(data);
                }
                Poll::Ready(Some(Err(_))) => this.state = State::Failed(Problem::body_unreadable()),
                Poll::Ready(None) => this.state = State::Ended,
                Poll::Pending => {
                    if !this.pace.dawdles(cx, this.splitter.inside()) {
                        return Poll::Pending;
                    }
                    let least = this.shared.settings.body_bytes_per_second_min;
                    this.state = State::Failed(Problem::body_too_slow(least));
                }
            }
        }
    }
}
