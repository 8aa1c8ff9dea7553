//! The slowest pace at which a request body may come.

use std::future::Future as _;
use std::pin::Pin;
use std::task::Context;
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

use crate::wire::wide;

/// How long a body may take to get going before its pace is measured.
const GRACE: Duration = Duration::from_secs(10);

/// How long the pace is measured for at a time. The limit holds for each window, so a fast beginning does not pay for a
/// slow rest.
const WINDOW: Duration = Duration::from_secs(5);

/// Measures one body.
#[derive(Debug)]
pub(crate) struct Pace {
    /// What must come in each window, in bytes; 0 for no limit.
    window_bytes_min: u64,
    window_end: Instant,
    /// What has come in this window, in bytes.
    bytes: u64,
    grace: bool,
    /// Since when nobody waits for the body, if so.
    held: Option<Instant>,
}

impl Pace {
    /// Begins now, with the grace. `bytes_per_second_min` 0 is no limit.
    pub(crate) fn new(bytes_per_second_min: u32) -> Self {
        Self {
            window_bytes_min: u64::from(bytes_per_second_min) * WINDOW.as_secs(),
            window_end: Instant::now() + GRACE,
            bytes: 0,
            grace: true,
            held: None,
        }
    }

    /// Begins anew: what came before does not count, nor does the time in which nothing was expected.
    fn restart(&mut self) {
        self.window_end = Instant::now() + GRACE;
        self.bytes = 0;
        self.grace = true;
    }

    /// From now on nobody waits for the body; that time does not count.
    fn hold(&mut self) {
        self.held = Some(Instant::now());
    }

    /// Somebody waits again.
    fn resume(&mut self) {
        if let Some(held) = self.held.take() {
            self.window_end += held.elapsed();
        }
    }

    pub(crate) fn received(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_add(wide(bytes));
    }

    /// When [`Self::keeps`] is to be asked next; `None` for never.
    pub(crate) fn due(&self) -> Option<Instant> {
        (self.window_bytes_min > 0).then_some(self.window_end)
    }

    /// At the end of a window: whether enough has come. Begins the next.
    pub(crate) fn keeps(&mut self) -> bool {
        let now = Instant::now();
        if self.window_bytes_min == 0 || now < self.window_end {
            return true;
        }
        let kept = self.grace || self.bytes >= self.window_bytes_min;
        self.grace = false;
        self.bytes = 0;
        self.window_end = now + WINDOW;
        kept
    }
}

/// Measures a stream of messages: within each, and not between them, where a client may be silent as long as it likes.
#[derive(Debug)]
pub(crate) struct MessagePace {
    pace: Pace,
    /// Runs while the client is waited for within a message.
    timer: Option<Pin<Box<Sleep>>>,
}

impl MessagePace {
    /// `bytes_per_second_min` 0 is no limit.
    pub(crate) fn new(bytes_per_second_min: u32) -> Self {
        Self { pace: Pace::new(bytes_per_second_min), timer: None }
    }

    /// What came is handed on: until [`Self::resume`], nobody waits for the client.
    pub(crate) fn hold(&mut self) {
        self.pace.hold();
    }

    /// More is asked for.
    pub(crate) fn resume(&mut self) {
        self.pace.resume();
    }

    pub(crate) fn received(&mut self, bytes: usize) {
        self.pace.received(bytes);
    }

    /// Whether the client sends too slowly, asked when it is waited for. `inside`: the rest of a message is due. Wakes the
    /// task when it is to be asked again.
    pub(crate) fn dawdles(&mut self, cx: &mut Context<'_>, inside: bool) -> bool {
        if !inside {
            self.timer = None;
            return false;
        }
        if self.timer.is_none() {
            self.pace.restart();
            self.timer = self.pace.due().map(|due| Box::pin(sleep_until(due)));
        }
        while let Some(timer) = &mut self.timer
            && timer.as_mut().poll(cx).is_ready()
        {
            if !self.pace.keeps() {
                return true;
            }
            if let Some(due) = self.pace.due() {
                timer.as_mut().reset(due);
            }
        }
        false
    }
}
