//! Configuration: one typed struct for each service, from defaults < file < `.env` < environment < `--set` flags.
//!
//! A setting `database.url` of the service `bookings` is `database.url` in the file, `JETWAY_BOOKINGS_DATABASE__URL` in the environment (or
//! `JETWAY_BOOKINGS_DATABASE__URL_FILE`, which names a file that holds the value), and `--set database.url=…` as a flag. A list of tables
//! ([`Configuration::lists`]) is `[[upstream]]` in the file, and elsewhere its elements are counted from 0: `JETWAY_EDGE_UPSTREAM__0__ADDRESS`,
//! `--set upstream.0.address=…`. A list of texts is written with commas in variables and flags. Every mistake is reported at once, unknown settings
//! included, and no value is ever shown.

mod lists;
mod public;

use std::{
    fmt::Write as _,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use figment::{
    Figment,
    providers::Serialized,
    value::{Dict, Value},
};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize, Serializer, de::DeserializeOwned};

pub use self::public::PublicConfig;
pub use crate::tls::TlsFiles;

use self::lists::Lists;

/// Settings that every process of the platform shares; they have no service in their environment variable.
const SHARED: [(&str, &str); 2] = [("JETWAY_CLOCK_FILE", "clock_file"), ("JETWAY_SIMULATOR", "simulator")];

/// What a service's own configuration struct must be.
///
/// Its fields are settings with defaults, its structs tables. Fields without a sensible default are empty by default, and [`Configuration::check`]
/// reports them.
pub trait Configuration: Serialize + DeserializeOwned + Default + Send + Sync + 'static {
    /// The parts that [`crate::run`] needs.
    fn parts(&self) -> Parts<'_>;

    /// What is missing or contradictory, one sentence each that starts with the setting's name in backticks.
    fn check(&self) -> Vec<String> {
        Vec::new()
    }

    /// The settings that are lists of tables, each by its name and with one element as it is when nothing of it is set.
    fn lists() -> Vec<(&'static str, Value)> {
        Vec::new()
    }

    /// Shorter names of settings: the short one, then the real one.
    fn short_names() -> &'static [(&'static str, &'static str)] {
        &[]
    }

    /// Flags of its own, beside `--config` and `--set`.
    fn flags() -> Vec<clap::Arg> {
        Vec::new()
    }

    /// What [`Configuration::flags`] set, as `key=value`.
    fn set_by_flags(_matches: &clap::ArgMatches) -> Vec<String> {
        Vec::new()
    }

    /// False when the service shows no peer a certificate, so that it needs none.
    fn needs_certificate(&self) -> bool {
        true
    }
}

/// The settings that the bootstrap itself reads.
#[derive(Clone, Copy)]
pub struct Parts<'a> {
    /// Where to listen.
    pub server: &'a ServerConfig,
    /// Logs.
    pub telemetry: &'a TelemetryConfig,
    /// The workload certificate.
    pub tls: &'a TlsFiles,
    /// The service's own database, when it has one.
    pub database: Option<&'a DatabaseConfig>,
    /// Where token keys come from; `None` for the service that makes them, and for one that no user may call.
    pub identity: Option<&'a TargetConfig>,
    /// The file with the clock's offset, for the simulator.
    pub clock_file: Option<&'a PathBuf>,
}

/// Addresses and times of the server.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerConfig {
    /// Where calls come in. Port 0: any free one.
    pub listen: SocketAddr,
    /// Where health probes come in, in clear text: only `grpc.health.v1` answers here.
    pub probe_listen: SocketAddr,
    /// Where operators come in: metrics. Never public.
    pub admin_listen: SocketAddr,
    /// How long the process goes on accepting after it has said that it is not ready, in milliseconds, so that load balancers notice.
    pub drain_delay_ms: u64,
    /// How long calls in flight may take to finish after that, in milliseconds.
    pub drain_timeout_ms: u64,
}

impl ServerConfig {
    /// Loopback addresses: calls on `port`, admin on `port` + 1000, probes on `port` + 2000.
    pub fn on_loopback(port: u16) -> Self {
        let at = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
        Self {
            listen: at(port),
            admin_listen: at(if port == 0 { 0 } else { port + 1000 }),
            probe_listen: at(if port == 0 { 0 } else { port + 2000 }),
            drain_delay_ms: 0,
            drain_timeout_ms: 25_000,
        }
    }
}

/// Logs.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TelemetryConfig {
    /// Filter directives, for example `info,bookings=debug`.
    pub log: String,
}

