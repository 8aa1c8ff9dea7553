//! A request body whose messages are turned into the upstream's form one by one.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf as _, Bytes, BytesMut};
use http_body::Frame;
use pin_project_lite::pin_project;

use super::fault::{BrokenOff, Fault};
use super::scan::{Limits, prefix};
use crate::body::poll_data;
use crate::error::Problem;
use crate::grpc::PREFIX_LEN;
use crate::pace::MessagePace;

pin_project! {
    /// See the module. `turn` makes a gRPC frame of a message and whether it is compressed.
    pub(super) struct Reframed<B, F> {
        #[pin]
        body: B,
        turn: F,
        limits: Limits,
        pace: MessagePace,
        fault: Fault,
        // What has come of the messages that are not yet turned.
        buffer: BytesMut,
        started: bool,
    }
}

impl<B, F> Reframed<B, F> {
    pub(super) fn new(body: B, limits: Limits, fault: Fault, turn: F) -> Self {
        let pace = MessagePace::new(limits.bytes_per_second_min);
        Self { body, turn, limits, pace, fault, buffer: BytesMut::new(), started: false }
    }
}

/// The next message at the front of `buffer`, when all of it has come.
fn take(buffer: &mut BytesMut, limits: Limits) -> Result<Option<(bool, Bytes)>, Box<Problem>> {
    let Some(head) = buffer.first_chunk::<PREFIX_LEN>() else { return Ok(None) };
    let (compressed, length) = prefix(*head, limits)?;
    if buffer.len() - PREFIX_LEN < length {
        buffer.reserve(PREFIX_LEN + length - buffer.len());
        return Ok(None);
    }
    buffer.advance(PREFIX_LEN);
    Ok(Some((compressed, buffer.split_to(length).freeze())))
}

impl<B, F> http_body::Body for Reframed<B, F>
where
    B: http_body::Body,
    F: FnMut(bool, Bytes) -> Result<Vec<u8>, Box<Problem>>,
{
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        let mut this = self.project();
        let broken = |problem| Poll::Ready(Some(Err(this.fault.set(problem))));
        this.pace.resume();
        loop {
            let turned = match take(this.buffer, *this.limits) {
                Ok(None) => None,
                Ok(Some(_)) if this.limits.single && *this.started => {
                    return broken(Problem::not_one_message());
                }
                Ok(Some((compressed, message))) => Some((this.turn)(compressed, message)),
                Err(problem) => return broken(problem),
            };
            match turned {
                Some(Ok(frame)) => {
                    *this.started = true;
                    this.pace.hold();
                    return Poll::Ready(Some(Ok(Frame::data(Bytes::from(frame)))));
                }
                Some(Err(problem)) => return broken(problem),
                None => {}
            }
            let Poll::Ready(data) = poll_data(this.body.as_mut(), cx) else {
                // Where there is one message, all of the body is due.
                return if this.pace.dawdles(cx, this.limits.single || !this.buffer.is_empty()) {
                    broken(Problem::body_too_slow(this.limits.bytes_per_second_min))
                } else {
                    Poll::Pending
                };
            };
            match data {
                Some(Ok(data)) => {
                    this.pace.received(data.len());
                    this.buffer.extend_from_slice(&data);
                }
                Some(Err(_)) => return broken(Problem::body_unreadable()),
                None if !this.buffer.is_empty() => return broken(Problem::body_unreadable()),
                None if this.limits.single && !*this.started => return broken(Problem::not_one_message()),
                None => return Poll::Ready(None),
            }
        }
    }
}
