//! Which rules a call is let through by: those of the policy table, or none for a service whose access is open.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use http::request::Parts;
use tonic::Status;
use transcoder::{Admission, Gate, Method, Outcome};

use crate::gate::{PolicyGate, told};

/// What is asked of the calls of one open service.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    /// For calls that are no stream of the server's.
    pub(crate) timeout: Option<Duration>,
    pub(crate) request_bytes_max: usize,
    /// Whether the caller's credentials go along.
    pub(crate) forwards_authorization: bool,
}

/// The gate of every route.
pub(crate) struct Doors {
    policy: Arc<PolicyGate>,
    /// By the full name of the service.
    open: HashMap<String, Terms>,
}

impl Doors {
    pub(crate) fn new(policy: Arc<PolicyGate>, open: HashMap<String, Terms>) -> Self {
        Self { policy, open }
    }

    fn open(&self, method: &Method) -> Option<&Terms> {
        if self.open.is_empty() { None } else { self.open.get(method.service()) }
    }

    /// Lets a call through, with the caller's credentials where they are the service's to check.
    async fn admit_openly(
        &self,
        terms: &Terms,
        method: &Method,
        request: &Parts,
    ) -> Result<Admission, Status> {
        let client = self.policy.count_openly(method, request).await?;
        let credentials = request.headers.get(AUTHORIZATION).filter(|_| terms.forwards_authorization);
        Ok(Admission {
            metadata: told(client, credentials),
            timeout: terms.timeout.filter(|_| !method.descriptor().is_server_streaming()),
            max_body_bytes: terms.request_bytes_max,
            ..Admission::default()
        })
    }
}

impl Gate for Doors {
    fn admit<'a>(
        &'a self,
        method: &'a Method,
        request: &'a Parts,
    ) -> BoxFuture<'a, Result<Admission, Status>> {
        match self.open(method) {
            Some(terms) => Box::pin(self.admit_openly(terms, method, request)),
            None => self.policy.admit(method, request),
        }
    }

    fn admit_message<'a>(
        &'a self,
        method: &'a Method,
        request: &'a Parts,
        message: &'a [u8],
    ) -> BoxFuture<'a, Result<(), Status>> {
        match self.open(method) {
            Some(_) => Box::pin(std::future::ready(Ok(()))),
            None => self.policy.admit_message(method, request, message),
        }
    }

    fn response_headers(&self, method: &Method, upstream: &HeaderMap, out: &mut HeaderMap) {
        if self.open(method).is_none() {
            self.policy.response_headers(method, upstream, out);
        }
    }

    fn observe(&self, outcome: Outcome<'_>) {
        self.policy.observe(outcome);
    }
}
