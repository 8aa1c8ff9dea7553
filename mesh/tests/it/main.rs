//! Tests of the shared library against real parts.

mod accept;
mod busy;
mod calls;
mod channel;
mod database;
mod echo;
mod health;
mod idempotency;
mod outbox;
mod pagination;
mod peers;
mod postgres;
mod public;
mod revocations;
mod run;
mod tls;
mod transactions;
mod upstream;
mod validate;
