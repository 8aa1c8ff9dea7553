//! Tests of the service behind its real socket, with a real database.

mod admin;
mod config;
mod cookies;
mod discovery;
mod harness;
mod process;
mod revocations;
mod roles;
mod schema;
mod secrets;
mod sessions;
mod sign_in;
mod sign_up;
