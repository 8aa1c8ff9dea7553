//! Rate limits by class and client, in process.

use std::{net::IpAddr, num::NonZeroU32, time::Duration};

use governor::{
    DefaultKeyedRateLimiter, Quota, RateLimiter,
    clock::{Clock as _, DefaultClock},
};
use proto::policy::Rate;
use uuid::Uuid;

use crate::{client_address, config::LimitsConfig};

/// Whose calls are counted together.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Client {
    User(Uuid),
    Network(IpAddr),
}

/// Counts calls by the generic cell rate algorithm: steady rate, with a burst of one minute's worth at most.
pub struct Limiter {
    clock: DefaultClock,
    default: DefaultKeyedRateLimiter<Client>,
    credentials: DefaultKeyedRateLimiter<Client>,
    expensive: DefaultKeyedRateLimiter<Client>,
}

impl Limiter {
    /// A limiter with these limits.
    pub fn new(config: &LimitsConfig) -> Self {
        let limiter = |per_minute| {
            RateLimiter::keyed(Quota::per_minute(NonZeroU32::new(per_minute).unwrap_or(NonZeroU32::MIN)))
        };
        Self {
            clock: DefaultClock::default(),
            default: limiter(config.default_per_minute),
            credentials: limiter(config.credentials_per_minute),
            expensive: limiter(config.expensive_per_minute),
        }
    }

    /// Counts one call.
    ///
    /// # Errors
    ///
    /// How long to wait, when the client has made too many.
    pub fn count(&self, rate: Rate, user: Option<Uuid>, address: IpAddr) -> Result<(), Duration> {
        let network = Client::Network(client_address::network(address));
        let (limiter, client) = match (rate, user) {
            // A password is guessed from a network, whoever is signed in there.
            (Rate::Credentials, _) => (&self.credentials, network),
            (Rate::Default, user) => (&self.default, user.map_or(network, Client::User)),
            (Rate::Expensive, user) => (&self.expensive, user.map_or(network, Client::User)),
        };
        limiter.check_key(&client).map_err(|refused| refused.wait_time_from(self.clock.now()))
    }

    /// Forgets clients whose budget is whole again, so that memory does not grow with every client ever seen.
    pub fn forget_quiet_clients(&self) {
        for limiter in [&self.default, &self.credentials, &self.expensive] {
            limiter.retain_recent();
            limiter.shrink_to_fit();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_counted_by_network_whoever_is_signed_in() {
        let limiter = Limiter::new(&LimitsConfig { credentials_per_minute: 2, ..LimitsConfig::default() });
        let address = IpAddr::from([203, 0, 113, 9]);
        let count = |user| limiter.count(Rate::Credentials, Some(Uuid::from_u128(user)), address);

        assert!(count(1).is_ok());
        assert!(count(2).is_ok());
        let wait = count(3).expect_err("the third in a minute");
        assert!(wait > Duration::ZERO && wait <= Duration::from_mins(1), "{wait:?}");
        assert!(limiter.count(Rate::Credentials, None, IpAddr::from([203, 0, 113, 10])).is_ok());
    }

    #[test]
    fn users_behind_one_address_have_budgets_of_their_own() {
        let limiter = Limiter::new(&LimitsConfig { default_per_minute: 1, ..LimitsConfig::default() });
        let address = IpAddr::from([203, 0, 113, 9]);

        assert!(limiter.count(Rate::Default, Some(Uuid::from_u128(1)), address).is_ok());
        assert!(limiter.count(Rate::Default, Some(Uuid::from_u128(2)), address).is_ok());
        assert!(limiter.count(Rate::Default, Some(Uuid::from_u128(1)), address).is_err());
    }
}
