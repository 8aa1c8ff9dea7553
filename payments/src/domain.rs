//! What payments are about: values in, values out. No clock, no database, no randomness.

#![warn(clippy::arithmetic_side_effects)]

pub mod attempt;
pub mod card;
pub mod ledger;
pub mod money;
pub mod payment_intent;
pub mod refund;
pub mod webhook;
