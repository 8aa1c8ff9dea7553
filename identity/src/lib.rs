//! Users, roles, sessions and tokens.
//!
//! A sign-in, from front to back: the layers of [`mesh::server`] have checked the peer and the shape of the request when
//! `service/sign_in.rs` turns it into an identifier and a [`domain::Password`]. `store::credentials` finds the hash, [`password`] compares on one of its
//! own threads while no connection is held, and one transaction writes the session. [`signing`] signs the access token with a key
//! that all replicas share; [`domain::RefreshToken`] computes the refresh token from the session's own key, which [`kek`] keeps
//! encrypted. What ends a session or changes a role is told to every verifier of tokens by [`revocations`]. Errors become statuses in [`error`].
//!
//! Domain code knows no database and no clock; only `store/` knows tables; only `service/` and `error.rs` know the wire.

pub mod admin;
pub mod config;
pub mod domain;
pub mod error;
pub mod kek;
pub mod password;
pub mod revocations;
mod schema;
mod service;
pub mod signing;
mod store;

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use diesel_migrations::{EmbeddedMigrations, embed_migrations};
use mesh::run::{App, Context, Service};
use proto::identity::v1::{
    account_service_server::AccountServiceServer, admin_service_server::AdminServiceServer,
    authentication_service_server::AuthenticationServiceServer,
    discovery_service_server::DiscoveryServiceServer, token_status_service_server::TokenStatusServiceServer,
};
use tonic::service::Routes;

pub use crate::{config::Config, error::Error};
use crate::{kek::KeyRing, password::Passwords, revocations::Feed, service::Handlers, signing::SigningKeys};

/// The service's own tables.
pub const MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations");

/// How often the signing keys are read again, so that replicas agree.
const KEYS_INTERVAL: Duration = Duration::from_mins(1);

/// How often entries of the feed that have ended are deleted.
const PRUNE_INTERVAL: Duration = Duration::from_mins(1);

/// The service.
pub struct Identity;

impl Service for Identity {
    const NAME: &'static str = "identity";
    type Config = Config;

    fn migrations() -> Option<EmbeddedMigrations> {
        Some(MIGRATIONS)
    }

    async fn start(context: Context<Config>) -> anyhow::Result<App> {
        let kek = Arc::new(KeyRing::load(&context.config.keys.file)?);
        let keys = SigningKeys::open(context.db(), Arc::clone(&kek), context.verifier.clone());
        let keys = Arc::new(keys.await.context("open the signing keys")?);
        let passwords = Passwords::start(&context.config.password).context("start the password threads")?;
        let reloaded = Arc::clone(&keys);
        context.tasks.every(KEYS_INTERVAL, move || {
            let keys = Arc::clone(&reloaded);
            async move {
                if let Err(error) = keys.reload().await {
                    let cause: &dyn std::error::Error = &error;
                    tracing::warn!(error = cause, "signing keys stay as they were");
                }
            }
        });
        let feed = follow(&context).await.context("read the revocations")?;
        let handlers = Arc::new(Handlers {
            db: context.db(),
            clock: context.clock.clone(),
            passwords,
            kek,
            keys,
            tokens: context.config.tokens,
            feed,
            draining: context.draining,
        });
        let routes = Routes::new(AuthenticationServiceServer::from_arc(Arc::clone(&handlers)))
            .add_service(AccountServiceServer::from_arc(Arc::clone(&handlers)))
            .add_service(AdminServiceServer::from_arc(Arc::clone(&handlers)))
            .add_service(DiscoveryServiceServer::from_arc(Arc::clone(&handlers)))
            .add_service(TokenStatusServiceServer::from_arc(handlers));
        Ok(App::Mesh(routes))
    }
}

/// Reads the revocations, and goes on reading them.
async fn follow(context: &Context<Config>) -> anyhow::Result<Arc<Feed>> {
    let own = context.verifier.revocations().clone();
    let feed = Arc::new(Feed::open(&context.config.database, own).await?);
    let (read, pruned) = (Arc::clone(&feed), Arc::clone(&feed));
    context.tasks.every(Duration::from_millis(context.config.tokens.revocation_poll_ms), move || {
        let feed = Arc::clone(&read);
        async move {
            if let Err(error) = feed.poll().await {
                let cause: &dyn std::error::Error = &error;
                tracing::warn!(error = cause, "revocations cannot be read");
            }
        }
    });
    context.tasks.every(PRUNE_INTERVAL, move || {
        let feed = Arc::clone(&pruned);
        async move {
            if let Err(error) = feed.prune().await {
                let cause: &dyn std::error::Error = &error;
                tracing::warn!(error = cause, "old revocations cannot be deleted");
            }
        }
    });
    Ok(feed)
}
