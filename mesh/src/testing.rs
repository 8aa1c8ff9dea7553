//! Real parts for tests: a PostgreSQL of their own, certificates of a private CA, an issuer of access tokens, a clock that stands still.
//!
//! One server and one CA are started for each test binary; each test gets a database of its own, copied from a template that the migrations made
//! once. Services run in the test's process behind their real sockets, mTLS included.

use std::{
    collections::HashMap,
    net::SocketAddr,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{Arc, LazyLock},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use diesel_async::{AsyncConnection as _, AsyncPgConnection, RunQueryDsl as _};
use diesel_migrations::EmbeddedMigrations;
use futures::{StreamExt as _, stream::BoxStream};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use proto::identity::v1::{
    self as pb, GetJwksRequest, GetOpenIdConfigurationRequest, Jwk, Jwks, OpenIdConfiguration,
    discovery_service_server::{DiscoveryService, DiscoveryServiceServer},
    token_status_service_server::{TokenStatusService, TokenStatusServiceServer},
};
use rcgen::{KeyPair, PKCS_ED25519};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex, watch};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, service::Routes, service::interceptor::InterceptedService};

use crate::{
    auth::PrincipalId,
    ca::PrivateCa,
    client::{Channel, Target},
    clock::Clock,
    config::{Configuration, DatabaseConfig, Parts, ServerConfig, TargetConfig, TelemetryConfig, TlsFiles},
    db,
    postgres::Cluster,
    run::{self, App, Context, Running, Service},
    tls::Identity,
    token::{AUDIENCE, Revocation, Revoked, revocations::ENTRY_LIFE_SECONDS},
};

/// The parts that all tests of a binary share. They end with the process.
struct Shared {
    cluster: Cluster,
    ca: PrivateCa,
    dir: PathBuf,
    templates: Mutex<HashMap<&'static str, String>>,
}

static SHARED: LazyLock<Shared> = LazyLock::new(|| {
    crate::tls::install_crypto_provider();
    let cluster = Cluster::temporary().expect("a private PostgreSQL");
    // Beside the data directory, and deleted with it when this process is gone.
    let dir = cluster.data_dir().parent().expect("the data directory has a parent").to_owned();
    let ca = PrivateCa::open_or_create(&dir.join("ca")).expect("a private CA");
    leave_to_the_cluster(&dir, &dir.join("ca"));
    Shared { cluster, ca, dir, templates: Mutex::default() }
});

/// A directory that lives as long as the test binary.
pub fn directory() -> &'static Path {
    &SHARED.dir
}

/// A new database with the schema of `service`, as a configuration to connect with.
pub async fn database(service: &'static str, migrations: fn() -> EmbeddedMigrations) -> DatabaseConfig {
    let mut templates = SHARED.templates.lock().await;
    if !templates.contains_key(service) {
        let template = format!("{service}_template");
        admin(&format!("CREATE DATABASE {template}")).await;
        db::migrate(&database_config(&template), migrations()).await.expect("the migrations run");
        templates.insert(service, template);
    }
    let template = templates[service].clone();
    drop(templates);
    create(service, &format!("TEMPLATE {template} STRATEGY wal_log")).await
}

/// A new database with nothing in it, which no migration has seen.
pub async fn empty_database() -> DatabaseConfig {
    create("empty", "").await
}

async fn create(prefix: &str, from: &str) -> DatabaseConfig {
    let name = format!("{prefix}_{}", crate::id::generate().simple());
    admin(&format!("CREATE DATABASE {name} {from}")).await;
    database_config(&name)
}

fn database_config(name: &str) -> DatabaseConfig {
    let url = SHARED.cluster.admin_url_for(name);
    DatabaseConfig { url, connections_max: 30, ..DatabaseConfig::default() }
}

async fn admin(sql: &str) {
    let mut conn = connection(&SHARED.cluster.admin_url()).await;
    diesel::sql_query(sql).execute(&mut conn).await.expect("the statement runs");
}

/// A connection of the test's own, to look at what a service stored.
pub async fn connection(url: &SecretString) -> AsyncPgConnection {
    AsyncPgConnection::establish(url.expose_secret()).await.expect("the private PostgreSQL answers")
}

