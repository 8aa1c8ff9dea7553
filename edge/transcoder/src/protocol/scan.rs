//! A request body that is passed on as it comes, while its message lengths are watched.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use pin_project_lite::pin_project;

use super::fault::{BrokenOff, Fault};
use crate::body::poll_data;
use crate::error::Problem;
use crate::grpc::PREFIX_LEN;
use crate::pace::MessagePace;

/// What one message may be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Largest size, in bytes, as sent.
    pub(super) message_bytes: usize,
    /// Whether there must be exactly one.
    pub(super) single: bool,
    /// The slowest that it may come, in bytes a second; 0 for no limit.
    pub(super) bytes_per_second_min: u32,
}

/// Where messages end: follows their prefixes through chunks of any size, without keeping the messages.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Boundaries {
    /// The prefix that is being read, as far as it has come.
    prefix: [u8; PREFIX_LEN],
    filled: usize,
    /// What is left of the message behind the last prefix.
    left: usize,
}

impl Boundaries {
    /// Goes on through `bytes`. Each prefix is given to `length`, which says how long the message behind it is.
    pub(super) fn follow<E>(
        &mut self,
        mut bytes: &[u8],
        mut length: impl FnMut([u8; PREFIX_LEN]) -> Result<usize, E>,
    ) -> Result<(), E> {
        while !bytes.is_empty() {
            if self.left > 0 {
                let taken = self.left.min(bytes.len());
                self.left -= taken;
                bytes = &bytes[taken..];
                continue;
            }
            let taken = (PREFIX_LEN - self.filled).min(bytes.len());
            self.prefix[self.filled..self.filled + taken].copy_from_slice(&bytes[..taken]);
            self.filled += taken;
            bytes = &bytes[taken..];
            if self.filled == PREFIX_LEN {
                self.filled = 0;
                self.left = length(self.prefix)?;
            }
        }
        Ok(())
    }

    pub(super) fn between_messages(&self) -> bool {
        self.left == 0 && self.filled == 0
    }
}

/// What is known of the messages of a request.
#[derive(Debug)]
struct Scanner {
    limits: Limits,
    boundaries: Boundaries,
    started: bool,
}

impl Scanner {
    fn scan(&mut self, bytes: &[u8]) -> Result<(), Box<Problem>> {
        let Self { limits, boundaries, started } = self;
        boundaries.follow(bytes, |head| {
            let (_, length) = prefix(head, *limits)?;
            if limits.single && *started {
                return Err(Problem::not_one_message());
            }
            *started = true;
            Ok(length)
        })
    }

    fn between_messages(&self) -> bool {
        self.boundaries.between_messages()
    }
}

/// Whether a message is compressed, and its length.
///
/// # Errors
///
/// When it is too long, or no message of a request begins like this.
pub(super) fn prefix(prefix: [u8; PREFIX_LEN], limits: Limits) -> Result<(bool, usize), Box<Problem>> {
    let [flags, a, b, c, d] = prefix;
    if flags > 1 {
        return Err(Problem::bad_request("a message of the request has unknown flags"));
    }
    let length = u32::from_be_bytes([a, b, c, d]);
    let length = usize::try_from(length).ok().filter(|length| *length <= limits.message_bytes);
    let length = length.ok_or_else(|| Problem::message_too_large(limits.message_bytes))?;
    Ok((flags == 1, length))
}

pin_project! {
    /// See the module.
    pub(super) struct Scanned<B> {
        #[pin]
        body: B,
        scanner: Scanner,
        pace: MessagePace,
        fault: Fault,
    }
}

impl<B> Scanned<B> {
    pub(super) fn new(body: B, limits: Limits, fault: Fault) -> Self {
        let scanner = Scanner { limits, boundaries: Boundaries::default(), started: false };
        Self { body, scanner, pace: MessagePace::new(limits.bytes_per_second_min), fault }
    }
}

impl<B: http_body::Body> http_body::Body for Scanned<B> {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        let this = self.project();
        let broken = |problem| Poll::Ready(Some(Err(this.fault.set(problem))));
        let limits = this.scanner.limits;
        this.pace.resume();
        let Poll::Ready(data) = poll_data(this.body, cx) else {
            // Where there is one message, all of the body is due.
            return if this.pace.dawdles(cx, limits.single || !this.scanner.between_messages()) {
                broken(Problem::body_too_slow(limits.bytes_per_second_min))
            } else {
                Poll::Pending
            };
        };
        match data {
            Some(Ok(data)) => match this.scanner.scan(&data) {
                Ok(()) => {
                    this.pace.received(data.len());
                    this.pace.hold();
                    Poll::Ready(Some(Ok(Frame::data(data))))
                }
                Err(problem) => broken(problem),
            },
            Some(Err(_)) => broken(Problem::body_unreadable()),
            None if !this.scanner.between_messages() => broken(Problem::body_unreadable()),
            None if limits.single && !this.scanner.started => broken(Problem::not_one_message()),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        let ended = self.scanner.between_messages() && (self.scanner.started || !self.scanner.limits.single);
        ended && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
