//! Work that nobody calls for.

pub(crate) mod janitor;
pub(crate) mod webhooks;
