//! The socket's side of one connection: what is read is looked at first, and waiting has an end.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use super::Limits;
use super::activity::{Activity, Overdue, STRETCHES_UNREAD_MAX};
use super::head::{Scanned, Scanner};
use super::networks::Open;
use super::preface::Protocol;
use super::violation::Violation;

/// What hyper reads in the place of a request that is refused: the next layer answers it by the [`Violation`] that goes with it.
const STAND_IN: &[u8] = b"GET / HTTP/1.1\r\nhost: invalid\r\nconnection: close\r\n\r\n";

/// How often a connection that waits is looked at.
const CHECK: Duration = Duration::from_secs(5);

/// How much of an unfinished header is read at a time, in bytes.
const PARTIAL_READ: usize = 4096;

/// How long a connection that was closed while the peer was sending is still read from, so that the peer gets to read the answer: a socket that is closed
/// with unread bytes is reset, and takes the answer with it (RFC 9112, section 9.6).
const LINGER: Duration = Duration::from_secs(5);

/// One connection's stream, between the transport and hyper.
pub(super) struct Wire<S> {
    stream: S,
    activity: Arc<Activity>,
    limits: Arc<Limits>,
    open: Arc<Open>,
    /// Looks at requests; HTTP/2 has no need of it.
    scanner: Option<Scanner>,
    /// A header whose end is not there yet, kept from hyper until it is.
    partial: BytesMut,
    partial_since: Instant,
    /// What hyper gets next.
    released: Bytes,
    /// A request was refused: nothing more is read.
    refused: bool,
    peer_ended: bool,
    check: Option<Pin<Box<Sleep>>>,
    /// When the stretch of time began that parts of answers are counted by.
    stretch_since: Instant,
    linger: Option<Pin<Box<Sleep>>>,
}

impl<S> Wire<S> {
    pub(super) fn new(
        stream: S,
        protocol: Protocol,
        activity: Arc<Activity>,
        limits: Arc<Limits>,
        open: Arc<Open>,
    ) -> Self {
        let head_max = usize::try_from(limits.max_header_list_bytes).unwrap_or(usize::MAX);
        Self {
            stream,
            activity,
            scanner: (protocol == Protocol::Http1).then(|| Scanner::new(head_max)),
            limits,
            open,
            partial: BytesMut::new(),
            partial_since: Instant::now(),
            released: Bytes::new(),
            refused: false,
            peer_ended: false,
            check: None,
            stretch_since: Instant::now(),
            linger: None,
        }
    }

    fn refuse(&mut self, violation: Violation) {
        let number = self.scanner.as_ref().map_or(0, Scanner::requests) + 1;
        self.activity.refuse(number, violation);
        self.refused = true;
        self.partial.clear();
        self.released = Bytes::from_static(STAND_IN);
    }

    /// How long the connection may have no request. Under pressure, those that only wait make room.
    fn idle_max(&self) -> Duration {
        let nearly_full = self.open.count() >= self.limits.max_connections / 8 * 7;
        if nearly_full { self.limits.idle_timeout / 60 } else { self.limits.idle_timeout }
    }

    /// Called when there is nothing to read: sees to it that this has an end.
    fn wait(&mut self, cx: &mut Context<'_>) {
        let stretch = self.limits.write_stall_timeout / STRETCHES_UNREAD_MAX;
        let check_every = CHECK.min(self.limits.idle_timeout).min(stretch);
        loop {
            let check = self.check.get_or_insert_with(|| Box::pin(sleep_until(Instant::now() + check_every)));
            // A peer that sends all the time uses up what the task may do at once, and the timer would never get its turn.
            if check.as_mut().poll(cx).is_pending() && Instant::now() < check.deadline() {
                return;
            }
            let now = Instant::now();
            check.as_mut().reset(now + check_every);
            let next_stretch = now.duration_since(self.stretch_since) >= stretch;
            if next_stretch {
                self.stretch_since = now;
            }
            if next_stretch && self.activity.next_stretch() {
                self.activity.tell(Overdue::Unread);
            } else if self.activity.idle().is_some_and(|time| time >= self.idle_max()) {
                self.activity.tell(Overdue::Idle);
            }
        }
    }
}

