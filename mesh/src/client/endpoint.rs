//! One address of a service, and the connection to it.

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::uri::Authority;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;
use tonic::body::Body;

use crate::tls::{Identity, Workload};

/// How long a connection to one address may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// How long the TLS and HTTP/2 handshakes on it may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// How long an address is avoided that no connection could be made to.
const AVOIDED_FOR: Duration = Duration::from_secs(1);

/// How often the peer is asked whether it is still there, while calls are in flight.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(30);

/// How long it may take to answer.
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(5);

/// The largest header of a response, in bytes.
const MAX_HEADER_LIST_BYTES: u32 = 16 * 1024;

/// One address of a service.
pub(crate) struct Endpoint {
    address: Authority,
    service: Workload,
    identity: Identity,
    /// Held while connecting, so that many calls at once open one connection.
    connection: tokio::sync::Mutex<Option<SendRequest<Body>>>,
    in_flight: Arc<AtomicUsize>,
    /// When no connection could be made last.
    failed_at: Mutex<Option<Instant>>,
}

impl Endpoint {
    pub(crate) fn new(address: Authority, service: Workload, identity: Identity) -> Self {
        Self {
            address,
            service,
            identity,
            connection: tokio::sync::Mutex::new(None),
            in_flight: Arc::default(),
            failed_at: Mutex::new(None),
        }
    }

    /// Counts a call as in flight until the guard is dropped.
    pub(crate) fn enter(&self) -> InFlight {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        InFlight(Arc::clone(&self.in_flight))
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Whether connecting failed a moment ago.
    pub(crate) fn avoided(&self, now: Instant) -> bool {
        self.failed_at().is_some_and(|at| now < at + AVOIDED_FOR)
    }

    fn failed_at(&self) -> Option<Instant> {
        *self.failed_at.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_failed_at(&self, at: Option<Instant>) {
        *self.failed_at.lock().unwrap_or_else(PoisonError::into_inner) = at;
    }

    /// The open connection, or a new one.
    pub(crate) async fn connection(&self) -> Result<SendRequest<Body>, Unsent> {
        let asked_at = Instant::now();
        let mut slot = self.connection.lock().await;
        if let Some(open) = slot.as_ref().filter(|connection| connection.is_ready()) {
            return Ok(open.clone());
        }
        // Others have waited for the same attempt: its failure is theirs too, or they would fail one after the other.
        if self.failed_at().is_some_and(|at| at > asked_at) {
            return Err(io::Error::from(io::ErrorKind::NotConnected).into());
        }
        // The old one, if any, goes on with what is in flight on it.
        *slot = None;
        match self.open().await {
            Ok(connection) => {
                self.set_failed_at(None);
                *slot = Some(connection.clone());
                Ok(connection)
            }
            Err(error) => {
                self.set_failed_at(Some(Instant::now()));
                Err(error.into())
            }
        }
    }

    async fn open(&self) -> io::Result<SendRequest<Body>> {
        let stream = self.dial().await?;
        stream.set_nodelay(true)?;
        timeout(HANDSHAKE_TIMEOUT, self.handshake(stream)).await?
    }

    /// Connects to the first of the host's addresses that answers. Names are looked up at each connection.
    async fn dial(&self) -> io::Result<TcpStream> {
        let host = self.address.host().trim_start_matches('[').trim_end_matches(']');
        let port = self.address.port_u16().ok_or(io::ErrorKind::InvalidInput)?;
        let mut last = io::Error::from(io::ErrorKind::NotFound);
        for address in timeout(CONNECT_TIMEOUT, tokio::net::lookup_host((host, port))).await?? {
            match timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => last = error,
                Err(elapsed) => last = elapsed.into(),
            }
        }
        Err(last)
    }

    async fn handshake(&self, stream: TcpStream) -> io::Result<SendRequest<Body>> {
        let config = self.identity.client_config(self.service.name());
        let name = ServerName::try_from(self.service.name().to_owned()).map_err(io::Error::other)?;
        let stream = TlsConnector::from(config).connect(name, stream).await?;
        let (connection, driver) = Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(KEEP_ALIVE_INTERVAL)
            .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
            .keep_alive_while_idle(false)
            .max_header_list_size(MAX_HEADER_LIST_BYTES)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(io::Error::other)?;

        let service = self.service.clone();
        #[expect(clippy::disallowed_methods, reason = "ends with the connection, and nobody waits for that")]
        tokio::spawn(async move {
            if let Err(error) = driver.await {
                tracing::debug!(service = service.name(), %error, "connection ended");
            }
        });
        Ok(connection)
    }
}

/// Counts a call as in flight.
pub(crate) struct InFlight(Arc<AtomicUsize>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Why a request was not written.
pub(crate) struct Unsent(io::Error);

impl Unsent {
    /// The body went with an earlier attempt.
    pub(crate) fn without_body() -> Self {
        Self(io::Error::other("the request cannot be repeated"))
    }
}

impl From<io::Error> for Unsent {
    fn from(error: io::Error) -> Self {
        Self(error)
    }
}

impl From<hyper::Error> for Unsent {
    fn from(error: hyper::Error) -> Self {
        Self(io::Error::other(error))
    }
}

impl fmt::Display for Unsent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not sent: {}", self.0)
    }
}
