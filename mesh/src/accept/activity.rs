//! What happens on one connection, as its two sides see it: the socket ([`super::wire`]) and the requests ([`super::requests`]).

use std::pin::pin;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::violation::Violation;

/// How many stretches of time parts of answers are counted by.
const STRETCHES: usize = 8;

/// How many whole stretches a part of an answer may lie unread.
pub(super) const STRETCHES_UNREAD_MAX: u32 = 4;

/// Why a connection should end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Overdue {
    /// There has been no request for a while.
    Idle,
    /// The peer reads nothing at all.
    Stalled,
    /// The peer lets a part of an answer lie that it asked for, whatever else it reads.
    Unread,
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
    /// When there was last a request in flight, in milliseconds after `opened`.
    busy_ms: AtomicU64,
    /// Bytes of answers that are in memory until the peer takes them.
    unread: AtomicUsize,
    /// Above so many, no further request is begun.
    unread_max: usize,
    /// There is room for another request.
    room: Notify,
    /// Which stretch of time this is, see [`Activity::next_stretch`].
    stretch: AtomicUsize,
    /// How many parts of answers were last taken from in which stretch, modulo their number.
    waiting: [AtomicUsize; STRETCHES],
    /// Answers say that the connection ends with them (HTTP/1.1).
    closing: AtomicBool,
    /// The refused request: which one, and why.
    refused: OnceLock<(u64, Violation)>,
    overdue: OnceLock<Overdue>,
    told: Notify,
}

impl Activity {
    /// `unread_max` as in [`super::Limits::max_unread_bytes`].
    pub(super) fn new(unread_max: usize) -> Self {
        Self {
            opened: Instant::now(),
            requests: AtomicU64::new(0),
            abandoned: AtomicU64::new(0),
            in_flight: AtomicUsize::new(0),
            busy_ms: AtomicU64::new(0),
            unread: AtomicUsize::new(0),
            unread_max,
            room: Notify::new(),
            stretch: AtomicUsize::new(0),
            waiting: [const { AtomicUsize::new(0) }; STRETCHES],
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

    /// A part of an answer of that many bytes waits for the peer. The stretch in which it does, for [`Self::left`] and [`Self::moved`].
    pub(super) fn handed_out(&self, bytes: usize) -> usize {
        self.unread.fetch_add(bytes, Ordering::Relaxed);
        let stretch = self.stretch.load(Ordering::Relaxed);
        self.count(stretch).fetch_add(1, Ordering::Relaxed);
        stretch
    }

    /// The peer took that many bytes, or will never take them.
    pub(super) fn taken(&self, bytes: usize) {
        let before = self.unread.fetch_sub(bytes, Ordering::Relaxed);
        if before > self.unread_max && before - bytes <= self.unread_max {
            self.room.notify_waiters();
        }
    }

    /// A part that waited since `stretch` made progress: it waits since now.
    pub(super) fn moved(&self, stretch: usize) -> usize {
        let now = self.stretch.load(Ordering::Relaxed);
        if now != stretch {
            self.count(now).fetch_add(1, Ordering::Relaxed);
            self.count(stretch).fetch_sub(1, Ordering::Relaxed);
        }
        now
    }

    /// A part that waited since `stretch` waits no more.
    pub(super) fn left(&self, stretch: usize) {
        self.count(stretch).fetch_sub(1, Ordering::Relaxed);
    }

    fn count(&self, stretch: usize) -> &AtomicUsize {
        let [first, ..] = &self.waiting;
        self.waiting.get(stretch % STRETCHES).unwrap_or(first)
    }

    /// Begins the next stretch of time. Whether a part has been waiting since before the last [`STRETCHES_UNREAD_MAX`] that were whole.
    ///
    /// Counting by stretches instead of a time for each part makes the question cheap, and needs no list of streams. Every stretch is asked about before its
    /// counter is used again.
    pub(super) fn next_stretch(&self) -> bool {
        let now = self.stretch.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        let whole = usize::try_from(STRETCHES_UNREAD_MAX).unwrap_or(STRETCHES);
        (whole + 1..STRETCHES).any(|age| {
            let old = now.checked_sub(age);
            old.is_some_and(|stretch| self.count(stretch).load(Ordering::Relaxed) > 0)
        })
    }

    /// Completes when the peer has few enough bytes unread for another answer.
    pub(super) async fn room(&self) {
        let is_there = || self.unread.load(Ordering::Relaxed) <= self.unread_max;
        while !is_there() {
            let mut room = pin!(self.room.notified());
            room.as_mut().enable();
            if !is_there() {
                room.await;
            }
        }
    }

    /// How long the connection has had no request, when it has none.
    pub(super) fn idle(&self) -> Option<Duration> {
        (!self.in_flight()).then(|| self.since(&self.busy_ms))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_that_lies_unread_is_noticed_after_whole_stretches_and_one_that_moves_is_not() {
        let activity = Activity::new(usize::MAX);
        let mut moving = activity.handed_out(10);
        for _ in 0..100 {
            assert!(!activity.next_stretch());
            moving = activity.moved(moving);
        }
        let lying = activity.handed_out(10);
        for _ in 0..STRETCHES_UNREAD_MAX {
            assert!(!activity.next_stretch());
            moving = activity.moved(moving);
        }
        assert!(activity.next_stretch());
        activity.left(lying);
        assert!(!activity.next_stretch());
    }
}
