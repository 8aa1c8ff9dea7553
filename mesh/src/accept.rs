//! The accept loop: TCP, TLS and HTTP for one listener, from the first connection to the drain.
//!
//! Our own rather than tonic's, because the certificate is chosen per connection, the peer's workload has to reach the handlers, and connections have to
//! end at an age: the life of a certificate bounds nothing while a connection may stay open for ever.
//!
//! Inside the mesh only HTTP/2 over mutual TLS is spoken; see [`Transport`] for the rest. A connection is, from the wire up: `socket` (what is written must
//! be read), TLS, `preface` (which HTTP), `wire` (how long one may wait, and `head`: what of HTTP/1.1 is refused), hyper, `requests`
//! with `answers` (what is held until the peer takes it), the service.

mod activity;
mod answers;
mod connection;
mod handler;
mod head;
mod limits;
mod networks;
mod preface;
mod proxy;
mod requests;
mod socket;
mod violation;
mod wire;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::FutureExt as _;
use metrics::Gauge;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

pub use self::answers::UntilSent;
use self::connection::Connection;
pub use self::handler::Handler;
pub use self::limits::Limits;
use self::networks::Open;
pub use self::networks::{Place, Places, network};
pub use self::violation::Violation;
use crate::tls::{Identity, ServerCertificate};

/// Connections that the kernel completes before they are accepted.
const BACKLOG: u32 = 1024;

/// The pause after a first accept that failed for want of a resource, doubled up to [`ACCEPT_PAUSE_MAX`].
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The longest pause between accepts that fail.
const ACCEPT_PAUSE_MAX: Duration = Duration::from_secs(1);

/// The address of the client, in the extensions of every request: the connection's, or what a trusted proxy says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerAddr(pub SocketAddr);

/// What is below HTTP.
#[derive(Clone, Debug)]
pub enum Transport {
    /// TCP. HTTP/1.1, or HTTP/2 by prior knowledge.
    Clear,
    /// TLS 1.2 or 1.3 with a certificate for the world. HTTP/1.1 or HTTP/2 by ALPN.
    Public(ServerCertificate),
    /// Mutual TLS 1.3 between workloads. HTTP/2 only.
    Mutual(Identity),
}

impl From<Option<Identity>> for Transport {
    fn from(identity: Option<Identity>) -> Self {
        identity.map_or(Self::Clear, Self::Mutual)
    }
}

/// How a listener is told to stop, in two steps.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    /// It will stop soon: answers of HTTP/1.1 say that the connection ends with them, so that no client is surprised.
    pub announced: CancellationToken,
    /// It stops: no connection is accepted, and the open ones end.
    pub stop: CancellationToken,
}

impl From<CancellationToken> for Shutdown {
    /// Without an announcement.
    fn from(stop: CancellationToken) -> Self {
        Self { announced: stop.clone(), stop }
    }
}

/// A bound socket that nobody accepts from yet: the kernel already queues connections.
pub struct Listener {
    socket: TcpListener,
    address: SocketAddr,
    connections: Gauge,
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
        Ok(Self { socket, address, connections: Gauge::noop() })
    }

    /// Shows in `connections` how many are open.
    #[must_use]
    pub fn counted_in(self, connections: Gauge) -> Self {
        Self { connections, ..self }
    }

    /// The address that was bound, with its port.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }
}

/// Accepts connections and serves them until `shutdown`, then lets the requests in flight end.
///
/// Requests carry [`PeerAddr`], and with mutual TLS the peer's [`crate::tls::Workload`], in their extensions. At the stop the connections that have been
/// made are accepted, the socket is closed and every connection told to go away; the future ends when all have ended or `limits.drain` is over, and what is
/// left then is cut off.
pub async fn serve(
    listener: Listener,
    transport: impl Into<Transport>,
    handler: impl Into<Handler>,
    limits: Limits,
    shutdown: impl Into<Shutdown>,
) {
    let (transport, handler) = (transport.into(), handler.into());
    let Shutdown { announced, stop } = shutdown.into();
    let socket = listener.socket;
    let permits = Arc::new(Semaphore::new(limits.max_connections));
    let limits = Arc::new(limits);
    let open = Arc::new(Open::new(limits.max_connections_per_network, listener.connections));
    let closing = Arc::new(AtomicBool::new(false));
    let mut connections = JoinSet::new();
    let serve_one = |connections: &mut JoinSet<()>, (stream, peer, permit): Accepted| {
        let connection = Connection {
            peer: PeerAddr(peer),
            handler: handler.clone(),
            limits: Arc::clone(&limits),
            open: Arc::clone(&open),
            announced: Arc::clone(&closing),
            stop: stop.clone(),
        };
        let transport = transport.clone();
        connections.spawn(async move {
            connection.run(stream, transport).await;
            drop(permit);
        });
    };
    loop {
        tokio::select! {
            biased;
            () = announced.cancelled(), if !closing.load(Ordering::Relaxed) => {
                closing.store(true, Ordering::Relaxed);
            }
            () = stop.cancelled() => break,
            Some(ended) = connections.join_next() => report(ended),
            accepted = accept(&socket, &permits) => serve_one(&mut connections, accepted),
        }
    }

    // Connections that the kernel has made for us already: their clients have sent requests.
    while let Ok(permit) = Arc::clone(&permits).try_acquire_owned()
        && let Some(Ok((stream, peer))) = socket.accept().now_or_never()
    {
        serve_one(&mut connections, (stream, peer, permit));
    }
    drop(socket);
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

/// A connection, its address, and its place among all.
type Accepted = (TcpStream, SocketAddr, OwnedSemaphorePermit);

fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!("the task of a connection panicked");
    }
}

/// The next connection. Errors of the socket are waited out: there is nobody to end the process for, and the next connection may well succeed.
async fn accept(socket: &TcpListener, permits: &Arc<Semaphore>) -> Accepted {
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
