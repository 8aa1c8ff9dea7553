//! What is told of a request whose client leaves before it is answered.

use crate::error::http_status;
use crate::grpc::LEFT;
use crate::service::{Entry, Shared};

/// Tells the host when it is dropped unanswered.
struct Unanswered<'a> {
    shared: &'a Shared,
    entry: &'a Entry,
    answered: bool,
}

impl Drop for Unanswered<'_> {
    fn drop(&mut self) {
        if !self.answered {
            self.shared.observe(Some(self.entry), LEFT, http_status(LEFT), None);
        }
    }
}

/// Does the work of a request. If that is dropped before it is done, its client has left: the host hears of it, with the
/// status 499 that nobody was sent.
pub(crate) async fn watch<T>(shared: &Shared, entry: &Entry, work: impl Future<Output = T>) -> T {
    let mut unanswered = Unanswered { shared, entry, answered: false };
    let done = work.await;
    unanswered.answered = true;
    done
}
