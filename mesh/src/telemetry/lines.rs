//! Lines of log that are ready to be written: one for each request, so nobody on the way of one waits for the file.
//!
//! They are collected, and a thread of their own writes what has come together. What a file cannot take in time is dropped and counted.

use std::{
    io::Write,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// How much may wait to be written, in bytes.
const WAITING_MAX: usize = 1 << 20;

/// The pause after each batch, in which the next comes together.
const BATCH_PAUSE: Duration = Duration::from_millis(20);

/// How often there is something else to do.
const IDLE: Duration = Duration::from_secs(5);

/// Collects lines for an output.
pub(super) struct Lines {
    waiting: Mutex<Vec<u8>>,
    more: Condvar,
    output: Mutex<Box<dyn Write + Send>>,
}

impl Lines {
    pub(super) fn new(output: Box<dyn Write + Send>) -> Self {
        Self { waiting: Mutex::default(), more: Condvar::new(), output: Mutex::new(output) }
    }

    /// Takes whole lines, with their ends.
    pub(super) fn push(&self, lines: &[u8]) {
        let mut waiting = locked(&self.waiting);
        if waiting.len() + lines.len() > WAITING_MAX {
            drop(waiting);
            metrics::counter!("log_lines_dropped_total").increment(1);
            return;
        }
        let is_first = waiting.is_empty();
        waiting.extend_from_slice(lines);
        drop(waiting);
        if is_first {
            self.more.notify_one();
        }
    }

    /// Writes what waits.
    pub(super) fn flush(&self) {
        // The output first, so that two batches stay in order.
        let mut output = locked(&self.output);
        let batch = std::mem::take(&mut *locked(&self.waiting));
        put(&mut *output, &batch);
    }

    /// Writes lines as they come, and does `chores` every few seconds. Never ends.
    pub(super) fn write_all(&self, chores: impl Fn()) {
        let mut batch = Vec::new();
        let mut done = Instant::now();
        loop {
            if done.elapsed() >= IDLE {
                chores();
                done = Instant::now();
            }
            let waiting = locked(&self.waiting);
            let (waiting, waited) = self
                .more
                .wait_timeout_while(waiting, IDLE, |waiting| waiting.is_empty())
                .unwrap_or_else(PoisonError::into_inner);
            drop(waiting);
            if waited.timed_out() {
                continue;
            }
            let mut output = locked(&self.output);
            std::mem::swap(&mut *locked(&self.waiting), &mut batch);
            put(&mut *output, &batch);
            drop(output);
            batch.clear();
            std::thread::sleep(BATCH_PAUSE);
        }
    }
}

/// A log that cannot be written is no reason to stop, and there is nowhere to say so.
fn put(output: &mut dyn Write, batch: &[u8]) {
    let _ = output.write_all(batch).and_then(|()| output.flush());
}

fn locked<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            locked(&self.0).extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_are_written_in_order_and_once() {
        let written = Written::default();
        let lines = Lines::new(Box::new(written.clone()));
        lines.push(b"one\n");
        lines.push(b"two\n");
        lines.flush();
        lines.flush();
        lines.push(b"three\n");
        lines.flush();
        assert_eq!(*locked(&written.0), b"one\ntwo\nthree\n");
    }

    #[test]
    fn an_output_that_does_not_keep_up_costs_lines_and_not_memory() {
        let lines = Lines::new(Box::new(Written::default()));
        let line = [b'x'; 1000];
        for _ in 0..2 * WAITING_MAX / line.len() {
            lines.push(&line);
        }
        let waiting = locked(&lines.waiting).len();
        assert!(waiting <= WAITING_MAX && waiting > WAITING_MAX - 1000, "{waiting}");
    }
}
