//! A service whose only handler says who called it, behind everything that a real one is behind.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::response::Response;
use diesel_migrations::EmbeddedMigrations;
use futures::future::BoxFuture;
use http::HeaderMap;
use mesh::auth::Caller;
use mesh::call::Call;
use mesh::client::Channel;
use mesh::clock::Clock;
use mesh::config::{
    Configuration, DatabaseConfig, Parts, ServerConfig, TargetConfig, TelemetryConfig, TlsFiles,
};
use mesh::run::{self, App, Context, Running, Service};
use mesh::testing::{self, Issuer};
use proto::policy::Method;
use serde::{Deserialize, Serialize};
use tonic::Status;
use tonic::body::Body;
use tonic::service::Routes;
use tower::ServiceExt as _;

use crate::peers::answer;

/// Any signed-in user; reads only.
pub(crate) const GET_ME: &str = "/jetway.identity.v1.AccountService/GetMe";
/// The role `admin`; reads only.
pub(crate) const LIST_ROLES: &str = "/jetway.identity.v1.AdminService/ListRoles";
/// The role `admin`; two fields that must be right.
pub(crate) const ASSIGN_ROLE: &str = "/jetway.identity.v1.AdminService/AssignRole";
/// The workload `payments`; reads only.
pub(crate) const LIST_OPERATIONS: &str = "/jetway.acquirer.v1.AcquirerService/ListOperations";
/// Anybody; writes.
pub(crate) const SIGN_OUT: &str = "/jetway.identity.v1.AuthenticationService/SignOut";
/// Anybody; reads only.
pub(crate) const GET_JWKS: &str = "/jetway.identity.v1.DiscoveryService/GetJwks";

/// What the service does with every call that reaches it.
#[derive(Clone)]
pub(crate) struct Handler(Arc<dyn Fn(Request) -> BoxFuture<'static, Response> + Send + Sync>);

impl Handler {
    pub(crate) fn new<F, Fut>(handler: F) -> Self
    where
        F: Fn(Request) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Response> + Send + 'static,
    {
        Self(Arc::new(move |request| Box::pin(handler(request))))
    }
}

impl Default for Handler {
    fn default() -> Self {
        Self::new(|request| std::future::ready(echo(&request)))
    }
}

/// The caller, the request id and the token as the handler sees them.
fn echo(request: &Request) -> Response {
    let caller = request.extensions().get::<Caller>().expect("the layer put the caller in");
    let call = Call::current().expect("the handler is part of a call");
    let workload = caller.workload().unwrap_or_default();
    let user = caller.user().map(|user| user.id.to_string()).unwrap_or_default();
    let token = if call.token.is_some() { "yes" } else { "no" };
    let session_over = if caller.session_is_over() { "yes" } else { "no" };
    let mut response = answer(0);
    for (name, value) in [
        ("got-session-over", session_over),
        ("got-user", user.as_str()),
        ("got-workload", workload),
        ("got-request-id", &call.request_id),
        ("got-token", token),
    ] {
        response.headers_mut().insert(name, value.parse().expect("a header value"));
    }
    response
}

#[derive(Default, Serialize, Deserialize)]
pub(crate) struct Config {
    pub(crate) server: Option<ServerConfig>,
    pub(crate) telemetry: TelemetryConfig,
    pub(crate) tls: TlsFiles,
    pub(crate) identity: Option<TargetConfig>,
    pub(crate) database: Option<DatabaseConfig>,
    #[serde(skip)]
    pub(crate) handler: Handler,
}

impl Config {
    /// Free ports and the certificate of `bookings`; nothing else yet.
    pub(crate) fn new() -> Self {
        Self { server: Some(testing::free_ports()), tls: testing::certificate("bookings"), ..Self::default() }
    }

    pub(crate) async fn start(self) -> anyhow::Result<Running> {
        run::start::<Echo>(self, Clock::system(None)).await
    }
}

impl Configuration for Config {
    fn parts(&self) -> Parts<'_> {
        Parts {
            server: self.server.as_ref().expect("made by `new`"),
            telemetry: &self.telemetry,
            tls: &self.tls,
            database: self.database.as_ref(),
            identity: self.identity.as_ref(),
            clock_file: None,
        }
    }
}

/// The service itself.
struct Echo;

impl Service for Echo {
    const NAME: &'static str = "bookings";
    type Config = Config;

    fn migrations() -> Option<EmbeddedMigrations> {
        Some(mesh::migrations::MIGRATIONS)
    }

    async fn start(context: Context<Config>) -> anyhow::Result<App> {
        let handler = context.config.handler;
        let router = Router::new().fallback(move |request: Request| (handler.0)(request));
        Ok(App::Mesh(Routes::from(router)))
    }
}

/// The service with an issuer of tokens, ready for calls.
pub(crate) struct Platform {
    pub(crate) issuer: Issuer,
    pub(crate) running: Running,
}

impl Platform {
    pub(crate) async fn start(handler: Handler) -> Self {
        let issuer = Issuer::start().await;
        let config = Config { identity: Some(issuer.target()), handler, ..Config::new() };
        let running = config.start().await.expect("the service starts");
        soon(running.ready()).await;
        Self { issuer, running }
    }

    /// A channel to the service, as this peer.
    pub(crate) fn channel(&self, peer: &str) -> Channel {
        testing::channel(peer, "bookings", self.running.address())
    }
}

/// What a future returns, which it does within moments: a test that waits for what does not come fails.
pub(crate) async fn soon<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(30), future).await.expect("it happens soon")
}

/// The header and value that carry a token.
pub(crate) fn bearer(token: &str) -> (&'static str, String) {
    ("authorization", format!("Bearer {token}"))
}

/// Calls a method with these headers and this encoded message.
pub(crate) fn send(
    channel: &Channel,
    path: &str,
    headers: &[(&str, String)],
    message: &[u8],
) -> impl Future<Output = Result<HeaderMap, Status>> + Send + use<> {
    let mut request =
        http::Request::post(path).header("content-type", "application/grpc").header("te", "trailers");
    for (name, value) in headers {
        request = request.header(*name, value);
    }
    let length = u32::try_from(message.len()).expect("a short message").to_be_bytes();
    let frame = [&[0][..], &length, message].concat();
    let request = request.body(Body::new(http_body_util::Full::from(frame))).expect("a request");
    let channel = channel.clone();
    async move {
        let Ok(response) = channel.oneshot(request).await;
        match Status::from_header_map(response.headers()) {
            Some(status) if status.code() != tonic::Code::Ok => Err(status),
            Some(_) => Ok(response.headers().clone()),
            None => panic!("no status in {:?}", response.headers()),
        }
    }
}

/// Calls a method with an empty message.
pub(crate) async fn ask(
    channel: &Channel,
    path: &str,
    headers: &[(&str, String)],
) -> Result<HeaderMap, Status> {
    assert!(Method::of(path).is_some() || path.contains("Unknown"), "{path} is in the contract");
    send(channel, path, headers, &[]).await
}
