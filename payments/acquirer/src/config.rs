//! Settings of the acquirer.

use std::path::PathBuf;

use mesh::config::{
    Configuration, DatabaseConfig, Parts, ServerConfig, TargetConfig, TelemetryConfig, TlsFiles,
};
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
    /// Where token keys come from. Empty, the default: nowhere, because no user ever calls here.
    pub identity: TargetConfig,
    /// The file with the clock's offset.
    pub clock_file: Option<PathBuf>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            server: ServerConfig::on_loopback(50060),
            telemetry: TelemetryConfig::default(),
            tls: TlsFiles { certificate: PathBuf::new(), key: PathBuf::new(), roots: PathBuf::new() },
            database: DatabaseConfig::default(),
            identity: TargetConfig { address: String::new() },
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
            identity: Some(&self.identity).filter(|identity| !identity.address.is_empty()),
            clock_file: self.clock_file.as_ref(),
        }
    }

    fn check(&self) -> Vec<String> {
        let mut problems = self.database.check();
        for (key, path) in
            [("certificate", &self.tls.certificate), ("key", &self.tls.key), ("roots", &self.tls.roots)]
        {
            if path.as_os_str().is_empty() {
                problems.push(format!("`tls.{key}` is missing"));
            }
        }
        problems
    }
}