impl TelemetryConfig {
    /// The filter in the environment variable `JETWAY_LOG`, for processes that have no configuration of their own.
    #[expect(clippy::disallowed_methods, reason = "the one module that reads the environment")]
    pub fn of_process() -> Self {
        std::env::var("JETWAY_LOG").map_or_else(|_| Self::default(), |log| Self { log })
    }
}

impl Default for TelemetryConfig {
    fn default() -> Self {
        Self { log: "info".to_owned() }
    }
}

/// The service's own database.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DatabaseConfig {
    /// `postgres://user:password@host:port/database`.
    #[serde(serialize_with = "redacted")]
    pub url: SecretString,
    /// Most connections at once.
    pub connections_max: usize,
    /// PEM file of the authorities that may sign the database's certificate. Set: TLS is required. Unset: clear text, for loopback only.
    pub roots: Option<PathBuf>,
    /// PEM file of the client certificate to show the database.
    pub certificate: Option<PathBuf>,
    /// PEM file of its private key.
    pub key: Option<PathBuf>,
}

impl Default for DatabaseConfig {
    fn default() -> Self {
        Self { url: SecretString::default(), connections_max: 20, roots: None, certificate: None, key: None }
    }
}

impl DatabaseConfig {
    /// How connections are encrypted; `None` for clear text.
    ///
    /// # Errors
    ///
    /// When the files cannot be read or do not fit together.
    pub(crate) fn tls_config(&self) -> anyhow::Result<Option<rustls::ClientConfig>> {
        use anyhow::Context as _;
        use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};

        let Some(roots) = &self.roots else { return Ok(None) };
        let mut store = rustls::RootCertStore::empty();
        for root in CertificateDer::pem_file_iter(roots).context("`database.roots`")? {
            store.add(root.context("`database.roots`")?).context("`database.roots`")?;
        }
        let builder = rustls::ClientConfig::builder().with_root_certificates(store);
        let config = match (&self.certificate, &self.key) {
            (Some(certificate), Some(key)) => {
                let chain = CertificateDer::pem_file_iter(certificate)
                    .and_then(Iterator::collect)
                    .context("`database.certificate`")?;
                let key = PrivateKeyDer::from_pem_file(key).context("`database.key`")?;
                builder.with_client_auth_cert(chain, key).context("`database.certificate`")?
            }
            _ => builder.with_no_client_auth(),
        };
        Ok(Some(config))
    }

    /// What is missing.
    pub fn check(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.url.expose_secret().is_empty() {
            problems.push("`database.url` is missing".to_owned());
        }
        if self.roots.is_none() && !is_on_this_machine(self.url.expose_secret()) {
            problems.push(
                "`database.roots` is missing: only a database on this machine may be spoken to in clear text"
                    .to_owned(),
            );
        }
        if self.connections_max == 0 {
            problems.push("`database.connections_max` must be at least 1".to_owned());
        }
        if self.certificate.is_some() != self.key.is_some() {
            problems.push("`database.certificate` and `database.key` go together".to_owned());
        }
        problems
    }
}

/// Whether every host of a database URL is this machine. An empty or unreadable one is somebody else's problem.
fn is_on_this_machine(url: &str) -> bool {
    use tokio_postgres::config::Host;

    let Ok(config) = url.parse::<tokio_postgres::Config>() else { return true };
    config.get_hosts().iter().all(|host| match host {
        Host::Tcp(name) => {
            name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
        }
        Host::Unix(_) => true,
    })
}

/// Another service.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TargetConfig {
    /// `host:port`, or several of them with commas. A name with several addresses is balanced over.
    pub address: String,
}

impl TargetConfig {
    /// A service on this machine.
    pub fn on_loopback(port: u16) -> Self {
        Self { address: format!("127.0.0.1:{port}") }
    }
}

/// Serialises a secret as empty when it is, and as `[redacted]` otherwise.
///
/// # Errors
///
/// What the serializer returns.
pub fn redacted<S: Serializer>(secret: &SecretString, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(if secret.expose_secret().is_empty() { "" } else { "[redacted]" })
}

/// Where settings come from, beside the defaults.
#[derive(Debug, Default)]
pub struct Sources {
    /// A TOML file.
    pub file: Option<PathBuf>,
    /// Environment variables, those of `.env` first.
    pub environment: Vec<(String, String)>,
    /// `key=value` flags.
    pub flags: Vec<String>,
    /// What is wrong with the sources themselves, one sentence each.
    pub problems: Vec<String>,
}

impl Sources {
    /// The process's environment, with `.env` of the working directory below it.
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
    pub fn of_process(file: Option<PathBuf>, flags: Vec<String>) -> Self {
        let (mut environment, problems) = dotenv(Path::new(".env"));
        // Names and values that are not text belong to other programs, and are no reason to panic.
        let own = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        environment.extend(own);
        Self { file, environment, flags, problems }
    }
}

