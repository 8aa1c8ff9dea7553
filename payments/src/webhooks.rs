//! Webhooks: events told to URLs, signed, until they have them.
//!
//! 1. Every event is queued in the transaction that writes it ([`crate::events`]), and spread over the endpoints that it is for: one delivery each.
//! 2. A worker takes deliveries that are due under a lease, a few of each endpoint, and commits.
//! 3. It makes the attempt ([`deliver`]). No transaction is open, no lock is held.
//! 4. A second transaction writes down what came of it, if the lease still holds.
//!
//! A worker that dies in between leaves the lease, and after it another one attempts the delivery again: at least once, with the same event id. An
//! endpoint that does not answer holds no more than its few places, and none for most of the time once its circuit is open
//! ([`crate::domain::webhook::Health`]), so it delays nobody else.

pub(crate) mod address;
mod body;
pub(crate) mod deliver;
pub(crate) mod schedule;
pub(crate) mod sign;

use std::sync::Arc;

use diesel_async::AsyncPgConnection;
use jiff::{SignedDuration, Timestamp};
use mesh::{clock::Clock, db::Db, id::Uuid, tasks::Tasks};
use tokio::sync::Semaphore;

use self::{
    deliver::Client,
    sign::{SECRET_BYTES, Secret},
};
use crate::{
    domain::webhook::{
        Answer, Delivery, DeliveryId, DisabledReason, Failure, State, WebhookEndpoint, WebhookEndpointId,
    },
    error::Error,
    events, store,
    store::webhooks::deliveries,
    vault::{Dek, SealedSecret, Vault, VaultError},
};

/// How long a taken delivery is left alone by others, beyond what its attempt may take: for all that belongs to it.
const LEASE_MARGIN: SignedDuration = SignedDuration::from_secs(20);

/// Attempts of one endpoint at the same time.
const OF_ENDPOINT_MAX: i32 = 4;

/// Events that are spread in one transaction.
const SPREAD_MAX: usize = 500;

/// Attempts that use the database at the same time: the connections are there for payments first.
const DATABASE_TURNS: usize = 4;

/// How often the database is asked again for what an attempt needs or for what came of it.
const TRIES_MAX: usize = 3;

/// How long a delivery is put off that could not be attempted for a reason of ours.
const OWN_FAULT_PAUSE: SignedDuration = SignedDuration::from_secs(30);

/// What delivers. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Worker {
    db: Db,
    clock: Clock,
    vault: Vault,
    client: Client,
    tasks: Tasks,
    slots: Arc<Semaphore>,
    turns: Arc<Semaphore>,
}

/// Everything that an attempt is made of.
struct Ready {
    delivery: Delivery,
    endpoint: WebhookEndpoint,
    secrets: Vec<(Dek, SealedSecret)>,
    message: deliveries::Message,
}

impl Worker {
    /// A worker that makes `concurrent_max` attempts at the same time.
    pub(crate) fn new(
        db: Db,
        clock: Clock,
        vault: Vault,
        client: Client,
        tasks: Tasks,
        concurrent_max: usize,
    ) -> Self {
        let slots = Arc::new(Semaphore::new(concurrent_max));
        let turns = Arc::new(Semaphore::new(DATABASE_TURNS));
        Self { db, clock, vault, client, tasks, slots, turns }
    }

    /// Spreads what is new, and begins the attempts that are due, as many as there is room for. They go on behind this.
    pub(crate) async fn round(&self) -> Result<(), Error> {
        let spread = self.spread().await;
        // What is spread already waits for nothing that is not.
        self.take().await?;
        spread
    }

    async fn take(&self) -> Result<(), Error> {
        loop {
            let now = self.clock.now();
            let free = self.slots.available_permits();
            if free == 0 {
                return Ok(());
            }
            let take = deliveries::Take {
                lease: mesh::id::generate(),
                until: self.lease_end(now),
                of_endpoint_max: OF_ENDPOINT_MAX,
                limit: i64::try_from(free).unwrap_or(i64::MAX),
            };
            let taken = self
                .db
                .transaction("take_deliveries", async |conn: &mut AsyncPgConnection| {
                    deliveries::take(conn, &take, now).await
                })
                .await?;
            if taken.is_empty() {
                return Ok(());
            }
            for (endpoint, id) in taken {
                // Only this loop takes places, so there is one for each.
                let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned() else { return Ok(()) };
                let (worker, lease) = (self.clone(), take.lease);
                self.tasks.spawn(async move {
                    worker.attempt(endpoint, id, lease).await;
                    drop(slot);
                });
            }
        }
    }

