//! The long way of a call: with a deadline, and again where it may be repeated (gRFC A6).

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::uri::PathAndQuery;
use http::{HeaderName, HeaderValue, Request, Response, Uri, request};
use proto::policy::{Idempotency, Method};
use secrecy::ExposeSecret;
use tokio::time::{Instant, sleep, timeout_at};
use tonic::Status;
use tonic::body::Body;

use crate::call::Call;
use crate::timeout;

use super::body::{Payload, ResponseBody};
use super::connection::{Flight, Place, unprocessed};
use super::{Inner, REQUEST_ID, busy, deadline_exceeded, unavailable};

/// The ceiling of methods that are not in the policy table, such as health checks.
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);

/// What is kept of the incoming deadline to answer with: the called service hears of the end first.
const DEADLINE_RESERVE: Duration = Duration::from_millis(5);

/// Attempts at one call, the first included (gRFC A6).
const ATTEMPTS_MAX: u32 = 3;

/// The pause before the second attempt; doubled for the third, give or take a fifth.
const BACKOFF: Duration = Duration::from_millis(50);

/// How many connections may turn out to be going away before a call is given up: when a service restarts, all of them are.
const STALE_MAX: u32 = 16;

/// How long a call waits at most for a place on a connection when each has as many calls as its peer takes. Half of the time that the call has left,
/// when that is less: what waits longer has no time for the work.
const PLACE_TIMEOUT: Duration = Duration::from_secs(2);

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const PREVIOUS_ATTEMPTS: HeaderName = HeaderName::from_static("grpc-previous-rpc-attempts");

/// A request, to be sent as often as it takes.
pub(crate) struct Outgoing {
    pub(crate) parts: request::Parts,
    pub(crate) payload: Payload,
}

impl Outgoing {
    /// The head for one attempt.
    pub(crate) fn head(&self) -> Request<()> {
        let mut head = Request::new(());
        self.parts.method.clone_into(head.method_mut());
        self.parts.uri.clone_into(head.uri_mut());
        *head.version_mut() = http::Version::HTTP_2;
        self.parts.headers.clone_into(head.headers_mut());
        head
    }
}

/// An attempt that brought no answer that ends the call.
pub(crate) struct Failed {
    pub(crate) failure: Failure,
    /// Where it was made.
    pub(crate) at: Option<SocketAddr>,
}

/// Why an attempt brought no answer that ends the call.
pub(crate) enum Failure {
    /// There is no connection.
    Unsent(io::Error),
    /// Every connection has as many calls as it takes, and had for as long as the call could wait.
    Full,
    /// The connection takes no more calls.
    Stale(h2::Error),
    /// The connection broke while the answer was waited for: the service may have done the work.
    Lost(h2::Error),
    /// The service answered UNAVAILABLE and nothing else.
    Refused(Response<Body>),
}

impl Failure {
    /// Of a request that was sent.
    pub(crate) fn of_flight(error: h2::Error) -> Self {
        if unprocessed(&error) { Self::Stale(error) } else { Self::Lost(error) }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unsent(error) => write!(f, "not sent: {error}"),
            Self::Full => f.write_str("every connection has as many calls as it takes"),
            Self::Stale(error) => write!(f, "not taken: {error}"),
            Self::Lost(error) => write!(f, "{error}"),
            Self::Refused(_) => f.write_str("the service answered UNAVAILABLE"),
        }
    }
}

impl Inner {
    /// Makes the request's address the service's own: generated clients leave it open.
    pub(crate) fn address(&self, parts: &mut request::Parts) {
        let mut uri = std::mem::take(&mut parts.uri).into_parts();
        uri.scheme = Some(self.scheme.clone());
        uri.authority = Some(self.authority.clone());
        uri.path_and_query.get_or_insert(PathAndQuery::from_static("/"));
        parts.uri = Uri::from_parts(uri).expect("scheme, authority and path make an address");
    }

    /// A call whose deadline is the channel's to keep.
    pub(crate) async fn within_deadline(
        self: Arc<Self>,
        parts: request::Parts,
        body: Body,
        call: Option<Call>,
    ) -> Result<Response<Body>, Status> {
        let method = self.method(&parts);
        let mut limit = method.map_or(TIMEOUT_DEFAULT, |method| method.timeout);
        if let Some(asked) = timeout::of(&parts.headers) {
            limit = limit.min(asked);
        }
        if let Some(call) = &call {
            limit = limit.min(call.remaining().saturating_sub(DEADLINE_RESERVE));
        }
        if limit.is_zero() {
            return Err(deadline_exceeded());
        }
        let deadline = Instant::now() + limit;
        let work = async {
            let payload =
                if repeatable(method) { Payload::buffered(body).await? } else { Payload::at_hand(body)? };
            self.attempts(Outgoing { parts, payload }, Some(deadline), None).await
        };
        timeout_at(deadline, work).await.unwrap_or_else(|_| Err(deadline_exceeded()))
    }

