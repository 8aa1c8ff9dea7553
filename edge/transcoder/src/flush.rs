//! The pause before a body fails.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::Sleep;

/// How long a body that is to be broken off waits after the last that it has handed out: servers drop what they have not yet
/// written when a body fails, so an error right behind it would swallow it.
const FLUSH_PAUSE: Duration = Duration::from_millis(10);

/// Begins when it is first polled.
#[derive(Debug, Default)]
pub(crate) struct FlushPause(Option<Pin<Box<Sleep>>>);

impl FlushPause {
    /// Ready when what was handed out before has been written.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(pause) = &mut self.0 {
            return pause.as_mut().poll(cx);
        }
        // A server writes when the body has nothing for it, which must be so once even if this task is so late that the pause is
        // over when it is first looked at.
        let pause = self.0.insert(Box::pin(tokio::time::sleep(FLUSH_PAUSE)));
        if pause.as_mut().poll(cx).is_ready() {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }
}
