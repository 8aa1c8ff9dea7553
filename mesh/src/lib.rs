//! What every service needs and no service is about.
//!
//! A service's `main` is one call of [`run::run`], which reads [`config`], opens [`db`], fetches the keys of [`token`], listens with [`accept`] and serves the
//! service's handlers behind the layers of [`server`]: request id and log, [`auth`] (peer certificate, user token, policy table), [`validate`], deadline.
//! Handlers then find their caller with [`auth::Caller::of`], do their work in one [`db::Db::transaction`], and refuse with
//! [`status::Refusal`]. Calls to peers go through a [`client::Channel`]; repeated requests are answered by [`idempotency`], facts for others are
//! rows of the [`outbox`].
//!
//! This crate knows no service's nouns.

extern crate self as mesh;

pub mod accept;
pub mod admin;
pub mod audit;
pub mod auth;
pub mod ca;
pub mod call;
pub mod client;
pub mod clock;
pub mod config;
pub mod db;
pub mod free_text;
pub mod health;
pub mod id;
pub mod idempotency;
pub mod key_file;
pub mod migrations;
pub mod outbox;
pub mod pagination;
pub mod postgres;
pub mod run;
mod schema;
pub mod server;
pub mod status;
pub mod tasks;
pub mod telemetry;
#[cfg(feature = "testing")]
pub mod testing;
mod timeout;
pub mod tls;
pub mod token;
pub mod validate;
