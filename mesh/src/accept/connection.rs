//! One connection, from its first byte to its last.

use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulConnection;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

use super::activity::{Activity, Overdue};
use super::handler::Handler;
use super::networks::{Open, OpenConnection};
use super::preface::{Prefixed, Protocol, detect};
use super::requests::Requests;
use super::socket::Socket;
use super::wire::Wire;
use super::{Limits, PeerAddr, Transport, proxy};
use crate::tls::{ALPN_H2, ALPN_HTTP_1_1, Workload, peer_identity};

/// The least that a body of HTTP/1.1 is read by, and the most that an answer is written by, in bytes.
const HTTP_1_BUFFER: usize = 64 * 1024;

/// Bytes of all requests on one HTTP/2 connection that are read ahead of the service.
const CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;

/// Bytes of an answer that are held for a peer, on one HTTP/2 stream.
const SEND_BUFFER_BYTES: usize = 128 * 1024;

/// Cancelled calls that a peer may have waiting on one connection.
const PEER_RESETS_MAX: usize = 1_000;

/// How long an idle connection has to end when it is told to. A request that is sent before the client was told arrives within this time.
const IDLE_GRACE: Duration = Duration::from_secs(5);

/// How long a handshake may still take when the listener stops: who has connected may have sent a request.
const STOPPED_HANDSHAKE_GRACE: Duration = Duration::from_millis(500);

/// What a connection needs of its listener.
pub(super) struct Connection {
    pub(super) peer: PeerAddr,
    pub(super) handler: Handler,
    pub(super) limits: Arc<Limits>,
    pub(super) open: Arc<Open>,
    pub(super) announced: Arc<AtomicBool>,
    pub(super) stop: CancellationToken,
}

impl Connection {
    /// Serves a connection that was accepted. What is needed for the handshake only is let go before the requests come.
    pub(super) async fn run(mut self, mut stream: TcpStream, transport: Transport) {
        let activity = Arc::new(Activity::new(self.limits.max_unread_bytes));
        let Some((client, place)) = self.within_handshake(self.admit(&mut stream)).await else { return };
        self.peer = PeerAddr(client);
        let socket = Socket::new(stream, Arc::clone(&activity), self.limits.write_stall_timeout);
        match transport {
            Transport::Clear => {
                let Some((protocol, stream)) = self.within_handshake(detect(socket)).await else { return };
                Box::pin(self.speak(protocol, stream, activity, None)).await;
            }
            Transport::Public(certificate) => {
                let handshake = TlsAcceptor::from(certificate.server_config()).accept(socket);
                let chosen = Box::pin(self.within_handshake(async { by_alpn(handshake.await?).await })).await;
                let Some((protocol, stream)) = chosen else { return };
                Box::pin(self.speak(protocol, stream, activity, None)).await;
            }
            Transport::Mutual(identity) => {
                let handshake = TlsAcceptor::from(identity.server_config()).accept(socket);
                let Some(stream) = Box::pin(self.within_handshake(handshake)).await else { return };
                let workload =
                    stream.get_ref().1.peer_certificates().and_then(<[_]>::first).map(peer_identity);
                match workload {
                    Some(Ok(workload)) => {
                        Box::pin(self.speak(Protocol::Http2, stream, activity, Some(workload))).await;
                    }
                    // The handshake has seen to it already.
                    Some(Err(_)) | None => {
                        tracing::error!(peer = %self.peer.0, "handshake let a peer without a workload through");
                    }
                }
            }
        }
        drop(place);
    }

    /// Who the client is, when it may connect at all.
    async fn admit(&self, stream: &mut TcpStream) -> io::Result<(SocketAddr, OpenConnection)> {
        let mut client = self.peer.0;
        if !self.limits.proxies.is_empty() {
            let from = client.ip().to_canonical();
            if !self.limits.proxies.iter().any(|network| network.contains(&from)) {
                return Err(io::Error::new(io::ErrorKind::PermissionDenied, "not one of the proxies"));
            }
            client = proxy::read(stream).await?.unwrap_or(client);
        }
        let place = self.open.admit(client.ip());
        let place = place.ok_or_else(|| io::Error::other("its network has too many connections"))?;
        Ok((client, place))
    }

