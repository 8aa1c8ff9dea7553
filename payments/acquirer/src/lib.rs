//! The simulated acquirer: the bank's side of every card payment, with a database and a socket of its own.
//!
//! It is the outside world of `payments`: what it booked is the truth that our ledger is compared with. A call carries a reference that is unique
//! for ever; the first call with it decides, under a lock on the reference, and every later one gets the first answer. How a card behaves is
//! written in [`cards`].

pub mod cards;
pub mod config;
pub mod error;
mod schema;
mod service;
mod store;

use diesel_migrations::{EmbeddedMigrations, embed_migrations};
use mesh::run::{App, Context, Service};
use proto::acquirer::v1::acquirer_service_server::AcquirerServiceServer;
use tonic::service::Routes;

pub use self::config::Config;

/// The tables of this service.
pub const MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations");

/// The service.
#[derive(Debug)]
pub struct Acquirer;

impl Service for Acquirer {
    const NAME: &'static str = "acquirer";
    type Config = Config;

    fn migrations() -> Option<EmbeddedMigrations> {
        Some(MIGRATIONS)
    }

    async fn start(context: Context<Config>) -> anyhow::Result<App> {
        let handlers = service::Handlers { db: context.db(), clock: context.clock };
        Ok(App::Mesh(Routes::new(AcquirerServiceServer::new(handlers))))
    }
}
