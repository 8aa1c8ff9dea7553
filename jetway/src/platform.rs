//! The whole platform in one process: each service as it would run alone, with its own certificate, database and sockets.

use std::{
    fmt::Write as _,
    fs::OpenOptions,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use mesh::{
    ca::PrivateCa,
    clock::Clock,
    config::{ServerConfig, TargetConfig, TelemetryConfig, TlsFiles},
    postgres::{self, Cluster},
    run::{self, Running, Service},
    telemetry,
};

use crate::{
    data_dir::DataDir,
    databases::Databases,
    demo_data::{self, Accounts},
};

/// Where the platform keeps its data unless told otherwise.
const DATA_DIR: &str = ".jetway/data";

/// Where root keeps it when PostgreSQL, which runs as another account then, cannot reach the working directory: a home of mode 0700.
const DATA_DIR_OF_ROOT: &str = "/var/lib/jetway";

/// The data directory when none is named: `.jetway/data`, or `/var/lib/jetway` for root in a directory that only root can enter.
pub fn data_dir() -> PathBuf {
    let here = PathBuf::from(DATA_DIR);
    if postgres::is_reachable(&here) { here } else { PathBuf::from(DATA_DIR_OF_ROOT) }
}

/// How long every service may take until it is ready.
const READY_MAX: Duration = Duration::from_mins(2);

/// The addresses of this machine.
const LOOPBACK: [&str; 2] = ["127.0.0.0/8", "::1/128"];

/// How many times the production rate limits allow, without `--strict-limits`.
const RELAXED: u32 = 1000;

/// How to run the platform.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where its data is.
    pub data_dir: PathBuf,
    /// Delete all data first.
    pub fresh: bool,
    /// Where the edge listens.
    pub listen: SocketAddr,
    /// Every service takes a free port, except the edge.
    pub any_port: bool,
    /// How many days of flights the demo data has, from today.
    pub schedule_days: u16,
    /// Production rate limits.
    pub strict_limits: bool,
    /// Origins whose pages may call the edge with a session in cookies.
    pub origins: Vec<String>,
}

/// A platform that runs.
pub struct Platform {
    cluster: Cluster,
    /// In the order in which they stop: callers before those they call.
    services: Vec<Running>,
    edge: SocketAddr,
    dir: DataDir,
    log: PathBuf,
    accounts: Accounts,
    took: Duration,
}

impl Platform {
    /// Starts everything, and returns when every service is ready.
    ///
    /// # Errors
    ///
    /// What could not be started, and why; a port that is taken is named.
    pub async fn start(options: &Options) -> anyhow::Result<Self> {
        let started = Instant::now();
        let dir = DataDir::open(&options.data_dir)?;
        if options.fresh {
            clear(&dir)?;
        }
        let log = dir.log();
        let log_file = OpenOptions::new().create(true).append(true).open(&log).context("open the log")?;
        telemetry::init(&TelemetryConfig::of_process(), telemetry::Output::File(log_file));
        mesh::tls::install_crypto_provider();

        let cluster = start_cluster(&dir).await?;
        let databases = Databases::prepare(&cluster, &dir).await?;
        let parts = Parts::prepare(options, &dir, databases)?;
        let (services, accounts, edge) = parts.start().await?;
        Ok(Self { cluster, services, edge, dir, log, accounts, took: started.elapsed() })
    }

    /// The edge's URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.edge)
    }

    /// What to print when the platform is ready.
    pub fn welcome(&self) -> String {
        let url = self.url();
        let mut text = format!("\nJetway is ready after {:.1} s.\n\n", self.took.as_secs_f64());
        let _ = writeln!(text, "  REST      {url}/api/v1");
        for service in self.services.iter().filter(|service| service.name != "edge") {
            let _ = writeln!(text, "  {:<10}{} (gRPC, mTLS)", service.name, service.address());
        }
        let _ = writeln!(text, "  database  127.0.0.1:{} (PostgreSQL)", self.cluster.port());
        let _ = writeln!(text, "  data      {}", self.dir.path().display());
        let _ = writeln!(text, "  log       {}\n", self.log.display());
        let _ = writeln!(text, "Accounts for trying things out:\n");
        for account in self.accounts.all() {
            let _ = writeln!(text, "  {:<16}{}  password {}", account.role, account.email, account.password);
        }
        let _ = write!(
            text,
            "\nTry:\n\n  curl '{url}/api/v1/flights?trips=DEL-BLR&travellers=2&pageSize=1'\n  \
             TOKEN=$(curl -s {url}/api/v1/auth/signin -H 'content-type: application/json' \\\n    \
             -d '{{\"email\":\"{}\",\"password\":\"{}\"}}' | sed 's/.*\"accessToken\":\"\\([^\"]*\\)\".*/\\1/')\n  \
             curl {url}/api/v1/me -H \"authorization: Bearer $TOKEN\"\n\nCtrl-C stops.\n",
            self.accounts.traveller.email, self.accounts.traveller.password,
        );
        text
    }

    /// Stops everything in order: calls in flight are finished, PostgreSQL is shut down last.
    pub async fn stop(self) {
        for service in self.services {
            service.stop().await;
        }
        let stopped = tokio::task::spawn_blocking(|| self.cluster.stop()).await;
        if let Ok(Err(error)) = stopped {
            tracing::error!(%error, "PostgreSQL did not stop in order");
        }
    }
}

/// Starts the platform's own PostgreSQL.
///
/// # Errors
///
/// Why it does not start.
pub async fn start_cluster(dir: &DataDir) -> anyhow::Result<Cluster> {
    let options = postgres::Options::new(dir.postgres());
    tokio::task::spawn_blocking(move || Cluster::start(&options)).await?.context("start PostgreSQL")
}