/// The workload certificate of `service`.
pub fn certificate(service: &str) -> TlsFiles {
    // Tests run side by side, and one that reads while another writes finds files that do not fit together.
    static ISSUING: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let _one_at_a_time = ISSUING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let certificates = SHARED.dir.join("certificates");
    let files = SHARED.ca.issue(service, &certificates).expect("the CA issues");
    leave_to_the_cluster(&SHARED.dir, &certificates);
    leave_to_the_cluster(&SHARED.dir, &certificates.join(service));
    files
}

/// Gives a directory to the account that owns `root`: as root, PostgreSQL and the deletion of `root` run as another one, which can only delete
/// what is in directories of its own.
fn leave_to_the_cluster(root: &Path, directory: &Path) {
    let owner = std::fs::metadata(root).expect("the directory is there");
    std::os::unix::fs::chown(directory, Some(owner.uid()), Some(owner.gid())).expect("the directory is ours");
}

/// A server configuration with free ports.
pub fn free_ports() -> ServerConfig {
    ServerConfig::on_loopback(0)
}

/// A channel to `service` at `address`, as the workload `from`.
pub fn channel(from: &str, service: &str, address: SocketAddr) -> Channel {
    let identity = Identity::load(&certificate(from)).expect("the certificate loads");
    let target = Target::parse(service, [address.to_string()]).expect("the address is one");
    Channel::connect_lazy(&target, &identity)
}

/// A channel on which every call carries a user's access token.
pub type UserChannel = InterceptedService<Channel, Bearer>;

/// Adds an access token to every call.
#[derive(Clone, Debug)]
pub struct Bearer(String);

impl tonic::service::Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let value = format!("Bearer {}", self.0).parse().expect("a token is ASCII");
        request.metadata_mut().insert("authorization", value);
        Ok(request)
    }
}

/// The channel that the edge would use for a user with this token.
pub fn as_user(channel: Channel, token: &str) -> UserChannel {
    InterceptedService::new(channel, Bearer(token.to_owned()))
}

/// An issuer of access tokens with a key of its own, served as `identity` is.
pub struct Issuer {
    key: EncodingKey,
    feed: Feed,
    running: Running,
}

impl Issuer {
    /// Starts one.
    pub async fn start() -> Self {
        Self::start_with(Routes::default()).await
    }

    /// Starts one that serves these as well, in the place of `identity`.
    pub async fn start_with(more: Routes) -> Self {
        let pair = KeyPair::generate_for(&PKCS_ED25519).expect("a key pair");
        let feed = Feed::default();
        let config = IssuerConfig {
            feed: feed.clone(),
            server: free_ports(),
            tls: certificate("identity"),
            x: URL_SAFE_NO_PAD.encode(pair.public_key_raw()),
            more,
            ..IssuerConfig::default()
        };
        let running =
            run::start::<IssuerService>(config, Clock::system(None)).await.expect("the issuer starts");
        Self { key: EncodingKey::from_ed_der(&pair.serialize_der()), feed, running }
    }

    /// Says that `what` was revoked, to all who follow.
    pub fn revoke(&self, what: Revoked) {
        self.feed.0.send_modify(|entries| {
            let seq = i64::try_from(entries.len()).expect("a few entries") + 1;
            let expires_at = Clock::system_now().as_second() + ENTRY_LIFE_SECONDS;
            entries.push(Revocation { seq, what, expires_at }.to_proto());
        });
    }

    /// Ends it, as if `identity` were gone.
    pub async fn stop(self) {
        self.running.stop().await;
    }

    /// Where a service finds it.
    pub fn target(&self) -> TargetConfig {
        TargetConfig { address: self.running.address().to_string() }
    }

    /// A token for `user` with these roles, good for 15 minutes.
    pub fn token(&self, user: PrincipalId, roles: &[&str]) -> String {
        self.token_of_session(user, crate::id::generate(), roles)
    }

    /// The same, for this session.
    pub fn token_of_session(&self, user: PrincipalId, session: uuid::Uuid, roles: &[&str]) -> String {
        let now = Clock::system_now().as_second();
        self.sign(&serde_json::json!({
            "iss": run::ISSUER, "aud": AUDIENCE, "sub": user, "sid": session, "jti": crate::id::generate(),
            "iat": now, "nbf": now, "exp": now + 900, "auth_time": now, "sv": 1, "roles": roles,
        }))
    }

    /// A token with exactly these claims.
    pub fn sign(&self, claims: &serde_json::Value) -> String {
        let mut header = Header::new(Algorithm::EdDSA);
        header.typ = Some("at+jwt".to_owned());
        header.kid = Some("test".to_owned());
        jsonwebtoken::encode(&header, claims, &self.key).expect("the claims sign")
    }
}

