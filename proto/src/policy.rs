//! Who may call what, and how: the policy options of every method, compiled by the build to one table.
//!
//! The edge and the services enforce this same table. There is no other place that says who may call a method.

use std::time::Duration;

/// One method with everything that its options say.
#[derive(Debug, PartialEq, Eq)]
pub struct Method {
    /// The gRPC path, `/package.Service/Method`.
    pub path: &'static str,
    /// Who may call.
    pub access: Access,
    /// Whether a call may be repeated.
    pub idempotency: Idempotency,
    /// Whether the request carries a request id (AIP-155).
    pub request_id: RequestId,
    /// Which rate limit counts the call.
    pub rate: Rate,
    /// What is shed first under load.
    pub criticality: Criticality,
    /// The longest that a server works on one call.
    pub timeout: Duration,
    /// Largest request that the edge reads, in bytes.
    pub max_request_bytes: usize,
    /// Refused to users while it is not known which tokens were revoked of late.
    pub sensitive: bool,
    /// The client sends a stream.
    pub client_streaming: bool,
    /// The server sends a stream.
    pub server_streaming: bool,
}

impl Method {
    /// The method with this gRPC path; `None` when there is no such method.
    pub fn of(path: &str) -> Option<&'static Self> {
        TABLE.binary_search_by(|method| method.path.cmp(path)).ok().map(|index| &TABLE[index])
    }

    /// The last part of the path, for example `CreateHold`.
    pub fn name(&self) -> &'static str {
        self.path.rsplit('/').next().unwrap_or(self.path)
    }

    /// The service's full name, for example `jetway.bookings.v1.HoldService`.
    pub fn service(&self) -> &'static str {
        self.path.split('/').nth(1).unwrap_or(self.path)
    }
}

/// Who may call a method: the classes are alternatives, and `step_up` adds to them.
#[derive(Debug, PartialEq, Eq)]
pub struct Access {
    /// Anybody, without a credential.
    pub public: bool,
    /// Any user with a valid access token.
    pub signed_in: bool,
    /// A user with one of these roles.
    pub roles: &'static [&'static str],
    /// A peer service by the name in its certificate, on calls without a user's token.
    pub workloads: &'static [&'static str],
    /// Recent authentication is needed as well.
    pub step_up: bool,
}

impl Access {
    /// Whether anybody but other workloads may call.
    pub fn is_for_users(&self) -> bool {
        self.public || self.signed_in || !self.roles.is_empty()
    }
}

/// Whether a call may be repeated: the standard `idempotency_level`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Idempotency {
    /// Not without a request id.
    Unknown,
    /// Reads only.
    NoSideEffects,
    /// Twice is the same as once.
    Idempotent,
}

/// Whether a request carries a request id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestId {
    /// Takes none.
    None,
    /// May carry one.
    Optional,
    /// Refused without one.
    Required,
}

/// Which rate limit counts a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rate {
    /// Ordinary.
    Default,
    /// Presents a credential.
    Credentials,
    /// Costs much more than others.
    Expensive,
}

/// How much it hurts when a call is refused under load; what hurts least is shed first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Criticality {
    /// Retried later by a machine.
    Sheddable,
    /// Partial failure is expected.
    SheddablePlus,
    /// A user sees the failure.
    Critical,
    /// Money or seats are in the balance.
    CriticalPlus,
}

/// Every method of every service, sorted by path.
pub static TABLE: &[Method] = include!(concat!(env!("OUT_DIR"), "/policy_table.rs"));
