//! Rate limits: how many calls a client may make, by the class of the call and by what is known of the client.
//!
//! Calls are counted by the generic cell rate algorithm (GCRA): a steady rate, with a burst of one minute's worth at most. A call that is refused by one
//! of its limits is counted by none. Counts are kept in this process, or in Redis, where all edges share them; without Redis each edge counts for itself.

mod account;
mod headers;
mod local;
mod settings;
mod shared;

use std::{net::IpAddr, sync::Arc, time::Duration};

use metrics::Counter;
use proto::policy::Rate;
use uuid::Uuid;

pub use self::settings::LimitsConfig;
pub(crate) use self::{account::email_of, headers::Policies};
use self::{local::Local, shared::Shared};
use crate::client_address;

/// One limit of its own. In the order in which a call is counted by them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// Ordinary calls, by user or network.
    Default,
    /// Calls that cost much, by user or network.
    Expensive,
    /// Calls of either kind by whoever is signed in, by network: one client with many accounts.
    Network,
    /// Calls with a credential, by network.
    Credentials,
    /// The same, by a network some hundred times as large: guesses that are spread over addresses.
    CredentialsNetwork,
    /// The same, by method, the account that they are for, and network.
    CredentialsAccount,
    /// The same, by method and the account that they are for: guesses that are spread over the world.
    CredentialsAccountEverywhere,
    /// Access tokens that were checked and are not valid, by network.
    FailedTokens,
}

impl Lane {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Default,
        Self::Expensive,
        Self::Network,
        Self::Credentials,
        Self::CredentialsNetwork,
        Self::CredentialsAccount,
        Self::CredentialsAccountEverywhere,
        Self::FailedTokens,
    ];

    /// What clients, metrics and Redis call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Expensive => "expensive",
            Self::Network => "network",
            Self::Credentials => "credentials",
            Self::CredentialsNetwork => "credentials-network",
            Self::CredentialsAccount => "credentials-account",
            Self::CredentialsAccountEverywhere => "credentials-account-everywhere",
            Self::FailedTokens => "failed-tokens",
        }
    }
}

/// Whose calls are counted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Who {
    /// A signed-in user.
    User(Uuid),
    /// A network, by its first address.
    Network(IpAddr),
    /// An account in calls of one method, of one network or of all: by the first half of a SHA-256.
    Account([u8; 16]),
}

/// What one call counts against.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// Which limit.
    pub lane: Lane,
    /// Whose.
    pub who: Who,
}

/// What became of one call. Of several limits, the one that is nearest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The first limit that the call counts against, which tells its class.
    pub class: Lane,
    /// Which limit.
    pub lane: Lane,
    /// How many calls may follow at once.
    pub remaining: u32,
    /// When `remaining` is the whole limit again, or for a refused call: when another may be made.
    pub reset: Duration,
    /// Whether the call may be made.
    pub allowed: bool,
}

impl Decision {
    /// How long to wait, when the call was refused.
    pub fn wait(&self) -> Option<Duration> {
        (!self.allowed).then_some(self.reset)
    }

    /// The one that a client should look at: a refusal, else the limit that ends first.
    pub(crate) fn nearer(self, other: Option<Self>) -> Self {
        match other {
            Some(other) if !other.allowed || (self.allowed && other.remaining < self.remaining) => other,
            Some(_) | None => self,
        }
    }
}

/// Counts calls.
pub struct Limiter {
    local: Local,
    shared: Option<Arc<Shared>>,
    policies: Policies,
    decisions: Decisions,
}

/// Where a call was counted.
#[derive(Clone, Copy, Debug)]
enum Store {
    /// In this process, as configured.
    Local,
    /// In Redis.
    Redis,
    /// In this process, because Redis did not answer.
    Fallback,
}

impl Store {
    const ALL: [Self; 3] = [Self::Local, Self::Redis, Self::Fallback];

    fn name(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Redis => "redis",
            Self::Fallback => "fallback",
        }
    }
}

/// The counters of decisions, looked up once: this is on the way of every request.
struct Decisions([[[Counter; 2]; Store::ALL.len()]; Lane::ALL.len()]);

impl Decisions {
    fn new() -> Self {
        let counter = |lane: Lane, store: Store, allowed: bool| {
            let result = if allowed { "allowed" } else { "refused" };
            metrics::counter!(
                "edge_rate_limit_decisions_total",
                "limit" => lane.name(), "result" => result, "store" => store.name(),
            )
        };
        Self(
            Lane::ALL.map(|lane| {
                Store::ALL.map(|store| [false, true].map(|allowed| counter(lane, store, allowed)))
            }),
        )
    }