/// The variables in a file of `NAME=value` lines, and what is wrong with it. No file is as good as an empty one.
fn dotenv(path: &Path) -> (Vec<(String, String)>, Vec<String>) {
    let (mut variables, mut problems) = (Vec::new(), Vec::new());
    let lines = match dotenvy::from_path_iter(path) {
        Ok(lines) => lines,
        Err(error) if error.not_found() => return (variables, problems),
        Err(error) => {
            problems.push(format!("the file {} cannot be read: {error}", path.display()));
            return (variables, problems);
        }
    };
    for line in lines {
        match line {
            Ok(variable) => variables.push(variable),
            // The error itself quotes the line.
            Err(_) => problems.push(format!("the file {} has a line that is not NAME=value", path.display())),
        }
    }
    (variables, problems)
}

/// Everything that is wrong with a configuration.
#[derive(Debug, thiserror::Error)]
#[error("the configuration of {service} is wrong:{}", lines(.problems))]
pub struct ConfigError {
    /// Which service.
    pub service: &'static str,
    /// One sentence each.
    pub problems: Vec<String>,
}

fn lines(problems: &[String]) -> String {
    problems.iter().fold(String::new(), |mut text, problem| {
        let _ = write!(text, "\n  - {problem}");
        text
    })
}

/// Reads the configuration of `service`.
///
/// # Errors
///
/// Every unknown setting, every value of the wrong type and every missing one, all at once.
pub fn load<C: Configuration>(service: &'static str, sources: &Sources) -> Result<C, ConfigError> {
    let mut problems = sources.problems.clone();
    let settings = settings(service, sources, &mut problems);
    let known = Value::serialize(C::default()).expect("a configuration is a tree of tables");
    let defaults = || Figment::from(Serialized::defaults(C::default()));

    let mut figment = defaults();
    let mut lists = Lists::of::<C>();
    for Setting { key, values, origin, shared } in settings {
        let short = C::short_names().iter().find(|(short, _)| *short == key);
        let key = short.map_or(key, |(_, key)| (*key).to_owned());
        let of_list = lists.position(&key);
        if !of_list.as_ref().map_or_else(|| is_known(&known, &key), |position| lists.knows(position)) {
            if let Some(position) = &of_list {
                lists.mention(position);
            }
            if !shared {
                problems.push(format!("`{key}` ({origin}) is not a setting"));
            }
            continue;
        }
        let mut refused = None;
        let fits = values.into_iter().find_map(|value| {
            let one = match &of_list {
                Some(position) => lists.alone(position, value.clone()),
                None => figment::util::nest(&key, value.clone()).into_dict().unwrap_or_default(),
            };
            match defaults().merge(Serialized::defaults(&one)).extract::<C>() {
                Ok(_) => Some((value, one)),
                Err(error) => {
                    refused.get_or_insert(error);
                    None
                }
            }
        });
        match (fits, refused) {
            (Some((value, one)), _) => match of_list {
                Some(position) => lists.set(&position, value),
                None => figment = figment.merge(Serialized::defaults(one)),
            },
            (None, refused) => {
                if let Some(position) = &of_list {
                    lists.mention(position);
                }
                let refused = refused.into_iter().flatten();
                problems.extend(refused.map(|error| format!("`{key}` ({origin}) {}", wrong(error.kind))));
            }
        }
    }
    match lists.whole() {
        Ok(elements) => figment = figment.merge(Serialized::defaults(elements)),
        Err(gap) => problems.push(gap),
    }
    match figment.extract::<C>() {
        Ok(config) => {
            problems.extend(config.check());
            if problems.is_empty() { Ok(config) } else { Err(ConfigError { service, problems }) }
        }
        Err(error) => {
            problems.extend(error.into_iter().map(|error| wrong(error.kind)));
            Err(ConfigError { service, problems })
        }
    }
}

/// The configuration as TOML, secrets redacted.
pub fn print<C: Configuration>(config: &C) -> String {
    toml::to_string_pretty(config).unwrap_or_default()
}

/// One value from one place.
struct Setting {
    key: String,
    /// What the text may mean; the first that fits the setting is used.
    values: Vec<Value>,
    origin: String,
    /// Meant for every service that has such a setting.
    shared: bool,
}