struct IssuerService;

#[derive(Serialize, Deserialize)]
struct IssuerConfig {
    server: ServerConfig,
    telemetry: TelemetryConfig,
    tls: TlsFiles,
    x: String,
    #[serde(skip)]
    more: Routes,
    #[serde(skip)]
    feed: Feed,
}

impl Default for IssuerConfig {
    fn default() -> Self {
        let tls = TlsFiles { certificate: PathBuf::new(), key: PathBuf::new(), roots: PathBuf::new() };
        Self {
            server: free_ports(),
            telemetry: TelemetryConfig::default(),
            tls,
            x: String::new(),
            more: Routes::default(),
            feed: Feed::default(),
        }
    }
}

impl Configuration for IssuerConfig {
    fn parts(&self) -> Parts<'_> {
        Parts {
            server: &self.server,
            telemetry: &self.telemetry,
            tls: &self.tls,
            database: None,
            identity: None,
            clock_file: None,
        }
    }
}

impl Service for IssuerService {
    const NAME: &'static str = "identity";
    type Config = IssuerConfig;

    fn migrations() -> Option<EmbeddedMigrations> {
        None
    }

    async fn start(context: Context<IssuerConfig>) -> anyhow::Result<App> {
        let key = Jwk {
            kty: "OKP".to_owned(),
            crv: "Ed25519".to_owned(),
            x: context.config.x,
            kid: "test".to_owned(),
            alg: "EdDSA".to_owned(),
            r#use: "sig".to_owned(),
        };
        context.verifier.set_keys(&[crate::token::PublicKey { kid: key.kid.clone(), x: key.x.clone() }]);
        let keys = DiscoveryServiceServer::new(Keys(Arc::new(Jwks { keys: vec![key] })));
        let draining = context.draining;
        let feed = TokenStatusServiceServer::new(FeedServer { feed: context.config.feed, draining });
        Ok(App::Mesh(context.config.more.add_service(keys).add_service(feed)))
    }
}

struct Keys(Arc<Jwks>);

#[tonic::async_trait]
impl DiscoveryService for Keys {
    async fn get_jwks(&self, _: Request<GetJwksRequest>) -> Result<Response<Jwks>, Status> {
        Ok(Response::new((*self.0).clone()))
    }

    async fn get_open_id_configuration(
        &self,
        _: Request<GetOpenIdConfigurationRequest>,
    ) -> Result<Response<OpenIdConfiguration>, Status> {
        Ok(Response::new(OpenIdConfiguration::default()))
    }
}

/// Every entry, in order.
#[derive(Clone, Default)]
struct Feed(Arc<watch::Sender<Vec<pb::Revocation>>>);

struct FeedServer {
    feed: Feed,
    draining: CancellationToken,
}

/// How often a feed shows that it lives.
const HEARTBEAT: Duration = Duration::from_millis(500);

#[tonic::async_trait]
impl TokenStatusService for FeedServer {
    type WatchRevocationsStream = BoxStream<'static, Result<pb::WatchRevocationsResponse, Status>>;

    async fn list_revocations(
        &self,
        _: Request<pb::ListRevocationsRequest>,
    ) -> Result<Response<pb::ListRevocationsResponse>, Status> {
        let revocations = self.feed.0.borrow().clone();
        let seq = revocations.last().map_or(0, |last| last.seq);
        Ok(Response::new(pb::ListRevocationsResponse { revocations, seq }))
    }

    async fn watch_revocations(
        &self,
        request: Request<pb::WatchRevocationsRequest>,
    ) -> Result<Response<Self::WatchRevocationsStream>, Status> {
        let mut entries = self.feed.0.subscribe();
        entries.mark_changed();
        let since = request.into_inner().since_seq;
        let messages = futures::stream::unfold((entries, since), async |(mut entries, since)| {
            // Either way there is something to say.
            let _ = tokio::time::timeout(HEARTBEAT, entries.changed()).await;
            let new: Vec<_> =
                entries.borrow_and_update().iter().filter(|entry| entry.seq > since).cloned().collect();
            let seq = new.last().map_or(since, |last| last.seq);
            let heartbeat = Some(pb::Heartbeat { seq });
            Some((Ok(pb::WatchRevocationsResponse { revocations: new, heartbeat }), (entries, seq)))
        });
        let until = self.draining.clone().cancelled_owned();
        Ok(Response::new(messages.take_until(until).boxed()))
    }
}
