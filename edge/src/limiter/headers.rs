//! The headers that tell a client where it stands.
//!
//! Source: draft-ietf-httpapi-ratelimit-headers-10: `RateLimit-Policy` lists the limits of the call's class with their quota (`q`) and window (`w`, in
//! seconds); `RateLimit` names the one that is nearest, what remains of it (`r`) and the seconds until that changes (`t`).

use std::io::Write as _;

use http::{HeaderMap, HeaderName, HeaderValue};

use super::{
    Decision, Lane,
    settings::{LimitsConfig, WINDOW},
};

const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// Longest value of `RateLimit`, in bytes.
const RATE_LIMIT_LENGTH_MAX: usize = 64;

/// The values of `RateLimit-Policy`, which never change.
pub(crate) struct Policies {
    default: HeaderValue,
    expensive: HeaderValue,
    credentials: HeaderValue,
    failed_tokens: HeaderValue,
}

impl Policies {
    pub(super) fn new(config: &LimitsConfig) -> Self {
        let policy = |lanes: &[Lane]| {
            let items: Vec<_> = lanes
                .iter()
                .map(|lane| {
                    format!("\"{}\";q={};w={}", lane.name(), config.per_minute(*lane), WINDOW.as_secs())
                })
                .collect();
            HeaderValue::try_from(items.join(", ")).expect("names and numbers are visible ASCII")
        };
        Self {
            default: policy(&[Lane::Default, Lane::Network]),
            expensive: policy(&[Lane::Expensive, Lane::Network]),
            credentials: policy(&[
                Lane::Credentials,
                Lane::CredentialsNetwork,
                Lane::CredentialsAccount,
                Lane::CredentialsAccountEverywhere,
            ]),
            failed_tokens: policy(&[Lane::FailedTokens]),
        }
    }

    /// Adds both headers to an answer.
    pub(crate) fn describe(&self, decision: &Decision, headers: &mut HeaderMap) {
        let policy = match decision.class {
            Lane::Default | Lane::Network => &self.default,
            Lane::Expensive => &self.expensive,
            Lane::Credentials
            | Lane::CredentialsNetwork
            | Lane::CredentialsAccount
            | Lane::CredentialsAccountEverywhere => &self.credentials,
            Lane::FailedTokens => &self.failed_tokens,
        };
        headers.insert(RATE_LIMIT_POLICY, policy.clone());
        let mut value = Vec::with_capacity(RATE_LIMIT_LENGTH_MAX);
        // Whole seconds, rounded up: a client that waits so long has not waited too little.
        let reset = decision.reset.as_secs() + u64::from(decision.reset.subsec_nanos() > 0);
        write!(value, "\"{}\";r={};t={reset}", decision.lane.name(), decision.remaining)
            .expect("a Vec takes every write");
        let value = HeaderValue::from_maybe_shared(bytes::Bytes::from(value));
        headers.insert(RATE_LIMIT, value.expect("names and numbers are visible ASCII"));
    }
}
