//! Channels to other services.
//!
//! A [`Channel`] is what a generated gRPC client is built on, and what the edge sends translated requests through. Around the connection it does, from
//! outside to inside: deadline, metadata of the [`Call`] that is being served, retries, choice of an endpoint.
//!
//! A call that gets no answer ends with a gRPC status like one that does: callers see one kind of failure.

mod body;
mod endpoint;

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderName, HeaderValue, Request, Response, Uri, request};
use proto::policy::{Idempotency, Method};
use secrecy::ExposeSecret;
use tokio::time::{Instant, sleep, timeout_at};
use tonic::Status;
use tonic::body::Body;
use tower::Service;

use crate::auth::DOMAIN;
use crate::call::Call;
use crate::status::Refusal;
use crate::timeout;
use crate::tls::{Identity, TlsError, Workload};

use self::body::{Payload, ResponseBody};
use self::endpoint::{Endpoint, Unsent};

/// The name of the request id in metadata.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The ceiling of methods that are not in the policy table, such as health checks.
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);

/// What is kept of the incoming deadline to answer with: the called service hears of the end first.
const DEADLINE_RESERVE: Duration = Duration::from_millis(5);

/// Attempts at one call, the first included (gRFC A6).
const ATTEMPTS_MAX: u32 = 3;

/// When a caller should come back to a service that is away.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The pause before the second attempt; doubled for the third, give or take a fifth.
const BACKOFF: Duration = Duration::from_millis(50);

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const PREVIOUS_ATTEMPTS: HeaderName = HeaderName::from_static("grpc-previous-rpc-attempts");

/// A service to call, and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    service: Workload,
    addresses: Vec<Authority>,
}

/// Why a [`Target`] is none.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// The service's name is malformed.
    #[error("malformed service name")]
    Service(#[source] TlsError),
    /// There is no address.
    #[error("no address")]
    Empty,
    /// An address is not `host:port`.
    #[error("address `{address}` is not host:port")]
    Address {
        /// The address, as given.
        address: String,
    },
}

impl Target {
    /// The service with this name in its certificate, at one or more `host:port`.
    ///
    /// # Errors
    ///
    /// The name is no service's, there is no address, or one is not `host:port`.
    pub fn parse<A: AsRef<str>>(
        service: &str,
        addresses: impl IntoIterator<Item = A>,
    ) -> Result<Self, TargetError> {
        let service = Workload::named(service).map_err(TargetError::Service)?;
        let addresses = addresses
            .into_iter()
            .map(|address| {
                let address = address.as_ref();
                match address.parse::<Authority>() {
                    Ok(authority) if authority.port_u16().is_some() && !address.contains('@') => {
                        Ok(authority)
                    }
                    Ok(_) | Err(_) => Err(TargetError::Address { address: address.to_owned() }),
                }
            })
            .collect::<Result<Vec<_>, _>>()?;
        if addresses.is_empty() { Err(TargetError::Empty) } else { Ok(Self { service, addresses }) }
    }

    /// The service that must answer there.
    pub fn service(&self) -> &Workload {
        &self.service
    }
}

/// Connections to one service. Clones share them.
#[derive(Clone)]
pub struct Channel {
    inner: Arc<Inner>,
    on_behalf_of_user: bool,
}

struct Inner {
    service: Workload,
    /// What requests name as their authority: the service, wherever it runs.
    authority: Authority,
    endpoints: Vec<Arc<Endpoint>>,
}

impl std::fmt::Debug for Channel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Channel").field("service", &self.inner.service).finish_non_exhaustive()
    }
}

impl Channel {
    /// A channel whose connections are opened by the first calls, and again whenever they are gone.
    ///
    /// The identity is asked for its certificate at each new connection.
    pub fn connect_lazy(target: &Target, identity: &Identity) -> Self {
        let service = target.service.clone();
        let endpoints = target
            .addresses
            .iter()
            .map(|address| Arc::new(Endpoint::new(address.clone(), service.clone(), identity.clone())))
            .collect();
        let authority = service.name().parse().expect("the name of a workload is a host name");
        Self { inner: Arc::new(Inner { service, authority, endpoints }), on_behalf_of_user: false }
    }

