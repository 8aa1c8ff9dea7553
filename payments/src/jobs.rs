//! Work that nobody calls for.

pub(crate) mod janitor;
