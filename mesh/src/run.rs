//! The only bootstrap: configuration → telemetry → database → keys → server → drain.
//!
//! A service's `main` is one call of [`run`]; `jetway up` and the tests call [`start`] for several services in one process.

use std::{ffi::OsString, future::Future, net::SocketAddr, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::Context as _;
use clap::{CommandFactory as _, FromArgMatches as _, Parser};
use diesel_migrations::EmbeddedMigrations;
use proto::identity::v1::{GetJwksRequest, discovery_service_client::DiscoveryServiceClient};
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

use crate::{
    accept::{self, Handler, Limits, Listener, Shutdown, Transport},
    admin::Admin,
    client::{Channel, Options, Target},
    clock::Clock,
    config::{self, Configuration, DatabaseConfig, PublicConfig, ServerConfig, Sources, TargetConfig},
    db::{self, Db},
    health::{self, Conditions, Readiness},
    server,
    tasks::Tasks,
    telemetry,
    tls::{self, Identity},
    token::{self, PublicKey, Verifier},
};

/// The `iss` claim of every token.
pub const ISSUER: &str = "https://identity.jetway.local";

/// How often token keys are fetched when nothing asks for them: 0.8 of the five minutes that the issuer promises.
const KEYS_INTERVAL: Duration = Duration::from_mins(4);

/// How soon the first fetch is tried again.
const KEYS_RETRY: Duration = Duration::from_millis(200);

/// How often the age of what is known of revoked tokens is measured.
const AGE_INTERVAL: Duration = Duration::from_secs(1);

/// How long probes and operators may take to finish when the service stops.
const ASIDE_DRAIN: Duration = Duration::from_secs(1);

/// How long background tasks may take to end.
const TASKS_FINISH_MAX: Duration = Duration::from_secs(10);

/// One service of the platform.
pub trait Service: Send + Sync + 'static {
    /// The name in certificates, configuration and logs.
    const NAME: &'static str;

    /// The service's own settings.
    type Config: Configuration;

    /// The service's own tables; `None` for a service without a database.
    fn migrations() -> Option<EmbeddedMigrations>;

    /// Puts the service together: its handlers, and its background tasks on [`Context::tasks`].
    fn start(context: Context<Self::Config>) -> impl Future<Output = anyhow::Result<App>> + Send;
}

/// What a service serves.
pub enum App {
    /// gRPC to peers over mTLS, behind the layers of [`crate::server`].
    Mesh(Routes),
    /// HTTP to the world: the app brings its own layers, and answers requests that come with an [`accept::Violation`].
    Public(Handler, PublicConfig),
}

/// What a service is given to start with.
pub struct Context<C> {
    /// Its settings.
    pub config: C,
    /// Its database; see [`Context::db`].
    db: Option<Db>,
    /// The platform's clock.
    pub clock: Clock,
    /// Where its background work runs.
    pub tasks: Tasks,
    /// Its workload certificate, for calls to peers; `None` when [`Configuration::needs_certificate`] says so.
    pub identity: Option<Identity>,
    /// What it waits for before it counts as ready, beside the database and token keys.
    pub readiness: Readiness,
    /// Verifies access tokens.
    pub verifier: Verifier,
    /// What operators see of it.
    pub admin: Admin,
    /// Cancelled when no more calls are accepted: answers that would go on for ever must end then.
    pub draining: CancellationToken,
}

impl<C> Context<C> {
    /// The service's database.
    pub fn db(&self) -> Db {
        self.db.clone().expect("a service with migrations has a database")
    }

    /// A channel to the peer `service`, which must show that service's certificate.
    ///
    /// # Errors
    ///
    /// When the address cannot be read.
    pub fn channel(&self, service: &str, target: &TargetConfig) -> anyhow::Result<Channel> {
        self.channel_with(service, target, Options::default())
    }