fn settings(service: &str, sources: &Sources, problems: &mut Vec<String>) -> Vec<Setting> {
    let mut settings = Vec::new();
    if let Some(file) = &sources.file {
        match read(file) {
            Ok(dict) => flatten("", &Value::from(dict), &mut |key, value| {
                let origin = format!("file {}", file.display());
                settings.push(Setting { key, values: vec![value], origin, shared: false });
            }),
            Err(problem) => problems.push(problem),
        }
    }
    let prefix = format!("JETWAY_{}_", service.to_uppercase());
    for (name, value) in &sources.environment {
        let of_all = SHARED.iter().find(|(shared, _)| shared == name).map(|(_, key)| (*key).to_owned());
        let shared = of_all.is_some();
        let Some(key) =
            of_all.or_else(|| name.strip_prefix(&prefix).map(|key| key.to_lowercase().replace("__", ".")))
        else {
            continue;
        };
        let (key, value) = match key.strip_suffix("_file").filter(|_| key != "clock_file") {
            Some(key) => match std::fs::read_to_string(value) {
                Ok(content) => (key.to_owned(), content.trim_end().to_owned()),
                Err(error) => {
                    problems.push(format!(
                        "`{key}` (environment variable {name}) cannot be read from its file: {error}"
                    ));
                    continue;
                }
            },
            None => (key, value.clone()),
        };
        let origin = format!("environment variable {name}");
        settings.push(Setting { key, values: readings(&value), origin, shared });
    }
    for flag in &sources.flags {
        match flag.split_once('=') {
            Some((key, value)) => {
                settings.push(Setting {
                    key: key.to_owned(),
                    values: readings(value),
                    origin: "flag --set".to_owned(),
                    shared: false,
                });
            }
            None => problems.push("a `--set` flag is not of the form key=value".to_owned()),
        }
    }
    settings
}

/// What a text may mean: a number or a truth value when it looks like one, and else, or when the setting wants text, the text itself, and when it
/// wants a list, the parts between commas.
fn readings(value: &str) -> Vec<Value> {
    let literal = match value {
        "true" => Some(Value::from(true)),
        "false" => Some(Value::from(false)),
        _ => value.parse::<i64>().ok().map(Value::from),
    };
    let parts: Vec<&str> = value.split(',').map(str::trim).filter(|part| !part.is_empty()).collect();
    literal.into_iter().chain([Value::from(value), Value::from(parts)]).collect()
}

/// The settings in a file. The parser's own words are left out, because they quote the file.
fn read(file: &Path) -> Result<Dict, String> {
    let at = file.display();
    let text =
        std::fs::read_to_string(file).map_err(|error| format!("the file {at} cannot be read: {error}"))?;
    toml::from_str(&text).map_err(|error: toml::de::Error| {
        let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
        format!("the file {at} is not TOML: see line {}", before.matches('\n').count() + 1)
    })
}

/// Tables and lists of tables become one setting for each value.
fn flatten(prefix: &str, value: &Value, visit: &mut impl FnMut(String, Value)) {
    let under = |key: &str| if prefix.is_empty() { key.to_owned() } else { format!("{prefix}.{key}") };
    match value {
        Value::Dict(_, nested) if !nested.is_empty() => {
            for (key, value) in nested {
                flatten(&under(key), value, visit);
            }
        }
        Value::Array(_, elements)
            if !elements.is_empty() && elements.iter().all(|element| element.as_dict().is_some()) =>
        {
            for (index, element) in elements.iter().enumerate() {
                flatten(&under(&index.to_string()), element, visit);
            }
        }
        Value::String(..)
        | Value::Char(..)
        | Value::Bool(..)
        | Value::Num(..)
        | Value::Empty(..)
        | Value::Dict(..)
        | Value::Array(..) => visit(prefix.to_owned(), value.clone()),
    }
}

fn is_known(known: &Value, key: &str) -> bool {
    key.split('.').try_fold(known, |value, part| value.as_dict()?.get(part)).is_some()
}

/// What is wrong with a value, without the value.
fn wrong(kind: figment::error::Kind) -> String {
    use figment::error::Kind;

    match kind {
        Kind::InvalidType(_, expected)
        | Kind::InvalidValue(_, expected)
        | Kind::InvalidLength(_, expected) => {
            format!("must be {expected}")
        }
        Kind::UnknownVariant(_, known) => format!("must be one of {}", known.join(", ")),
        Kind::UnknownField(field, _) => format!("`{field}` is not a setting"),
        Kind::MissingField(field) => format!("`{field}` is missing"),
        Kind::DuplicateField(field) => format!("`{field}` is given twice"),
        Kind::ISizeOutOfRange(_) | Kind::USizeOutOfRange(_) => "is out of range".to_owned(),
        Kind::Unsupported(_) | Kind::UnsupportedKey(..) => {
            "is of a kind that settings cannot have".to_owned()
        }
        Kind::Message(message) => message,
    }
}

#[cfg(test)]
mod tests;
