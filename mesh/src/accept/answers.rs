//! The answers' side of one connection: what the peer has yet to read of each.
//!
//! hyper and h2 take an answer's data long before the peer does, the last of it together with the end of the stream, and say nothing when it has gone. So the
//! data itself keeps count: [`Part`] is what they hold, write from and drop.

use std::any::Any;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use axum::body::Body;
use bytes::{Buf, Bytes};
use http::Response;
use http_body::{Frame, SizeHint};

use super::activity::Activity;

/// How many bytes of a part the peer has to take for it to count as progress. With less, a window opened by a byte now and then would hold an answer for ever.
const PROGRESS_BYTES: usize = 16 * 1024;

/// Put in the extensions of a response, this is kept until the last byte of it was written to the peer, or never will be: longer than the body, which is
/// dropped when its last byte was handed over.
///
/// It must not touch the connection when it is dropped.
#[derive(Clone)]
pub struct UntilSent(pub Arc<dyn Any + Send + Sync>);

/// A request and its answer, from the header of the one to the last written byte of the other.
pub(super) struct Flight {
    activity: Arc<Activity>,
    max_abandoned: u64,
    answered: AtomicBool,
    kept: OnceLock<UntilSent>,
}

impl Flight {
    pub(super) fn new(activity: Arc<Activity>, max_abandoned: u64) -> Arc<Self> {
        Arc::new(Self { activity, max_abandoned, answered: AtomicBool::new(false), kept: OnceLock::new() })
    }

    /// There is an answer.
    pub(super) fn answer(self: Arc<Self>, mut answer: Response<Body>) -> Response<Answer> {
        self.answered.store(true, Ordering::Relaxed);
        if let Some(kept) = answer.extensions_mut().remove() {
            let _first = self.kept.set(kept);
        }
        answer.map(|body| Answer { body, flight: self })
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.activity.end();
        if !*self.answered.get_mut() {
            self.activity.abandon(self.max_abandoned);
        }
    }
}

/// The body of an answer.
pub(super) struct Answer {
    body: Body,
    flight: Arc<Flight>,
}

impl http_body::Body for Answer {
    type Data = Part;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Part>, axum::Error>>> {
        let this = &mut *self;
        let frame = ready!(Pin::new(&mut this.body).poll_frame(cx));
        let flight = &this.flight;
        Poll::Ready(frame.map(|frame| frame.map(|frame| frame.map_data(|bytes| Part::new(bytes, flight)))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A part of an answer, until the peer has taken it.
pub(super) struct Part {
    bytes: Bytes,
    flight: Arc<Flight>,
    /// Since which stretch of time it waits.
    stretch: usize,
    /// How much the peer took since then.
    taken: usize,
}

impl Part {
    fn new(bytes: Bytes, flight: &Arc<Flight>) -> Self {
        let stretch = flight.activity.handed_out(bytes.len());
        Self { bytes, flight: Arc::clone(flight), stretch, taken: 0 }
    }
}

impl Buf for Part {
    fn remaining(&self) -> usize {
        self.bytes.len()
    }

    fn chunk(&self) -> &[u8] {
        &self.bytes
    }

    fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
        let activity = &self.flight.activity;
        activity.taken(count);
        self.taken += count;
        if self.taken >= PROGRESS_BYTES {
            self.taken = 0;
            self.stretch = activity.moved(self.stretch);
        }
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        let activity = &self.flight.activity;
        activity.taken(self.bytes.len());
        activity.left(self.stretch);
    }
}
