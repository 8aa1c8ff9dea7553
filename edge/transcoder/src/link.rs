//! What binds a streamed request to its answer: a fault in the one ends the other.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use futures::task::AtomicWaker;

use crate::error::Problem;

/// Shared by the body on its way upstream and the answer on its way back, which different tasks may drive.
#[derive(Debug, Default)]
pub(crate) struct Link {
    /// What was wrong with the request; the answer takes it.
    problem: Mutex<Option<Box<Problem>>>,
    /// Whether the answer has ended, so that nobody needs the rest of the request.
    over: AtomicBool,
    answer: AtomicWaker,
    request: AtomicWaker,
}

/// The answer's end of a link: when it is dropped, the request ends.
#[derive(Debug)]
pub(crate) struct LinkEnd(Arc<Link>);

impl Link {
    pub(crate) fn new() -> (Arc<Self>, LinkEnd) {
        let link = Arc::new(Self::default());
        (Arc::clone(&link), LinkEnd(link))
    }

    /// Told by the request: `problem` is the answer.
    pub(crate) fn fail(&self, problem: Box<Problem>) {
        *self.problem.lock().unwrap_or_else(PoisonError::into_inner) = Some(problem);
        self.answer.wake();
    }

    /// Asked by the request, which is woken when this becomes true.
    pub(crate) fn is_over(&self, cx: &mut Context<'_>) -> bool {
        self.request.register(cx.waker());
        self.over.load(Ordering::Acquire)
    }

    /// What was wrong with the request. Asked by the answer, which is woken when there is something.
    fn problem(&self, cx: &mut Context<'_>) -> Option<Box<Problem>> {
        self.answer.register(cx.waker());
        self.problem.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// The result of `work`, unless something is wrong with the request: that comes first, whatever the upstream made of it.
    pub(crate) async fn watch<T>(
        &self,
        work: impl Future<Output = Result<T, Box<Problem>>>,
    ) -> Result<T, Box<Problem>> {
        let mut work = pin!(work);
        poll_fn(|cx| {
            if let Some(problem) = self.problem(cx) {
                return Poll::Ready(Err(problem));
            }
            let done = work.as_mut().poll(cx);
            // The work itself may have polled the request.
            self.problem(cx).map_or(done, |problem| Poll::Ready(Err(problem)))
        })
        .await
    }
}

impl LinkEnd {
    /// As [`Link::watch`] asks.
    pub(crate) fn problem(&self, cx: &mut Context<'_>) -> Option<Box<Problem>> {
        self.0.problem(cx)
    }
}

impl Drop for LinkEnd {
    fn drop(&mut self) {
        self.0.over.store(true, Ordering::Release);
        self.0.request.wake();
    }
}