    /// As [`Context::channel`].
    ///
    /// # Errors
    ///
    /// As [`Context::channel`].
    pub fn channel_with(
        &self,
        service: &str,
        target: &TargetConfig,
        options: Options,
    ) -> anyhow::Result<Channel> {
        let target = Target::parse(service, target.address.split(',').map(str::trim))
            .with_context(|| format!("the address of {service}"))?;
        let identity =
            self.identity.as_ref().context("there is no workload certificate to call peers with")?;
        let channel = Channel::with_options(&target, identity, options);
        self.admin.show(&channel);
        Ok(channel)
    }
}

/// A service that runs.
pub struct Running {
    /// The service's name.
    pub name: &'static str,
    address: SocketAddr,
    probe_address: SocketAddr,
    ready: CancellationToken,
    stop: CancellationToken,
    done: tokio::task::JoinHandle<()>,
}

impl Running {
    /// Where calls come in.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where probes come in.
    pub fn probe_address(&self) -> SocketAddr {
        self.probe_address
    }

    /// Completes when the service has been ready once.
    pub async fn ready(&self) {
        self.ready.cancelled().await;
    }

    /// Drains and stops: calls in flight are finished, none is accepted after the drain delay.
    pub async fn stop(self) {
        self.stop.cancel();
        if let Err(error) = self.done.await {
            tracing::error!(%error, service = self.name, "the service did not stop in order");
        }
    }
}

#[derive(Parser)]
struct Arguments {
    /// Read settings from this TOML file.
    #[arg(long)]
    config: Option<PathBuf>,
    /// Set one setting, as `key=value`. May be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Check the configuration, list everything that is wrong with it, and end.
    #[arg(long)]
    check_config: bool,
    /// Print the configuration with secrets redacted, and end.
    #[arg(long)]
    print_config: bool,
}

/// Runs one service as a process of its own, until SIGTERM or SIGINT.
pub fn run<S: Service>() -> ExitCode {
    run_with::<S>(std::env::args_os())
}

/// As [`run`], with a command line of the caller's: the program's name first.
pub fn run_with<S: Service>(command_line: impl IntoIterator<Item = OsString>) -> ExitCode {
    let command = Arguments::command().name(S::NAME).args(S::Config::flags());
    let matches = command.get_matches_from(command_line);
    let arguments = Arguments::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    // What is set by its full name goes over a flag of its own.
    let flags = S::Config::set_by_flags(&matches).into_iter().chain(arguments.set).collect();
    let sources = Sources::of_process(arguments.config, flags);
    let config = match config::load::<S::Config>(S::NAME, &sources) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    if arguments.print_config {
        eprintln!("{}", config::print(&config));
    }
    if arguments.print_config || arguments.check_config {
        return ExitCode::SUCCESS;
    }
    telemetry::init(config.parts().telemetry, telemetry::Output::StandardError);
    allow_open_files();
    // On one core a second thread only makes work. Migrations need one, though.
    let alone =
        S::migrations().is_none() && std::thread::available_parallelism().is_ok_and(|cores| cores.get() == 1);
    let mut builder = if alone {
        tokio::runtime::Builder::new_current_thread()
    } else {
        tokio::runtime::Builder::new_multi_thread()
    };
    let runtime = builder.enable_all().build().expect("a tokio runtime");
    match runtime.block_on(until_stopped::<S>(config)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), service = S::NAME, "the service cannot start");
            eprintln!("{} cannot start: {error:#}", S::NAME);
            ExitCode::FAILURE
        }
    }
}

/// Raises the number of open files that the process may have to what the system allows it: the usual 1,024 are fewer than its connections.
fn allow_open_files() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};

    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        tracing::warn!(%error, "the limit of open files cannot be raised");
    }
}

async fn until_stopped<S: Service>(config: S::Config) -> anyhow::Result<()> {
    let clock = Clock::system(config.parts().clock_file.cloned());
    let mut running = start::<S>(config, clock).await?;
    tokio::select! {
        () = stop_requested() => running.stop().await,
        outcome = &mut running.done => outcome.context("the service ended by itself")?,
    }
    telemetry::flush();
    Ok(())
}

