//! The limits' settings.

use std::{path::PathBuf, time::Duration};

use mesh::config::redacted;
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};

use super::Lane;

/// How many calls may be made a minute. Each limit is also how many may be made at once.
///
/// A client is a user when signed in, else a network (IPv4 /32, IPv6 /64). Of several limits a call counts against all or, when one refuses it, none.
///
/// Nobody can use up what somebody else may do with an account: calls that name it are counted for the network that they come from, each method for
/// itself, so that attempts from elsewhere, or to sign up, take nothing from its owner's attempts to sign in. For guesses that are spread over the world
/// there is one limit for the account as a whole, far above what its owner needs; it slows all of them down for as long as they last, by a second at a time, and
/// locks nobody out (spec/identity.md section 6). What a wrong password costs its account is for the service to say.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LimitsConfig {
    /// Ordinary calls a minute.
    pub default_per_minute: u32,
    /// Calls that cost much more than others, a minute.
    pub expensive_per_minute: u32,
    /// Calls of either kind, a minute, of all who are signed in on one network: a client with many accounts. Offices share addresses, so it is high.
    pub network_per_minute: u32,
    /// Calls with a password or a refresh token, a minute; always by network.
    pub credentials_per_minute: u32,
    /// The same calls, a minute, from all of an IPv4 /24 or IPv6 /48.
    pub credentials_network_per_minute: u32,
    /// The same calls of one method, a minute, that name one e-mail address, from one network.
    pub credentials_account_per_minute: u32,
    /// The same calls of one method, a minute, that name one e-mail address, from all networks together. High: it delays everybody, the owner too.
    pub credentials_account_everywhere_per_minute: u32,
    /// Access tokens from one network that turn out not to be valid, a minute. Then no more are checked, for that is work. Counted by each edge for itself.
    pub failed_tokens_per_minute: u32,
    /// Calls in flight at a time for each network (IPv4 /32, IPv6 /64), in this process, from the head of the request to the last byte of the answer that the
    /// client took: long streams above all. More are refused with 429. 0: no such limit.
    pub in_flight_per_client_max: usize,
    /// Where edges share their counts: `redis://` or, with TLS, `rediss://`, with a password if need be. Empty: each edge counts for itself.
    #[serde(serialize_with = "redacted")]
    pub redis_url: SecretString,
    /// A file with the certificates, in PEM, that a `rediss://` server's must come from. Unset: those that the system trusts.
    pub redis_roots: Option<PathBuf>,
    /// How long Redis may take for one answer before each edge counts for itself, in milliseconds.
    pub redis_timeout_ms: u64,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            default_per_minute: 600,
            expensive_per_minute: 60,
            network_per_minute: 6000,
            credentials_per_minute: 20,
            credentials_network_per_minute: 120,
            credentials_account_per_minute: 10,
            credentials_account_everywhere_per_minute: 600,
            failed_tokens_per_minute: 120,
            in_flight_per_client_max: 1_000,
            redis_url: SecretString::default(),
            redis_roots: None,
            redis_timeout_ms: 20,
        }
    }
}

impl LimitsConfig {
    /// Each limit of calls a minute `factor` times as high.
    #[must_use]
    pub fn times(&self, factor: u32) -> Self {
        Self {
            default_per_minute: self.default_per_minute.saturating_mul(factor),
            expensive_per_minute: self.expensive_per_minute.saturating_mul(factor),
            network_per_minute: self.network_per_minute.saturating_mul(factor),
            credentials_per_minute: self.credentials_per_minute.saturating_mul(factor),
            credentials_network_per_minute: self.credentials_network_per_minute.saturating_mul(factor),
            credentials_account_per_minute: self.credentials_account_per_minute.saturating_mul(factor),
            credentials_account_everywhere_per_minute: self
                .credentials_account_everywhere_per_minute
                .saturating_mul(factor),
            failed_tokens_per_minute: self.failed_tokens_per_minute.saturating_mul(factor),
            ..self.clone()
        }
    }

    /// What is wrong, one sentence each.
    pub fn check(&self) -> Vec<String> {
        let mut problems = Vec::new();
        for lane in Lane::ALL {
            if self.per_minute(lane) == 0 {
                let name = lane.name().replace('-', "_");
                problems.push(format!("`limits.{name}_per_minute` must be at least 1"));
            }
        }
        if self.redis_timeout_ms == 0 {
            problems.push("`limits.redis_timeout_ms` must be at least 1".to_owned());
        }
        let url = self.redis_url.expose_secret();
        // The parser's own words may quote the URL, which holds a password.
        if !url.is_empty() && redis::Client::open(url).is_err() {
            problems.push("`limits.redis_url` must be redis://… or rediss://…".to_owned());
        }
        if self.redis_roots.is_some() && !url.starts_with("rediss://") {
            problems.push("`limits.redis_roots` needs a `limits.redis_url` that is rediss://…".to_owned());
        }
        problems
    }

    /// The limit of a lane.
    pub(super) fn per_minute(&self, lane: Lane) -> u32 {
        match lane {
            Lane::Default => self.default_per_minute,
            Lane::Expensive => self.expensive_per_minute,
            Lane::Network => self.network_per_minute,
            Lane::Credentials => self.credentials_per_minute,
            Lane::CredentialsNetwork => self.credentials_network_per_minute,
            Lane::CredentialsAccount => self.credentials_account_per_minute,
            Lane::CredentialsAccountEverywhere => self.credentials_account_everywhere_per_minute,
            Lane::FailedTokens => self.failed_tokens_per_minute,
        }
    }

    /// How long Redis may take for one answer.
    pub(super) fn redis_timeout(&self) -> Duration {
        Duration::from_millis(self.redis_timeout_ms)
    }
}

/// The time that every limit is for.
pub(super) const WINDOW: Duration = Duration::from_mins(1);
