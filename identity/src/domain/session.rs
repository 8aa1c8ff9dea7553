//! Sessions: how long they last, and what a presented refresh token means to one.
//!
//! Like the tokens that come out of them, sessions live on unshifted time: the simulator's clock signs nobody out.

use jiff::{SignedDuration, Timestamp};
use mesh::auth::PrincipalId;

mesh::typed_id!(
    /// A session, by the `sid` claim of its tokens.
    SessionId,
    "sessions"
);

/// How long after a refresh the spent token still gives the current one, for a client that lost the answer or asked twice at once.
pub const GRACE: SignedDuration = SignedDuration::from_secs(10);

/// Most sessions that a user has at once; the oldest make room.
pub const SESSIONS_MAX: i64 = 20;

/// How long sessions last.
#[derive(Clone, Copy, Debug)]
pub struct Lifetimes {
    /// Since the last refresh.
    pub idle: SignedDuration,
    /// In all.
    pub absolute: SignedDuration,
}

/// A session.
#[derive(Clone, Debug)]
pub struct Session {
    /// Which.
    pub id: SessionId,
    /// Whose.
    pub user: PrincipalId,
    /// How often it was refreshed; the number in its current refresh token.
    pub counter: i64,
    /// The key of its refresh tokens, encrypted.
    pub sealed_key: Vec<u8>,
    /// What the session list calls the client; may be empty.
    pub device_name: String,
    /// When it began.
    pub created_at: Timestamp,
    /// When it was last refreshed; at first, when it began.
    pub last_refreshed_at: Timestamp,
    /// When it ends unless refreshed before.
    pub idle_expires_at: Timestamp,
    /// When it ends in any case.
    pub absolute_expires_at: Timestamp,
    /// When it was ended.
    pub revoked_at: Option<Timestamp>,
    /// When the user last proved who they are.
    pub auth_time: Timestamp,
}

/// What a genuine refresh token means to its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presented {
    /// It is the current one.
    Current,
    /// It was spent a moment ago: give the current one again.
    JustSpent,
    /// It was spent long ago: two parties hold it, so the session must end.
    Replayed,
    /// The session is over, or never gave out such a token.
    Void,
}

impl Session {
    /// A session that begins now, with the password just checked.
    pub fn begin(
        id: SessionId,
        user: PrincipalId,
        sealed_key: Vec<u8>,
        device_name: String,
        lifetimes: Lifetimes,
        now: Timestamp,
    ) -> Self {
        Self {
            id,
            user,
            counter: 0,
            sealed_key,
            device_name,
            created_at: now,
            last_refreshed_at: now,
            idle_expires_at: now + lifetimes.idle,
            absolute_expires_at: now + lifetimes.absolute,
            revoked_at: None,
            auth_time: now,
        }
    }

    /// What a token with this counter means at `now`.
    pub fn presented(&self, counter: i64, now: Timestamp) -> Presented {
        let is_over =
            self.revoked_at.is_some() || now >= self.idle_expires_at || now >= self.absolute_expires_at;
        let behind = self.counter.saturating_sub(counter);
        if is_over || behind < 0 || counter < 0 {
            Presented::Void
        } else if behind == 0 {
            Presented::Current
        } else if behind == 1 && now.duration_since(self.last_refreshed_at) <= GRACE {
            Presented::JustSpent
        } else {
            Presented::Replayed
        }
    }
}

#[cfg(test)]
mod tests;
