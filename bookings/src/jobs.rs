//! What tidies up. Nothing depends on its being on time.

use std::time::Duration;

use jiff::Timestamp;
use mesh::clock::Clock;
use mesh::db::Db;
use mesh::tasks::Tasks;

use crate::error::Error;
use crate::store::holds;

/// Holds that one transaction ends.
const BATCH: i64 = 200;

/// Request ids that one statement forgets.
const REQUEST_IDS_BATCH: u32 = 1_000;

/// Sweeps every `pause` until the service stops.
pub fn sweep(tasks: &Tasks, db: Db, clock: Clock, pause: Duration) {
    tasks.every(pause, move || {
        let (db, clock) = (db.clone(), clock.clone());
        async move {
            if let Err(error) = sweep_once(&db, clock.now()).await {
                tracing::warn!(error = error.for_log(), "the sweep failed; the next one tries again");
            }
        }
    });
}

/// Ends every hold that is over at `now`, batch by batch, and says how many. Request ids past their retention are forgotten.
///
/// Replicas may sweep at the same time: a hold that one of them has locked is left to it.
///
/// # Errors
///
/// The database's.
pub async fn sweep_once(db: &Db, now: Timestamp) -> Result<usize, Error> {
    let mut ended = 0_usize;
    loop {
        let batch = db.transaction("sweep_holds", async |conn| holds::sweep(conn, now, BATCH).await).await?;
        ended = ended.saturating_add(batch);
        if i64::try_from(batch).is_ok_and(|batch| batch < BATCH) {
            break;
        }
    }
    if ended > 0 {
        tracing::info!(ended, "expired holds ended");
    }
    let mut conn = db.connection().await?;
    mesh::idempotency::sweep(&mut conn, now, REQUEST_IDS_BATCH).await?;
    Ok(ended)
}
