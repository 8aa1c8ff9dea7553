//! The feed of revoked tokens: what the table says, read twice a second by one task and told to everybody who follows, this process included.
//!
//! Twice a second is quick enough for the promise of two seconds, and costs one small query whatever the number of followers; a notification by
//! the database would need a connection that is watched all the same. The connection is the feed's own: sign-ins that wait for one do not hold
//! it up.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use mesh::{
    clock::Clock,
    config::DatabaseConfig,
    db::Db,
    token::{Revocation, Revocations},
};
use tokio::{sync::watch, time::Instant};

use crate::{error::Error, store};

/// Most entries that are read or told at once.
pub(crate) const PAGE: usize = 1_000;

/// A table that was read this long ago, at most, counts as read now.
const FRESH: Duration = Duration::from_secs(1);

/// What the table said when it was last read.
pub struct Feed {
    db: Db,
    /// What this process's own verifier knows.
    own: Revocations,
    state: Mutex<State>,
    /// How often the table was read.
    polls: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    /// Those that have not ended, by number.
    entries: VecDeque<Revocation>,
    /// The last number given out.
    head: i64,
    read_at: Option<Instant>,
}

/// What a follower is to be told.
pub(crate) struct News {
    pub(crate) entries: Vec<Revocation>,
    /// The last number given out.
    pub(crate) head: i64,
}

impl Feed {
    /// Reads the table for the first time, on a connection of the feed's own.
    ///
    /// # Errors
    ///
    /// When the connection cannot be configured, or the database fails.
    pub async fn open(database: &DatabaseConfig, own: Revocations) -> anyhow::Result<Self> {
        let db = Db::new(&DatabaseConfig { connections_max: 1, ..database.clone() })?;
        let feed = Self { db, own, state: Mutex::default(), polls: watch::Sender::new(0) };
        feed.poll().await?;
        Ok(feed)
    }

    /// Reads what has come since, and tells followers.
    ///
    /// # Errors
    ///
    /// The database's: then nobody hears anything, and what they know grows old.
    pub async fn poll(&self) -> Result<(), Error> {
        let mut conn = self.db.connection().await?;
        loop {
            // Whatever is committed from here on counts as news of the next time.
            let now = Clock::system_now();
            let head = self.state().head;
            let limit = i64::try_from(PAGE).expect("a page is small");
            let new = store::revocations::after(&mut conn, head, limit).await?;
            let is_last = new.len() < PAGE;
            self.own.add(&new, now);
            self.state().learn(new, now);
            if is_last {
                self.own.heard(now);
                break;
            }
        }
        self.state().read_at = Some(Instant::now());
        self.polls.send_modify(|polls| *polls += 1);
        Ok(())
    }

    /// Deletes what has ended.
    ///
    /// # Errors
    ///
    /// The database's.
    pub async fn prune(&self) -> Result<usize, Error> {
        let mut conn = self.db.connection().await?;
        store::revocations::prune(&mut conn, Clock::system_now()).await
    }

    /// The first [`PAGE`] entries after `seq`.
    pub(crate) fn after(&self, seq: i64) -> News {
        let state = self.state();
        let first = state.entries.partition_point(|entry| entry.seq <= seq);
        News { entries: state.entries.range(first..).take(PAGE).cloned().collect(), head: state.head }
    }

    /// The number to begin with for whoever has seen those up to `seq`: one that was never given out is of a database that is gone.
    pub(crate) fn start_of(&self, seq: i64) -> i64 {
        if seq > self.state().head { 0 } else { seq }
    }

    /// Changes with each time that the table is read.
    pub(crate) fn polls(&self) -> watch::Receiver<u64> {
        self.polls.subscribe()
    }

    /// Whether the table was read just now.
    pub(crate) fn is_fresh(&self) -> bool {
        self.state().read_at.is_some_and(|at| at.elapsed() <= FRESH)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn learn(&mut self, new: Vec<Revocation>, now: Timestamp) {
        if let Some(last) = new.last() {
            self.head = last.seq;
        }
        self.entries.extend(new);
        while self.entries.front().is_some_and(|first| first.expires_at < now.as_second()) {
            self.entries.pop_front();
        }
    }
}
