//! How many calls a connection takes at once, and where those wait that find no place on any.
//!
//! A peer says how many streams it takes at once, and `h2` holds back what is more, where nobody sees it: such a call could go to another connection,
//! and nobody could say that it was never sent. So places are counted here, and a call without one is not given to `h2` at all.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;
use tokio::sync::futures::Notified;

/// Where the calls of a pool wait for a place on one of its connections.
#[derive(Debug, Default)]
pub(crate) struct Room {
    waiting: AtomicUsize,
    freed: Notify,
}

impl Room {
    /// Waits, from now on. What is freed after this is not missed.
    pub(crate) fn wait(&self) -> Waiting<'_> {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        Waiting(self)
    }

    /// One place is free.
    fn freed(&self) {
        // Costs those that wait for nobody one look.
        if self.waiting.load(Ordering::SeqCst) > 0 {
            self.freed.notify_one();
        }
    }

    /// There may be many more places, or another connection.
    pub(crate) fn changed(&self) {
        self.freed.notify_waiters();
    }
}

/// A call that waits for a place. One that stops waiting passes on what it was told.
pub(crate) struct Waiting<'a>(&'a Room);

impl Waiting<'_> {
    /// Completes when a place may be free. To be [enabled](Notified::enable) before it is looked for one.
    pub(crate) fn freed(&self) -> Notified<'_> {
        self.0.freed.notified()
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

/// The places of one connection.
#[derive(Debug)]
pub(crate) struct Places {
    room: Arc<Room>,
    /// The most that there ever are.
    most: usize,
    /// How many there are now.
    limit: AtomicUsize,
    taken: AtomicUsize,
    /// How many of those that are taken are of calls that nobody waits for any more, and which the peer has not been told of yet.
    cancelling: AtomicUsize,
}

impl Places {
    /// At most `most`, and no more than `limit` until the peer says how many.
    pub(crate) fn new(room: Arc<Room>, most: usize, limit: usize) -> Self {
        let none = AtomicUsize::default;
        Self { room, most, limit: AtomicUsize::new(limit.min(most)), taken: none(), cancelling: none() }
    }

    /// Calls that somebody waits for.
    pub(crate) fn in_flight(&self) -> usize {
        self.taken().saturating_sub(self.cancelling.load(Ordering::Relaxed))
    }

    pub(crate) fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }

    /// Whether there is a place, as far as is known.
    pub(crate) fn has_room(&self) -> bool {
        self.taken() < self.limit.load(Ordering::Relaxed)
    }

    /// How many calls the peer takes at once.
    pub(crate) fn set_limit(&self, limit: usize) {
        let limit = limit.min(self.most);
        if self.limit.swap(limit, Ordering::SeqCst) < limit {
            self.room.changed();
        }
    }

    /// Takes a place, if there is one: it must be given back.
    pub(crate) fn take(&self) -> bool {
        let limit = self.limit.load(Ordering::SeqCst);
        let next = |taken: usize| (taken < limit).then_some(taken + 1);
        self.taken.fetch_update(Ordering::SeqCst, Ordering::SeqCst, next).is_ok()
    }

    pub(crate) fn give_back(&self) {
        self.taken.fetch_sub(1, Ordering::SeqCst);
        self.room.freed();
    }

    /// Nobody waits for the call of one place any more.
    pub(crate) fn begin_cancelling(&self) {
        self.cancelling.fetch_add(1, Ordering::Relaxed);
    }

    /// The peer is told of it. The place still has to be given back.
    pub(crate) fn end_cancelling(&self) {
        self.cancelling.fetch_sub(1, Ordering::Relaxed);
    }
}