    /// Forgets secrets that sign no more, and gives up what is left of disabled endpoints.
    pub(crate) async fn sweep(&self) -> Result<(), Error> {
        let now = self.clock.now();
        store::webhooks::sweep_secrets(&mut *self.db.connection().await?, now).await?;
        while deliveries::give_up_of_disabled(&mut *self.db.connection().await?, now).await? {}
        Ok(())
    }

    fn lease_end(&self, now: Timestamp) -> Timestamp {
        let timeout = SignedDuration::try_from(self.client.timeout()).unwrap_or(SignedDuration::MAX);
        now.checked_add(timeout.saturating_add(LEASE_MARGIN)).unwrap_or(Timestamp::MAX)
    }

    async fn spread(&self) -> Result<(), Error> {
        loop {
            let now = self.clock.now();
            let spread = self
                .db
                .transaction("spread_events", async |conn: &mut AsyncPgConnection| {
                    deliveries::spread(conn, i64::try_from(SPREAD_MAX).unwrap_or(i64::MAX), now).await
                })
                .await?;
            if spread < SPREAD_MAX {
                return Ok(());
            }
        }
    }

    /// One attempt, whatever goes wrong with it. One that is broken off because we stop is somebody else's at once.
    async fn attempt(&self, endpoint: WebhookEndpointId, id: DeliveryId, lease: Uuid) {
        let stop = self.tasks.stop_token();
        let outcome = match stop.run_until_cancelled(self.try_attempt(endpoint, id, lease)).await {
            Some(outcome) => outcome,
            None => {
                self.db
                    .transaction("give_back_delivery", async |conn: &mut AsyncPgConnection| {
                        deliveries::give_back(conn, id, lease).await
                    })
                    .await
            }
        };
        if let Err(error) = outcome {
            log_fault(id, &error);
            // Behind those that can; without this, once the lease has ended.
            let due_at = self.clock.now().checked_add(OWN_FAULT_PAUSE).unwrap_or(Timestamp::MAX);
            if let Ok(mut conn) = self.db.connection().await {
                let _gone_or_later = deliveries::put_off(&mut conn, id, lease, due_at).await;
            }
        }
    }

    async fn try_attempt(
        &self,
        endpoint: WebhookEndpointId,
        id: DeliveryId,
        lease: Uuid,
    ) -> Result<(), Error> {
        let now = self.clock.now();
        let ready = match self.prepare(endpoint, id, now).await {
            Err(Error::WebhookEndpointNotFound(_) | Error::DeliveryNotFound(_)) => return Ok(()),
            ready => ready?,
        };
        let answer = match open(&self.vault, &ready.secrets).await {
            Ok(secrets) if secrets.is_empty() => {
                tracing::error!(webhook_endpoint = %endpoint, "a webhook endpoint has no secret");
                Answer::failed(Failure::SecretUnreadable)
            }
            Ok(secrets) => {
                let event = ready.delivery.event;
                let body = body::of(event, &ready.message);
                let signed = sign::sign(&secrets, &event.to_string(), now, body.as_bytes());
                self.client.post(&ready.endpoint.url, &signed, body).await
            }
            Err(why) => {
                let cause: &dyn std::error::Error = &why;
                tracing::error!(error = cause, webhook_endpoint = %endpoint, "a webhook secret cannot be read");
                Answer::failed(Failure::SecretUnreadable)
            }
        };
        self.write_down(&ready, lease, &answer).await
    }

    async fn prepare(
        &self,
        endpoint: WebhookEndpointId,
        id: DeliveryId,
        now: Timestamp,
    ) -> Result<Ready, Error> {
        let _turn = self.turns.acquire().await;
        let mut tries = 1;
        loop {
            let ready = async { ready(&mut *self.db.connection().await?, endpoint, id, now).await };
            match ready.await {
                Err(error) if may_pass(&error) && tries < TRIES_MAX => tries += 1,
                ready => return ready,
            }
        }
    }

    /// Patiently: what is not written down is delivered once more.
    async fn write_down(&self, ready: &Ready, lease: Uuid, answer: &Answer) -> Result<(), Error> {
        let _turn = self.turns.acquire().await;
        let now = self.clock.now();
        let mut tries = 1;
        loop {
            let written = self
                .db
                .transaction("finish_delivery", async |conn: &mut AsyncPgConnection| {
                    finish(conn, ready, lease, answer, now).await
                })
                .await;
            match written {
                Err(error) if may_pass(&error) && tries < TRIES_MAX => tries += 1,
                written => return written,
            }
        }
    }
}

fn log_fault(delivery: DeliveryId, error: &Error) {
    let cause: &dyn std::error::Error = error;
    tracing::error!(error = cause, %delivery, "a delivery cannot be attempted");
}

