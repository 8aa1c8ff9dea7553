//! The gateway's settings.

use std::path::PathBuf;

use mesh::config::{Configuration, Parts, ServerConfig, TargetConfig, TelemetryConfig, TlsFiles};
use serde::{Deserialize, Serialize};

/// Settings of the edge, for example `JETWAY_EDGE_SERVER__LISTEN`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where to listen. `server.listen` is the public address.
    pub server: ServerConfig,
    /// Logs.
    pub telemetry: TelemetryConfig,
    /// The workload certificate, for calls to the services.
    pub tls: TlsFiles,
    /// Where `identity` is.
    pub identity: TargetConfig,
    /// Where `bookings` is.
    pub bookings: TargetConfig,
    /// Where `payments` is.
    pub payments: TargetConfig,
    /// How many proxies of our own stand in front: the client's address is that many entries from the right of `X-Forwarded-For`. 0: it is the
    /// connection's, whatever the header says.
    pub trusted_hops: usize,
    /// Rate limits.
    pub limits: LimitsConfig,
    /// The file with the clock's offset, for the simulator.
    pub clock_file: Option<PathBuf>,
}

/// Calls for each client: a user when signed in, else a network (IPv4 /32, IPv6 /64).
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LimitsConfig {
    /// Ordinary calls a minute.
    pub default_per_minute: u32,
    /// Calls with a password or a refresh token, a minute; always by network.
    pub credentials_per_minute: u32,
    /// Calls that cost much more than others, a minute.
    pub expensive_per_minute: u32,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self { default_per_minute: 600, credentials_per_minute: 20, expensive_per_minute: 60 }
    }
}

impl LimitsConfig {
    /// Each limit `factor` times as high.
    #[must_use]
    pub fn times(&self, factor: u32) -> Self {
        Self {
            default_per_minute: self.default_per_minute.saturating_mul(factor),
            credentials_per_minute: self.credentials_per_minute.saturating_mul(factor),
            expensive_per_minute: self.expensive_per_minute.saturating_mul(factor),
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            server: ServerConfig::on_loopback(8080),
            telemetry: TelemetryConfig::default(),
            tls: TlsFiles::default(),
            identity: TargetConfig::on_loopback(50051),
            bookings: TargetConfig::on_loopback(50052),
            payments: TargetConfig::on_loopback(50053),
            trusted_hops: 0,
            limits: LimitsConfig::default(),
            clock_file: None,
        }
    }
}

impl Configuration for Config {
    fn parts(&self) -> Parts<'_> {
        Parts {
            server: &self.server,
            telemetry: &self.telemetry,
            tls: &self.tls,
            database: None,
            identity: Some(&self.identity),
            clock_file: self.clock_file.as_ref(),
        }
    }

    fn check(&self) -> Vec<String> {
        let mut problems = self.tls.check();
        let limits = [
            ("default", self.limits.default_per_minute),
            ("credentials", self.limits.credentials_per_minute),
            ("expensive", self.limits.expensive_per_minute),
        ];
        for (name, limit) in limits {
            if limit == 0 {
                problems.push(format!("`limits.{name}_per_minute` must be at least 1"));
            }
        }
        problems
    }
}
