//! Tests of the shared library against real parts.

mod database;
mod idempotency;
mod outbox;
mod pagination;
mod postgres;
mod validate;
mod channel;
mod peers;
mod tls;
