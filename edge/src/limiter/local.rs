//! Counts in this process.

use std::{num::NonZeroU32, time::Duration};

use governor::{
    Quota, RateLimiter,
    clock::{Clock as _, DefaultClock},
    middleware::StateInformationMiddleware,
    state::keyed::DefaultKeyedStateStore,
};

use super::{
    Decision, Key, Lane, Who,
    settings::{LimitsConfig, WINDOW},
};

type Counter = RateLimiter<Who, DefaultKeyedStateStore<Who>, DefaultClock, StateInformationMiddleware>;

/// The counters of one process, one for each lane.
pub(super) struct Local {
    clock: DefaultClock,
    lanes: [Limit; Lane::ALL.len()],
}

struct Limit {
    per_minute: NonZeroU32,
    counter: Counter,
}

impl Limit {
    fn new(per_minute: u32) -> Self {
        let per_minute = NonZeroU32::new(per_minute).unwrap_or(NonZeroU32::MIN);
        let counter = RateLimiter::dashmap(Quota::per_minute(per_minute));
        Self { per_minute, counter: counter.with_middleware() }
    }

    fn count(&self, key: &Key, clock: &DefaultClock) -> Decision {
        match self.counter.check_key(&key.who) {
            Ok(state) => {
                let remaining = state.remaining_burst_capacity();
                let missing = self.per_minute.get().saturating_sub(remaining);
                let reset = WINDOW / self.per_minute.get() * missing;
                Decision { lane: key.lane, remaining, reset, allowed: true }
            }
            Err(refused) => Decision {
                lane: key.lane,
                remaining: 0,
                reset: refused.wait_time_from(clock.now()).max(Duration::from_nanos(1)),
                allowed: false,
            },
        }
    }
}

impl Local {
    pub(super) fn new(config: &LimitsConfig) -> Self {
        Self {
            clock: DefaultClock::default(),
            lanes: Lane::ALL.map(|lane| Limit::new(config.per_minute(lane))),
        }
    }

    fn limit(&self, lane: Lane) -> &Limit {
        let [default, expensive, credentials, network, account] = &self.lanes;
        match lane {
            Lane::Default => default,
            Lane::Expensive => expensive,
            Lane::Credentials => credentials,
            Lane::CredentialsNetwork => network,
            Lane::CredentialsAccount => account,
        }
    }

    /// Counts a call by each of the keys in turn, up to the first that refuses it.
    pub(super) fn count(&self, keys: &[Key]) -> Decision {
        let mut nearest: Option<Decision> = None;
        for key in keys {
            let decision = self.limit(key.lane).count(key, &self.clock).nearer(nearest);
            if !decision.allowed {
                return decision;
            }
            nearest = Some(decision);
        }
        nearest.expect("a call counts against one limit at least")
    }

    pub(super) fn forget_quiet_clients(&self) {
        for Limit { counter, .. } in &self.lanes {
            counter.retain_recent();
            counter.shrink_to_fit();
        }
    }
}
