//! Rows and queries. Every function takes the connection, so the caller owns the transaction; none decides anything.
//!
//! Locking order: payment intent, payment method, refund, attempt, ledger balances in ascending account id. Apart from these: webhook event, webhook
//! endpoint, delivery.

pub(crate) mod attempts;
pub(crate) mod captures;
pub(crate) mod intents;
pub(crate) mod ledger;
pub(crate) mod merchants;
pub(crate) mod methods;
pub(crate) mod refunds;
pub(crate) mod webhooks;

use crate::{domain::money::Money, error::Error};

/// A stored amount.
fn money(row: impl std::fmt::Display, currency: &str, minor: i64) -> Result<Money, Error> {
    Money::new(currency, minor).map_err(|_| Error::Corrupt(row.to_string()))
}
