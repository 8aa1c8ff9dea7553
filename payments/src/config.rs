//! Settings of payments.

use std::path::PathBuf;

use ipnet::IpNet;
use mesh::config::{
    Configuration, DatabaseConfig, Parts, ServerConfig, TargetConfig, TelemetryConfig, TlsFiles,
};
use serde::{Deserialize, Deserializer, Serialize, de};

/// Everything that can be set.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where to listen. Default: 127.0.0.1:50053.
    pub server: ServerConfig,
    /// Logs.
    pub telemetry: TelemetryConfig,
    /// The workload certificate of `payments`.
    pub tls: TlsFiles,
    /// Its own database.
    pub database: DatabaseConfig,
    /// Where token keys come from.
    pub identity: TargetConfig,
    /// The acquirer.
    pub acquirer: TargetConfig,
    /// The file with the clock's offset.
    pub clock_file: Option<PathBuf>,
    /// Whether the acquirer is the simulated one, whose record may be read.
    #[serde(deserialize_with = "switch")]
    pub simulator: bool,
    /// The vault's outermost keys.
    pub keys: KeysConfig,
    /// What looks for answers that were lost.
    pub janitor: JanitorConfig,
    /// What tells others of events.
    pub webhooks: WebhooksConfig,
}

/// The vault's outermost keys.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct KeysConfig {
    /// The file that they are in; see [`crate::vault::create_keys_file`].
    pub file: PathBuf,
}

/// What looks for answers that were lost.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct JanitorConfig {
    /// Pause between two rounds, in milliseconds.
    pub interval_ms: u64,
    /// How long an answer may take before the acquirer is asked for it, in milliseconds.
    pub age_ms: u64,
}

/// What tells others of events.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WebhooksConfig {
    /// Pause between two rounds, in milliseconds.
    pub interval_ms: u64,
    /// How long an answer is waited for, in milliseconds.
    pub timeout_ms: u64,
    /// Attempts at the same time.
    pub concurrent_max: usize,
    /// Networks that may be called though they are not public, for example `10.1.0.0/16`. Default: none.
    pub allowed_networks: Vec<IpNet>,
    /// Trust the certificates in this PEM file, in the place of those that the system trusts.
    pub roots: Option<PathBuf>,
}

impl Default for WebhooksConfig {
    fn default() -> Self {
        Self {
            interval_ms: 200,
            timeout_ms: 10_000,
            concurrent_max: 128,
            allowed_networks: Vec::new(),
            roots: None,
        }
    }
}

impl Default for JanitorConfig {
    fn default() -> Self {
        Self { interval_ms: 5_000, age_ms: 10_000 }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            server: ServerConfig::on_loopback(50053),
            telemetry: TelemetryConfig::default(),
            tls: TlsFiles::default(),
            database: DatabaseConfig::default(),
            identity: TargetConfig::on_loopback(50051),
            acquirer: TargetConfig::on_loopback(50060),
            clock_file: None,
            simulator: false,
            keys: KeysConfig::default(),
            janitor: JanitorConfig::default(),
            webhooks: WebhooksConfig::default(),
        }
    }
}

impl Configuration for Config {
    fn parts(&self) -> Parts<'_> {
        Parts {
            server: &self.server,
            telemetry: &self.telemetry,
            tls: &self.tls,
            database: Some(&self.database),
            identity: Some(&self.identity),
            clock_file: self.clock_file.as_ref(),
        }
    }

    fn check(&self) -> Vec<String> {
        let mut problems = [self.tls.check(), self.database.check()].concat();
        if self.keys.file.as_os_str().is_empty() {
            problems.push("`keys.file` is missing".to_owned());
        }
        if self.janitor.interval_ms == 0 {
            problems.push("`janitor.interval_ms` must be at least 1".to_owned());
        }
        if self.webhooks.interval_ms == 0 {
            problems.push("`webhooks.interval_ms` must be at least 1".to_owned());
        }
        if self.webhooks.timeout_ms == 0 {
            problems.push("`webhooks.timeout_ms` must be at least 1".to_owned());
        }
        if self.webhooks.concurrent_max == 0 {
            problems.push("`webhooks.concurrent_max` must be at least 1".to_owned());
        }
        problems
    }
}

/// A truth value, which may also be written as 1 or 0.
fn switch<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Switch {
        Word(bool),
        Number(u8),
    }
    match Switch::deserialize(deserializer)? {
        Switch::Word(on) => Ok(on),
        Switch::Number(0) => Ok(false),
        Switch::Number(1) => Ok(true),
        Switch::Number(_) => Err(de::Error::custom("must be true or false")),
    }
}
