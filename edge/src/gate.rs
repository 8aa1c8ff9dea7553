//! Whether a request is let through to its service, and what goes with it.
//!
//! The rules are the policy table that the service enforces again. What a client sends in headers never reaches a service, but for the few that
//! [`PolicyGate::admit`] copies.

use std::sync::Arc;

use futures::future::BoxFuture;
use http::{HeaderMap, HeaderName, header::AUTHORIZATION, request::Parts};
use mesh::{auth, server::REQUEST_ID, status::Refusal, token::Verifier};
use proto::policy::{Method as Policy, RequestId};
use tonic::{Code, Status};
use transcoder::{Admission, Gate, Method, Outcome};

use crate::{answer::Client, limiter::Limiter};

/// `ErrorInfo.domain` of the gateway's own refusals.
pub(crate) const DOMAIN: &str = "edge.jetway";

/// The header that REST clients send a request id in.
const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// Longest request id, in bytes: as the protos say of `request_id`.
const IDEMPOTENCY_KEY_MAX: usize = 255;

/// Metadata of a service that the client may see.
const SHOWN: [&str; 1] = ["idempotent-replayed"];

/// Applies the policy table.
pub struct PolicyGate {
    verifier: Verifier,
    limiter: Arc<Limiter>,
}

impl PolicyGate {
    /// A gate that verifies tokens with `verifier` and counts calls with `limiter`.
    pub fn new(verifier: Verifier, limiter: Arc<Limiter>) -> Self {
        Self { verifier, limiter }
    }

    fn admit_now(&self, method: &Method, request: &Parts) -> Result<Admission, Status> {
        // Every routed service is one of the contract, so every method has its policy.
        let policy = Policy::of(method.path()).ok_or_else(|| {
            Refusal::Unimplemented.status(DOMAIN, "METHOD_UNKNOWN", "there is no such method")
        })?;
        let client = request
            .extensions
            .get::<Client>()
            .ok_or_else(|| Refusal::Internal.status(DOMAIN, "INTERNAL", "internal error"))?;
        let verified = auth::verified(&request.headers, &self.verifier);
        // Counted before a bad token is refused: checking one is work, too.
        let user = verified.as_ref().ok().and_then(|claims| Some(claims.as_ref()?.sub));
        self.limiter.count(policy.rate, user, client.address).map_err(|retry_after| {
            Refusal::ResourceExhausted { retry_after }.status(
                DOMAIN,
                "RATE_LIMITED",
                "too many calls; slow down",
            )
        })?;
        let claims = match verified {
            // A stale token must not keep anyone from signing in.
            Err(_) if policy.access.public => None,
            outcome => outcome?,
        };
        auth::check(&policy.access, claims.as_deref(), None)?;

        let mut metadata = HeaderMap::new();
        if claims.is_some()
            && let Some(token) = request.headers.get(AUTHORIZATION)
        {
            metadata.insert(AUTHORIZATION, token.clone());
        }
        metadata.insert(HeaderName::from_static(REQUEST_ID), client.request_id.clone());
        Ok(Admission {
            metadata,
            timeout: Some(policy.timeout),
            max_body_bytes: policy.max_request_bytes,
            fields: request_id(policy, &request.headers)?,
            inspect_message: false,
        })
    }
}

/// The `Idempotency-Key` header as the field `request_id`, on methods that take one.
fn request_id(policy: &Policy, headers: &HeaderMap) -> Result<Vec<(String, String)>, Status> {
    let invalid = |why: &str| {
        Refusal::InvalidArgument { field: "request_id".to_owned() }.status(
            DOMAIN,
            "IDEMPOTENCY_KEY_INVALID",
            why,
        )
    };
    let mut values = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(value) = values.next().filter(|_| policy.request_id != RequestId::None) else {
        return Ok(Vec::new());
    };
    if values.next().is_some() {
        return Err(invalid("`Idempotency-Key` must be sent once"));
    }
    let key = value.to_str().ok().filter(|key| (1..=IDEMPOTENCY_KEY_MAX).contains(&key.len()));
    let key = key.ok_or_else(|| invalid("`Idempotency-Key` must have 1 to 255 visible ASCII characters"))?;
    Ok(vec![("request_id".to_owned(), key.to_owned())])
}

impl Gate for PolicyGate {
    fn admit<'a>(
        &'a self,
        method: &'a Method,
        request: &'a Parts,
    ) -> BoxFuture<'a, Result<Admission, Status>> {
        Box::pin(std::future::ready(self.admit_now(method, request)))
    }

    fn response_headers(&self, _method: &Method, upstream: &HeaderMap, out: &mut HeaderMap) {
        for name in SHOWN {
            if let Some(value) = upstream.get(name) {
                out.insert(HeaderName::from_static(name), value.clone());
            }
        }
    }

    fn observe(&self, outcome: Outcome<'_>) {
        let method = outcome.method.map_or("_OTHER", Method::path);
        if let Some(cause) = outcome.cause {
            tracing::warn!(method, code = ?outcome.code, cause, "a call failed behind the edge");
        }
        let code = i32::from(outcome.code).to_string();
        let method = Policy::of(method).map_or("_OTHER", |policy| policy.path);
        metrics::counter!("edge_calls_total", "rpc_method" => method, "rpc_status_code" => code).increment(1);
        if outcome.code == Code::Internal {
            tracing::error!(method, "a service answered INTERNAL");
        }
    }
}
