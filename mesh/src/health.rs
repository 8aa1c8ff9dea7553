//! Health: `grpc.health.v1` under the names `""`, `startup`, `liveness` and `readiness`.
//!
//! Liveness says only that the process runs: no dependency can fail it, or one broken database would restart every replica. Readiness says that a
//! call would work: the schema is there, the database answers, token keys are there, it is known which tokens were revoked, and the process is not
//! stopping.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::Router;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic_health::{ServingStatus, server::HealthReporter};

use crate::{db::Db, token::Verifier};

/// The names that probes may ask for.
pub const NAMES: [&str; 4] = ["", "startup", "liveness", "readiness"];

/// How often readiness is looked at.
const INTERVAL: Duration = Duration::from_secs(1);

/// Readiness is lost after this many failures in a row, and won after that many successes.
const FAILURES_MAX: u32 = 3;
const SUCCESSES_MIN: u32 = 2;

/// What a service of its own waits for before it counts as ready. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Readiness {
    unmet: Arc<Mutex<Vec<&'static str>>>,
}

impl Readiness {
    /// Begins or ends to wait: `why` is the reason that probes and logs show, and the same one counts once.
    pub fn set(&self, why: &'static str, met: bool) {
        let mut unmet = self.unmet.lock().unwrap_or_else(PoisonError::into_inner);
        unmet.retain(|known| *known != why);
        if !met {
            unmet.push(why);
        }
    }

    /// What is waited for; `None` when nothing is.
    pub fn unmet(&self) -> Option<&'static str> {
        self.unmet.lock().unwrap_or_else(PoisonError::into_inner).first().copied()
    }
}

/// What readiness depends on.
pub(crate) struct Conditions {
    pub(crate) db: Option<Db>,
    pub(crate) verifier: Verifier,
    /// False for a service that no user may call.
    pub(crate) checks_tokens: bool,
    pub(crate) readiness: Readiness,
}

impl Conditions {
    /// Why the process is not ready; `None` when it is.
    async fn unmet(&self) -> Option<&'static str> {
        if let Some(why) = self.verifier.waits_for().filter(|_| self.checks_tokens) {
            return Some(why);
        }
        if let Some(why) = self.readiness.unmet() {
            return Some(why);
        }
        match &self.db {
            Some(db) if !db.is_up().await => Some("the database does not answer"),
            _ => None,
        }
    }
}

/// The health service, and the reporter that it hears from.
pub(crate) async fn service() -> (HealthReporter, Router) {
    let (reporter, server) = tonic_health::server::health_reporter();
    for name in NAMES {
        reporter.set_service_status(name, ServingStatus::NotServing).await;
    }
    (reporter, Routes::new(server).prepare().into_axum_router())
}

/// Reports until `stop`, then says `NOT_SERVING` (liveness aside, which stays). Cancels `first_ready` when the process is ready for the first time.
pub(crate) async fn watch(
    reporter: HealthReporter,
    conditions: Conditions,
    first_ready: CancellationToken,
    stop: CancellationToken,
) {
    reporter.set_service_status("liveness", ServingStatus::Serving).await;
    reporter.set_service_status("startup", ServingStatus::Serving).await;
    let (mut ready, mut failures, mut successes) = (false, 0, SUCCESSES_MIN);
    loop {
        match conditions.unmet().await {
            None => (failures, successes) = (0, successes + 1),
            Some(why) => {
                (failures, successes) = (failures + 1, 0);
                tracing::warn!(why, failures, "not ready");
            }
        }
        let now_ready = if ready { failures < FAILURES_MAX } else { successes >= SUCCESSES_MIN };
        if now_ready != ready {
            ready = now_ready;
            tracing::info!(ready, "readiness changed");
            report(&reporter, ready).await;
        }
        if ready {
            first_ready.cancel();
        }
        // Until it is ready for the first time there is somebody waiting.
        let pause = if ready { INTERVAL } else { INTERVAL / 10 };
        tokio::select! {
            () = stop.cancelled() => break,
            () = tokio::time::sleep(pause) => {}
        }
    }
    report(&reporter, false).await;
}

async fn report(reporter: &HealthReporter, ready: bool) {
    let status = if ready { ServingStatus::Serving } else { ServingStatus::NotServing };
    for name in ["", "readiness"] {
        reporter.set_service_status(name, status).await;
    }
}
