//! The platform's clock: system time, plus an offset that tests and the simulator may set.
//!
//! Nothing else reads the system clock, and SQL takes the time as a parameter; so a test can stop time, and the simulator can move it for every
//! process at once. Tokens and certificates stay on unshifted time: [`Clock::system_now`].

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use jiff::{SignedDuration, Timestamp};

/// Where the time comes from. Cheap to clone; clones share one time.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    System { offset_file: Option<PathBuf> },
    Stopped(Arc<Mutex<Timestamp>>),
}

impl Clock {
    /// System time, plus the whole seconds written in `offset_file`. No file, or one that holds no number, means no offset.
    pub fn system(offset_file: Option<PathBuf>) -> Self {
        Self(Source::System { offset_file })
    }

    /// A clock that stands at `at` until [`Clock::advance`] moves it.
    pub fn stopped(at: Timestamp) -> Self {
        Self(Source::Stopped(Arc::new(Mutex::new(to_micros(at)))))
    }

    /// The platform's time, in whole microseconds, which is what PostgreSQL keeps.
    pub fn now(&self) -> Timestamp {
        match &self.0 {
            Source::System { offset_file: None } => Self::system_now(),
            Source::System { offset_file: Some(file) } => {
                let seconds = std::fs::read_to_string(file).ok().and_then(|text| text.trim().parse().ok());
                let offset = SignedDuration::from_secs(seconds.unwrap_or(0));
                Self::system_now().checked_add(offset).unwrap_or(Timestamp::MAX)
            }
            Source::Stopped(at) => *at.lock().unwrap_or_else(PoisonError::into_inner),
        }
    }

    /// Moves a stopped clock on. System time does not move for anyone, so there it does nothing.
    pub fn advance(&self, by: SignedDuration) {
        if let Source::Stopped(at) = &self.0 {
            let mut at = at.lock().unwrap_or_else(PoisonError::into_inner);
            *at = at.checked_add(by).unwrap_or(Timestamp::MAX);
        }
    }

    /// The machine's own time, without any offset: for tokens and certificates.
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the system clock")]
    pub fn system_now() -> Timestamp {
        to_micros(Timestamp::now())
    }
}

fn to_micros(at: Timestamp) -> Timestamp {
    Timestamp::new(at.as_second(), at.subsec_nanosecond() / 1000 * 1000).unwrap_or(at)
}

/// The protobuf form of a time.
pub fn to_proto(at: Timestamp) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds: at.as_second(), nanos: at.subsec_nanosecond() }
}

/// The time that a protobuf message holds, in whole microseconds; `None` when it is out of range (years 1 to 9999).
pub fn from_proto(at: prost_types::Timestamp) -> Option<Timestamp> {
    Timestamp::new(at.seconds, at.nanos).ok().map(to_micros)
}

#[cfg(test)]
mod tests;
