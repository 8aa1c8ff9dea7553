//! The bounded queue in front of the hashing threads.

use std::{
    collections::VecDeque,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
};

use argon2::{Block, Params};
use tokio::sync::oneshot;
use zeroize::Zeroizing;

use super::derive;
use crate::domain::Password;

/// What to hash, and how.
pub(super) struct Work {
    pub(super) password: Password,
    pub(super) params: Params,
    pub(super) salt: Vec<u8>,
}

/// One hash to compute.
pub(super) struct Job {
    pub(super) work: Work,
    /// Told when a thread takes the job.
    pub(super) started: oneshot::Sender<()>,
    /// Told the outcome. Closed: nobody waits for it any more.
    pub(super) reply: oneshot::Sender<Option<Zeroizing<Vec<u8>>>>,
}

/// The queue is full.
#[derive(Debug)]
pub(super) struct Full;

/// Jobs in the order they came.
pub(super) struct Queue {
    waiting_max: usize,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    closed: bool,
}

impl Queue {
    pub(super) fn new(waiting_max: usize) -> Self {
        Self { waiting_max, state: Mutex::default(), changed: Condvar::new() }
    }

    /// Puts a job at the end. Jobs whose callers have gone make room first.
    pub(super) fn push(&self, job: Job) -> Result<(), Full> {
        let mut state = self.lock();
        state.jobs.retain(|job| !job.reply.is_closed());
        if state.jobs.len() >= self.waiting_max || state.closed {
            return Err(Full);
        }
        state.jobs.push_back(job);
        drop(state);
        self.changed.notify_one();
        Ok(())
    }

    /// Computes one job after the other, until the queue is closed and empty. Returns how many.
    pub(super) fn work(&self, memory: &mut [Block]) -> u64 {
        let mut computed = 0;
        while let Some(job) = self.next() {
            let Job { work, started, reply } = job;
            // Nobody to tell: the caller went away or gave up waiting, and the hash is not wanted.
            if started.send(()).is_ok() {
                let _gone = reply.send(derive(&work, memory));
                computed += 1;
            }
        }
        computed
    }

    /// Ends the threads once they have nothing to do.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    /// How many jobs wait.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.lock().jobs.len()
    }

    fn next(&self) -> Option<Job> {
        let mut state = self.lock();
        loop {
            if let Some(job) = state.jobs.pop_front() {
                return Some(job);
            }
            if state.closed {
                return None;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