/// Writes a workload certificate for `service`, and says where it is.
///
/// # Errors
///
/// When the name is no service's, or the files cannot be written.
pub fn issue(data_dir: &Path, service: &str) -> anyhow::Result<()> {
    mesh::tls::install_crypto_provider();
    let dir = DataDir::open(data_dir)?;
    let files = PrivateCa::open_or_create(&dir.ca())?.issue(service, &dir.certificates())?;
    eprintln!("certificate  {}", files.certificate.display());
    eprintln!("key          {}", files.key.display());
    eprintln!("roots        {}", files.roots.display());
    Ok(())
}

/// Deletes the data, unless a platform is running on it: whoever runs there has PostgreSQL, which is deleted first.
fn clear(dir: &DataDir) -> anyhow::Result<()> {
    Cluster::discard(&dir.postgres()).context("delete the old data")?;
    dir.clear().context("delete the old data")
}

/// What the services are started from.
struct Parts<'a> {
    options: &'a Options,
    dir: &'a DataDir,
    ca: PrivateCa,
    databases: Databases,
    clock: Clock,
}

impl<'a> Parts<'a> {
    fn prepare(options: &'a Options, dir: &'a DataDir, databases: Databases) -> anyhow::Result<Self> {
        let ca = PrivateCa::open_or_create(&dir.ca()).context("the private CA")?;
        mesh::key_file::create(&dir.keys("identity")).context("make the keys of identity")?;
        mesh::key_file::create(&dir.keys("edge")).context("make the keys of edge")?;
        payments::vault::create_keys_file(&dir.keys("payments")).context("make the keys of payments")?;
        let clock = Clock::system(Some(dir.clock()));
        Ok(Self { options, dir, ca, databases, clock })
    }

    fn server(&self, port: u16) -> ServerConfig {
        ServerConfig::on_loopback(if self.options.any_port { 0 } else { port })
    }

    fn tls(&self, service: &str) -> anyhow::Result<TlsFiles> {
        self.ca
            .issue(service, &self.dir.certificates())
            .with_context(|| format!("the certificate of {service}"))
    }

    async fn run<S: Service>(&self, config: S::Config) -> anyhow::Result<Running> {
        run::start::<S>(config, self.clock.clone()).await.with_context(|| format!("start {}", S::NAME))
    }

    /// Starts the services, those that are called before their callers, so that each knows where to call.
    async fn start(&self) -> anyhow::Result<(Vec<Running>, Accounts, SocketAddr)> {
        let clock_file = Some(self.dir.clock());
        let identity = self
            .run::<identity::Identity>(identity::Config {
                server: self.server(50051),
                tls: self.tls("identity")?,
                database: self.databases.config("identity"),
                keys: identity::config::KeysConfig { file: self.dir.keys("identity") },
                clock_file: clock_file.clone(),
                ..identity::Config::default()
            })
            .await?;
        let at = |running: &Running| TargetConfig { address: running.address().to_string() };
        let acquirer = self
            .run::<acquirer::Acquirer>(acquirer::Config {
                server: self.server(50060),
                tls: self.tls("acquirer")?,
                database: self.databases.config("acquirer"),
                clock_file: clock_file.clone(),
                ..acquirer::Config::default()
            })
            .await?;
        let payments = self
            .run::<payments::Payments>(payments::Config {
                server: self.server(50053),
                tls: self.tls("payments")?,
                database: self.databases.config("payments"),
                identity: at(&identity),
                acquirer: at(&acquirer),
                keys: payments::config::KeysConfig { file: self.dir.keys("payments") },
                simulator: true,
                // Whoever tries webhooks on this machine receives them on it.
                webhooks: payments::config::WebhooksConfig {
                    allowed_networks: LOOPBACK.map(|network| network.parse().expect("a network")).to_vec(),
                    ..payments::config::WebhooksConfig::default()
                },
                clock_file: clock_file.clone(),
                ..payments::Config::default()
            })
            .await?;
        let bookings = self
            .run::<bookings::Bookings>(bookings::Config {
                server: self.server(50052),
                tls: self.tls("bookings")?,
                database: self.databases.config("bookings"),
                identity: at(&identity),
                payments: at(&payments),
                clock_file: clock_file.clone(),
                ..bookings::Config::default()
            })
            .await?;
        let edge = self
            .run::<edge::Edge>(edge::Config {
                server: ServerConfig { listen: self.options.listen, ..self.server(8080) },
                tls: self.tls("edge")?,
                identity: at(&identity),
                bookings: at(&bookings),
                payments: at(&payments),
                limits: self.limits(),
                browsers: edge::config::BrowsersConfig {
                    origins: self.options.origins.clone(),
                    csrf_keys: Some(self.dir.keys("edge")),
                },
                clock_file,
                ..edge::Config::default()
            })
            .await?;

        let accounts = demo_data::load(self.dir, &self.databases, self.options.schedule_days).await?;
        let address = edge.address();
        let services = vec![edge, bookings, payments, acquirer, identity];
        let all_ready = async {
            for service in &services {
                service.ready().await;
            }
        };
        tokio::time::timeout(READY_MAX, all_ready).await.context("not every service became ready")?;
        Ok((services, accounts, address))
    }

    fn limits(&self) -> edge::config::LimitsConfig {
        let limits = edge::config::LimitsConfig::default();
        if self.options.strict_limits { limits } else { limits.times(RELAXED) }
    }
}
