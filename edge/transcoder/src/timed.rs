//! The body of an upstream's answer, which ends at the deadline of its call whether anybody reads it or not.
//!
//! Servers read a body only when they can send what is in it, so a client that takes nothing would keep the call behind it,
//! and what that holds of a connection, for as long as it likes. Here the timer itself ends the call: it wakes not the task
//! that reads but [`Held`], which drops the upstream's body. That costs neither a task nor a timer more than waiting does.

use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use bytes::Bytes;
use futures::task::AtomicWaker;
use http_body::Frame;
use tokio::time::{Instant, Sleep};
use tonic::Status;

use crate::error::Problem;

/// Runs until a call must be over; for ever when it may take as long as it likes.
#[derive(Debug)]
pub(crate) struct Timer(Option<Pin<Box<Sleep>>>);

impl Timer {
    pub(crate) fn at(deadline: Option<Instant>) -> Self {
        Self(deadline.map(|deadline| Box::pin(tokio::time::sleep_until(deadline))))
    }

    /// The result of `work`, unless the deadline comes first.
    pub(crate) async fn bound<T>(&mut self, work: impl Future<Output = T>) -> Result<T, Box<Problem>> {
        let Some(timer) = &mut self.0 else { return Ok(work.await) };
        let mut work = pin!(work);
        std::future::poll_fn(|cx| match work.as_mut().poll(cx) {
            Poll::Ready(done) => Poll::Ready(Ok(done)),
            Poll::Pending => timer.as_mut().poll(cx).map(|()| Err(Problem::deadline_exceeded())),
        })
        .await
    }
}

/// Why a body ends before its trailers.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Ended {
    /// The deadline came.
    #[error("deadline exceeded")]
    Late,
    /// The upstream was lost.
    #[error(transparent)]
    Lost(Status),
}

/// The body.
pub(crate) struct Timed(Kind);

enum Kind {
    Endless(tonic::body::Body),
    Until {
        held: Arc<Held>,
        /// Wakes `held`.
        _timer: Pin<Box<Sleep>>,
    },
    Closed,
}

/// What reader and timer share.
struct Held {
    /// `None` when the deadline has come.
    body: Mutex<Option<tonic::body::Body>>,
    deadline: Instant,
    reader: AtomicWaker,
}

impl Held {
    fn body(&self) -> MutexGuard<'_, Option<tonic::body::Body>> {
        self.body.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the call when its time is over, which this is asked by the timer and by the reader.
    fn check(&self) {
        if self.deadline <= Instant::now() {
            // Dropped when the lock is free again.
            let ended = self.body().take();
            drop(ended);
        }
    }
}

impl Wake for Held {
    fn wake(self: Arc<Self>) {
        self.check();
        self.reader.wake();
    }
}

impl Timed {
    /// The rest of `body`, up to the deadline of `timer`.
    pub(crate) fn new(body: tonic::body::Body, timer: Timer) -> Self {
        let Timer(Some(mut timer)) = timer else { return Self(Kind::Endless(body)) };
        let held = Arc::new(Held {
            body: Mutex::new(Some(body)),
            deadline: timer.deadline(),
            reader: AtomicWaker::new(),
        });
        let waker = Waker::from(Arc::clone(&held));
        // Not within the budget of this task: without one the timer would wake at once, and never again.
        let waiting = pin!(tokio::task::unconstrained(timer.as_mut())).poll(&mut Context::from_waker(&waker));
        if waiting.is_ready() {
            held.check();
        }
        Self(Kind::Until { held, _timer: timer })
    }

    /// Whether the deadline ended the call.
    pub(crate) fn is_late(&self) -> bool {
        match &self.0 {
            Kind::Until { held, .. } => held.body().is_none(),
            Kind::Endless(_) | Kind::Closed => false,
        }
    }

    /// Ends the call.
    pub(crate) fn close(&mut self) {
        self.0 = Kind::Closed;
    }
}

impl http_body::Body for Timed {
    type Data = Bytes;
    type Error = Ended;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Ended>>> {
        let polled = match &mut self.0 {
            Kind::Closed => return Poll::Ready(None),
            Kind::Endless(body) => Pin::new(body).poll_frame(cx),
            Kind::Until { held, .. } => {
                held.reader.register(cx.waker());
                // An upstream that always has something ready must not outlive the deadline either.
                held.check();
                match held.body().as_mut() {
                    Some(body) => Pin::new(body).poll_frame(cx),
                    None => return Poll::Ready(Some(Err(Ended::Late))),
                }
            }
        };
        polled.map(|frame| frame.map(|frame| frame.map_err(Ended::Lost)))
    }
}