    /// The same connections, on which the access token of the user who is being served goes along, so that the call is the user's. Without this,
    /// every call is the service's own, by its certificate: a peer gets a user's token only where it is meant to.
    #[must_use]
    pub fn on_behalf_of_user(&self) -> Self {
        Self { inner: Arc::clone(&self.inner), on_behalf_of_user: true }
    }
}

impl Service<Request<Body>> for Channel {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let inner = Arc::clone(&self.inner);
        let mut call = Call::current();
        if !self.on_behalf_of_user
            && let Some(call) = &mut call
        {
            call.token = None;
        }
        Box::pin(async move { Ok(inner.call(request, call).await.unwrap_or_else(Status::into_http)) })
    }
}

impl Inner {
    async fn call(&self, request: Request<Body>, call: Option<Call>) -> Result<Response<Body>, Status> {
        let method = Method::of(request.uri().path());
        let mut limit = method.map_or(TIMEOUT_DEFAULT, |method| method.timeout);
        if let Some(asked) = timeout::of(request.headers()) {
            limit = limit.min(asked);
        }
        if let Some(call) = &call {
            limit = limit.min(call.remaining().saturating_sub(DEADLINE_RESERVE));
        }
        if limit.is_zero() {
            return Err(deadline_exceeded());
        }
        let deadline = Instant::now() + limit;

        let (mut parts, body) = request.into_parts();
        self.address(&mut parts)?;
        if let Some(call) = &call {
            describe(&mut parts, call);
        }
        match timeout_at(deadline, self.attempts(parts, body, method, deadline)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(deadline_exceeded()),
        }
    }

    /// Makes the request's address the service's own: generated clients leave it open.
    fn address(&self, parts: &mut request::Parts) -> Result<(), Status> {
        let path = parts.uri.path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/"));
        parts.uri = Uri::builder()
            .scheme(Scheme::HTTPS)
            .authority(self.authority.clone())
            .path_and_query(path)
            .build()
            .map_err(|_| unavailable(&self.service))?;
        parts.version = http::Version::HTTP_2;
        Ok(())
    }

    async fn attempts(
        &self,
        parts: request::Parts,
        body: Body,
        method: Option<&Method>,
        deadline: Instant,
    ) -> Result<Response<Body>, Status> {
        let repeatable = method.is_some_and(|method| {
            !method.client_streaming
                && matches!(method.idempotency, Idempotency::Idempotent | Idempotency::NoSideEffects)
        });
        let mut payload = if repeatable { Payload::buffered(body).await? } else { Payload::once(body) };
        // The first that was never written is sent again at once and counts as no attempt (gRFC A6, transparent retries).
        let mut transparent_left = true;
        let mut attempt = 0;
        let mut last: Option<Arc<Endpoint>> = None;
        loop {
            let endpoint = self.pick(last.as_ref());
            let failure = match self.attempt(&endpoint, &parts, &mut payload, attempt, deadline).await {
                Ok(response) => return Ok(response),
                Err(failure) => failure,
            };
            tracing::debug!(service = self.service.name(), path = parts.uri.path(), attempt, error = %failure, "attempt failed");
            last = Some(endpoint);

            if transparent_left && matches!(failure, Failure::Unsent(_)) && payload.is_whole() {
                transparent_left = false;
                continue;
            }
            attempt += 1;
            if attempt == ATTEMPTS_MAX || !payload.repeats() {
                return self.give_up(failure);
            }
            sleep((BACKOFF * 2_u32.pow(attempt - 1)).mul_f64(rand::random_range(0.8..=1.2))).await;
        }
    }

