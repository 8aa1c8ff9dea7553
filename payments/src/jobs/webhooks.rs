//! Delivers webhooks: a round every `interval`, and now and then one that cleans up.

use std::time::Duration;

use mesh::tasks::Tasks;

use crate::{error::Error, webhooks::Worker};

/// How often old secrets are looked for.
const SWEEP_INTERVAL: Duration = Duration::from_mins(1);

/// Starts the rounds.
pub(crate) fn start(tasks: &Tasks, worker: &Worker, interval: Duration) {
    let rounds = worker.clone();
    tasks.every(interval, move || {
        let worker = rounds.clone();
        async move { log(worker.round().await) }
    });
    let sweeps = worker.clone();
    tasks.every(SWEEP_INTERVAL, move || {
        let worker = sweeps.clone();
        async move { log(worker.sweep().await) }
    });
}

fn log(outcome: Result<(), Error>) {
    if let Err(error) = outcome {
        let cause: &dyn std::error::Error = &error;
        tracing::error!(error = cause, "a round of the webhooks failed");
    }
}
