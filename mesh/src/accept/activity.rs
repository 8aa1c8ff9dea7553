//! What happens on one connection, as its two sides see it: the socket ([`super::wire`]) and the requests ([`super::requests`]).

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::violation::Violation;

/// Why a connection should end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Overdue {
    /// There has been no request for a while.
    Idle,
    /// The peer takes nothing of what it asked for.
    Stalled,
    /// The peer takes back most of what it asks for.
    Abandons,
}

/// Shared by the two sides of one connection.
#[derive(Debug)]
pub(super) struct Activity {
    opened: Instant,
    /// Requests so far.
    requests: AtomicU64,
    /// Those that the peer took back before they were answered.
    abandoned: AtomicU64,
    in_flight: AtomicUsize,
    /// Answers of which a part was handed out and nothing asked for since: it is the peer that is waited for.
    handed_out: AtomicUsize,
    /// When there was last a request in flight, in milliseconds after `opened`.
    busy_ms: AtomicU64,
    /// When a byte was last written, likewise.
    written_ms: AtomicU64,
    /// Answers say that the connection ends with them (HTTP/1.1).
    closing: AtomicBool,
    /// The refused request: which one, and why.
    refused: OnceLock<(u64, Violation)>,
    overdue: OnceLock<Overdue>,
    told: Notify,
}

impl Activity {
    pub(super) fn new() -> Self {
        Self {
            opened: Instant::now(),
            requests: AtomicU64::new(0),
            abandoned: AtomicU64::new(0),
            in_flight: AtomicUsize::new(0),
            handed_out: AtomicUsize::new(0),
            busy_ms: AtomicU64::new(0),
            written_ms: AtomicU64::new(0),
            closing: AtomicBool::new(false),
            refused: OnceLock::new(),
            overdue: OnceLock::new(),
            told: Notify::new(),
        }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn since(&self, then: &AtomicU64) -> Duration {
        Duration::from_millis(self.now_ms().saturating_sub(then.load(Ordering::Relaxed)))
    }

    /// A request begins; its number, from 1.
    pub(super) fn begin(&self) -> u64 {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        self.requests.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// A request and its answer are over.
    pub(super) fn end(&self) {
        self.busy_ms.store(self.now_ms(), Ordering::Relaxed);
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
    }

    /// A request was taken back, and this is one of too many.
    pub(super) fn abandon(&self, max: u64) {
        let abandoned = self.abandoned.fetch_add(1, Ordering::Relaxed) + 1;
        if abandoned > max && abandoned.saturating_mul(2) > self.requests.load(Ordering::Relaxed) {
            self.tell(Overdue::Abandons);
        }
    }

    pub(super) fn in_flight(&self) -> bool {
        self.in_flight.load(Ordering::Relaxed) > 0
    }

    pub(super) fn hand_out(&self) {
        if self.handed_out.fetch_add(1, Ordering::Relaxed) == 0 {
            // Nothing was waited for until now.
            self.wrote();
        }
    }

    pub(super) fn take_back(&self) {
        self.handed_out.fetch_sub(1, Ordering::Relaxed);
    }

    /// Bytes went to the peer.
    pub(super) fn wrote(&self) {
        self.written_ms.store(self.now_ms(), Ordering::Relaxed);
    }

    /// How long the connection has had no request, when it has none.
    pub(super) fn idle(&self) -> Option<Duration> {
        (!self.in_flight()).then(|| self.since(&self.busy_ms))
    }

    /// How long the peer has taken nothing, when something waits for it.
    pub(super) fn stalled(&self) -> Option<Duration> {
        (self.handed_out.load(Ordering::Relaxed) > 0).then(|| self.since(&self.written_ms))
    }

    /// Lets the next answer be the last.
    pub(super) fn close_after_answer(&self) {
        self.closing.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Relaxed)
    }

    /// The request after those that have begun is refused.
    ///
    /// Only for HTTP/1.1, where a request is read when the one before it has begun and hyper has nothing else in hand.
    pub(super) fn refuse(&self, number: u64, violation: Violation) {
        let _already = self.refused.set((number, violation));
    }

    /// Why the request with this number is refused, when it is.
    pub(super) fn refusal(&self, number: u64) -> Option<Violation> {
        self.refused.get().filter(|(refused, _)| *refused == number).map(|(_, violation)| *violation)
    }

    /// Says that the connection should end.
    pub(super) fn tell(&self, overdue: Overdue) {
        if self.overdue.set(overdue).is_ok() {
            self.told.notify_one();
        }
    }

    /// Completes when the connection should end, for the first reason there was.
    pub(super) async fn overdue(&self) -> Overdue {
        loop {
            let told = self.told.notified();
            if let Some(overdue) = self.overdue.get() {
                return *overdue;
            }
            told.await;
        }
    }
}
