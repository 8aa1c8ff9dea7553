//! One HTTP/2 connection: how it is opened, kept and given up, and how a call is sent on it.
//!
//! On `h2` rather than on hyper's client, which starts a task and passes a message for every request: here a request is written by whoever makes it, and
//! the answer read by whoever waits for it.

use std::any::Any;
use std::future::{Future as _, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use h2::client::{Builder, ResponseFuture, SendRequest};
use h2::{Ping, PingPong, RecvStream};
use http::{Request, Response};
use rustls_pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_rustls::TlsConnector;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::Security;
use super::body::{self, Payload};
use super::room::{Places, Room};

/// How long a connection to one address may take.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// How long the TLS and HTTP/2 handshakes on it may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// How often the peer is asked whether it is still there, while calls are in flight.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(30);

/// How long it may take to answer.
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(5);

/// When the kernel first asks a silent peer, then how often, and how long it waits for what it has sent to be confirmed.
const TCP_KEEP_ALIVE: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(10));
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(20);

/// The largest header of a response, in bytes.
const MAX_HEADER_LIST_BYTES: u32 = 16 * 1024;

/// What the peer may send ahead on one stream, in bytes: what a reader that stands still leaves unread.
const STREAM_WINDOW: u32 = 64 * 1024;

/// Calls on one connection at a time, at most. What the peer may send ahead on the connection is so much that readers that stand still, as many as can
/// be, leave enough for one that does not; and what all of them leave unread, 32 MiB, must fit in memory.
const STREAMS_MAX: u16 = 512;

/// Calls on a new connection, until the peer says how many it takes. None should take fewer (RFC 9113, section 6.5.2).
const STREAMS_FIRST: u16 = 100;

/// The largest frame that is taken: most messages come in one.
const MAX_FRAME_BYTES: u32 = 64 * 1024;

/// `h2` closes a connection on which many small frames lie unread. Here they do when one client of many reads slowly, which must not cost the others.
const SMALL_FRAMES_BUDGET: usize = 256 * 1024 * 1024;

/// How many cancelled calls are remembered, and for how long, so that what the peer still sends for them is not taken for an error.
const RESETS_REMEMBERED: usize = 1_000;
const RESETS_REMEMBERED_FOR: Duration = Duration::from_secs(5);

/// The pause between two cancellations. Servers take many at once for an attack ("rapid reset") and close the connection, and with it everybody's calls.
const RESET_PAUSE: Duration = Duration::from_millis(5);

/// How many cancelled calls may wait for their turn.
const RESETS_WAITING_MAX: usize = 256;

/// An open connection.
pub(crate) struct Connection {
    sender: SendRequest<Bytes>,
    /// Set when nothing more can be sent.
    ended: Arc<AtomicBool>,
    places: Arc<Places>,
    cancelled: mpsc::Sender<Cancelled>,
}

impl Connection {
    /// Connects to `address`. Calls that find no place on it wait in `room`.
    pub(crate) async fn open(
        address: SocketAddr,
        security: &Security,
        room: &Arc<Room>,
    ) -> io::Result<Arc<Self>> {
        let stream = timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await??;
        set_options(&stream)?;
        timeout(HANDSHAKE_TIMEOUT, secured(stream, security, room)).await?
    }

    /// Whether a call may be sent, as far as is known.
    pub(crate) fn is_open(&self) -> bool {
        !self.ended.load(Ordering::Relaxed)
    }

    /// Calls that are waited for.
    pub(crate) fn in_flight(&self) -> usize {
        self.places.in_flight()
    }

    /// How busy it is: calls that are waited for, and those that are still to be cancelled.
    pub(crate) fn load(&self) -> usize {
        self.places.taken()
    }

    /// Whether it takes another call, as far as is known.
    pub(crate) fn has_room(&self) -> bool {
        self.places.has_room()
    }

    /// A place for one call, if there is one.
    pub(crate) fn place(self: &Arc<Self>) -> Option<Place> {
        self.places.take().then(|| Place(Arc::clone(self)))
    }

    /// Cancels a call when its turn comes, by dropping what is held of it.
    fn cancel(&self, call: impl Any + Send, place: Place) {
        self.places.begin_cancelling();
        let cancelled = Cancelled { _call: Box::new(call), _place: Cancelling(place) };
        // When too many wait it is dropped here, and cancelled at once.
        let _too_many = self.cancelled.try_send(cancelled);
    }
}