    fn method(&self, parts: &request::Parts) -> Option<&'static Method> {
        if self.options.of_contract { Method::of(parts.uri.path()) } else { None }
    }

    /// As many attempts as it takes and the method allows, after one that failed, if one did.
    pub(crate) async fn attempts(
        self: Arc<Self>,
        mut outgoing: Outgoing,
        deadline: Option<Instant>,
        mut first: Option<Failed>,
    ) -> Result<Response<Body>, Status> {
        let repeatable = repeatable(self.method(&outgoing.parts));
        // The first that found no connection is made again at once and counts as no attempt, and so do those that were never looked at (gRFC A6,
        // transparent retries).
        let mut transparent_left = true;
        let mut stale_left = STALE_MAX;
        let mut attempt = 0;
        let mut last = None;
        loop {
            let Failed { failure, at } = match first.take() {
                Some(failed) => failed,
                None => match self.attempt(&mut outgoing, last, attempt, deadline).await {
                    Ok(response) => return Ok(response),
                    Err(failed) => failed,
                },
            };
            tracing::debug!(service = &*self.service, path = outgoing.parts.uri.path(), attempt, error = %failure, "attempt failed");
            match &failure {
                Failure::Unsent(_) if transparent_left => {
                    transparent_left = false;
                    last = at;
                    continue;
                }
                // Nothing is wrong with the address: there is a new connection to it, or can be.
                Failure::Stale(_) if stale_left > 0 && outgoing.payload.is_whole() => {
                    stale_left -= 1;
                    continue;
                }
                // Whoever has waited for so long has waited for all three attempts.
                Failure::Full => return self.give_up(failure),
                Failure::Unsent(_) | Failure::Stale(_) | Failure::Lost(_) | Failure::Refused(_) => {}
            }
            last = at;
            attempt += 1;
            if attempt == ATTEMPTS_MAX || !repeatable || !outgoing.payload.repeats() {
                return self.give_up(failure);
            }
            sleep((BACKOFF * 2_u32.pow(attempt - 1)).mul_f64(rand::random_range(0.8..=1.2))).await;
        }
    }

    async fn attempt(
        &self,
        outgoing: &mut Outgoing,
        last: Option<SocketAddr>,
        attempt: u32,
        deadline: Option<Instant>,
    ) -> Result<Response<Body>, Failed> {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let left = left.or_else(|| timeout::of(&outgoing.parts.headers));
        let (address, place) = self.place(last, left).await?;
        let at = Some(address);
        let mut head = outgoing.head();
        if let Some(deadline) = deadline {
            timeout::set(head.headers_mut(), deadline.saturating_duration_since(Instant::now()));
        }
        if attempt > 0 {
            head.headers_mut().insert(PREVIOUS_ATTEMPTS, HeaderValue::from(attempt));
        }
        let sent = place.send(head, &mut outgoing.payload);
        let mut flight: Flight = sent.map_err(|error| Failed { failure: Failure::Stale(error), at })?;
        let answered = std::future::poll_fn(|cx| flight.poll(cx)).await;
        let response = answered.map_err(|error| Failed { failure: Failure::of_flight(error), at })?;
        let response =
            response.map(|download| Body::new(ResponseBody::new(download, deadline, &self.service)));
        if is_unavailable(&response) {
            Err(Failed { failure: Failure::Refused(response), at })
        } else {
            Ok(response)
        }
    }

    /// A place for a call that has so much time `left`: at once where there is one, else when one becomes free in time.
    async fn place(
        &self,
        last: Option<SocketAddr>,
        left: Option<Duration>,
    ) -> Result<(SocketAddr, Place), Failed> {
        if let Some(found) = self.find_place(last).await? {
            return Ok(found);
        }
        let until = Instant::now() + left.map_or(PLACE_TIMEOUT, |left| PLACE_TIMEOUT.min(left / 2));
        let waiting = self.pool.room.wait();
        loop {
            let mut freed = pin!(waiting.freed());
            freed.as_mut().enable();
            if let Some(found) = self.find_place(last).await? {
                return Ok(found);
            }
            timeout_at(until, freed).await.map_err(|_| Failed { failure: Failure::Full, at: None })?;
        }
    }

    async fn find_place(&self, last: Option<SocketAddr>) -> Result<Option<(SocketAddr, Place)>, Failed> {
        let unsent = |at| move |error| Failed { failure: Failure::Unsent(error), at };
        let slot = self.pool.slot(last).await.map_err(unsent(None))?;
        let connection = self.pool.connection(&slot).await.map_err(unsent(Some(slot.address)))?;
        Ok(connection.place().map(|place| (slot.address, place)))
    }

    fn give_up(&self, failure: Failure) -> Result<Response<Body>, Status> {
        let reason = failure.to_string();
        let status = match failure {
            Failure::Refused(response) => return Ok(response),
            Failure::Full => busy(&self.service),
            Failure::Unsent(_) | Failure::Stale(_) | Failure::Lost(_) => unavailable(&self.service),
        };
        tracing::warn!(service = &*self.service, error = reason, "service unavailable");
        Err(status)
    }
}

/// Whether the contract says that twice is the same as once.
fn repeatable(method: Option<&Method>) -> bool {
    method.is_some_and(|method| {
        !method.client_streaming
            && matches!(method.idempotency, Idempotency::Idempotent | Idempotency::NoSideEffects)
    })
}

/// A status without a message before it travels in the header, and only then may the call be repeated.
pub(crate) fn is_unavailable(response: &Response<Body>) -> bool {
    response.headers().get(GRPC_STATUS).is_some_and(|code| code == "14")
}

/// Says whose call it is.
pub(crate) fn describe(parts: &mut request::Parts, call: &Call) {
    for (name, value) in [(REQUEST_ID, &call.request_id), (TRACEPARENT, &call.traceparent)] {
        if let Ok(value) = HeaderValue::from_str(value) {
            parts.headers.insert(name, value);
        }
    }
    if let Some(token) = &call.token
        && !parts.headers.contains_key(http::header::AUTHORIZATION)
        && let Ok(mut value) = HeaderValue::from_str(&format!("Bearer {}", token.expose_secret()))
    {
        value.set_sensitive(true);
        parts.headers.insert(http::header::AUTHORIZATION, value);
    }
}
