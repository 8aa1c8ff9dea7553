//! The requests' side of one connection: what every request is checked for, and what is known of it while it lasts.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::header::{CONNECTION, HOST};
use http::uri::Authority;
use http::{HeaderValue, Request, Response, Version};
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep, sleep_until};

use super::activity::Activity;
use super::answers::{Answer, Flight};
use super::handler::Handler;
use super::violation::Violation;
use super::{Limits, PeerAddr};
use crate::tls::Workload;

/// What serves the requests of one connection.
pub(super) struct Requests {
    pub(super) handler: Handler,
    pub(super) peer: PeerAddr,
    pub(super) workload: Option<Workload>,
    pub(super) activity: Arc<Activity>,
    pub(super) limits: Arc<Limits>,
    /// The listener is about to stop.
    pub(super) announced: Arc<AtomicBool>,
}

impl Requests {
    /// Serves one request.
    pub(super) fn serve(
        &self,
        request: Request<Incoming>,
    ) -> impl Future<Output = Result<Response<Answer>, std::convert::Infallible>> + Send + use<> {
        let flight = Flight::new(Arc::clone(&self.activity), self.limits.max_abandoned);
        let number = self.activity.begin();
        let http_1 = request.version() < Version::HTTP_2;
        let violation = self.activity.refusal(number).or_else(|| authority_violation(&request));
        let mut request = match violation {
            Some(violation) => stand_in(violation),
            None => request.map(|body| limited(body, &self.limits)),
        };
        request.extensions_mut().insert(self.peer);
        if let Some(workload) = &self.workload {
            request.extensions_mut().insert(workload.clone());
        }
        let handler = self.handler.clone();
        let answered_here = violation.filter(|_| !self.limits.app_answers_violations);
        let (announced, activity) = (Arc::clone(&self.announced), Arc::clone(&self.activity));
        async move {
            let flight = flight;
            activity.room().await;
            let answer = match answered_here {
                Some(violation) => bare(violation),
                None => handler.answer(request).await,
            };
            let mut answer = flight.answer(answer);
            let last = violation.is_some() || announced.load(Ordering::Relaxed) || activity.is_closing();
            if http_1 && last {
                answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok(answer)
        }
    }
}

/// A request that the service can be asked about without a byte of the client's.
fn stand_in(violation: Violation) -> Request<Body> {
    let mut request = Request::new(Body::empty());
    request.extensions_mut().insert(violation);
    request
}

fn bare(violation: Violation) -> Response<Body> {
    let mut answer = Response::new(Body::from(format!("{}\n", violation.rule())));
    *answer.status_mut() = violation.status();
    answer
}

/// Whom a request is for must be said once, in one way (RFC 9112, section 3.2; RFC 9113, section 8.3.1).
fn authority_violation<B>(request: &Request<B>) -> Option<Violation> {
    let mut hosts = request.headers().get_all(HOST).iter();
    let host = hosts.next()?;
    if hosts.next().is_some() {
        return Some(Violation::Malformed("`Host` must be sent once"));
    }
    let authority = Authority::try_from(host.as_bytes()).ok();
    let Some(authority) = authority.filter(|authority| !authority.as_str().contains('@')) else {
        // For a target without an authority it is empty (RFC 9112, section 3.2).
        return (!host.is_empty()).then_some(Violation::Malformed("`Host` must be a host and a port"));
    };
    request
        .uri()
        .authority()
        .is_some_and(|target| *target != authority)
        .then_some(Violation::Malformed("`Host` must be the authority of the request target"))
}

/// The body of a request; one whose length is known must come at a rate. A stream may take its time, within the time of its call.
fn limited(body: Incoming, limits: &Limits) -> Body {
    if body.is_end_stream() {
        // Which needs no memory.
        return Body::empty();
    }
    match body.size_hint().exact() {
        Some(length) if length > 0 && limits.min_body_rate > 0 => Body::new(Timed {
            body,
            rate: limits.min_body_rate,
            left: limits.handshake_timeout,
            waiting: None,
        }),
        Some(_) | None => Body::new(body),
    }
}

/// A body that must come at a rate.
struct Timed {
    body: Incoming,
    rate: u32,
    /// The time that may still be spent waiting. Every byte adds to it.
    left: Duration,
    waiting: Option<(Instant, Pin<Box<Sleep>>)>,
}

impl http_body::Body for Timed {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = &mut *self;
        match Pin::new(&mut this.body).poll_frame(cx) {
            Poll::Ready(frame) => {
                if let Some((since, _)) = this.waiting.take() {
                    this.left = this.left.saturating_sub(since.elapsed());
                }
                if let Some(data) = frame.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref()) {
                    let bytes = u32::try_from(data.len()).unwrap_or(u32::MAX);
                    this.left += Duration::from_secs(1) * bytes / this.rate;
                }
                Poll::Ready(frame.map(|frame| frame.map_err(axum::Error::new)))
            }
            Poll::Pending => {
                let (_, late) = this.waiting.get_or_insert_with(|| {
                    let now = Instant::now();
                    (now, Box::pin(sleep_until(now + this.left)))
                });
                ready!(late.as_mut().poll(cx));
                let error =
                    io::Error::new(io::ErrorKind::TimedOut, "the body of the request comes too slowly");
                Poll::Ready(Some(Err(axum::Error::new(error))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn violation(uri: &str, hosts: &[&str]) -> Option<&'static str> {
        let mut request = Request::get(uri);
        for host in hosts {
            request = request.header(HOST, *host);
        }
        authority_violation(&request.body(()).unwrap()).map(Violation::rule)
    }

    #[test]
    fn a_request_says_once_whom_it_is_for() {
        assert_eq!(violation("/", &["a.example:8080"]), None);
        assert_eq!(violation("/", &["[2001:db8::1]:80"]), None);
        assert_eq!(violation("/", &[""]), None);
        assert_eq!(violation("http://a.example/", &["A.example"]), None);
        assert_eq!(violation("http://a.example/", &[]), None, "HTTP/2 has `:authority` alone");
        assert!(violation("/", &["a", "a"]).unwrap().contains("once"));
        for host in ["a b", "a/b", "me@a", "a?b"] {
            assert!(violation("/", &[host]).unwrap().contains("a host and a port"), "{host}");
        }
        assert!(violation("http://a.example/", &["b.example"]).unwrap().contains("target"));
        assert!(violation("http://a.example/", &["a.example:8081"]).unwrap().contains("target"));
    }
}