impl<S: AsyncRead + Unpin> Wire<S> {
    /// Reads into hyper's own buffer, and takes back a header that is not whole.
    fn read_through(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        let fresh = buf.filled().get(before..).unwrap_or_default();
        if fresh.is_empty() {
            self.peer_ended = true;
            return Poll::Ready(Ok(()));
        }
        let Some(scanner) = &mut self.scanner else { return Poll::Ready(Ok(())) };
        match scanner.scan(fresh) {
            Scanned::All => {}
            Scanned::Upto(length) => {
                self.partial.extend_from_slice(fresh.get(length..).unwrap_or_default());
                self.partial_since = Instant::now();
                buf.set_filled(before + length);
            }
            Scanned::Refused(length, violation) => {
                buf.set_filled(before + length);
                self.refuse(violation);
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Reads more of an unfinished header.
    fn read_partial(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let start = self.partial.len();
        self.partial.resize(start + PARTIAL_READ, 0);
        let mut more = ReadBuf::new(self.partial.get_mut(start..).unwrap_or_default());
        let read = Pin::new(&mut self.stream).poll_read(cx, &mut more);
        let length = more.filled().len();
        self.partial.truncate(start + length);
        ready!(read)?;
        if length == 0 {
            // hyper sees the end of the stream in the middle of a header.
            self.peer_ended = true;
            self.released = self.partial.split().freeze();
            return Poll::Ready(Ok(()));
        }
        let Some(scanner) = &mut self.scanner else { return Poll::Ready(Ok(())) };
        match scanner.scan(&self.partial) {
            Scanned::All => self.released = self.partial.split().freeze(),
            Scanned::Upto(0) => {}
            Scanned::Upto(length) => {
                self.released = self.partial.split_to(length).freeze();
                self.partial_since = Instant::now();
            }
            Scanned::Refused(0, violation) => self.refuse(violation),
            Scanned::Refused(length, violation) => {
                let good = self.partial.split_to(length);
                self.refuse(violation);
                self.released = [&good, STAND_IN].concat().into();
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Whether the header that has begun is late. Wakes the task when it will be.
    fn header_late(&mut self, cx: &mut Context<'_>) -> bool {
        let deadline = self.partial_since + self.limits.header_read_timeout;
        let check = self.check.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if check.deadline() > deadline {
            check.as_mut().reset(deadline);
        }
        while check.as_mut().poll(cx).is_ready() {
            if Instant::now() >= deadline {
                check.as_mut().reset(Instant::now() + CHECK);
                return true;
            }
            check.as_mut().reset(deadline);
        }
        false
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Wire<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let wire = &mut *self;
        loop {
            if !wire.released.is_empty() {
                let taken = wire.released.len().min(buf.remaining());
                buf.put_slice(wire.released.get(..taken).unwrap_or_default());
                wire.released.advance(taken);
                return Poll::Ready(Ok(()));
            }
            if wire.refused {
                // Not the end of the stream: for hyper that is a client that has gone, and needs no answer.
                wire.wait(cx);
                return Poll::Pending;
            }
            if wire.peer_ended && wire.partial.is_empty() {
                return Poll::Ready(Ok(()));
            }
            let before = buf.filled().len();
            if wire.partial.is_empty() {
                match wire.read_through(cx, buf) {
                    Poll::Ready(Ok(())) if buf.filled().len() > before || wire.peer_ended => {
                        return Poll::Ready(Ok(()));
                    }
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending => {
                        wire.wait(cx);
                        return Poll::Pending;
                    }
                }
            } else {
                match wire.read_partial(cx) {
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending if wire.header_late(cx) => wire.refuse(Violation::HeaderTimeout),
                    Poll::Pending => return Poll::Pending,
                }
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Wire<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let wire = &mut *self;
        if wire.linger.is_none() {
            ready!(Pin::new(&mut wire.stream).poll_shutdown(cx))?;
            let sending = wire.refused || wire.scanner.as_ref().is_some_and(|scanner| !scanner.in_head());
            if wire.peer_ended || !sending {
                return Poll::Ready(Ok(()));
            }
        }
        let linger = wire.linger.get_or_insert_with(|| Box::pin(sleep_until(Instant::now() + LINGER)));
        let mut unwanted = [0; PARTIAL_READ];
        loop {
            if linger.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Ok(()));
            }
            let mut unwanted = ReadBuf::new(&mut unwanted);
            match ready!(Pin::new(&mut wire.stream).poll_read(cx, &mut unwanted)) {
                Ok(()) if !unwanted.filled().is_empty() => {}
                Ok(()) | Err(_) => return Poll::Ready(Ok(())),
            }
        }
    }
}
