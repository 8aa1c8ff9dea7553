//! The gateway: REST/JSON for app clients on one address, gRPC to the services behind it.
//!
//! One request passes [`answer`] (request id, client address, security headers, access log), [`hygiene`] and [`cors`], then the transcoder, which finds the method by its
//! `google.api.http` rule and asks the [`gate`] about it: rate limit, access token, policy table, limits of size and time. Then the call goes to
//! its service over mTLS. Every route comes from the descriptors; there is no list of them here.

mod access_log;
pub mod answer;
pub mod client_address;
pub mod config;
pub mod cors;
pub mod csrf;
pub mod gate;
pub mod hygiene;
pub mod limiter;
mod refusal;
mod security_headers;
mod served;
pub mod session;
mod unreadable;

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use axum::{
    Router,
    body::Bytes,
    http::{StatusCode, header::CONTENT_TYPE},
    middleware,
    routing::get,
};
use diesel_migrations::EmbeddedMigrations;
use mesh::{
    client::Channel,
    run::{App, Context, Service},
    token::Verifier,
};
use transcoder::Transcoder;

pub use crate::config::Config;
use crate::{
    cors::Origins,
    csrf::{Csrf, Keys},
    gate::PolicyGate,
    limiter::Limiter,
    session::Sessions,
};

/// How often the limiter forgets clients that have been quiet: most budgets are whole again after a second.
const LIMITER_SWEEP: Duration = Duration::from_secs(10);

/// The gateway.
pub struct Edge;

impl Service for Edge {
    const NAME: &'static str = "edge";
    type Config = Config;

    fn migrations() -> Option<EmbeddedMigrations> {
        None
    }

    async fn start(context: Context<Config>) -> anyhow::Result<App> {
        let limiter = Arc::new(Limiter::new(&context.config.limits)?);
        let (connected, stop) = (limiter.keep_connected(), context.tasks.stop_token());
        context.tasks.spawn(async move {
            let _stopped = stop.run_until_cancelled(connected).await;
        });
        let swept = limiter.clone();
        context.tasks.every(LIMITER_SWEEP, move || {
            swept.forget_quiet_clients();
            std::future::ready(())
        });
        let browsers = &context.config.browsers;
        let keys = browsers.csrf_key_file.as_deref().map_or_else(|| Ok(Keys::random()), Keys::load)?;
        let csrf = Csrf::new(Origins::new(&browsers.origins), keys);
        Ok(App::Public(router(&context, limiter, Sessions::new(csrf))?, context.config.public.clone()))
    }
}

/// Every service of the contract that the world may reach, with the name of the workload that serves it.
fn routed_services() -> impl Iterator<Item = (String, &'static str)> {
    const PACKAGES: [(&str, &str); 3] = [
        ("jetway.identity.v1", "identity"),
        ("jetway.bookings.v1", "bookings"),
        ("jetway.payments.v1", "payments"),
    ];
    proto::descriptor_pool().services().filter_map(|service| {
        let (_, workload) = PACKAGES.iter().find(|(package, _)| *package == service.package_name())?;
        Some((service.full_name().to_owned(), *workload))
    })
}

fn router(context: &Context<Config>, limiter: Arc<Limiter>, sessions: Sessions) -> anyhow::Result<Router> {
    let config = &context.config;
    let upstreams: [(&str, Channel); 3] = [
        ("identity", context.channel("identity", &config.identity)?),
        ("bookings", context.channel("bookings", &config.bookings)?),
        ("payments", context.channel("payments", &config.payments)?),
    ];
    // A client should see that nothing was refunded, rather than nothing about refunds.
    let mut builder = Transcoder::builder(proto::DESCRIPTOR_SET)
        .gate(PolicyGate::new(context.verifier.clone(), Arc::clone(&limiter), sessions))
        .error_domain(gate::DOMAIN)
        .always_print_primitive_fields(true);
    for (service, workload) in routed_services() {
        let (_, channel) =
            upstreams.iter().find(|(name, _)| *name == workload).context("every workload has an upstream")?;
        builder = builder.upstream(service, channel.clone());
    }
    let transcoder = builder.build().context("compile the routes")?;
    let openapi = Bytes::from(transcoder.openapi("Jetway", "v1").to_string());
    let verifier = context.verifier.clone();
    Ok(Router::new()
        .route("/openapi.json", get(async move || ([(CONTENT_TYPE, "application/json")], openapi)))
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(async move || ready(&verifier)))
        .fallback_service(transcoder)
        .layer(middleware::from_fn_with_state(Origins::new(&config.browsers.origins), cors::layer))
        .layer(middleware::from_fn(hygiene::layer))
        .layer(middleware::from_fn(unreadable::layer))
        .layer(middleware::from_fn_with_state(answer::Settings::of(config, limiter), answer::layer)))
}

fn ready(verifier: &Verifier) -> (StatusCode, &'static str) {
    if verifier.has_keys() {
        (StatusCode::OK, "ready\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready: no token keys yet\n")
    }
}
