//! An answer of a protocol that says in the body how the call ended, behind the upstream's messages.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::Frame;

use super::relay::Relay;
use crate::body::BoxError;
use crate::flush::FlushPause;

/// A part of an answer.
pub(super) enum Piece {
    /// Of the messages.
    Data(Bytes),
    /// The trailers.
    End(HeaderMap),
}

/// The body of such an answer. `write` says what a piece is in the protocol.
///
/// An upstream that breaks off inside a message leaves no place where the end could be told of: it would be taken for the rest of
/// the message. Then the body ends with an error, by which the client loses the connection or the stream.
pub(super) struct InBody<F> {
    relay: Relay,
    write: F,
    state: State,
}

enum State {
    Open,
    /// The last message is cut.
    Cut(FlushPause),
    Done,
}

/// Why a body ends that would have to say so inside a message.
#[derive(Debug, thiserror::Error)]
#[error("the answer was broken off inside a message")]
struct Cut;

impl<F> InBody<F> {
    pub(super) fn new(relay: Relay, write: F) -> Self {
        Self { relay, write, state: State::Open }
    }
}

impl<F: Fn(Piece) -> Bytes + Unpin> http_body::Body for InBody<F> {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        loop {
            match &mut this.state {
                State::Open => {}
                State::Cut(pause) => {
                    ready!(pause.poll(cx));
                    this.state = State::Done;
                    return Poll::Ready(Some(Err(Box::new(Cut))));
                }
                State::Done => return Poll::Ready(None),
            }
            let piece = match ready!(Pin::new(&mut this.relay).poll_frame(cx)) {
                None => return Poll::Ready(None),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => Piece::Data(data),
                    Err(_) if this.relay.is_cut() => {
                        this.state = State::Cut(FlushPause::default());
                        continue;
                    }
                    Err(frame) => Piece::End(frame.into_trailers().unwrap_or_default()),
                },
            };
            return Poll::Ready(Some(Ok(Frame::data((this.write)(piece)))));
        }
    }

    fn is_end_stream(&self) -> bool {
        match self.state {
            State::Open => self.relay.is_end_stream(),
            State::Cut(_) => false,
            State::Done => true,
        }
    }
}
