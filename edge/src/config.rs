//! The gateway's settings.

use std::path::PathBuf;

use clap::{Arg, ArgMatches};
use figment::value::Value;
use mesh::config::{
    Configuration, Parts, PublicConfig, ServerConfig, TargetConfig, TelemetryConfig, TlsFiles,
};
use serde::{Deserialize, Serialize};

use crate::client_address::Networks;
use crate::cors::Origins;
use crate::upstreams::{flags, set_by_flags};

pub use crate::limiter::LimitsConfig;
pub use crate::upstreams::{Access, UpstreamConfig};

/// Settings of the edge, for example `JETWAY_EDGE_SERVER__LISTEN`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where to listen. `server.listen`, or `listen` for short, is the public address.
    pub server: ServerConfig,
    /// The public listener: its certificate, the proxies in front of it, its limits.
    pub public: PublicConfig,
    /// Logs.
    pub telemetry: TelemetryConfig,
    /// The workload certificate, for calls to the platform's services.
    pub tls: TlsFiles,
    /// Where `identity` is.
    pub identity: TargetConfig,
    /// Where `bookings` is.
    pub bookings: TargetConfig,
    /// Where `payments` is.
    pub payments: TargetConfig,
    /// Whether Jetway's own services are fronted. Unset: when there is no `[[upstream]]`.
    pub platform: Option<bool>,
    /// Further services to front, of whatever kind.
    pub upstream: Vec<UpstreamConfig>,
    /// Whether fields that hold their default are printed in JSON. Unset: when Jetway's own services are fronted, whose clients should see that
    /// nothing was refunded, rather than nothing about refunds.
    pub print_defaults: Option<bool>,
    /// How many proxies of our own stand in front: the client's address is that many entries from the right of `X-Forwarded-For`. 0: it is the
    /// connection's, whatever the header says. Not together with `public.proxy_networks`, unless `trusted_proxies` says whose header counts.
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
    /// A file with the keys of CSRF tokens, `{"1": "64 hexadecimal digits"}`, see [`crate::csrf`]. All replicas need the same ones. Without a file a process has
    /// a key of its own, which is right for one replica; pages get a new token at their next refresh.
    pub csrf_keys: Option<PathBuf>,
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
            platform: None,
            upstream: Vec::new(),
            print_defaults: None,
            trusted_hops: 0,
            trusted_proxies: Networks::default(),
            limits: LimitsConfig::default(),
            browsers: BrowsersConfig::default(),
            clock_file: None,
        }
    }
}

impl Config {
    /// Whether Jetway's own services are fronted.
    pub fn fronts_platform(&self) -> bool {
        self.platform.unwrap_or(self.upstream.is_empty())
    }

    /// Whether any call is checked by the policy of the contract, so that tokens have to be verified.
    pub fn checks_tokens(&self) -> bool {
        self.fronts_platform() || self.upstream.iter().any(|upstream| upstream.access == Access::Policy)
    }

    /// Whether fields that hold their default are printed in JSON.
    pub fn prints_defaults(&self) -> bool {
        self.print_defaults.unwrap_or_else(|| self.fronts_platform())
    }
}

impl Configuration for Config {
    fn lists() -> Vec<(&'static str, Value)> {
        vec![("upstream", Value::serialize(UpstreamConfig::default()).expect("a table"))]
    }

    fn short_names() -> &'static [(&'static str, &'static str)] {
        &[("listen", "server.listen")]
    }

    fn flags() -> Vec<Arg> {
        flags()
    }

    fn set_by_flags(matches: &ArgMatches) -> Vec<String> {
        set_by_flags(matches)
    }

    /// For calls to the platform's own services: those that say who may call them, and `identity`, which has the keys of tokens.
    fn needs_certificate(&self) -> bool {
        self.checks_tokens() || self.upstream.iter().any(|upstream| upstream.workload.is_some())
    }

    fn parts(&self) -> Parts<'_> {
        Parts {
            server: &self.server,
            telemetry: &self.telemetry,
            tls: &self.tls,
            database: None,
            identity: self.checks_tokens().then_some(&self.identity),
            clock_file: self.clock_file.as_ref(),
        }
    }

    fn check(&self) -> Vec<String> {
        let mut problems = if self.needs_certificate() { self.tls.check() } else { Vec::new() };
        problems.extend(self.public.check("public"));
        if self.platform == Some(false) && self.upstream.is_empty() {
            problems
                .push("`platform` is false and there is no `upstream`: there is nothing to serve".to_owned());
        }
        problems.extend(self.upstream.iter().enumerate().flat_map(|(index, upstream)| upstream.check(index)));
        for origin in &self.browsers.origins {
            if let Some(problem) = Origins::problem(origin) {
                problems.push(format!("`browsers.origins`: `{origin}` {problem}"));
            }
        }
        problems.extend(self.limits.check());
        if !self.public.proxy_networks.is_empty()
            && self.trusted_hops > 0
            && self.trusted_proxies.0.is_empty()
        {
            problems.push(
                "`trusted_hops` with `public.proxy_networks` would believe the `X-Forwarded-For` of whomever the PROXY protocol names: leave it out, or list in \
                 `trusted_proxies` the networks of the proxies that write it"
                    .to_owned(),
            );
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_proxy_protocol_does_not_go_with_a_header_that_the_client_itself_may_write() {
        let mut config = Config { trusted_hops: 1, ..Config::default() };
        let refused = |config: &Config| {
            config
                .check()
                .iter()
                .any(|problem| problem.contains("`trusted_hops` with `public.proxy_networks`"))
        };
        assert!(!refused(&config));
        config.public.proxy_networks = vec!["10.0.0.0/8".parse().unwrap()];
        assert!(refused(&config));
        // Then the header counts only when the PROXY protocol names one of these.
        config.trusted_proxies = Networks(vec!["10.1.0.0/16".parse().unwrap()]);
        assert!(!refused(&config));
        config.trusted_proxies = Networks::default();
        config.trusted_hops = 0;
        assert!(!refused(&config));
    }
}
