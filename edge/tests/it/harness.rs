//! An edge, an issuer of tokens, and a `bookings` that says what reached it.

mod authentication;

use std::{
    path::PathBuf,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use edge::{
    Edge,
    config::{Config, LimitsConfig},
};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use mesh::{
    auth::PrincipalId,
    clock::Clock,
    config::{Configuration, Parts, ServerConfig, TargetConfig, TelemetryConfig, TlsFiles},
    run::{self, App, Context, Running, Service},
    testing::{self, Issuer},
};
use proto::{
    bookings::v1::{
        CreateHoldRequest, GetHoldRequest, Hold, ReleaseHoldRequest,
        hold_service_server::{HoldService, HoldServiceServer},
    },
    identity::v1::authentication_service_server::AuthenticationServiceServer,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tonic::{Request as Call, Response as Reply, Status, metadata::MetadataMap, service::Routes};

pub(crate) use self::authentication::Authentication;

/// What reached the service.
pub(crate) struct Seen {
    pub(crate) metadata: MetadataMap,
    pub(crate) request_id: String,
}

/// An answer of the edge.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
}

impl Answer {
    /// The `reason` of the error.
    pub(crate) fn reason(&self) -> &str {
        let details = self.body["details"].as_array().map_or(&[][..], Vec::as_slice);
        details.iter().find_map(|detail| detail["reason"].as_str()).unwrap_or_default()
    }
}

pub(crate) struct TestEdge {
    edge: Running,
    pub(crate) bookings: Option<Running>,
    pub(crate) seen: Arc<Mutex<Vec<Seen>>>,
    pub(crate) authentication: Authentication,
    issuer: Issuer,
    client: Client<HttpConnector, Full<Bytes>>,
}

impl TestEdge {
    pub(crate) async fn start() -> Self {
        Self::start_with(LimitsConfig::default().times(1000)).await
    }

    pub(crate) async fn start_with(limits: LimitsConfig) -> Self {
        Self::start_configured(|config| config.limits = limits).await
    }

    /// Starts one with limits that no test meets, and what `configure` changes.
    pub(crate) async fn start_configured(configure: impl FnOnce(&mut Config)) -> Self {
        let authentication = Authentication::default();
        let routes = Routes::new(AuthenticationServiceServer::new(authentication.clone()));
        let issuer = Issuer::start_with(routes).await;
        let seen = Arc::default();
        let config = ScriptedConfig {
            identity: issuer.target(),
            tls: testing::certificate("bookings"),
            seen: Arc::clone(&seen),
            ..ScriptedConfig::default()
        };
        let bookings = run::start::<Scripted>(config, Clock::system(None)).await.expect("bookings starts");
        let mut config = Config {
            server: testing::free_ports(),
            tls: testing::certificate("edge"),
            identity: issuer.target(),
            bookings: TargetConfig { address: bookings.address().to_string() },
            // Nobody listens on the discard port: payments is away.
            payments: TargetConfig { address: "127.0.0.1:9".to_owned() },
            limits: LimitsConfig::default().times(1000),
            ..Config::default()
        };
        configure(&mut config);
        let edge = run::start::<Edge>(config, Clock::system(None)).await.expect("the edge starts");
        edge.ready().await;
        bookings.ready().await;
        let client = Client::builder(TokioExecutor::new()).build_http();
        Self { edge, bookings: Some(bookings), seen, authentication, issuer, client }
    }

    /// What another edge, in a process of its own, needs to stand in front of the same services: a workload certificate and settings.
    pub(crate) fn settings(&self) -> Vec<String> {
        let tls = testing::certificate("edge");
        let bookings = self.bookings.as_ref().expect("it runs").address();
        vec![
            format!("tls.certificate={}", tls.certificate.display()),
            format!("tls.key={}", tls.key.display()),
            format!("tls.roots={}", tls.roots.display()),
            format!("identity.address={}", self.issuer.target().address),
            format!("bookings.address={bookings}"),
            "payments.address=127.0.0.1:9".to_owned(),
        ]
    }

    /// A customer's token.
    pub(crate) fn token(&self, roles: &[&str]) -> String {
        self.issuer.token(PrincipalId::generate(), roles)
    }

    /// A customer's token for this session.
    pub(crate) fn token_of_session(&self, session: uuid::Uuid) -> String {
        self.issuer.token_of_session(PrincipalId::generate(), session, &["customer"])
    }

    /// Where the edge listens.
    pub(crate) fn address(&self) -> std::net::SocketAddr {
        self.edge.address()
    }

    /// Sends these bytes on a connection of their own: everything that comes back.
    pub(crate) async fn send_raw(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(self.edge.address()).await.expect("the edge listens");
        stream.write_all(request.as_bytes()).await.expect("sent");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.expect("an answer");
        String::from_utf8_lossy(&answer).into_owned()
    }

    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Answer {
        let uri = format!("http://{}{path}", self.edge.address());
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::from(body.into())).expect("a request");
        let response = self.client.request(request).await.expect("an answer");
        let (head, body) = response.into_parts();
        let body = body.collect().await.expect("a whole answer").to_bytes();
        let body = serde_json::from_slice(&body)
            .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&body).into()));
        Answer { status: head.status, headers: head.headers, body }
    }

    pub(crate) async fn get(&self, path: &str, token: &str) -> Answer {
        self.send(Method::GET, path, &[("authorization", &format!("Bearer {token}"))], "").await
    }

    /// POSTs a hold of one seat with this token and these further headers.
    pub(crate) async fn hold(&self, token: &str, headers: &[(&str, &str)], body: &Value) -> Answer {
        let bearer = format!("Bearer {token}");
        let mut all = vec![("authorization", bearer.as_str()), ("content-type", "application/json")];
        all.extend_from_slice(headers);
        self.send(Method::POST, "/api/v1/holds", &all, body.to_string()).await
    }
}

