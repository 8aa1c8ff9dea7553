//! Looks for attempts whose answer was lost, and asks the acquirer what became of them.
//!
//! Each is taken under a lease, so that several processes share the work; two that meet all the same are no harm, because an answer is applied once.

use std::{panic::AssertUnwindSafe, time::Duration};

use futures::{FutureExt as _, StreamExt as _, stream};
use jiff::SignedDuration;
use mesh::{call::Call, tasks::Tasks};

use crate::{acquiring::Acquiring, domain::attempt::AttemptId, error::Error, store};

/// How long a taken attempt is left alone by others.
const LEASE: SignedDuration = SignedDuration::from_secs(20);

/// Attempts taken at once.
const BATCH_MAX: i64 = 64;

/// Attempts asked about at the same time.
const CONCURRENT_MAX: usize = 8;

/// Answers whose retention is over, deleted in one round.
const SWEEP_MAX: u32 = 1000;

/// How long one attempt may take, all its calls together.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Starts the rounds: one every `interval`, for attempts older than `age`.
pub(crate) fn start(tasks: &Tasks, acquiring: &Acquiring, interval: Duration, age: SignedDuration) {
    let acquiring = acquiring.clone();
    tasks.every(interval, move || {
        let acquiring = acquiring.clone();
        async move {
            if let Err(error) = round(&acquiring, age).await {
                let cause: &dyn std::error::Error = &error;
                tracing::error!(error = cause, "a round of the janitor failed");
            }
        }
    });
}

async fn round(acquiring: &Acquiring, age: SignedDuration) -> Result<(), Error> {
    // Given back at the end: what is still open then waits for the next round.
    let mut asked = Vec::new();
    loop {
        let now = acquiring.clock.now();
        let taken = acquiring
            .db
            .transaction("take_attempts", async |conn| {
                store::attempts::take(conn, now - age, now, now + LEASE, BATCH_MAX).await
            })
            .await?;
        let full = i64::try_from(taken.len()) == Ok(BATCH_MAX);
        stream::iter(taken.iter().copied())
            .for_each_concurrent(CONCURRENT_MAX, |id| Call::background(TIMEOUT).scope(ask(acquiring, id)))
            .await;
        asked.extend(taken);
        if !full {
            break;
        }
    }
    if asked.is_empty() {
        return sweep(acquiring).await;
    }
    acquiring
        .db
        .transaction("give_back_attempts", async |conn| store::attempts::give_back(conn, &asked).await)
        .await?;
    sweep(acquiring).await
}

/// Forgets answers whose retention is over.
async fn sweep(acquiring: &Acquiring) -> Result<(), Error> {
    let now = acquiring.clock.now();
    acquiring
        .db
        .transaction("sweep_request_ids", async |conn| {
            Ok::<_, Error>(mesh::idempotency::sweep(conn, now, SWEEP_MAX).await?)
        })
        .await?;
    Ok(())
}

/// Asks about one attempt. Whatever goes wrong with it, the next is asked about all the same.
async fn ask(acquiring: &Acquiring, id: AttemptId) {
    match AssertUnwindSafe(acquiring.inquire(id)).catch_unwind().await {
        Ok(Ok(())) => tracing::info!(attempt = %id, "asked the acquirer about an attempt"),
        Ok(Err(error)) => {
            let cause: &dyn std::error::Error = &error;
            tracing::error!(error = cause, attempt = %id, "an attempt cannot be resolved");
        }
        Err(_) => tracing::error!(attempt = %id, "resolving an attempt panicked"),
    }
}