/// Completes on SIGTERM or SIGINT. A second one ends the process at once.
pub async fn stop_requested() {
    use tokio::signal::unix::{SignalKind, signal};

    let mut terminate = signal(SignalKind::terminate()).expect("signal handlers can be set");
    let mut interrupt = signal(SignalKind::interrupt()).expect("signal handlers can be set");
    let mut next = async move || {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    next().await;
    tracing::info!("stopping");
    #[expect(clippy::disallowed_methods, reason = "belongs to the process, not to a service")]
    tokio::spawn(async move {
        next().await;
        #[expect(clippy::exit, reason = "asked twice to stop")]
        std::process::exit(130);
    });
}

/// Starts a service in this process.
///
/// # Errors
///
/// When its certificate, its database or its addresses cannot be used.
pub async fn start<S: Service>(config: S::Config, clock: Clock) -> anyhow::Result<Running> {
    tls::install_crypto_provider();
    let parts = config.parts();
    let identity = config
        .needs_certificate()
        .then(|| Identity::load(parts.tls).context("load the workload certificate"))
        .transpose()?;
    let db = match (S::migrations(), parts.database) {
        (Some(migrations), Some(database)) => Some(prepare(database, migrations).await?),
        _ => None,
    };
    let verifier = Verifier::new(ISSUER);
    let tasks = Tasks::default();
    if let Some(identity) = identity.clone() {
        tasks.spawn(until(tasks.stop_token(), identity.watch()));
    }
    let server = parts.server.clone();
    let keys = parts.identity.cloned();
    let checks_tokens = keys.is_some();
    let draining = CancellationToken::new();
    let readiness = Readiness::default();
    let admin = Admin::default();
    let context = Context {
        config,
        db: db.clone(),
        clock,
        tasks: tasks.clone(),
        identity: identity.clone(),
        verifier: verifier.clone(),
        readiness: readiness.clone(),
        admin: admin.clone(),
        draining: draining.clone(),
    };
    if let Some(target) = keys {
        let channel = context.channel("identity", &target)?;
        tasks.spawn(until(tasks.stop_token(), fetch_keys(verifier.clone(), channel)));
        // A feed has no deadline.
        let options = Options { deadline_is_callers: true, ..Options::default() };
        let channel = context.channel_with("identity", &target, options)?;
        let feed = token::feed::follow(verifier.revocations().clone(), channel);
        tasks.spawn(until(tasks.stop_token(), feed));
    }
    measure_age(&tasks, verifier.revocations().clone());
    let conditions = Conditions { db, verifier, checks_tokens, readiness };
    let started = async {
        let app = S::start(context).await?;
        serve::<S>(server, identity, app, conditions, admin, tasks.clone(), draining).await
    }
    .await;
    if started.is_err() {
        tasks.finish(TASKS_FINISH_MAX).await;
    }
    started
}

async fn prepare(database: &DatabaseConfig, migrations: EmbeddedMigrations) -> anyhow::Result<Db> {
    db::migrate(database, migrations).await.context("migrate the database")?;
    Db::new(database).context("make the connection pool")
}

async fn serve<S: Service>(
    config: ServerConfig,
    identity: Option<Identity>,
    app: App,
    conditions: Conditions,
    operators: Admin,
    tasks: Tasks,
    stop_accepting: CancellationToken,
) -> anyhow::Result<Running> {
    let (reporter, health) = health::service().await;
    let (handler, transport, limits) = match app {
        App::Mesh(routes) => {
            let router = server::stack(routes, health.clone(), conditions.verifier.clone());
            (
                Handler::from(router),
                Transport::Mutual(identity.context("peers are served with a workload certificate")?),
                Limits::default(),
            )
        }
        App::Public(handler, public) => {
            let transport = public.transport().context("load the public certificate")?;
            if let Transport::Public(certificate) = &transport {
                tasks.spawn(until(tasks.stop_token(), certificate.clone().watch()));
            }
            (handler, transport, public.limits())
        }
    };
    let bind = |what: &'static str, at: SocketAddr| {
        Listener::bind(at)
            .with_context(|| format!("{} cannot listen for {what} on {at}: is the port taken?", S::NAME))
    };
    let open = metrics::gauge!(format!("{}_connections", S::NAME));
    let calls = bind("calls", config.listen)?.counted_in(open);
    let probes = bind("probes", config.probe_listen)?;
    let admin = bind("operators", config.admin_listen)?;
    let (address, probe_address, admin_address) =
        (calls.local_addr(), probes.local_addr(), admin.local_addr());

    let (stop, stop_probes, ready) =
        (CancellationToken::new(), CancellationToken::new(), CancellationToken::new());
    let limits = Limits { drain: Duration::from_millis(config.drain_timeout_ms), ..limits };
    // Watching health never ends by itself, and nothing there is worth waiting for.
    let aside = Limits { drain: ASIDE_DRAIN, ..Limits::default() };
    tasks.spawn(accept::serve(probes, None, health, aside.clone(), stop_probes.clone()));
    tasks.spawn(accept::serve(admin, None, operators.routes(), aside, stop_probes.clone()));
    tasks.spawn(health::watch(reporter, conditions, ready.clone(), stop.clone()));
    let stopping = stop.clone();
    let drain_delay = Duration::from_millis(config.drain_delay_ms);
    let serving = accept::serve(
        calls,
        transport,
        handler,
        limits,
        Shutdown { announced: stop.clone(), stop: stop_accepting.clone() },
    );
    tracing::info!(service = S::NAME, %address, %probe_address, %admin_address, "serving");
    #[expect(clippy::disallowed_methods, reason = "the service itself, which the caller waits for")]
    let done = tokio::spawn(async move {
        let order = async {
            // Ready no more, then a while in which load balancers notice, then no new connections.
            stopping.cancelled().await;
            tokio::time::sleep(drain_delay).await;
            stop_accepting.cancel();
        };
        tokio::join!(serving, order);
        stop_probes.cancel();
        if !tasks.finish(TASKS_FINISH_MAX).await {
            tracing::warn!(service = S::NAME, "background tasks did not end in time");
        }
        tracing::info!(service = S::NAME, "stopped");
    });
    Ok(Running { name: S::NAME, address, probe_address, ready, stop, done })
}

