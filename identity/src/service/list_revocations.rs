//! Lists what was revoked.

use mesh::token::Revocation;
use proto::identity::v1 as pb;

use crate::revocations::{Feed, News};

pub(super) fn reply(feed: &Feed, since_seq: i64) -> pb::ListRevocationsResponse {
    let since = feed.start_of(since_seq);
    let News { entries, head } = feed.after(since);
    pb::ListRevocationsResponse {
        seq: entries.last().map_or(head, |last| last.seq),
        revocations: entries.iter().map(Revocation::to_proto).collect(),
    }
}
