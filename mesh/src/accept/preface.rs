//! HTTP/1.1 or HTTP/2: what a connection without ALPN says with its first bytes.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};

/// What an HTTP/2 client begins with (RFC 9113, section 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What is spoken on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    Http1,
    Http2,
}

/// Reads until the first byte that the preface does not have, or to its end.
///
/// The caller bounds the time: half a preface must not hold a connection.
pub(super) async fn detect<S: AsyncRead + Unpin>(mut stream: S) -> io::Result<(Protocol, Prefixed<S>)> {
    let mut first = [0; PREFACE.len()];
    let mut length = 0;
    let protocol = loop {
        let free = first.get_mut(length..).unwrap_or_default();
        match stream.read(free).await? {
            0 if length == 0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            0 => break Protocol::Http1,
            read => length += read,
        }
        if first.get(..length) != PREFACE.get(..length) {
            break Protocol::Http1;
        }
        if length == PREFACE.len() {
            break Protocol::Http2;
        }
    };
    Ok((protocol, Prefixed { first, read: 0, length, stream }))
}

/// A stream whose first bytes have been read already, and are read again.
#[derive(Debug)]
pub(super) struct Prefixed<S> {
    first: [u8; PREFACE.len()],
    read: usize,
    length: usize,
    stream: S,
}

impl<S> Prefixed<S> {
    /// A stream of which nothing has been read.
    pub(super) fn new(stream: S) -> Self {
        Self { first: [0; PREFACE.len()], read: 0, length: 0, stream }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Prefixed<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(first) = self.first.get(self.read..self.length).filter(|first| !first.is_empty()) {
            let taken = first.len().min(buf.remaining());
            buf.put_slice(first.get(..taken).unwrap_or_default());
            self.read += taken;
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Prefixed<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
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
}
