//! Settings of a listener that the world reaches.

use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::accept::{Limits, Transport};
use crate::tls::{ServerCertificate, ServerFiles, TlsError};

/// Settings of a listener that the world reaches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PublicConfig {
    /// PEM file of the certificate, then its intermediates. Set together with `key`: TLS is spoken. Neither: clear text, for a proxy on the same machine.
    pub certificate: Option<PathBuf>,
    /// PEM file of the certificate's private key.
    pub key: Option<PathBuf>,
    /// The networks of the proxies in front, which begin each connection with a PROXY protocol header (version 1 or 2) that names the client. When
    /// there are any, a connection from elsewhere is closed at once.
    pub proxy_networks: Vec<IpNet>,
    /// Connections open at a time; more wait.
    pub connections_max: usize,
    /// Connections open at a time for each client, an IPv4 address or IPv6 /64; more are closed at once. 0: no such limit, for a proxy in front that
    /// does not speak the PROXY protocol.
    pub connections_per_client_max: usize,
    /// How long a connection may have no request, in milliseconds.
    pub idle_timeout_ms: u64,
    /// How long a client may read nothing, or leave a part of an answer unread (of each it takes all or 16 KiB in this time), in milliseconds.
    pub write_stall_timeout_ms: u64,
    /// The age at which a connection is told to end, in milliseconds, give or take a tenth. Requests in flight may take as long again.
    pub connection_age_max_ms: u64,
}

impl Default for PublicConfig {
    fn default() -> Self {
        let limits = Limits::public();
        let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Self {
            certificate: None,
            key: None,
            proxy_networks: limits.proxies,
            connections_max: limits.max_connections,
            connections_per_client_max: limits.max_connections_per_network,
            idle_timeout_ms: ms(limits.idle_timeout),
            write_stall_timeout_ms: ms(limits.write_stall_timeout),
            connection_age_max_ms: ms(limits.max_connection_age),
        }
    }
}

impl PublicConfig {
    /// What is missing or makes no sense in the table `name`, one sentence each.
    pub fn check(&self, name: &str) -> Vec<String> {
        let mut problems = Vec::new();
        if self.certificate.is_some() != self.key.is_some() {
            problems.push(format!("`{name}.certificate` and `{name}.key` go together"));
        }
        for (setting, is_zero) in [
            ("connections_max", self.connections_max == 0),
            ("idle_timeout_ms", self.idle_timeout_ms == 0),
            ("write_stall_timeout_ms", self.write_stall_timeout_ms == 0),
            ("connection_age_max_ms", self.connection_age_max_ms == 0),
        ] {
            if is_zero {
                problems.push(format!("`{name}.{setting}` must be at least 1"));
            }
        }
        problems
    }

    /// What the listener puts up with.
    pub(crate) fn limits(&self) -> Limits {
        let age = Duration::from_millis(self.connection_age_max_ms);
        Limits {
            proxies: self.proxy_networks.clone(),
            max_connections: self.connections_max,
            max_connections_per_network: self.connections_per_client_max,
            idle_timeout: Duration::from_millis(self.idle_timeout_ms),
            write_stall_timeout: Duration::from_millis(self.write_stall_timeout_ms),
            max_connection_age: age,
            max_connection_age_grace: age,
            ..Limits::public()
        }
    }

    /// What is below HTTP.
    ///
    /// # Errors
    ///
    /// The certificate cannot be used.
    pub(crate) fn transport(&self) -> Result<Transport, TlsError> {
        let (Some(certificate), Some(key)) = (self.certificate.clone(), self.key.clone()) else {
            return Ok(Transport::Clear);
        };
        Ok(Transport::Public(ServerCertificate::load(ServerFiles { certificate, key })?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_those_of_a_public_listener() {
        let config = PublicConfig::default();
        assert_eq!(config.check("public"), [""; 0]);
        assert_eq!(config.limits(), Limits::public());
        assert!(matches!(config.transport(), Ok(Transport::Clear)));
    }

    #[test]
    fn what_makes_no_sense_is_said_by_its_name() {
        let wrong =
            PublicConfig { key: Some("tls.key".into()), idle_timeout_ms: 0, ..PublicConfig::default() };
        let problems = wrong.check("public");
        assert_eq!(problems.len(), 2, "{problems:?}");
        assert!(problems[0].contains("go together") && problems[1].contains("`public.idle_timeout_ms`"));
    }
}
