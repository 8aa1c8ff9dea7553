//! Tells what was revoked, and goes on telling.

use std::sync::Arc;

use futures::{
    StreamExt as _,
    stream::{self, BoxStream},
};
use mesh::token::Revocation;
use proto::identity::v1 as pb;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::revocations::{Feed, News};

/// A heartbeat is sent at each second reading of the table: once a second. Between them, and while the table cannot be read, there is none.
const POLLS_PER_HEARTBEAT: u64 = 2;

pub(super) type Messages = BoxStream<'static, Result<pb::WatchRevocationsResponse, Status>>;

struct Watcher {
    feed: Arc<Feed>,
    polls: watch::Receiver<u64>,
    /// The last number told.
    seq: i64,
    /// When the next heartbeat is due, in readings of the table.
    heartbeat_due: u64,
}

/// Ends only with the caller, or when the service drains.
pub(super) fn messages(feed: Arc<Feed>, since_seq: i64, draining: CancellationToken) -> Messages {
    let mut polls = feed.polls();
    let polled = *polls.borrow_and_update();
    // A caller must not take for news what was read long ago, before the database was lost.
    let heartbeat_due = if feed.is_fresh() { polled } else { polled + 1 };
    let seq = feed.start_of(since_seq);
    let watcher = Watcher { feed, polls, seq, heartbeat_due };
    let messages = stream::unfold(watcher, async |mut watcher| {
        let message = watcher.next().await?;
        Some((Ok(message), watcher))
    });
    messages.take_until(draining.cancelled_owned()).boxed()
}

impl Watcher {
    async fn next(&mut self) -> Option<pb::WatchRevocationsResponse> {
        loop {
            // Before the entries: a heartbeat says that those of this reading were told.
            let polled = *self.polls.borrow_and_update();
            let News { entries, head } = self.feed.after(self.seq);
            if let Some(last) = entries.last() {
                self.seq = last.seq;
                let revocations = entries.iter().map(Revocation::to_proto).collect();
                return Some(pb::WatchRevocationsResponse { revocations, heartbeat: None });
            }
            if polled >= self.heartbeat_due {
                self.heartbeat_due = polled + POLLS_PER_HEARTBEAT;
                let heartbeat = Some(pb::Heartbeat { seq: head });
                return Some(pb::WatchRevocationsResponse { revocations: Vec::new(), heartbeat });
            }
            self.polls.changed().await.ok()?;
        }
    }
}
