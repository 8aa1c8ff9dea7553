//! Channels to other services.
//!
//! A [`Channel`] is what a generated gRPC client is built on, and what the edge sends translated requests through. Around the connection it does, from
//! outside to inside: deadline, metadata of the [`Call`] that is being served, retries, choice of a connection.
//!
//! A call whose caller keeps its deadline and whose message is at hand takes a short way: it is written at once by whoever makes it, with no task, no
//! timer and no copy. Whatever goes wrong there is put right on the long way.
//!
//! A call that gets no answer ends with a gRPC status like one that does: callers see one kind of failure.

mod answer;
mod attempts;
mod body;
mod connection;
mod pool;
mod room;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::uri::{Authority, Scheme};
use http::{HeaderName, Request, Response};
use rustls_pki_types::ServerName;
use tonic::Status;
use tonic::body::Body;
use tower::Service;

use crate::auth::DOMAIN;
use crate::call::Call;
use crate::status::Refusal;
use crate::tls::{Identity, TlsClient, TlsError, Workload};

pub use self::answer::Answer;

use self::pool::Pool;

/// The name of the request id in metadata.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// When a caller should come back to a service that is away.
const RETRY_AFTER: Duration = Duration::from_secs(1);

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
        Ok(Self { service, addresses: authorities(addresses)? })
    }

    /// The service that must answer there.
    pub fn service(&self) -> &Workload {
        &self.service
    }
}

/// Reads addresses, `host:port` each.
///
/// # Errors
///
/// There is none, or one is not `host:port`.
pub fn authorities<A: AsRef<str>>(
    addresses: impl IntoIterator<Item = A>,
) -> Result<Vec<Authority>, TargetError> {
    let addresses = addresses
        .into_iter()
        .map(|address| {
            let address = address.as_ref();
            match address.parse::<Authority>() {
                Ok(authority) if authority.port_u16().is_some() && !address.contains('@') => Ok(authority),
                Ok(_) | Err(_) => Err(TargetError::Address { address: address.to_owned() }),
            }
        })
        .collect::<Result<Vec<_>, _>>()?;
    if addresses.is_empty() { Err(TargetError::Empty) } else { Ok(addresses) }
}

/// How a connection is secured.
#[derive(Clone, Debug)]
pub enum Security {
    /// Not at all: HTTP/2 with prior knowledge in clear text.
    Clear,
    /// TLS as everywhere: the server's certificate has its name.
    Tls {
        /// Whom to trust and what to show.
        client: TlsClient,
        /// The name in the server's certificate.
        server_name: ServerName<'static>,
    },
    /// Mutual TLS between workloads of the platform.
    Mesh {
        /// The own certificate.
        identity: Identity,
        /// The service that must answer.
        service: Workload,
    },
}

/// How a [`Channel`] treats its calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Connections to each address. More than one keeps calls going when a connection breaks, and many streams from waiting for each other.
    pub connections: usize,
    /// The caller gives calls up in time by dropping them, and sends `grpc-timeout` where it wants to. Without this the channel does both.
    pub deadline_is_callers: bool,
    /// The service's methods are of the contract: those that may be repeated are.
    pub of_contract: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { connections: 1, deadline_is_callers: false, of_contract: true }
    }
}

/// One connection of a [`Channel`], as it is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionState {
    /// Where it goes.
    pub address: SocketAddr,
    /// Whether it is open.
    pub open: bool,
    /// Calls that are in flight on it.
    pub in_flight: usize,
}

/// Connections to one service. Clones share them.
#[derive(Clone)]
pub struct Channel {
    inner: Arc<Inner>,
    on_behalf_of_user: bool,
}

pub(crate) struct Inner {
    /// What the service is called in logs and in errors.
    service: Arc<str>,
    scheme: Scheme,
    /// What requests name as their authority: the service, wherever it runs.
    authority: Authority,
    pool: Arc<Pool>,
    options: Options,
}

impl std::fmt::Debug for Channel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Channel").field("service", &self.inner.service).finish_non_exhaustive()
    }
}

impl Channel {
    /// A channel to a service of the platform, whose connections are opened by the first calls, and again whenever they are gone.
    ///
    /// The identity is asked for its certificate at each new connection.
    pub fn connect_lazy(target: &Target, identity: &Identity) -> Self {
        Self::with_options(target, identity, Options::default())
    }

    /// As [`Channel::connect_lazy`].
    pub fn with_options(target: &Target, identity: &Identity, options: Options) -> Self {
        let service = target.service.clone();
        let authority = service.name().parse().expect("the name of a workload is a host name");
        let name = Arc::from(service.name());
        let security = Security::Mesh { identity: identity.clone(), service };
        Self::new(name, authority, target.addresses.clone(), security, options)
    }

    /// A channel to a service of anybody's, opened as that of [`Channel::connect_lazy`]. `name` is what logs and errors call it; the first of the
    /// addresses, of which there must be one, is also the authority of requests.
    pub fn to_any(name: &str, addresses: Vec<Authority>, security: Security, options: Options) -> Self {
        let authority = addresses.first().cloned().expect("a service has an address");
        Self::new(Arc::from(name), authority, addresses, security, options)
    }

    fn new(
        service: Arc<str>,
        authority: Authority,
        addresses: Vec<Authority>,
        security: Security,
        options: Options,
    ) -> Self {
        let scheme = match &security {
            Security::Clear => Scheme::HTTP,
            Security::Tls { .. } | Security::Mesh { .. } => Scheme::HTTPS,
        };
        let pool = Arc::new(Pool::new(Arc::clone(&service), addresses, security, options.connections));
        Self {
            inner: Arc::new(Inner { service, scheme, authority, pool, options }),
            on_behalf_of_user: false,
        }
    }

    /// The same connections, on which the access token of the user who is being served goes along, so that the call is the user's. Without this,
    /// every call is the service's own, by its certificate: a peer gets a user's token only where it is meant to.
    #[must_use]
    pub fn on_behalf_of_user(&self) -> Self {
        Self { inner: Arc::clone(&self.inner), on_behalf_of_user: true }
    }

    /// What the service is called in logs and in errors.
    pub fn name(&self) -> &str {
        &self.inner.service
    }

    /// The connections as they are now, for operators.
    pub fn connections(&self) -> Vec<ConnectionState> {
        self.inner.pool.states()
    }

    /// How many connections have been made since the start. When the number grows, the service may have been replaced.
    pub fn connections_made(&self) -> u64 {
        self.inner.pool.made()
    }
}

impl Service<Request<Body>> for Channel {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Answer {
        let mut call = Call::current();
        if !self.on_behalf_of_user
            && let Some(call) = &mut call
        {
            call.token = None;
        }
        Answer::to(&self.inner, request, call)
    }
}

fn deadline_exceeded() -> Status {
    Refusal::DeadlineExceeded.status(DOMAIN, "DEADLINE_EXCEEDED", "deadline exceeded")
}

fn unavailable(service: &str) -> Status {
    // Neither address nor cause: where services run is nobody's business outside of the logs.
    Refusal::Unavailable { retry_after: RETRY_AFTER }.status(
        DOMAIN,
        "SERVICE_UNAVAILABLE",
        format!("{service} unavailable"),
    )
}

/// Of a service that has as many calls as it takes. The call was never sent.
fn busy(service: &str) -> Status {
    Refusal::Unavailable { retry_after: RETRY_AFTER }.status(
        DOMAIN,
        "SERVICE_BUSY",
        format!("{service} has as many calls as it takes at once"),
    )
}
