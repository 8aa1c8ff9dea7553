//! Tests of the shared library against real parts.

mod accept;
mod channel;
mod database;
mod idempotency;
mod outbox;
mod pagination;
mod peers;
mod postgres;
mod tls;
mod validate;
