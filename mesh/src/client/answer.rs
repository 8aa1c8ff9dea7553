//! The short way of a call: written at once on an open connection, answered without a task or a timer of its own.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::{Request, Response, request};
use tonic::Status;
use tonic::body::Body;

use crate::call::Call;

use super::Inner;
use super::attempts::{Failed, Failure, Outgoing, describe, is_unavailable};
use super::body::{Payload, ResponseBody};
use super::connection::Flight;

/// The answer of a [`super::Channel`], still to come. Dropping it cancels the call.
pub struct Answer(State);

#[expect(clippy::large_enum_variant, reason = "the large one is the usual one, and is moved once")]
enum State {
    Sent(Sent),
    /// The long way: [`super::attempts`].
    Attempts(Pin<Box<dyn Future<Output = Result<Response<Body>, Status>> + Send>>),
    Done(Option<Status>),
}

struct Sent {
    channel: Arc<Inner>,
    flight: Flight,
    at: SocketAddr,
    /// What to send again when it has to be.
    outgoing: Option<Outgoing>,
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Answer").finish_non_exhaustive()
    }
}

impl Answer {
    pub(crate) fn to(channel: &Arc<Inner>, request: Request<Body>, call: Option<Call>) -> Self {
        let (mut parts, body) = request.into_parts();
        channel.address(&mut parts);
        if let Some(call) = &call {
            describe(&mut parts, call);
        }
        if !channel.options.deadline_is_callers {
            return Self(State::Attempts(Box::pin(Arc::clone(channel).within_deadline(parts, body, call))));
        }
        match Payload::at_hand(body) {
            Ok(payload) => Self(State::send(channel, parts, payload)),
            Err(status) => Self(State::Done(Some(status))),
        }
    }
}

impl State {
    fn send(channel: &Arc<Inner>, parts: request::Parts, payload: Payload) -> Self {
        let mut outgoing = Outgoing { parts, payload };
        let failed = match channel.pool.ready() {
            None => None,
            Some((at, place)) => {
                let head = outgoing.head();
                match place.send(head, &mut outgoing.payload) {
                    Ok(flight) => {
                        let channel = Arc::clone(channel);
                        return Self::Sent(Sent { channel, flight, at, outgoing: Some(outgoing) });
                    }
                    Err(error) => Some(Failed { failure: Failure::Stale(error), at: Some(at) }),
                }
            }
        };
        Self::again(channel, outgoing, failed)
    }

    fn again(channel: &Arc<Inner>, outgoing: Outgoing, failed: Option<Failed>) -> Self {
        Self::Attempts(Box::pin(Arc::clone(channel).attempts(outgoing, None, failed)))
    }
}

impl Future for Answer {
    type Output = Result<Response<Body>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            let next = match &mut self.0 {
                State::Done(status) => {
                    let status = status.take().unwrap_or_else(|| Status::from_error("polled again".into()));
                    return Poll::Ready(Ok(status.into_http()));
                }
                State::Attempts(attempts) => {
                    let outcome = ready!(attempts.as_mut().poll(cx));
                    return Poll::Ready(Ok(outcome.unwrap_or_else(Status::into_http)));
                }
                State::Sent(sent) => {
                    let Sent { channel, flight, at, outgoing } = sent;
                    let failure = match ready!(flight.poll(cx)) {
                        Ok(response) => {
                            let response = response.map(|download| {
                                Body::new(ResponseBody::new(download, None, &channel.service))
                            });
                            if !is_unavailable(&response) {
                                return Poll::Ready(Ok(response));
                            }
                            Failure::Refused(response)
                        }
                        Err(error) => Failure::of_flight(error),
                    };
                    let failed = Failed { failure, at: Some(*at) };
                    match outgoing.take() {
                        Some(outgoing) => State::again(channel, outgoing, Some(failed)),
                        None => State::Done(None),
                    }
                }
            };
            self.0 = next;
        }
    }
}