/// A place for one call on a connection, which it keeps open.
pub(crate) struct Place(Arc<Connection>);

impl Place {
    /// Sends a request. When that fails nothing of it was written and `payload` is as before.
    pub(crate) fn send(self, head: Request<()>, payload: &mut Payload) -> Result<Flight, h2::Error> {
        let empty = payload.is_empty();
        let sent = self.0.sender.clone().send_request(head, empty);
        let (response, mut stream) = sent.inspect_err(|_| self.0.ended.store(true, Ordering::Relaxed))?;
        let mut flight = Flight { response: Some(response), upload: None, place: Some(self) };
        match payload {
            Payload::Whole(bytes) if !empty => stream.send_data(bytes.clone(), true)?,
            Payload::Whole(_) => {}
            Payload::Streamed(body) => {
                if let Some((start, body)) = body.take() {
                    #[expect(clippy::disallowed_methods, reason = "ends with the call, which holds it")]
                    let task = tokio::spawn(body::upload(stream, start, body));
                    flight.upload = Some(Upload(task.abort_handle()));
                }
            }
        }
        Ok(flight)
    }

    /// Cancels the call by dropping what is held of it, and gives the place back then.
    fn cancel(self, call: impl Any + Send) {
        let connection = Arc::clone(&self.0);
        connection.cancel(call, self);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.places.give_back();
    }
}

/// A call that nobody waits for any more. It is cancelled by dropping it, and has its place until then.
struct Cancelled {
    _call: Box<dyn Any + Send>,
    _place: Cancelling,
}

/// The place of a call that is to be cancelled.
struct Cancelling(Place);

impl Drop for Cancelling {
    fn drop(&mut self) {
        self.0.0.places.end_cancelling();
    }
}

/// A request that was sent and not yet answered. Dropping it cancels the call.
pub(crate) struct Flight {
    response: Option<ResponseFuture>,
    upload: Option<Upload>,
    /// `None` when the answer has it.
    place: Option<Place>,
}

impl Flight {
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Response<Download>, h2::Error>> {
        let Some(response) = &mut self.response else { return Poll::Pending };
        let answered = ready!(Pin::new(response).poll(cx));
        self.response = None;
        let (upload, place) = (self.upload.take(), self.place.take());
        Poll::Ready(
            answered.map(|response| {
                response.map(|stream| Download { stream: Some(stream), _upload: upload, place })
            }),
        )
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        if let Some((response, place)) = self.response.take().zip(self.place.take()) {
            place.cancel(response);
        }
    }
}

/// The body of an answer. Dropping it before its end cancels the call.
pub(crate) struct Download {
    stream: Option<RecvStream>,
    _upload: Option<Upload>,
    /// `None` when it is dropped.
    place: Option<Place>,
}

impl Download {
    /// What is still to be read; `None` after [`Download::end`].
    pub(crate) fn stream(&mut self) -> Option<&mut RecvStream> {
        self.stream.as_mut()
    }

    pub(crate) fn is_end_stream(&self) -> bool {
        self.stream.as_ref().is_none_or(RecvStream::is_end_stream)
    }

    /// Nothing more will be read, and there is nothing to cancel.
    pub(crate) fn end(&mut self) {
        self.stream = None;
        self.place = None;
    }
}

impl Drop for Download {
    fn drop(&mut self) {
        let stream = self.stream.take().filter(|stream| !stream.is_end_stream());
        if let Some((stream, place)) = stream.zip(self.place.take()) {
            place.cancel(stream);
        }
    }
}

/// The task that sends a streamed request. Ends with the call.
struct Upload(AbortHandle);

impl Drop for Upload {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Whether the peer says that it has not looked at the request: it may be sent again whatever it does (RFC 9113, section 8.7).
pub(crate) fn unprocessed(error: &h2::Error) -> bool {
    error.is_remote() && (error.is_go_away() || error.reason() == Some(h2::Reason::REFUSED_STREAM))
}

fn set_options(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    let (time, interval) = TCP_KEEP_ALIVE;
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(time).with_interval(interval))?;
    #[cfg(any(target_os = "android", target_os = "fuchsia", target_os = "linux", target_os = "cygwin"))]
    socket.set_tcp_user_timeout(Some(TCP_USER_TIMEOUT))?;
    Ok(())
}

