//! What a request body finds wrong with the request while it is being sent upstream.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use crate::error::Problem;

/// A place for the first problem of a request body, shared with whoever answers the request: the upstream can only be told
/// that the body broke off, but the client should hear why.
#[derive(Clone, Debug, Default)]
pub(super) struct Fault(Arc<Mutex<Option<Box<Problem>>>>);

/// The error that such a body ends with. It says nothing, because the upstream may log it.
#[derive(Debug)]
pub(super) struct BrokenOff;

impl Fault {
    /// Keeps `problem`, unless there is one already.
    pub(super) fn set(&self, problem: Box<Problem>) -> BrokenOff {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(problem);
        BrokenOff
    }

    pub(super) fn take(&self) -> Option<Box<Problem>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl fmt::Display for BrokenOff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the request was broken off")
    }
}

impl std::error::Error for BrokenOff {}
