//! The tables that every service's database has, beside the service's own.

use diesel_migrations::{EmbeddedMigrations, embed_migrations};

/// Makes the tables of [`crate::idempotency`] and [`crate::outbox`]. Run before the service's own migrations, into the same history: no
/// service may use a version of these.
pub const MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations");
