//! Counts in this process.
//!
//! Our own rather than a crate's: a call counts against several limits or against none, and the crates that count do so one limit at a time.

use std::time::{Duration, Instant};

use dashmap::{DashMap, Entry};

use super::{
    Decision, Key, Lane, Who,
    settings::{LimitsConfig, WINDOW},
};

/// The counters of one process, one for each lane.
pub(super) struct Local {
    /// What times are counted from.
    started: Instant,
    lanes: [Limit; Lane::ALL.len()],
}

/// The counter of one lane, as the generic cell rate algorithm has it.
struct Limit {
    /// The time between two calls of a steady rate, in nanoseconds.
    interval: u64,
    /// How many calls may be made at once.
    burst: u32,
    /// When the whole burst may be used again, in nanoseconds: later by one interval for each call.
    whole: DashMap<Who, u64>,
}

/// Room for one call.
struct Room {
    /// What to keep if the call is made.
    whole: u64,
    decision: Decision,
}

impl Limit {
    fn new(per_minute: u32) -> Self {
        let burst = per_minute.max(1);
        let interval = nanoseconds(WINDOW) / u64::from(burst);
        Self { interval: interval.max(1), burst, whole: DashMap::new() }
    }

    /// What becomes of a call at `now`, when the whole burst may be used again at `whole`.
    fn look(&self, class: Lane, lane: Lane, whole: Option<u64>, now: u64) -> Room {
        let whole = whole.map_or(now, |whole| whole.max(now)).saturating_add(self.interval);
        let until_whole = whole.saturating_sub(now);
        let tolerance = self.interval.saturating_mul(u64::from(self.burst));
        let decision = match tolerance.checked_sub(until_whole) {
            Some(room) => Decision {
                class,
                lane,
                remaining: u32::try_from(room / self.interval).unwrap_or(u32::MAX),
                reset: Duration::from_nanos(until_whole),
                allowed: true,
            },
            None => Decision {
                class,
                lane,
                remaining: 0,
                reset: Duration::from_nanos(until_whole - tolerance),
                allowed: false,
            },
        };
        Room { whole, decision }
    }
}

impl Local {
    pub(super) fn new(config: &LimitsConfig) -> Self {
        Self { started: Instant::now(), lanes: Lane::ALL.map(|lane| Limit::new(config.per_minute(lane))) }
    }

    fn limit(&self, lane: Lane) -> &Limit {
        let [default, expensive, network, credentials, wide, account, everywhere, tokens] = &self.lanes;
        match lane {
            Lane::Default => default,
            Lane::Expensive => expensive,
            Lane::Network => network,
            Lane::Credentials => credentials,
            Lane::CredentialsNetwork => wide,
            Lane::CredentialsAccount => account,
            Lane::CredentialsAccountEverywhere => everywhere,
            Lane::FailedTokens => tokens,
        }
    }

    fn now(&self) -> u64 {
        nanoseconds(self.started.elapsed())
    }

    /// Counts a call by all of the keys, or by none when one of them refuses it.
    pub(super) fn count(&self, keys: &[Key]) -> Decision {
        self.count_at(keys, self.now())
    }

    fn count_at(&self, keys: &[Key], now: u64) -> Decision {
        debug_assert!(keys.is_sorted_by(|a, b| a.lane < b.lane), "{keys:?}");
        let class = keys.first().expect("a call counts against one limit at least").lane;
        self.count_rest(class, keys, now, None)
    }

    /// As [`Self::count`], of the keys that are left. Looks at each on the way in and counts on the way out, so that all are held meanwhile: always in
    /// the order of lanes, each of which is a map of its own, and therefore never in a circle.
    fn count_rest(&self, class: Lane, keys: &[Key], now: u64, nearest: Option<Decision>) -> Decision {
        let Some((key, rest)) = keys.split_first() else {
            return nearest.expect("a call counts against one limit at least");
        };
        let limit = self.limit(key.lane);
        let place = limit.whole.entry(key.who);
        let whole = match &place {
            Entry::Occupied(known) => Some(*known.get()),
            Entry::Vacant(_) => None,
        };
        let room = limit.look(class, key.lane, whole, now);
        if !room.decision.allowed {
            return room.decision;
        }
        let decision = self.count_rest(class, rest, now, Some(room.decision.nearer(nearest)));
        if decision.allowed {
            place.insert(room.whole);
        }
        decision
    }

    /// What would become of a call, without counting it.
    pub(super) fn look(&self, key: &Key) -> Decision {
        let limit = self.limit(key.lane);
        let whole = limit.whole.get(&key.who).map(|whole| *whole);
        limit.look(key.lane, key.lane, whole, self.now()).decision
    }

    /// Takes back what was counted for a call that was not made after all.
    pub(super) fn take_back(&self, keys: &[Key]) {
        for key in keys {
            let limit = self.limit(key.lane);
            if let Some(mut whole) = limit.whole.get_mut(&key.who) {
                *whole = whole.saturating_sub(limit.interval);
            }
        }
    }

    pub(super) fn forget_quiet_clients(&self) {
        self.forget_quiet_clients_at(self.now());
    }

    fn forget_quiet_clients_at(&self, now: u64) {
        for Limit { whole: clients, .. } in &self.lanes {
            clients.retain(|_, whole| *whole > now);
            clients.shrink_to_fit();
        }
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_budget_comes_back_at_a_steady_rate_and_is_then_forgotten() {
        let config = LimitsConfig { default_per_minute: 2, ..LimitsConfig::default() };
        let local = Local::new(&config);
        let key = Key { lane: Lane::Default, who: Who::User(Uuid::from_u128(1)) };
        let seconds = |seconds| nanoseconds(Duration::from_secs(seconds));
        let count = |at| local.count_at(&[key], seconds(at));

        assert_eq!((count(0).remaining, count(0).remaining), (1, 0));
        assert_eq!(count(0).wait(), Some(Duration::from_secs(30)));
        assert_eq!(count(29).wait(), Some(Duration::from_secs(1)));
        let last = count(30);
        assert_eq!((last.allowed, last.remaining, last.reset), (true, 0, WINDOW));

        local.forget_quiet_clients_at(seconds(60));
        assert!(!count(59).allowed, "it is not quiet yet");
        local.forget_quiet_clients_at(seconds(90));
        assert!(local.limit(Lane::Default).whole.is_empty());
        assert_eq!(count(90).remaining, 1);
    }

    #[test]
    fn calls_that_go_on_at_once_are_counted_one_by_one() {
        let config =
            LimitsConfig { default_per_minute: 1000, network_per_minute: 500, ..LimitsConfig::default() };
        let local = Local::new(&config);
        let allowed = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| {
                    let count = |user| {
                        let user = Key { lane: Lane::Default, who: Who::User(Uuid::from_u128(user % 2)) };
                        let network = Key { lane: Lane::Network, who: Who::Network([203, 0, 113, 9].into()) };
                        local.count_at(&[user, network], 0).allowed
                    };
                    scope.spawn(move || (0..400_u128).filter(|user| count(*user)).count())
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic")).sum::<usize>()
        });
        assert_eq!(allowed, 500);
        let whole =
            |user| *local.limit(Lane::Default).whole.get(&Who::User(Uuid::from_u128(user))).expect("counted");
        let counted = (whole(0) + whole(1)) / local.limit(Lane::Default).interval;
        assert_eq!(counted, 500, "who is refused by the network is not counted for himself");
    }
}
