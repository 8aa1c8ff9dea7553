//! `audit_events`: who did what to whom. Rows are only ever added; the database refuses everything else.

use diesel::ExpressionMethods as _;
use diesel_async::{AsyncPgConnection, RunQueryDsl as _};
use jiff::Timestamp;
use jiff_diesel::ToDiesel as _;

use crate::{error::Error, schema::audit_events::dsl};

/// How it ended.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Outcome {
    Done,
    /// It was so already.
    Unchanged,
    Refused,
}

/// One thing that happened.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    /// A word and a dot and a word, for example `role.assign`.
    pub(crate) action: &'static str,
    /// Who did it: a resource name, `anonymous` or `command-line`.
    pub(crate) actor: String,
    /// What it was done to: a resource name, or empty.
    pub(crate) target: String,
    pub(crate) outcome: Outcome,
    pub(crate) at: Timestamp,
}

/// The actor of a call without a user.
pub(crate) const ANONYMOUS: &str = "anonymous";

/// Adds a row, with the request id of the call that is being served.
pub(crate) async fn append(conn: &mut AsyncPgConnection, event: Event) -> Result<(), Error> {
    let outcome = match event.outcome {
        Outcome::Done => "done",
        Outcome::Unchanged => "unchanged",
        Outcome::Refused => "refused",
    };
    diesel::insert_into(dsl::audit_events)
        .values((
            dsl::ts.eq(event.at.to_diesel()),
            dsl::action.eq(event.action),
            dsl::actor.eq(event.actor),
            dsl::target.eq(event.target),
            dsl::outcome.eq(outcome),
            dsl::request_id.eq(mesh::server::request_id()),
        ))
        .execute(conn)
        .await?;
    Ok(())
}