    async fn within_handshake<T>(&self, step: impl Future<Output = io::Result<T>>) -> Option<T> {
        let stopped = async {
            self.stop.cancelled().await;
            sleep(STOPPED_HANDSHAKE_GRACE).await;
        };
        let refused = tokio::select! {
            () = stopped => return None,
            done = timeout(self.limits.handshake_timeout, step) => match done {
                Ok(Ok(done)) => return Some(done),
                Ok(Err(error)) => error,
                Err(_) => io::ErrorKind::TimedOut.into(),
            }
        };
        metrics::counter!("connections_refused_total").increment(1);
        tracing::debug!(peer = %self.peer.0, error = %refused, "connection refused");
        None
    }

    /// Serves HTTP on one stream until it ends, is too old, or the listener stops.
    async fn speak<S>(
        self,
        protocol: Protocol,
        stream: S,
        activity: Arc<Activity>,
        workload: Option<Workload>,
    ) where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let Self { peer, handler, limits, open, announced, stop } = self;
        let wire = Wire::new(stream, protocol, Arc::clone(&activity), Arc::clone(&limits), open);
        let mutual_tls = workload.is_some();
        let requests = Requests {
            handler,
            peer,
            workload,
            activity: Arc::clone(&activity),
            limits: Arc::clone(&limits),
            announced,
        };
        let service = service_fn(move |request| requests.serve(request));
        let life = Life { protocol, limits: &limits, activity: &activity, stop };
        let ended = match protocol {
            Protocol::Http1 => {
                let connection = pin!(http_1().serve_connection(TokioIo::new(wire), service));
                life.lead(connection).await
            }
            Protocol::Http2 => {
                let builder = http_2(&limits, mutual_tls);
                let connection = pin!(builder.serve_connection(TokioIo::new(wire), service));
                life.lead(connection).await
            }
        };
        match ended {
            Ok(()) => {}
            Err(End::CutOff(why)) => tracing::debug!(peer = %peer.0, why, "connection cut off"),
            Err(End::Failed(error)) => tracing::debug!(peer = %peer.0, %error, "connection ended"),
        }
    }
}

/// The protocol that the client chose in the handshake; without ALPN, it shows.
async fn by_alpn(stream: TlsStream<Socket>) -> io::Result<(Protocol, Prefixed<TlsStream<Socket>>)> {
    match stream.get_ref().1.alpn_protocol() {
        Some(ALPN_H2) => Ok((Protocol::Http2, Prefixed::new(stream))),
        Some(ALPN_HTTP_1_1) => Ok((Protocol::Http1, Prefixed::new(stream))),
        Some(_) | None => detect(stream).await,
    }
}

/// How a connection ended, when not in order.
enum End {
    CutOff(&'static str),
    Failed(hyper::Error),
}

struct Life<'a> {
    protocol: Protocol,
    limits: &'a Limits,
    activity: &'a Activity,
    stop: CancellationToken,
}

