//! The gateway's settings.

use std::path::PathBuf;

use mesh::config::{
    Configuration, Parts, PublicConfig, ServerConfig, TargetConfig, TelemetryConfig, TlsFiles,
};
use serde::{Deserialize, Serialize};

use crate::client_address::Networks;
use crate::cors::Origins;

pub use crate::limiter::LimitsConfig;

/// Settings of the edge, for example `JETWAY_EDGE_SERVER__LISTEN`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where to listen. `server.listen` is the public address.
    pub server: ServerConfig,
    /// The public listener: its certificate, the proxies in front of it, its limits.
    pub public: PublicConfig,
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
    /// The networks that they are in, for example `10.0.0.0/8`: then `X-Forwarded-For` counts only from there, and is followed from the right as long
    /// as its entries are in these networks, `trusted_hops` of them at most unless that is 0.
    pub trusted_proxies: Networks,
    /// Rate limits.
    pub limits: LimitsConfig,
    /// Pages in browsers.
    pub browsers: BrowsersConfig,
    /// The file with the clock's offset, for the simulator.
    pub clock_file: Option<PathBuf>,
}

/// What pages in browsers may do.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BrowsersConfig {
    /// The origins of our own pages, for example `https://app.jetway.example`, each exactly as a browser writes it: they may call with credentials and
    /// read the answers. Pages on the gateway's own origin need not be listed; browsers that send no `Sec-Fetch-Site` need that all the same.
    pub origins: Vec<String>,
    /// `{"1": "64 hexadecimal digits"}`: the keys of CSRF tokens, see [`crate::csrf`]. All replicas need the same ones. Without a file a process has
    /// a key of its own, which is right for one replica; pages get a new token at their next refresh.
    pub csrf_key_file: Option<PathBuf>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            // Long enough for every busy HTTP/1.1 client to be told that its connection ends.
            server: ServerConfig { drain_delay_ms: 2_000, ..ServerConfig::on_loopback(8080) },
            public: PublicConfig::default(),
            telemetry: TelemetryConfig::default(),
            tls: TlsFiles::default(),
            identity: TargetConfig::on_loopback(50051),
            bookings: TargetConfig::on_loopback(50052),
            payments: TargetConfig::on_loopback(50053),
            trusted_hops: 0,
            trusted_proxies: Networks::default(),
            limits: LimitsConfig::default(),
            browsers: BrowsersConfig::default(),
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
        problems.extend(self.public.check("public"));
        for origin in &self.browsers.origins {
            if let Some(problem) = Origins::problem(origin) {
                problems.push(format!("`browsers.origins`: `{origin}` {problem}"));
            }
        }
        problems.extend(self.limits.check());
        problems
    }
}
