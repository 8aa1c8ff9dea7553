//! Settings of the acquirer.

use std::path::PathBuf;

use mesh::config::{Configuration, DatabaseConfig, Parts, ServerConfig, TelemetryConfig, TlsFiles};
use serde::{Deserialize, Serialize};

/// Everything that can be set.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where to listen. Default: 127.0.0.1:50060.
    pub server: ServerConfig,
    /// Logs.
    pub telemetry: TelemetryConfig,
    /// The workload certificate of `acquirer`.
    pub tls: TlsFiles,
    /// Its own database.
    pub database: DatabaseConfig,
    /// The file with the clock's offset.
    pub clock_file: Option<PathBuf>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            server: ServerConfig::on_loopback(50060),
            telemetry: TelemetryConfig::default(),
            tls: TlsFiles::default(),
            database: DatabaseConfig::default(),
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
            database: Some(&self.database),
            identity: None,
            clock_file: self.clock_file.as_ref(),
        }
    }

    fn check(&self) -> Vec<String> {
        [self.tls.check(), self.database.check()].concat()
    }
}
