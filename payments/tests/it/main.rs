//! Payments behind its real socket, with the real acquirer beside it, each on a database of its own.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod access;
mod cards;
mod harness;
mod intents;
mod invariants;
mod races;
mod recovery;
mod refunds;
mod schema;
mod secrets;
mod webhooks;
