//! Rows and queries. A function here takes the connection, so that its caller owns the transaction, and decides nothing.
//!
//! Rows are locked in this order, and within a kind by key: request id · customer (advisory) · saga · booking · hold · counters of expired holds ·
//! named seats (advisory) · any seats (advisory, tried and never waited for) · counters. Counters come last because everybody wants them.

pub(crate) mod bookings;
pub(crate) mod cancellations;
pub(crate) mod catalog;
pub(crate) mod flights;
pub(crate) mod holds;
pub(crate) mod inventory;
pub(crate) mod sagas;

use crate::error::Error;

/// Reads a stored word; a word that does not exist is a broken row of `what`.
fn word<T>(found: Option<T>, what: &str, id: impl std::fmt::Display) -> Result<T, Error> {
    found.ok_or_else(|| Error::Corrupt(format!("{what} {id}")))
}
