//! The gateway: REST/JSON for app clients on one address, gRPC to the services behind it.
//!
//! One request passes [`answer`] (request id, client address, security headers, access log; within it [`hygiene`] and [`cors`]), then the transcoder, which finds the method by its
//! `google.api.http` rule and asks the [`gate`] about it: rate limit, access token, policy table, limits of size and time. Then the call goes to
//! its service over mTLS, or to one of anybody's as [`upstreams`] says. Every route comes from the descriptors; there is no list of them here.

mod access_log;
pub mod answer;
pub mod client_address;
pub mod config;
pub mod cors;
pub mod csrf;
pub mod gate;
pub mod hygiene;
pub mod limiter;
mod openapi;
mod refusal;
mod routes;
mod security_headers;
mod served;
pub mod session;
mod unreadable;
pub mod upstreams;

use std::{sync::Arc, time::Duration};

use axum::{extract::Request, http::StatusCode, routing::get};
use diesel_migrations::EmbeddedMigrations;
use mesh::{
    accept::Handler,
    health::Readiness,
    run::{App, Context, Service},
    token::Verifier,
};

pub use crate::config::Config;
use crate::{
    answer::Gateway,
    cors::Origins,
    csrf::{Csrf, Keys},
    gate::PolicyGate,
    limiter::Limiter,
    routes::Routes,
    session::Sessions,
    upstreams::Upstreams,
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
        let keys = browsers.csrf_keys.as_deref().map_or_else(|| Ok(Keys::random()), Keys::load)?;
        let csrf = Csrf::new(Origins::new(&browsers.origins), keys);
        Ok(App::Public(handler(&context, limiter, Sessions::new(csrf))?, context.config.public.clone()))
    }
}

fn handler(context: &Context<Config>, limiter: Arc<Limiter>, sessions: Sessions) -> anyhow::Result<Handler> {
    let config = &context.config;
    let gate = PolicyGate::new(context.verifier.clone(), Arc::clone(&limiter), sessions);
    let upstreams = Upstreams::start(context, gate)?;
    let verifier = config.checks_tokens().then(|| context.verifier.clone());
    let readiness = context.readiness.clone();
    let documented = Arc::clone(&upstreams);
    let pages = openapi::routes(move || documented.serving().transcoder.openapi())
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(async move || ready(verifier.as_ref(), &readiness)))
        .method_not_allowed_fallback(async |request: Request| {
            refusal::method_not_allowed(request.extensions())
        });
    let paths = openapi::paths().chain(["/healthz", "/readyz"]).collect();
    let gateway = Arc::new(Gateway::new(config, limiter, Routes::new(pages, paths, upstreams)));
    Ok(Handler::new(move |request| {
        let gateway = Arc::clone(&gateway);
        async move { gateway.answer(request).await }
    }))
}

fn ready(verifier: Option<&Verifier>, readiness: &Readiness) -> (StatusCode, String) {
    match verifier.and_then(Verifier::waits_for).or_else(|| readiness.unmet()) {
        None => (StatusCode::OK, "ready\n".to_owned()),
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {why}\n")),
    }
}