    fn count(&self, decision: &Decision, store: Store) {
        let Self([default, expensive, network, credentials, wide, account, everywhere, tokens]) = self;
        let lane = match decision.lane {
            Lane::Default => default,
            Lane::Expensive => expensive,
            Lane::Network => network,
            Lane::Credentials => credentials,
            Lane::CredentialsNetwork => wide,
            Lane::CredentialsAccount => account,
            Lane::CredentialsAccountEverywhere => everywhere,
            Lane::FailedTokens => tokens,
        };
        let [local, redis, fallback] = lane;
        let [refused, allowed] = match store {
            Store::Local => local,
            Store::Redis => redis,
            Store::Fallback => fallback,
        };
        if decision.allowed { allowed } else { refused }.increment(1);
    }
}

impl Limiter {
    /// A limiter with these limits. With a `redis_url`, [`Limiter::keep_connected`] has to run.
    ///
    /// # Errors
    ///
    /// The URL is none of a Redis server.
    pub fn new(config: &LimitsConfig) -> anyhow::Result<Self> {
        Ok(Self {
            local: Local::new(config),
            shared: Shared::new(config)?.map(Arc::new),
            policies: Policies::new(config),
            decisions: Decisions::new(),
        })
    }

    /// Connects to Redis, and again whenever it is lost; ends at once without one.
    pub fn keep_connected(&self) -> impl Future<Output = ()> + use<> {
        let shared = self.shared.clone();
        async move {
            if let Some(shared) = shared {
                shared.keep_connected().await;
            }
        }
    }

    /// Counts one call of this class.
    pub async fn count(&self, rate: Rate, user: Option<Uuid>, address: IpAddr) -> Decision {
        let network = Who::Network(client_address::network(address));
        let lane = match rate {
            Rate::Default => Lane::Default,
            Rate::Expensive => Lane::Expensive,
            // A password is guessed from a network, whoever is signed in there.
            Rate::Credentials => return self.decide(&credentials(address)).await.0,
        };
        let Some(user) = user else { return self.decide(&[Key { lane, who: network }]).await.0 };
        let keys = [Key { lane, who: Who::User(user) }, Key { lane: Lane::Network, who: network }];
        self.decide(&keys).await.0
    }

    /// Counts one call of this method with a credential for the account of this e-mail address, whether or not there is one. When it may not be made,
    /// what [`Limiter::count`] counted of it before is taken back.
    pub async fn count_account(&self, method: &str, email: &str, address: IpAddr) -> Decision {
        let key = |lane, network| Key { lane, who: Who::Account(account::digest(method, email, network)) };
        let keys = [
            key(Lane::CredentialsAccount, Some(client_address::network(address))),
            key(Lane::CredentialsAccountEverywhere, None),
        ];
        let (decision, store) = self.decide(&keys).await;
        if !decision.allowed {
            self.take_back(&credentials(address), store).await;
        }
        decision
    }

    /// Whether the signature of an access token from this address may be checked: not when too many were not valid. Counts nothing.
    ///
    /// It is this process's time that is at stake, so this process counts for itself, and without waiting for anybody.
    pub fn may_check_token(&self, address: IpAddr) -> Decision {
        let decision = self.local.look(&failed_tokens(address));
        if !decision.allowed {
            self.decisions.count(&decision, Store::Local);
        }
        decision
    }

    /// Counts one access token from this address that was not valid.
    pub fn count_failed_token(&self, address: IpAddr) {
        let decision = self.local.count(&[failed_tokens(address)]);
        if decision.allowed {
            self.decisions.count(&decision, Store::Local);
        }
    }

    async fn decide(&self, keys: &[Key]) -> (Decision, Store) {
        let (decision, store) = match &self.shared {
            None => (self.local.count(keys), Store::Local),
            Some(shared) => match shared.count(keys).await {
                Some(decision) => (decision, Store::Redis),
                None => (self.local.count(keys), Store::Fallback),
            },
        };
        self.decisions.count(&decision, store);
        (decision, store)
    }

    async fn take_back(&self, keys: &[Key], store: Store) {
        match (store, &self.shared) {
            (Store::Redis, Some(shared)) => shared.take_back(keys).await,
            (Store::Redis | Store::Local | Store::Fallback, _) => self.local.take_back(keys),
        }
    }

    /// The headers that tell a client where it stands.
    pub(crate) fn policies(&self) -> &Policies {
        &self.policies
    }

    /// Forgets clients whose budget is whole again, so that memory does not grow with every client ever seen.
    pub fn forget_quiet_clients(&self) {
        self.local.forget_quiet_clients();
    }
}

/// What a call with a credential from this address counts against, whatever it is for.
fn credentials(address: IpAddr) -> [Key; 2] {
    let (network, wide) = (client_address::network(address), client_address::wide_network(address));
    [
        Key { lane: Lane::Credentials, who: Who::Network(network) },
        Key { lane: Lane::CredentialsNetwork, who: Who::Network(wide) },
    ]
}

/// What an access token from this address counts against that is not valid.
fn failed_tokens(address: IpAddr) -> Key {
    Key { lane: Lane::FailedTokens, who: Who::Network(client_address::network(address)) }
}

#[cfg(test)]
mod tests;
