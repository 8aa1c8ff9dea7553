//! Payments: the card vault, payment intents, refunds, and the double-entry ledger.
//!
//! A call that moves money goes through [`service`]: it claims its request id, locks the payment, moves its state machine ([`domain`]), writes an
//! attempt and commits; only then does [`acquiring`] ask the [`acquirer`], and a second transaction applies the answer together with the ledger
//! entries, the event and the stored response. A process that dies in between leaves an open attempt, which the janitor ([`jobs`]) asks the acquirer
//! about by its reference; the reference is the same for ever, so nothing is ever done twice. [`audit`] says whether the books are right. What has
//! happened is told to whoever asked for it by [`webhooks`].

pub mod acquirer;
mod acquiring;
pub mod audit;
pub mod config;
pub mod domain;
pub mod error;
mod events;
mod jobs;
mod schema;
mod service;
mod store;
pub mod vault;
mod webhooks;

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use diesel_migrations::{EmbeddedMigrations, embed_migrations};
use jiff::SignedDuration;
use mesh::run::{App, Context, Service};
use proto::payments::v1::{
    delivery_service_server::DeliveryServiceServer, ledger_service_server::LedgerServiceServer,
    payment_intent_service_server::PaymentIntentServiceServer,
    payment_method_service_server::PaymentMethodServiceServer, refund_service_server::RefundServiceServer,
    simulator_service_server::SimulatorServiceServer,
    webhook_endpoint_service_server::WebhookEndpointServiceServer,
};
use tonic::service::Routes;

pub use self::config::Config;
use self::{
    acquirer::{Acquirer, Simulated},
    acquiring::Acquiring,
    service::{Admission, Handlers},
    vault::{FileKeys, Vault},
    webhooks::{Worker, address::Rules, deliver::Client},
};

/// The tables of this service.
pub const MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations");

/// The service.
#[derive(Debug)]
pub struct Payments;

impl Service for Payments {
    const NAME: &'static str = "payments";
    type Config = Config;

    fn migrations() -> Option<EmbeddedMigrations> {
        Some(MIGRATIONS)
    }

    async fn start(context: Context<Config>) -> anyhow::Result<App> {
        let acquirer = Simulated::new(context.channel("acquirer", &context.config.acquirer)?);
        let config = context.config.clone();
        assemble(context, &config, Arc::new(acquirer))
    }
}

/// Puts the service together around an acquirer.
///
/// # Errors
///
/// When the vault's keys cannot be read.
pub fn assemble<C>(context: Context<C>, config: &Config, acquirer: Arc<dyn Acquirer>) -> anyhow::Result<App> {
    let keys = FileKeys::read(&config.keys.file).context("read the vault's keys")?;
    let acquiring =
        Acquiring { db: context.db(), clock: context.clock, vault: Vault::new(Arc::new(keys)), acquirer };
    let age =
        SignedDuration::try_from(Duration::from_millis(config.janitor.age_ms)).context("`janitor.age_ms`")?;
    jobs::janitor::start(&context.tasks, &acquiring, Duration::from_millis(config.janitor.interval_ms), age);
    let rules = Rules { http: config.simulator, networks: config.webhooks.allowed_networks.clone() };
    let timeout = Duration::from_millis(config.webhooks.timeout_ms);
    let client = Client::new(rules.clone(), config.webhooks.roots.as_deref(), timeout)?;
    let worker = Worker::new(
        acquiring.db.clone(),
        acquiring.clock.clone(),
        acquiring.vault.clone(),
        client,
        context.tasks.clone(),
        config.webhooks.concurrent_max,
    );
    jobs::webhooks::start(&context.tasks, &worker, Duration::from_millis(config.webhooks.interval_ms));
    let handlers = Arc::new(Handlers {
        acquiring,
        webhook_rules: rules,
        admission: Admission::of_pool(config.database.connections_max),
        simulator: config.simulator,
    });
    let mut routes = Routes::builder();
    routes
        .add_service(PaymentMethodServiceServer::from_arc(Arc::clone(&handlers)))
        .add_service(PaymentIntentServiceServer::from_arc(Arc::clone(&handlers)))
        .add_service(RefundServiceServer::from_arc(Arc::clone(&handlers)))
        .add_service(LedgerServiceServer::from_arc(Arc::clone(&handlers)))
        .add_service(WebhookEndpointServiceServer::from_arc(Arc::clone(&handlers)))
        .add_service(DeliveryServiceServer::from_arc(Arc::clone(&handlers)))
        .add_service(SimulatorServiceServer::from_arc(handlers));
    Ok(App::Mesh(routes.routes()))
}
