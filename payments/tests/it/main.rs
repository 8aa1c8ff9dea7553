//! Payments behind its real socket, with the real acquirer beside it, each on a database of its own.

mod cards;
mod harness;
mod intents;
mod invariants;
mod races;
mod recovery;
mod refunds;
mod schema;
mod secrets;
