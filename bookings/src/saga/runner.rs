//! The worker that takes sagas up and carries them on until they end. Any number of replicas may run it.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use mesh::client::Channel;
use mesh::clock::Clock;
use mesh::db::Db;
use mesh::tasks::Tasks;
use tokio::sync::{Notify, Semaphore};
use uuid::Uuid;

use super::calls::{Outcome, Payments, RefundWanted};
use super::finish;
use crate::config::Config;
use crate::domain::booking::{Booking, Event, Failure};
use crate::domain::saga::{Answer, Next, State, Step, next};
use crate::error::Error;
use crate::store::sagas::Saga;
use crate::store::{bookings, cancellations, sagas};

/// Sagas that one worker carries on at a time: fewer than the connections of the pool, which calls need too.
const CONCURRENT_MAX: usize = 12;

/// The pause before a step is tried again for the first time; doubled for each further one.
const BACKOFF: Duration = Duration::from_millis(100);

/// Rounds of a step with pauses no longer than those of an unanswered one.
const QUICK_ROUNDS: i32 = 5;

/// The longest pause before a further round: what was refused that often is not done sooner by asking more.
const ROUND_BACKOFF_MAX: Duration = Duration::from_mins(1);

/// How the worker works.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Pause between two looks for work.
    pub poll: Duration,
    /// How long a saga is the worker's without a sign of life.
    pub lease: Duration,
    /// How long one call to payments may take.
    pub call_max: Duration,
    /// The longest pause before a step is tried again.
    pub backoff_max: Duration,
}

impl From<&Config> for Settings {
    fn from(config: &Config) -> Self {
        Self {
            poll: Duration::from_millis(config.saga_poll_ms),
            lease: Duration::from_millis(config.saga_lease_ms),
            call_max: Duration::from_millis(config.saga_call_ms),
            backoff_max: Duration::from_millis(config.saga_backoff_max_ms),
        }
    }
}

/// Carries sagas on. Cheap to clone.
#[derive(Clone)]
pub struct Runner {
    db: Db,
    clock: Clock,
    tasks: Tasks,
    payments: Payments,
    settings: Settings,
    /// Set when there is work that should not wait for the next look.
    wake: Arc<Notify>,
    /// This worker, among all that ever ran.
    owner: Uuid,
    free: Arc<Semaphore>,
}

impl Runner {
    /// A worker that calls payments over `channel` and looks for work whenever `wake` says so.
    pub fn new(
        db: Db,
        clock: Clock,
        tasks: Tasks,
        channel: Channel,
        settings: Settings,
        wake: Arc<Notify>,
    ) -> Self {
        let payments = Payments::new(channel, settings.call_max);
        let free = Arc::new(Semaphore::new(CONCURRENT_MAX));
        Self { db, clock, tasks, payments, settings, wake, owner: mesh::id::generate(), free }
    }

    /// Works until the service stops.
    pub fn spawn(self) {
        let tasks = self.tasks.clone();
        tasks.spawn(async move {
            loop {
                if let Err(error) = self.take_up().await {
                    tracing::warn!(error = error.for_log(), "cannot look for due sagas");
                }
                tokio::select! {
                    () = self.tasks.stopped() => return,
                    () = self.wake.notified() => {}
                    () = tokio::time::sleep(self.settings.poll) => {}
                }
            }
        });
    }

    /// Takes up what is due, as far as there is room.
    async fn take_up(&self) -> Result<(), Error> {
        let room = i64::try_from(self.free.available_permits()).unwrap_or(0);
        if room == 0 {
            return Ok(());
        }
        let mut conn = self.db.connection().await?;
        let due = sagas::claim(&mut conn, self.owner, self.settings.lease, room, self.clock.now()).await?;
        drop(conn);
        for saga in due {
            let Ok(permit) = Arc::clone(&self.free).acquire_owned().await else { return Ok(()) };
            let runner = self.clone();
            self.tasks.spawn(async move {
                runner.carry_on(saga).await;
                drop(permit);
                // There may have been more than there was room for.
                runner.wake.notify_one();
            });
        }
        Ok(())
    }

