//! How many calls may begin at a time.
//!
//! A call that begins may wait for a payment's row lock with a connection in its hand. If such calls could take every connection, those that have
//! been to the acquirer would find none to write its answer down with. So beginners get half of the pool at most, and wait outside for it.

use std::time::Duration;

use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::timeout,
};

use crate::error::Error;

/// How long a call waits to begin. Nothing has happened by then, and it may be sent again.
const WAIT_MAX: Duration = Duration::from_secs(5);

/// Lets calls begin.
pub(crate) struct Admission(Semaphore);

impl Admission {
    /// For a pool of this many connections.
    pub(crate) fn of_pool(connections_max: usize) -> Self {
        Self(Semaphore::new((connections_max / 2).max(1)))
    }

    /// Waits for a turn, which lasts until the permit is dropped.
    ///
    /// # Errors
    ///
    /// [`Error::Overloaded`] when it does not come in time.
    pub(super) async fn admit(&self) -> Result<SemaphorePermit<'_>, Error> {
        match timeout(WAIT_MAX, self.0.acquire()).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) | Err(_) => Err(Error::Overloaded),
        }
    }
}