async fn secured(stream: TcpStream, security: &Security, room: &Arc<Room>) -> io::Result<Arc<Connection>> {
    let (config, name) = match security {
        Security::Clear => return handshake(stream, STREAMS_MAX, room).await,
        Security::Tls { client, server_name } => (client.config().await, server_name.clone()),
        Security::Mesh { identity, service } => {
            let name = ServerName::try_from(service.name().to_owned()).map_err(io::Error::other)?;
            (identity.client_config(service.name()), name)
        }
    };
    handshake(TlsConnector::from(config).connect(name, stream).await?, STREAMS_MAX, room).await
}

/// A connection for `streams_max` calls at a time, if the peer takes as many.
async fn handshake<S>(stream: S, streams_max: u16, room: &Arc<Room>) -> io::Result<Arc<Connection>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, mut connection) = Builder::new()
        .initial_window_size(STREAM_WINDOW)
        // One more than there can be that stand still.
        .initial_connection_window_size((u32::from(streams_max) + 1) * STREAM_WINDOW)
        .initial_max_send_streams(usize::from(STREAMS_FIRST))
        .max_frame_size(MAX_FRAME_BYTES)
        .max_header_list_size(MAX_HEADER_LIST_BYTES)
        .data_frame_budget(SMALL_FRAMES_BUDGET)
        .max_concurrent_reset_streams(RESETS_REMEMBERED)
        .reset_stream_duration(RESETS_REMEMBERED_FOR)
        // What comes late for a call that was cancelled and is forgotten: the peer's answers are slow, not an attack.
        .max_local_error_reset_streams(None)
        .enable_push(false)
        .handshake::<_, Bytes>(stream)
        .await
        .map_err(io::Error::other)?;
    let pings = connection.ping_pong();
    let (cancelled, to_cancel) = mpsc::channel(RESETS_WAITING_MAX);
    let ended = Arc::new(AtomicBool::new(false));
    let places =
        Arc::new(Places::new(Arc::clone(room), usize::from(streams_max), usize::from(STREAMS_FIRST)));
    let gone = CancellationToken::new();

    let end = End { ended: Arc::clone(&ended), _gone: gone.clone().drop_guard() };
    #[expect(clippy::disallowed_methods, reason = "ends with the connection, and nobody waits for that")]
    let driver = tokio::spawn({
        let places = Arc::clone(&places);
        async move {
            let _end = end;
            let driven = poll_fn(|cx| {
                let ended = Pin::new(&mut connection).poll(cx);
                places.set_limit(connection.max_concurrent_send_streams());
                ended
            });
            if let Err(error) = driven.await {
                tracing::debug!(%error, "connection ended");
            }
        }
    });
    let opened = Arc::new(Connection { sender, ended, places, cancelled });
    let keeper =
        Keeper { connection: Arc::downgrade(&opened), pings, to_cancel, driver: driver.abort_handle() };
    #[expect(clippy::disallowed_methods, reason = "ends with the connection, and nobody waits for that")]
    tokio::spawn(async move {
        let _ended = gone.run_until_cancelled(keeper.run()).await;
    });
    Ok(opened)
}

/// Says that the connection has ended, however its task does.
struct End {
    ended: Arc<AtomicBool>,
    _gone: DropGuard,
}

impl Drop for End {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
    }
}

/// What a connection needs beside reading and writing.
struct Keeper {
    connection: Weak<Connection>,
    pings: Option<PingPong>,
    to_cancel: mpsc::Receiver<Cancelled>,
    driver: AbortHandle,
}

impl Keeper {
    /// Until the connection is of no more use to anybody.
    async fn run(mut self) {
        let mut ticks = interval(KEEP_ALIVE_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks.tick().await;
        loop {
            tokio::select! {
                call = self.to_cancel.recv() => {
                    let Some(call) = call else { return };
                    sleep(RESET_PAUSE).await;
                    drop(call);
                }
                _ = ticks.tick() => {
                    let Some(connection) = self.connection.upgrade() else { return };
                    if connection.load() > 0 && !self.answers().await {
                        tracing::debug!("the peer does not answer pings");
                        return self.driver.abort();
                    }
                }
            }
        }
    }

    async fn answers(&mut self) -> bool {
        let Some(pings) = &mut self.pings else { return true };
        matches!(timeout(KEEP_ALIVE_TIMEOUT, pings.ping(Ping::opaque())).await, Ok(Ok(_)))
    }
}

#[cfg(test)]
mod tests;