/// Whether it is worth asking the database again: it had no connection, or something was waited for too long.
fn may_pass(error: &Error) -> bool {
    matches!(error, Error::Database(_) | Error::Pool(_))
}

async fn ready(
    conn: &mut AsyncPgConnection,
    endpoint: WebhookEndpointId,
    id: DeliveryId,
    now: Timestamp,
) -> Result<Ready, Error> {
    let delivery = deliveries::get(conn, endpoint, id).await?;
    let message = deliveries::message(conn, delivery.event).await?;
    let endpoint = store::webhooks::get(conn, endpoint).await?;
    let secrets = store::webhooks::secrets(conn, endpoint.id, now).await?;
    let secrets = secrets.into_iter().map(|(_, dek, sealed)| (dek, sealed)).collect();
    Ok(Ready { delivery, endpoint, secrets, message })
}

/// Opens the secrets to sign with. The newest must be there; an old one that cannot be read only keeps its last day from those who still use it.
async fn open(vault: &Vault, sealed: &[(Dek, SealedSecret)]) -> Result<Vec<Secret>, VaultError> {
    let mut secrets = Vec::new();
    for (at, (dek, sealed)) in sealed.iter().enumerate() {
        match secret(vault, dek, sealed).await {
            Ok(secret) => secrets.push(secret),
            Err(why) if at == 0 => return Err(why),
            Err(why) => {
                let cause: &dyn std::error::Error = &why;
                tracing::error!(error = cause, "an old webhook secret cannot be read");
            }
        }
    }
    Ok(secrets)
}

/// Opens a secret.
pub(crate) async fn secret(vault: &Vault, dek: &Dek, sealed: &SealedSecret) -> Result<Secret, VaultError> {
    let bytes = vault.open_secret(dek, sealed).await?;
    let bytes: [u8; SECRET_BYTES] =
        bytes.as_slice().try_into().map_err(|_| VaultError::SecretNotAuthentic(sealed.id))?;
    Ok(Secret::new(bytes))
}

/// Writes down what came of an attempt. Whoever lost its lease meanwhile writes nothing.
async fn finish(
    conn: &mut AsyncPgConnection,
    attempted: &Ready,
    lease: Uuid,
    answer: &Answer,
    now: Timestamp,
) -> Result<(), Error> {
    let mut endpoint = match store::webhooks::lock(conn, attempted.endpoint.id).await {
        Err(Error::WebhookEndpointNotFound(_)) => return Ok(()),
        endpoint => endpoint?,
    };
    let delivery = deliveries::lock_leased(conn, attempted.delivery.id, lease).await?;
    let Some(mut delivery) = delivery else { return Ok(()) };
    if endpoint.url != attempted.endpoint.url {
        // What the old URL said is not the new one's: it is tried at once, and nothing is held against it.
        return match answer {
            Answer::Accepted { .. } => {
                delivery.attempted(answer, None, now);
                deliveries::update(conn, &delivery).await
            }
            Answer::Gone { .. } | Answer::Failed { .. } => {
                deliveries::give_back(conn, delivery.id, lease).await
            }
        };
    }
    delivery.attempted(answer, schedule::delay(delivery.attempts.saturating_add(1)), now);
    deliveries::update(conn, &delivery).await?;
    endpoint.health = endpoint.health.after(answer, now);
    let reason = match answer {
        Answer::Gone { .. } => Some(DisabledReason::Gone),
        Answer::Failed { .. } if endpoint.health.is_hopeless(now) => Some(DisabledReason::Failing),
        Answer::Accepted { .. } | Answer::Failed { .. } => None,
    };
    match reason {
        Some(reason) => {
            tracing::warn!(webhook_endpoint = %endpoint.id, ?reason, "a webhook endpoint is disabled");
            disable(conn, &mut endpoint, reason, now).await
        }
        None => store::webhooks::update(conn, &endpoint).await,
    }
}

/// Disables an endpoint that the caller has locked, gives up what is under way to it, and tells the others.
pub(crate) async fn disable(
    conn: &mut AsyncPgConnection,
    endpoint: &mut WebhookEndpoint,
    reason: DisabledReason,
    now: Timestamp,
) -> Result<(), Error> {
    endpoint.state = State::Disabled(reason);
    endpoint.version = endpoint.version.saturating_add(1);
    endpoint.updated_at = now;
    store::webhooks::update(conn, endpoint).await?;
    deliveries::give_up(conn, endpoint.id, now).await?;
    events::webhook_endpoint_disabled(conn, endpoint, reason, now).await
}