    async fn attempt(
        &self,
        endpoint: &Endpoint,
        parts: &request::Parts,
        payload: &mut Payload,
        attempt: u32,
        deadline: Instant,
    ) -> Result<Response<Body>, Failure> {
        let in_flight = endpoint.enter();
        let mut connection = endpoint.connection().await.map_err(Failure::Unsent)?;

        let Some(body) = payload.take() else { return Err(Failure::Unsent(Unsent::without_body())) };
        let mut request = Request::from_parts(parts.clone(), body);
        timeout::set(request.headers_mut(), deadline.saturating_duration_since(Instant::now()));
        if attempt > 0 {
            request.headers_mut().insert(PREVIOUS_ATTEMPTS, HeaderValue::from(attempt));
        }
        match connection.try_send_request(request).await {
            Ok(response) => {
                let response = response.map(|body| {
                    Body::new(ResponseBody::new(body, deadline, in_flight, self.service.clone()))
                });
                if refused_unavailable(&response) { Err(Failure::Refused(response)) } else { Ok(response) }
            }
            Err(mut error) => match error.take_message() {
                Some(request) => {
                    payload.give_back(request.into_body());
                    Err(Failure::Unsent(error.into_error().into()))
                }
                None => Err(Failure::Lost(error.into_error())),
            },
        }
    }

    fn give_up(&self, failure: Failure) -> Result<Response<Body>, Status> {
        if let Failure::Refused(response) = failure {
            return Ok(response);
        }
        tracing::warn!(service = self.service.name(), error = %failure, "service unavailable");
        Err(unavailable(&self.service))
    }

    /// The less busy of two endpoints drawn at random, from those that work as far as is known, and not the one that has just failed.
    fn pick(&self, last: Option<&Arc<Endpoint>>) -> Arc<Endpoint> {
        let other = |endpoint: &&Arc<Endpoint>| last.is_none_or(|last| !Arc::ptr_eq(last, endpoint));
        let now = Instant::now();
        let mut candidates: Vec<_> =
            self.endpoints.iter().filter(other).filter(|endpoint| !endpoint.avoided(now)).collect();
        if candidates.is_empty() {
            candidates = self.endpoints.iter().filter(other).collect();
        }
        if candidates.is_empty() {
            candidates = self.endpoints.iter().collect();
        }
        let first = rand::random_range(0..candidates.len());
        let step = if candidates.len() > 1 { rand::random_range(1..candidates.len()) } else { 0 };
        let second = (first + step) % candidates.len();
        let (first, second) = (candidates[first], candidates[second]);
        Arc::clone(if second.in_flight() < first.in_flight() { second } else { first })
    }
}

/// Why an attempt brought no answer that ends the call.
enum Failure {
    /// Nothing of the request was written.
    Unsent(Unsent),
    /// The connection broke while the answer was waited for: the service may have done the work.
    Lost(hyper::Error),
    /// The service answered UNAVAILABLE and nothing else.
    Refused(Response<Body>),
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unsent(unsent) => write!(f, "{unsent}"),
            Self::Lost(error) => {
                write!(f, "{error}")?;
                let mut cause = std::error::Error::source(error);
                while let Some(error) = cause {
                    write!(f, ": {error}")?;
                    cause = error.source();
                }
                Ok(())
            }
            Self::Refused(_) => f.write_str("the service answered UNAVAILABLE"),
        }
    }
}

/// A status without a message before it travels in the header, and only then may the call be repeated.
fn refused_unavailable(response: &Response<Body>) -> bool {
    response.headers().get(GRPC_STATUS).is_some_and(|code| code == "14")
}

/// Says whose call it is.
fn describe(parts: &mut request::Parts, call: &Call) {
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

fn deadline_exceeded() -> Status {
    Refusal::DeadlineExceeded.status(DOMAIN, "DEADLINE_EXCEEDED", "deadline exceeded")
}

fn unavailable(service: &Workload) -> Status {
    // Neither address nor cause: where services run is nobody's business outside of the logs.
    Refusal::Unavailable { retry_after: RETRY_AFTER }.status(
        DOMAIN,
        "SERVICE_UNAVAILABLE",
        format!("{service} unavailable"),
    )
}
