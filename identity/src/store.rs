//! Rows and queries. Every function takes the connection, so the caller owns the transaction; none decides anything.
//!
//! Locking order: the advisory lock of the signing keys; `roles`; `users`; `sessions`; the advisory lock of the
//! revocations.

pub(crate) mod audit;
pub(crate) mod credentials;
pub(crate) mod revocations;
pub(crate) mod roles;
pub(crate) mod sessions;
pub(crate) mod signing_keys;
pub(crate) mod users;