impl Life<'_> {
    /// Drives a connection until it has ended.
    async fn lead(
        &self,
        mut connection: Pin<&mut impl GracefulConnection<Error = hyper::Error>>,
    ) -> Result<(), End> {
        // Without the jitter, connections that were opened together after a deployment would be opened together for ever after.
        let age = self.limits.max_connection_age.mul_f64(rand::random_range(0.9..=1.1));
        let mut old = pin!(sleep(age));
        let (grace, overdue) = loop {
            // In this order: a request that has come is begun before the connection is told to end.
            tokio::select! {
                biased;
                ended = connection.as_mut() => return ended.map_err(End::Failed),
                () = self.stop.cancelled() => break (self.limits.drain, None),
                overdue = self.activity.overdue() => match overdue {
                    Overdue::Idle => break (IDLE_GRACE.min(self.limits.idle_timeout), Some(overdue)),
                    // Its other requests have the time to end.
                    Overdue::Unread => break (self.limits.write_stall_timeout, Some(overdue)),
                    Overdue::Stalled => return Err(End::CutOff("the peer reads nothing")),
                    Overdue::Abandons => return Err(End::CutOff("the peer takes back its requests")),
                },
                () = old.as_mut() => match self.protocol {
                    Protocol::Http2 => break (self.limits.max_connection_age_grace, None),
                    // An HTTP/1.1 client learns of the end from an answer. Closed without one, its next request might be lost.
                    Protocol::Http1 if !self.activity.is_closing() => {
                        self.activity.close_after_answer();
                        old.as_mut().reset(tokio::time::Instant::now() + self.limits.max_connection_age_grace);
                    }
                    Protocol::Http1 => break (Duration::ZERO, None),
                }
            }
        };
        connection.as_mut().graceful_shutdown();
        self.finish(connection, grace, overdue).await
    }

    /// Drives a connection that was told to go away until it has ended.
    async fn finish(
        &self,
        mut connection: Pin<&mut impl GracefulConnection<Error = hyper::Error>>,
        grace: Duration,
        overdue: Option<Overdue>,
    ) -> Result<(), End> {
        let further = async {
            // Only the first reason is told, and that may be why we are here.
            if overdue.is_some() {
                std::future::pending::<()>().await;
            }
            self.activity.overdue().await
        };
        let late = tokio::select! {
            ended = timeout(grace, connection.as_mut()) => match ended {
                Ok(ended) => return ended.map_err(End::Failed),
                Err(_) => None,
            },
            late = further => Some(late),
        };
        match late {
            // Its other answers have the time to end.
            Some(Overdue::Unread) => {
                if let Ok(ended) = timeout(self.limits.write_stall_timeout, connection.as_mut()).await {
                    return ended.map_err(End::Failed);
                }
                return Err(End::CutOff("the peer lets an answer lie unread"));
            }
            Some(Overdue::Idle | Overdue::Stalled | Overdue::Abandons) => {
                return Err(End::CutOff("the peer takes nothing, or does not go away"));
            }
            None => {}
        }
        match overdue {
            // The peer had sent a request before it was told.
            Some(Overdue::Idle) if self.activity.in_flight() => {
                match timeout(self.limits.drain, connection).await {
                    Ok(ended) => ended.map_err(End::Failed),
                    Err(_) => Err(End::CutOff("its time is over")),
                }
            }
            Some(Overdue::Unread) => Err(End::CutOff("the peer lets an answer lie unread")),
            Some(Overdue::Idle | Overdue::Stalled | Overdue::Abandons) | None => {
                Err(End::CutOff("its time is over"))
            }
        }
    }
}

fn http_1() -> http1::Builder {
    let mut builder = http1::Builder::new();
    // The time of a header is measured where it is read: hyper's timer begins with the end of the request before.
    builder.timer(TokioTimer::new()).header_read_timeout(None).max_buf_size(HTTP_1_BUFFER);
    builder
}

fn http_2(limits: &Limits, mutual_tls: bool) -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .keep_alive_interval(limits.keep_alive_interval)
        .keep_alive_timeout(limits.keep_alive_timeout)
        .max_concurrent_streams(limits.max_concurrent_streams)
        .initial_stream_window_size(limits.stream_window_bytes)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_send_buf_size(SEND_BUFFER_BYTES)
        .max_header_list_size(limits.max_header_list_bytes);
    if mutual_tls {
        // A peer passes on what clients cancel: many at once are no attack by the peer, and must not cost everybody else their connection.
        builder.max_pending_accept_reset_streams(PEER_RESETS_MAX);
    }
    builder
}
