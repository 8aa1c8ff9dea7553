//! The call that is being served: what of it goes on to the calls it makes.
//!
//! The server's layer puts one around each handler; jobs put one around each piece of work. [`crate::client::Channel`] reads it, so that no code between
//! the two has to pass deadlines, request ids and tokens along.

use std::time::Duration;

use secrecy::SecretString;
use tokio::time::Instant;

tokio::task_local! {
    static CURRENT: Call;
}

/// What outgoing calls inherit from the call that is being served.
#[derive(Clone, Debug)]
pub struct Call {
    /// Names the request in logs, from the edge to the last service.
    pub request_id: String,
    /// The trace context (W3C Trace Context, `traceparent`).
    pub traceparent: String,
    /// When nobody waits for the answer any more.
    pub deadline: Instant,
    /// The user's access token, verified, to be verified again by each service it is sent to.
    pub token: Option<SecretString>,
}

impl Call {
    /// A call that nobody made: the work of a job, to be over within `timeout`. It has a new request id and a new, unsampled trace, and no token.
    pub fn background(timeout: Duration) -> Self {
        let (trace, span): (u128, u64) = (rand::random(), rand::random());
        Self {
            request_id: format!("{:032x}", rand::random::<u128>()),
            // An id of zeros is invalid, and one in 2^64 is rare enough to be set right by a bit.
            traceparent: format!("00-{:032x}-{:016x}-00", trace | 1, span | 1),
            deadline: Instant::now() + timeout,
            token: None,
        }
    }

    /// The call that the running task serves; `None` outside of one.
    pub fn current() -> Option<Self> {
        CURRENT.try_with(Self::clone).ok()
    }

    /// Runs a future as part of this call. Tasks that the future spawns are not part of it.
    pub async fn scope<F: Future>(self, future: F) -> F::Output {
        CURRENT.scope(self, future).await
    }

    /// How long somebody still waits for the answer; zero when nobody does.
    pub fn remaining(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }
}