    /// Carries a saga on until it ends, has to wait, or somebody else has it.
    async fn carry_on(&self, mut saga: Saga) {
        let stop = self.tasks.stop_token();
        loop {
            let outcome = if stop.is_cancelled() {
                self.put_off(&saga, Duration::ZERO).await
            } else {
                self.step(&saga).await
            };
            match outcome {
                Ok(Some(further)) => saga = further,
                Ok(None) => return,
                Err(Error::LeaseLost) => {
                    tracing::info!(saga = %saga.id, "another worker has taken the saga over");
                    return;
                }
                Err(error) if error.is_constraint() => {
                    let note = format!("{} at {}", error, saga.step.word());
                    tracing::error!(
                        error = error.for_log(),
                        saga = %saga.id, booking = %saga.booking, step = saga.step.word(), "saga is stuck"
                    );
                    self.stuck(&saga, &note).await;
                    return;
                }
                Err(error) => {
                    tracing::warn!(
                        error = error.for_log(),
                        saga = %saga.id, step = saga.step.word(), "saga step failed; it will be tried again"
                    );
                    // When not even this can be stored, the lease runs out.
                    let _ = self.put_off(&saga, self.backoff(&saga)).await;
                    return;
                }
            }
        }
    }

    /// Does the saga's step. `None`: it has ended, or waits.
    async fn step(&self, saga: &Saga) -> Result<Option<Saga>, Error> {
        let now = self.clock.now();
        match saga.step {
            Step::Ticket => finish::ticket(&self.db, saga, now).await.map(|()| None),
            Step::Release => finish::release(&self.db, saga, now).await.map(|()| None),
            Step::Settle => finish::settle(&self.db, saga, now).await.map(|()| None),
            Step::CreateIntent
            | Step::Confirm
            | Step::AwaitAuthorization
            | Step::Capture
            | Step::AwaitCapture
            | Step::CancelIntent
            | Step::AwaitCancellation
            | Step::Refund
            | Step::AwaitRefund => {
                if saga.step.is_before_pivot() && saga.failure.is_none() && saga.deadline_at <= now {
                    return self.give_up(saga).await;
                }
                self.call(saga).await
            }
        }
    }

    /// Asks payments, and goes where the answer leads.
    async fn call(&self, saga: &Saga) -> Result<Option<Saga>, Error> {
        let (booking, refund) = self.facts(saga).await?;
        let Outcome { answer, id } = self.payments.ask(saga, &booking, refund).await;
        let waits_for_cardholder = answer == Answer::ActionRequired;
        let following = next(saga.step, answer, saga.round, saga.failure.is_some());
        let (step, round, failure) = match following {
            Next::Again => return self.put_off(saga, self.backoff(saga)).await,
            Next::Stuck(note) => {
                tracing::error!(saga = %saga.id, booking = %saga.booking, note, "saga is stuck");
                self.stuck(saga, &note).await;
                return Ok(None);
            }
            Next::Go(step) if step == saga.step => {
                return self.put_off(saga, self.backoff(saga)).await;
            }
            Next::Go(Step::Ticket) => (Step::Ticket, 1, None),
            Next::Go(step) => (step, round_of(step, saga), saga.failure.clone()),
            // The first reason counts.
            Next::Fail(failure, step) => (step, 1, Some(saga.failure.clone().unwrap_or(failure))),
            Next::Resend(step) => (step, saga.round.saturating_add(1), saga.failure.clone()),
        };
        let pause = matches!(step.state(failure.is_some()), State::Waiting)
            || matches!(step, Step::AwaitCancellation)
            || (step == saga.step || round > 1);
        let further = self.go(saga, step, round, failure, id, waits_for_cardholder).await?;
        if pause { self.put_off(&further, self.backoff(&further)).await } else { Ok(Some(further)) }
    }

    /// There is no time left, and no money was taken: back.
    async fn give_up(&self, saga: &Saga) -> Result<Option<Saga>, Error> {
        tracing::info!(saga = %saga.id, booking = %saga.booking, step = saga.step.word(), "out of time");
        // At the first step nobody knows whether there is a payment intent: the same call again says which.
        let step = if saga.step == Step::CreateIntent { Step::CreateIntent } else { Step::CancelIntent };
        self.go(saga, step, 1, Some(Failure::expired()), None, false).await.map(Some)
    }