async fn until(stop: CancellationToken, work: impl Future<Output = ()>) {
    let _ = stop.run_until_cancelled(work).await;
}

/// Shows how old is what is known of revoked tokens, once anything is.
fn measure_age(tasks: &Tasks, revocations: token::Revocations) {
    let gauge = metrics::gauge!("revocation_feed_age_seconds");
    tasks.every(AGE_INTERVAL, move || {
        if let Some(age) = revocations.age() {
            gauge.set(age.as_secs_f64());
        }
        std::future::ready(())
    });
}

/// Keeps the verifier's keys fresh: at once, then every few minutes, and out of turn when a token names a new key.
async fn fetch_keys(verifier: Verifier, channel: Channel) {
    let mut client = DiscoveryServiceClient::new(channel);
    loop {
        let pause = match client.get_jwks(GetJwksRequest {}).await {
            Ok(jwks) => {
                let keys: Vec<_> = jwks
                    .into_inner()
                    .keys
                    .into_iter()
                    .filter(|key| key.kty == "OKP" && key.crv == "Ed25519" && key.alg == "EdDSA")
                    .map(|key| PublicKey { kid: key.kid, x: key.x })
                    .collect();
                verifier.set_keys(&keys);
                // An issuer without keys is about to make its first.
                if verifier.has_keys() { KEYS_INTERVAL } else { KEYS_RETRY }
            }
            Err(status) => {
                tracing::warn!(code = ?status.code(), "token keys cannot be fetched; the old ones stay");
                if verifier.has_keys() { KEYS_INTERVAL / 10 } else { KEYS_RETRY }
            }
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = verifier.keys_wanted() => {}
        }
    }
}
