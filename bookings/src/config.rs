//! The settings of the service, and what they are unless somebody says otherwise.

use std::path::PathBuf;
use std::time::Duration;

use mesh::config::{
    Configuration, DatabaseConfig, Parts, ServerConfig, TargetConfig, TelemetryConfig, TlsFiles,
};
use serde::{Deserialize, Serialize};

/// The settings of the service.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where to listen.
    pub server: ServerConfig,
    /// Logs.
    pub telemetry: TelemetryConfig,
    /// The workload certificate.
    pub tls: TlsFiles,
    /// The service's own database.
    pub database: DatabaseConfig,
    /// Where token keys come from.
    pub identity: TargetConfig,
    /// Where payments are made.
    pub payments: TargetConfig,
    /// The file with the clock's offset, for the simulator.
    pub clock_file: Option<PathBuf>,
    /// How long a hold is good when the customer does not say, in seconds.
    pub hold_ttl_seconds: i32,
    /// Pause between two sweeps of expired holds, in milliseconds.
    pub sweep_interval_ms: u64,
    /// Pause between two looks for purchases that are due, in milliseconds. New ones are taken up at once.
    pub saga_poll_ms: u64,
    /// How long a worker may go without a sign of life before another takes its purchase over, in milliseconds.
    ///
    /// After a crash this is what passes before anything goes on, so it is short: a booking has to end within a minute of a restart. It is longer
    /// than `saga_call_ms`, so that a worker that is alive is not overtaken in the middle of a call.
    pub saga_lease_ms: u64,
    /// How long one call to payments may take, in milliseconds.
    pub saga_call_ms: u64,
    /// The longest pause before an unanswered step is tried again, in milliseconds. One that was answered and has to be sent anew waits longer after
    /// a few rounds.
    pub saga_backoff_max_ms: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            server: ServerConfig::on_loopback(50052),
            telemetry: TelemetryConfig::default(),
            tls: TlsFiles::default(),
            database: DatabaseConfig::default(),
            identity: TargetConfig::on_loopback(50051),
            payments: TargetConfig::on_loopback(50053),
            clock_file: None,
            hold_ttl_seconds: 600,
            sweep_interval_ms: 5_000,
            saga_poll_ms: 500,
            saga_lease_ms: 12_000,
            saga_call_ms: 8_000,
            saga_backoff_max_ms: 2_000,
        }
    }
}

impl Config {
    /// Pause between two sweeps.
    pub fn sweep_interval(&self) -> Duration {
        Duration::from_millis(self.sweep_interval_ms)
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
        let mut problems = self.database.check();
        problems.extend(self.tls.check());
        if !(60..=1_800).contains(&self.hold_ttl_seconds) {
            problems.push("`hold_ttl_seconds` must be 60 to 1800".to_owned());
        }
        if [self.sweep_interval_ms, self.saga_poll_ms, self.saga_call_ms, self.saga_backoff_max_ms]
            .contains(&0)
        {
            problems.push(
                "`sweep_interval_ms`, `saga_poll_ms`, `saga_call_ms` and `saga_backoff_max_ms` must be at least 1".to_owned(),
            );
        }
        if self.saga_lease_ms <= self.saga_call_ms {
            problems.push("`saga_lease_ms` must be longer than `saga_call_ms`".to_owned());
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_that_is_missing_or_contradictory_is_named() {
        let config =
            Config { hold_ttl_seconds: 30, saga_poll_ms: 0, saga_lease_ms: 8_000, ..Config::default() };
        let problems = config.check().join("\n");
        for setting in [
            "database.url",
            "tls.certificate",
            "tls.key",
            "tls.roots",
            "hold_ttl_seconds",
            "saga_poll_ms",
            "saga_lease_ms",
        ] {
            assert!(problems.contains(&format!("`{setting}`")), "{setting}: {problems}");
        }
    }
}
