//! Settings of the service.

use std::path::PathBuf;

use jiff::SignedDuration;
use mesh::config::{Configuration, DatabaseConfig, Parts, ServerConfig, TelemetryConfig, TlsFiles};
use serde::{Deserialize, Serialize};

use crate::domain::Lifetimes;

/// Everything that can be set, with its default.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Addresses.
    pub server: ServerConfig,
    /// Logs.
    pub telemetry: TelemetryConfig,
    /// The workload certificate.
    pub tls: TlsFiles,
    /// Users, sessions and keys.
    pub database: DatabaseConfig,
    /// The file with the clock's offset, for the simulator.
    pub clock_file: Option<PathBuf>,
    /// The keys that encrypt keys.
    pub keys: KeysConfig,
    /// How long tokens and sessions last.
    pub tokens: TokenConfig,
    /// What a password hash costs.
    pub password: PasswordConfig,
}

/// The keys that encrypt keys.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeysConfig {
    /// `{"1": "64 hexadecimal digits"}`; see [`crate::kek`].
    pub file: PathBuf,
}

/// How long tokens and sessions last.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenConfig {
    /// Life of an access token: 60 to 3600.
    pub access_token_seconds: i64,
    /// How long a session lasts without a refresh.
    pub refresh_idle_seconds: i64,
    /// How long a session lasts in any case.
    pub refresh_absolute_seconds: i64,
    /// How often it is looked for what was revoked, in milliseconds: 10 to 1000.
    pub revocation_poll_ms: u64,
}

impl TokenConfig {
    /// How long sessions last.
    pub fn lifetimes(&self) -> Lifetimes {
        Lifetimes {
            idle: SignedDuration::from_secs(self.refresh_idle_seconds),
            absolute: SignedDuration::from_secs(self.refresh_absolute_seconds),
        }
    }
}

/// What a password hash costs. Memory in use is `threads` × `memory_kib`.
///
/// Source: OWASP Password Storage Cheat Sheet, the set of 19 MiB and two passes.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PasswordConfig {
    /// Memory of one hash, in KiB.
    pub memory_kib: u32,
    /// Passes over the memory.
    pub iterations: u32,
    /// Lanes.
    pub parallelism: u32,
    /// Hashes at once: threads with a buffer each. By default all cores but one.
    pub threads: usize,
}

impl Default for PasswordConfig {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self { memory_kib: 19_456, iterations: 2, parallelism: 1, threads: cores.saturating_sub(1).max(1) }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            server: ServerConfig::on_loopback(50051),
            telemetry: TelemetryConfig::default(),
            tls: TlsFiles::default(),
            database: DatabaseConfig::default(),
            clock_file: None,
            keys: KeysConfig { file: PathBuf::new() },
            tokens: TokenConfig {
                access_token_seconds: 900,
                refresh_idle_seconds: 7 * 24 * 3600,
                refresh_absolute_seconds: 30 * 24 * 3600,
                revocation_poll_ms: 500,
            },
            password: PasswordConfig::default(),
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
            identity: None,
            clock_file: self.clock_file.as_ref(),
        }
    }

    fn check(&self) -> Vec<String> {
        let mut problems = [self.tls.check(), self.database.check()].concat();
        if self.keys.file.as_os_str().is_empty() {
            problems.push("`keys.file` is missing".to_owned());
        }
        if !(60..=mesh::token::LIFE_SECONDS_MAX).contains(&self.tokens.access_token_seconds) {
            problems.push("`tokens.access_token_seconds` must be 60 to 3600".to_owned());
        }
        let year = 366 * 24 * 3600;
        if !(60..=year).contains(&self.tokens.refresh_idle_seconds) {
            problems.push("`tokens.refresh_idle_seconds` must be 60 to 31622400".to_owned());
        }
        if !(self.tokens.refresh_idle_seconds..=year).contains(&self.tokens.refresh_absolute_seconds) {
            problems.push(
                "`tokens.refresh_absolute_seconds` must be at least `tokens.refresh_idle_seconds`, and at most 31622400"
                    .to_owned(),
            );
        }
        if !(10..=1000).contains(&self.tokens.revocation_poll_ms) {
            problems.push("`tokens.revocation_poll_ms` must be 10 to 1000".to_owned());
        }
        let password = &self.password;
        if argon2::Params::new(password.memory_kib, password.iterations, password.parallelism, None).is_err()
        {
            problems.push("`password.memory_kib`, `password.iterations` and `password.parallelism` are not parameters of argon2".to_owned());
        }
        if !(1..=256).contains(&password.threads) {
            problems.push("`password.threads` must be 1 to 256".to_owned());
        }
        problems
    }
}
