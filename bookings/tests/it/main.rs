//! Tests of the service behind its real socket, with a real database. Payments, which is another service, is played by a script.

mod access;
mod audit;
mod cancellations;
mod catalog;
mod harness;
mod holds;
mod import;
mod payments;
mod purchases;
mod races;
mod schema;
mod search;