    /// Stores that the saga has come to a step, and what was learnt on the way there.
    async fn go(
        &self,
        saga: &Saga,
        step: Step,
        round: i32,
        failure: Option<Failure>,
        id: Option<Uuid>,
        waits_for_cardholder: bool,
    ) -> Result<Saga, Error> {
        let now = self.clock.now();
        let is_refund = matches!(saga.step, Step::Refund | Step::AwaitRefund);
        self.db
            .transaction("saga_go", async |conn| {
                let further =
                    sagas::go(conn, saga, step, round, failure.clone(), self.settings.lease, now).await?;
                if is_refund {
                    if let Some(refund) = id {
                        cancellations::set_refund(conn, saga.id.into(), refund).await?;
                    }
                    return Ok(further);
                }
                let mut booking = bookings::lock(conn, saga.booking).await?;
                if saga.step == Step::CreateIntent && id.is_some() {
                    booking.payment_intent = id;
                    booking.updated_at = now;
                    bookings::write(conn, &booking).await?;
                }
                let awaits = booking.state == crate::domain::booking::State::AwaitingAction;
                if waits_for_cardholder && !awaits {
                    bookings::apply(conn, &mut booking, Event::ActionRequired, "", now).await?;
                } else if awaits && !waits_for_cardholder {
                    bookings::apply(conn, &mut booking, Event::ActionDone, "", now).await?;
                }
                Ok::<Saga, Error>(further)
            })
            .await
    }

    /// What a call is about.
    async fn facts(&self, saga: &Saga) -> Result<(Booking, Option<RefundWanted>), Error> {
        let mut conn = self.db.connection().await?;
        let booking = bookings::find(&mut conn, saga.booking).await?;
        let refund = if matches!(saga.step, Step::Refund | Step::AwaitRefund) {
            let (minor, refund) = cancellations::refund(&mut conn, saga.id.into()).await?;
            Some(RefundWanted { minor, refund })
        } else {
            None
        };
        Ok((booking, refund))
    }

    async fn put_off(&self, saga: &Saga, pause: Duration) -> Result<Option<Saga>, Error> {
        let now = self.clock.now();
        let mut next_at = later(now, pause);
        // Giving up is not to wait for the end of a pause.
        if saga.step.is_before_pivot() && saga.failure.is_none() {
            next_at = next_at.min(saga.deadline_at.max(now));
        }
        let mut conn = self.db.connection().await?;
        sagas::put_off(&mut conn, saga, next_at, now).await?;
        Ok(None)
    }

    async fn stuck(&self, saga: &Saga, note: &str) {
        let now = self.clock.now();
        let stored = self
            .db
            .transaction("saga_stuck", async |conn| {
                sagas::end(conn, saga, State::Stuck, Some(note), now).await
            })
            .await;
        if let Err(error) = stored {
            tracing::warn!(error = error.for_log(), saga = %saga.id, "cannot store that a saga is stuck");
        }
    }

    /// The pause before the saga's step is begun again, give or take a fifth.
    fn backoff(&self, saga: &Saga) -> Duration {
        let pause = pause(saga.attempts, saga.round, self.settings.backoff_max);
        pause.saturating_mul(rand::random_range(80..=120)) / 100
    }
}

/// The pause after so many attempts of one round, doubled with each up to `longest`; and with each round, for which it grows further.
fn pause(attempts: i32, round: i32, longest: Duration) -> Duration {
    let doubled = |times: i32| {
        let doublings = u32::try_from(times.saturating_sub(1)).unwrap_or(0).min(10);
        BACKOFF.saturating_mul(2_u32.saturating_pow(doublings))
    };
    let longest_of_round = if round > QUICK_ROUNDS { ROUND_BACKOFF_MAX } else { longest };
    doubled(attempts).min(longest).max(doubled(round).min(longest_of_round))
}

/// Which round of `step` follows: asking about a call keeps its round, so that sending it again takes the next.
fn round_of(step: Step, saga: &Saga) -> i32 {
    match step {
        Step::AwaitAuthorization | Step::AwaitCapture | Step::AwaitCancellation | Step::AwaitRefund => {
            saga.round
        }
        Step::CreateIntent
        | Step::Confirm
        | Step::Capture
        | Step::Ticket
        | Step::CancelIntent
        | Step::Release
        | Step::Refund
        | Step::Settle => 1,
    }
}

fn later(now: Timestamp, pause: Duration) -> Timestamp {
    SignedDuration::try_from(pause)
        .ok()
        .and_then(|pause| now.checked_add(pause).ok())
        .unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_with_attempts_and_further_with_rounds() {
        let longest = Duration::from_secs(2);
        let pauses = |of: &dyn Fn(i32) -> Duration| -> Vec<u128> {
            [1, 2, 5, 6, 8, 20].map(|n| of(n).as_millis()).to_vec()
        };

        assert_eq!(pauses(&|attempts| pause(attempts, 1, longest)), [100, 200, 1_600, 2_000, 2_000, 2_000]);
        assert_eq!(pauses(&|round| pause(1, round, longest)), [100, 200, 1_600, 3_200, 12_800, 60_000]);
    }
}
