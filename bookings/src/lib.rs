//! Catalogue, flights, seats, holds and bookings.
//!
//! How a seat is sold, and where to read about each step:
//!
//! 1. `CreateHold` ([`service`]) takes the seats and the space of a cabin for ten minutes, in one transaction whose guarded writes
//!    ([`store::inventory`]) refuse a second buyer. Expiry is a matter of time: whoever wants a seat of a hold that is over ends that hold
//!    first, and [`jobs`] only tidies up after those that nobody wants.
//! 2. `CreateBooking` pins the hold, and stores a booking and a saga in one transaction. Its reply is `PENDING`.
//! 3. [`saga`] carries the purchase on: payment intent, authorisation, capture, then tickets. What follows from which answer of payments is
//!    said in [`domain::saga`]. Before the capture a refusal is made good; after it there is only forward. So every booking ends.
//! 4. Canceling is a quote and its confirmation, which frees the seats at once; another saga gives the money back.
//!
//! [`audit`] looks for what must never be.

pub mod audit;
pub mod config;
pub mod domain;
pub mod error;
pub mod import;
pub mod jobs;
pub mod saga;
mod schema;
mod service;
mod store;

use std::sync::Arc;

use diesel_migrations::{EmbeddedMigrations, embed_migrations};
use mesh::run::{App, Context, Service};
use tokio::sync::Notify;

pub use config::Config;

/// The service's own tables and views.
pub const MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations");

/// The service `bookings`.
pub struct Bookings;

impl Service for Bookings {
    const NAME: &'static str = "bookings";
    type Config = Config;

    fn migrations() -> Option<EmbeddedMigrations> {
        Some(MIGRATIONS)
    }

    async fn start(context: Context<Config>) -> anyhow::Result<App> {
        let wake = Arc::new(Notify::new());
        let payments = context.channel("payments", &context.config.payments)?;
        saga::Runner::new(
            context.db(),
            context.clock.clone(),
            context.tasks.clone(),
            payments,
            saga::Settings::from(&context.config),
            Arc::clone(&wake),
        )
        .spawn();
        jobs::sweep(&context.tasks, context.db(), context.clock.clone(), context.config.sweep_interval());
        let api = service::Api {
            db: context.db(),
            clock: context.clock,
            wake,
            hold_ttl_seconds: context.config.hold_ttl_seconds,
        };
        Ok(App::Mesh(api.routes()))
    }
}
