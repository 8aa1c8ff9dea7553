//! Follows what `identity` tells of revoked tokens.

use std::time::Duration;

use proto::identity::v1::{
    self as pb, WatchRevocationsRequest, WatchRevocationsResponse, revocation::Kind,
    token_status_service_client::TokenStatusServiceClient,
};
use tokio::time::{error::Elapsed, timeout};
use tonic::Status;

use super::revocations::{ENTRY_LIFE_SECONDS, Revocation, Revocations, Revoked};
use crate::{client::Channel, clock::Clock};

/// A feed that says nothing for so long is asked for anew: it has a heartbeat a second.
const SILENCE_MAX: Duration = Duration::from_secs(4);

/// The pause before a lost feed is asked for again, doubled up to the longest.
const PAUSE: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// Why a feed ended.
#[derive(Debug, thiserror::Error)]
enum Lost {
    #[error("refused or broken off: {:?}", .0.code())]
    Failed(#[from] Status),
    #[error("silent")]
    Silent(#[from] Elapsed),
    #[error("ended")]
    Ended,
}

/// Tells `revocations` what comes over `channel`, which must set no deadline of its own, for ever.
pub(crate) async fn follow(revocations: Revocations, channel: Channel) {
    let mut client = TokenStatusServiceClient::new(channel);
    let mut follower = Follower { revocations, seq: 0, pause: PAUSE };
    loop {
        let lost = follower.watch(&mut client).await;
        tracing::warn!(cause = %lost, pause_ms = follower.pause.as_millis(), "the feed of revocations is lost; asking again");
        tokio::time::sleep(follower.pause.mul_f64(rand::random_range(0.8..=1.2))).await;
        follower.pause = (follower.pause * 2).min(PAUSE_MAX);
    }
}

struct Follower {
    revocations: Revocations,
    /// The last entry seen.
    seq: i64,
    pause: Duration,
}

impl Follower {
    async fn watch(&mut self, client: &mut TokenStatusServiceClient<Channel>) -> Lost {
        let request = WatchRevocationsRequest { since_seq: self.seq };
        let mut stream = match timeout(SILENCE_MAX, client.watch_revocations(request)).await {
            Ok(Ok(response)) => response.into_inner(),
            Ok(Err(status)) => return status.into(),
            Err(elapsed) => return elapsed.into(),
        };
        loop {
            match timeout(SILENCE_MAX, stream.message()).await {
                Ok(Ok(Some(message))) => self.learn(message),
                Ok(Ok(None)) => return Lost::Ended,
                Ok(Err(status)) => return status.into(),
                Err(elapsed) => return elapsed.into(),
            }
        }
    }

    fn learn(&mut self, message: WatchRevocationsResponse) {
        let now = Clock::system_now();
        if let Some(last) = message.revocations.last() {
            self.seq = last.seq;
        }
        let entries: Vec<_> = message.revocations.into_iter().filter_map(read).collect();
        self.revocations.add(&entries, now);
        if let Some(heartbeat) = message.heartbeat {
            self.seq = heartbeat.seq;
            self.pause = PAUSE;
            self.revocations.heard(now);
        }
    }
}

/// An entry as it came. One that says nothing to this version of the program is left out, and said so.
fn read(entry: pb::Revocation) -> Option<Revocation> {
    let what = match entry.kind() {
        Kind::Session => entry.id.parse().ok().map(Revoked::Session),
        Kind::UserVersion => entry.id.parse().ok().map(|user| Revoked::UserVersion { user, sv: entry.value }),
        Kind::Key => Some(Revoked::Key(entry.id)),
        Kind::Unspecified => None,
    };
    if what.is_none() {
        tracing::error!(seq = entry.seq, kind = entry.kind, "a revocation that cannot be read");
    }
    let unknown_end = || Clock::system_now().as_second() + ENTRY_LIFE_SECONDS;
    let expires_at = entry.expire_time.map_or_else(unknown_end, |time| time.seconds);
    Some(Revocation { seq: entry.seq, what: what?, expires_at })
}
