//! What is known of tokens that were revoked before they expire, and how fresh that is.
//!
//! Read on every use of a token, so a read takes no lock: whoever learns something replaces the whole.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use arc_swap::{ArcSwap, ArcSwapOption};
use jiff::Timestamp;
use proto::identity::v1::{self as pb, revocation::Kind};
use uuid::Uuid;

use super::{Claims, LEEWAY_SECONDS, LIFE_SECONDS_MAX, TokenError};

/// How long an entry matters, in seconds: the longest that a token may live that was issued before, whatever lifetime was configured then, and a minute.
pub const ENTRY_LIFE_SECONDS: i64 = LIFE_SECONDS_MAX + LEEWAY_SECONDS + 60;

/// What is known counts as out of date when nothing was heard for so long.
pub const STALE_AFTER: Duration = Duration::from_secs(10);

/// Most sessions and users that are remembered, at 50 bytes or so each: ten a second for more than an hour and a half.
const ENTRIES_MAX: usize = 100_000;

/// How far behind forgetting may be, in seconds.
const FORGET_SECONDS: i64 = 60;

/// What was revoked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Revoked {
    /// A session: every token of it.
    Session(Uuid),
    /// What a user may do has changed: tokens with a lower `sv` are out of date.
    UserVersion {
        /// The user.
        user: Uuid,
        /// The lowest `sv` that is still good.
        sv: i64,
    },
    /// A signing key, by its name.
    Key(String),
}

/// An entry of the feed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revocation {
    /// Rises by one from entry to entry.
    pub seq: i64,
    /// What was revoked.
    pub what: Revoked,
    /// When no token that it concerns can be alive any more, in Unix seconds.
    pub expires_at: i64,
}

impl Revocation {
    /// The entry as it goes over the wire.
    pub fn to_proto(&self) -> pb::Revocation {
        let (kind, id, value) = match &self.what {
            Revoked::Session(session) => (Kind::Session, session.to_string(), 0),
            Revoked::UserVersion { user, sv } => (Kind::UserVersion, user.to_string(), *sv),
            Revoked::Key(kid) => (Kind::Key, kid.clone(), 0),
        };
        let expire_time = Some(prost_types::Timestamp { seconds: self.expires_at, nanos: 0 });
        pb::Revocation { seq: self.seq, kind: kind.into(), id, value, expire_time }
    }
}

/// What one process knows of revoked tokens. Clones share it.
#[derive(Clone, Default)]
pub struct Revocations(Arc<Shared>);

#[derive(Default)]
struct Shared {
    known: ArcSwap<Known>,
    heard_at: ArcSwapOption<Instant>,
}

/// Each entry with when it ends.
#[derive(Clone, Default)]
struct Known {
    sessions: HashMap<Uuid, i64>,
    users: HashMap<Uuid, (i64, i64)>,
    keys: HashMap<String, i64>,
    /// When the first of the sessions and users ends.
    first_end: i64,
    /// Entries of what was revoked by then had to make room: tokens that were issued by then could be theirs.
    forgotten: i64,
}

impl Revocations {
    /// Adds what was revoked.
    pub fn add(&self, entries: &[Revocation], now: Timestamp) {
        if !entries.is_empty() {
            self.0.known.rcu(|known| known.with(entries, now.as_second()));
        }
    }

    /// Notes that everything is known that was revoked until now.
    pub fn heard(&self, now: Timestamp) {
        self.heard_at(Instant::now(), now);
    }

    /// As [`Revocations::heard`], with the moment on the clock that age is measured by, which nobody sets.
    pub(crate) fn heard_at(&self, moment: Instant, now: Timestamp) {
        self.0.heard_at.store(Some(Arc::new(moment)));
        if self.0.known.load().is_behind(now.as_second()) {
            self.0.known.rcu(|known| known.with(&[], now.as_second()));
        }
    }

    /// How long ago everything was known; `None` when it never was.
    pub fn age(&self) -> Option<Duration> {
        self.0.heard_at.load().as_ref().map(|at| at.elapsed())
    }

    /// Whether too little is known to decide on what is at stake most.
    pub fn is_stale(&self) -> bool {
        self.age().is_none_or(|age| age > STALE_AFTER)
    }

    /// Whether the token with these claims, signed with this key, is still good.
    ///
    /// # Errors
    ///
    /// [`TokenError::Revoked`], or [`TokenError::Stale`] when a refresh helps.
    pub(super) fn check(&self, claims: &Claims, kid: &str) -> Result<(), TokenError> {
        let known = self.0.known.load();
        if known.sessions.contains_key(&claims.sid) || known.keys.contains_key(kid) {
            return Err(TokenError::Revoked);
        }
        let changed = known.users.get(&claims.sub).is_some_and(|(sv, _)| claims.sv < *sv);
        if changed || claims.iat <= known.forgotten { Err(TokenError::Stale) } else { Ok(()) }
    }
}

impl Known {
    /// The same with these entries, without those that have ended.
    fn with(&self, entries: &[Revocation], now: i64) -> Self {
        let mut new = self.clone();
        for entry in entries {
            let end = entry.expires_at;
            match &entry.what {
                Revoked::Session(session) => {
                    new.sessions.insert(*session, end);
                }
                Revoked::UserVersion { user, sv } => {
                    let (lowest, until) = new.users.entry(*user).or_insert((*sv, end));
                    (*lowest, *until) = ((*lowest).max(*sv), (*until).max(end));
                }
                Revoked::Key(kid) => {
                    new.keys.insert(kid.clone(), end);
                }
            }
        }
        new.keys.retain(|_, end| *end >= now);
        new.forget_until(now - 1);
        let count = new.sessions.len() + new.users.len();
        if count > ENTRIES_MAX {
            // A quarter, so that this is not done again for each.
            let mut ends: Vec<_> = new.ends().collect();
            let (_, end, _) = ends.select_nth_unstable(count / 4);
            // The clock that tokens are issued by may be a little ahead of the one that entries are written by.
            new.forgotten = new.forgotten.max(*end - ENTRY_LIFE_SECONDS + LEEWAY_SECONDS);
            new.forget_until(*end);
            tracing::warn!(
                count,
                "too many revocations to remember: tokens as old as the first are refused until refreshed"
            );
        }
        new.first_end = new.ends().min().unwrap_or(i64::MAX);
        new
    }

    fn forget_until(&mut self, end: i64) {
        self.sessions.retain(|_, ends| *ends > end);
        self.users.retain(|_, (_, ends)| *ends > end);
    }

    fn ends(&self) -> impl Iterator<Item = i64> {
        self.sessions.values().copied().chain(self.users.values().map(|(_, end)| *end))
    }

    fn is_behind(&self, now: i64) -> bool {
        let empty = self.sessions.is_empty() && self.users.is_empty();
        !empty && self.first_end.saturating_add(FORGET_SECONDS) < now
    }
}

#[cfg(test)]
mod tests;