struct Scripted;

#[derive(Serialize, Deserialize)]
struct ScriptedConfig {
    server: ServerConfig,
    telemetry: TelemetryConfig,
    tls: TlsFiles,
    identity: TargetConfig,
    clock_file: Option<PathBuf>,
    #[serde(skip)]
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Default for ScriptedConfig {
    fn default() -> Self {
        Self {
            server: testing::free_ports(),
            telemetry: TelemetryConfig::default(),
            tls: TlsFiles::default(),
            identity: TargetConfig::on_loopback(0),
            clock_file: None,
            seen: Arc::default(),
        }
    }
}

impl Configuration for ScriptedConfig {
    fn parts(&self) -> Parts<'_> {
        Parts {
            server: &self.server,
            telemetry: &self.telemetry,
            tls: &self.tls,
            database: None,
            identity: Some(&self.identity),
            clock_file: None,
        }
    }
}

impl Service for Scripted {
    const NAME: &'static str = "bookings";
    type Config = ScriptedConfig;

    fn migrations() -> Option<diesel_migrations::EmbeddedMigrations> {
        None
    }

    async fn start(context: Context<ScriptedConfig>) -> anyhow::Result<App> {
        Ok(App::Mesh(Routes::new(HoldServiceServer::new(Holds(context.config.seen)))))
    }
}

struct Holds(Arc<Mutex<Vec<Seen>>>);

#[tonic::async_trait]
impl HoldService for Holds {
    async fn create_hold(&self, call: Call<CreateHoldRequest>) -> Result<Reply<Hold>, Status> {
        let metadata = call.metadata().clone();
        let request = call.into_inner();
        let mut reply = Reply::new(Hold { items: request.items, ..Hold::default() });
        reply.metadata_mut().insert("idempotent-replayed", "true".parse().expect("ASCII"));
        reply.metadata_mut().insert("x-internal-detail", "not for clients".parse().expect("ASCII"));
        self.0.lock().expect("no panic").push(Seen { metadata, request_id: request.request_id });
        Ok(reply)
    }

    async fn get_hold(&self, call: Call<GetHoldRequest>) -> Result<Reply<Hold>, Status> {
        let metadata = call.metadata().clone();
        self.0.lock().expect("no panic").push(Seen { metadata, request_id: String::new() });
        Ok(Reply::new(Hold::default()))
    }

    async fn release_hold(&self, call: Call<ReleaseHoldRequest>) -> Result<Reply<Hold>, Status> {
        let metadata = call.metadata().clone();
        self.0.lock().expect("no panic").push(Seen { metadata, request_id: String::new() });
        Ok(Reply::new(Hold::default()))
    }
}
