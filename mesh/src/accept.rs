//! The accept loop: TCP, TLS and HTTP for one listener, from the first connection to the drain.
//!
//! Our own rather than tonic's, because the certificate is chosen per connection, the peer's workload has to reach the handlers, and connections have to
//! end at an age: the life of a certificate bounds nothing while a connection may stay open for ever.
//!
//! With an [`Identity`] only HTTP/2 over mutual TLS is spoken. Without one, HTTP/1.1 and HTTP/2 in clear text.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::tls::{Identity, Workload, peer_identity};

/// Connections that the kernel completes before they are accepted.
const BACKLOG: u32 = 1024;

/// The pause after a first accept that failed for want of a resource, doubled up to [`ACCEPT_PAUSE_MAX`].
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The longest pause between accepts that fail.
const ACCEPT_PAUSE_MAX: Duration = Duration::from_secs(1);

/// The address of the peer, in the extensions of every request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerAddr(pub SocketAddr);

/// What one listener puts up with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections open at a time; more wait in the kernel's queue.
    pub max_connections: usize,
    /// How long a handshake may take, and in clear text the first byte.
    pub handshake_timeout: Duration,
    /// How long the header of an HTTP/1.1 request may take.
    pub header_read_timeout: Duration,
    /// Calls in flight at a time on one HTTP/2 connection.
    pub max_concurrent_streams: u32,
    /// The largest header of a request, in bytes.
    pub max_header_list_bytes: u32,
    /// How often an HTTP/2 peer is asked whether it is still there.
    pub keep_alive_interval: Duration,
    /// How long it may take to answer.
    pub keep_alive_timeout: Duration,
    /// The age at which a connection is told to go away, give or take a tenth.
    pub max_connection_age: Duration,
    /// How long the calls in flight on such a connection may still take.
    pub max_connection_age_grace: Duration,
    /// How long calls in flight may take when the listener stops.
    pub drain: Duration,
}

impl Default for Limits {
    /// For a listener inside the mesh.
    fn default() -> Self {
        Self {
            max_connections: 10_000,
            handshake_timeout: Duration::from_secs(5),
            header_read_timeout: Duration::from_secs(5),
            max_concurrent_streams: 1_000,
            max_header_list_bytes: 16 * 1024,
            keep_alive_interval: Duration::from_mins(1),
            keep_alive_timeout: Duration::from_secs(20),
            max_connection_age: Duration::from_mins(5),
            max_connection_age_grace: Duration::from_secs(30),
            drain: Duration::from_secs(25),
        }
    }
}

impl Limits {
    /// For a listener that the world reaches: fewer calls at a time on one connection, and fewer connections.
    pub fn public() -> Self {
        Self { max_connections: 4_000, max_concurrent_streams: 100, ..Self::default() }
    }
}

/// Cancelled calls that a peer may have waiting on one connection.
const PEER_RESETS_MAX: usize = 1_000;

/// A bound socket that nobody accepts from yet: the kernel already queues connections.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    address: SocketAddr,
}

impl Listener {
    /// Binds an address; port 0 is any free port. Must be called on a runtime.
    ///
    /// # Errors
    ///
    /// The address is in use or not ours.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        // A restart must not wait for the connections of the previous run to be forgotten.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        let socket = socket.listen(BACKLOG)?;
        let address = socket.local_addr()?;
        Ok(Self { socket, address })
    }

    /// The address that was bound, with its port.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }
}

/// Accepts connections and serves them until `shutdown`, then lets the calls in flight end.
///
/// Requests carry [`PeerAddr`], and with mutual TLS the peer's [`Workload`], in their extensions. At `shutdown` the socket is closed and every connection
/// told to go away; the future ends when all have ended or `limits.drain` is over, and what is left then is cut off.
pub async fn serve(
    listener: Listener,
    tls: Option<Identity>,
    service: Router,
    limits: Limits,
    shutdown: CancellationToken,
) {
    let permits = Arc::new(Semaphore::new(limits.max_connections));
    let mut connections = JoinSet::new();
    loop {
        let (stream, peer, permit) = tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            Some(ended) = connections.join_next() => {
                report(ended);
                continue;
            }
            accepted = accept(&listener.socket, &permits) => accepted,
        };
        let connection = Connection {
            peer: PeerAddr(peer),
            service: service.clone(),
            limits: limits.clone(),
            shutdown: shutdown.clone(),
        };
        let tls = tls.clone();
        connections.spawn(async move {
            connection.run(stream, tls).await;
            drop(permit);
        });
    }

    drop(listener);
    let drained = timeout(limits.drain, async {
        while let Some(ended) = connections.join_next().await {
            report(ended);
        }
    })
    .await;
    if drained.is_err() {
        tracing::warn!(connections = connections.len(), "drain is over, cutting off what is in flight");
        connections.shutdown().await;
    }
}

fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!("the task of a connection panicked");
    }
}

/// The next connection. Errors of the socket are waited out: there is nobody to end the process for, and the next connection may well succeed.
async fn accept(
    socket: &TcpListener,
    permits: &Arc<Semaphore>,
) -> (TcpStream, SocketAddr, OwnedSemaphorePermit) {
    let permit = Arc::clone(permits).acquire_owned().await.expect("the semaphore is never closed");
    let mut pause = ACCEPT_PAUSE;
    loop {
        match socket.accept().await {
            Ok((stream, peer)) => return (stream, peer, permit),
            Err(error) if ended_before_accept(&error) => {}
            // Most often out of file descriptors, which only time mends.
            Err(error) => {
                tracing::warn!(%error, "accept failed");
                sleep(pause).await;
                pause = (pause * 2).min(ACCEPT_PAUSE_MAX);
            }
        }
    }
}

fn ended_before_accept(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionRefused
    )
}

struct Connection {
    peer: PeerAddr,
    service: Router,
    limits: Limits,
    shutdown: CancellationToken,
}

impl Connection {
    async fn run(self, stream: TcpStream, tls: Option<Identity>) {
        // Fails only on a socket that is gone, which the next read notices.
        let _gone = stream.set_nodelay(true);
        let Some(tls) = tls else {
            if self.within_handshake(stream.peek(&mut [0])).await.is_some() {
                self.speak(stream, None).await;
            }
            return;
        };

        let handshake = TlsAcceptor::from(tls.server_config()).accept(stream);
        let Some(stream) = self.within_handshake(handshake).await else { return };
        let workload = stream.get_ref().1.peer_certificates().and_then(<[_]>::first).map(peer_identity);
        match workload {
            Some(Ok(workload)) => self.speak(stream, Some(workload)).await,
            // The handshake has seen to it already.
            Some(Err(_)) | None => {
                tracing::error!(peer = %self.peer.0, "handshake let a peer without a workload through");
            }
        }
    }

    async fn within_handshake<T>(&self, step: impl Future<Output = io::Result<T>>) -> Option<T> {
        let refused = tokio::select! {
            () = self.shutdown.cancelled() => return None,
            done = timeout(self.limits.handshake_timeout, step) => match done {
                Ok(Ok(done)) => return Some(done),
                Ok(Err(error)) => error,
                Err(_) => io::ErrorKind::TimedOut.into(),
            }
        };
        metrics::counter!("connections_refused_total").increment(1);
        tracing::debug!(peer = %self.peer.0, error = %refused, "handshake failed");
        None
    }

    /// Serves HTTP on one stream until it ends, is too old, or the listener stops.
    async fn speak<S>(self, stream: S, workload: Option<Workload>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let builder = builder(&self.limits, workload.is_some());
        let Self { peer, service, limits, shutdown } = self;
        let service = service_fn(move |request: Request<Incoming>| {
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(peer);
            if let Some(workload) = &workload {
                request.extensions_mut().insert(workload.clone());
            }
            service.clone().oneshot(request)
        });
        let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));

        // Without the jitter, connections that were opened together after a deployment would be opened together for ever after.
        let age = limits.max_connection_age.mul_f64(rand::random_range(0.9..=1.1));
        let grace = tokio::select! {
            ended = connection.as_mut() => return log_end(peer, ended),
            () = shutdown.cancelled() => limits.drain,
            () = sleep(age) => limits.max_connection_age_grace,
        };
        connection.as_mut().graceful_shutdown();
        if let Ok(ended) = timeout(grace, connection).await {
            log_end(peer, ended);
        } else {
            tracing::debug!(peer = %peer.0, "connection cut off with calls in flight");
        }
    }
}

fn builder(limits: &Limits, mutual_tls: bool) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_read_timeout)
        // hyper insists on 8 KiB.
        .max_buf_size(usize::try_from(limits.max_header_list_bytes).unwrap_or(usize::MAX).max(8192));
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(limits.keep_alive_interval)
        .keep_alive_timeout(limits.keep_alive_timeout)
        .max_concurrent_streams(limits.max_concurrent_streams)
        .max_header_list_size(limits.max_header_list_bytes);
    if mutual_tls {
        // A peer passes on what clients cancel: many at once are no attack by the peer, and must not cost everybody else their connection.
        builder.http2().max_pending_accept_reset_streams(PEER_RESETS_MAX);
        builder.http2_only()
    } else {
        builder
    }
}

fn log_end(peer: PeerAddr, ended: Result<(), Box<dyn std::error::Error + Send + Sync>>) {
    if let Err(error) = ended {
        tracing::debug!(peer = %peer.0, error, "connection ended");
    }
}
