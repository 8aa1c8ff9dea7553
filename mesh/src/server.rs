//! What every call to a service passes through, outermost first: log and request id, caller and policy, validation, deadline.

use std::{
    panic::AssertUnwindSafe,
    time::{Duration, Instant},
};

use axum::{
    Router,
    extract::Request,
    middleware::{self, Next},
    response::Response,
};
use futures::FutureExt as _;
use http::{HeaderMap, HeaderValue, header::AUTHORIZATION};
use proto::policy::{Idempotency, Method};
use secrecy::SecretString;
use tonic::service::Routes;

use crate::{
    auth::{self, Caller, DOMAIN},
    call::Call,
    status::Refusal,
    timeout,
    tls::Workload,
    token::Verifier,
    validate,
};

/// The header that carries the request id.
pub const REQUEST_ID: &str = "x-request-id";

/// Longest request id that is taken over from a peer.
const REQUEST_ID_LENGTH_MAX: usize = 128;

/// How long a call without a policy of its own may take: health checks.
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);

/// Puts the layers around a service's routes.
pub fn stack(routes: Routes, health: Router, verifier: Verifier) -> Router {
    routes
        .prepare()
        .into_axum_router()
        .layer(middleware::from_fn(bounded))
        .layer(validate::Layer::new())
        .layer(middleware::from_fn_with_state(verifier, auth::layer))
        // Health answers without a policy: peers have shown a certificate already.
        // Its own answer to unknown paths is not wanted here: that is the policy layer's.
        .merge(health.reset_fallback())
        .layer(middleware::from_fn(observed))
}

/// Gives the call its request id and deadline, and writes one line when it is done.
async fn observed(mut request: Request, next: Next) -> Response {
    let started = Instant::now();
    let path = request.uri().path().to_owned();
    let call = incoming(request.headers(), timeout_of(&path, request.headers()));
    let request_id = call.request_id.clone();
    let peer = request.extensions().get::<Workload>().map(|peer| peer.name().to_owned()).unwrap_or_default();
    request.extensions_mut().insert(call.clone());

    let mut response = call.scope(next.run(request)).await;

    let elapsed = started.elapsed();
    // Errors say their code in the headers; a code that comes in the trailers is OK, or the handler's own business.
    let code =
        response.headers().get("grpc-status").and_then(|code| code.to_str().ok()).unwrap_or("0").to_owned();
    if !path.starts_with("/grpc.health") {
        tracing::info!(path, code, peer, request_id, elapsed_ms = elapsed.as_secs_f64() * 1000.0, "call");
    }
    let method = Method::of(&path).map_or("_OTHER", |method| method.path);
    metrics::histogram!("rpc_server_call_duration_seconds", "rpc_method" => method, "rpc_status_code" => code)
        .record(elapsed.as_secs_f64());
    if let Ok(request_id) = HeaderValue::from_str(&request_id) {
        response.headers_mut().insert(REQUEST_ID, request_id);
    }
    response
}

fn incoming(headers: &HeaderMap, timeout: Duration) -> Call {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let mut call = Call::background(timeout);
    if let Some(request_id) =
        text(REQUEST_ID).filter(|id| !id.is_empty() && id.len() <= REQUEST_ID_LENGTH_MAX)
    {
        request_id.clone_into(&mut call.request_id);
    }
    if let Some(traceparent) = text("traceparent").filter(|value| value.len() == 55) {
        traceparent.clone_into(&mut call.traceparent);
    }
    call.token = text(AUTHORIZATION.as_str())
        .and_then(|value| value.split_once(' '))
        .map(|(_, token)| SecretString::from(token.trim().to_owned()));
    call
}

/// The caller's `grpc-timeout`, at most the method's ceiling.
fn timeout_of(path: &str, headers: &HeaderMap) -> Duration {
    let ceiling = Method::of(path).map_or(TIMEOUT_DEFAULT, |method| method.timeout);
    timeout::of(headers).map_or(ceiling, |asked| asked.min(ceiling))
}

/// Answers within the deadline. A handler that only reads is dropped when the deadline passes or the caller goes away; one that writes runs to
/// its end all the same, so that no transaction is left half-way.
async fn bounded(request: Request, next: Next) -> Response {
    let reads_only = Method::of(request.uri().path())
        .is_some_and(|method| method.idempotency == Idempotency::NoSideEffects);
    let call =
        request.extensions().get::<Call>().cloned().unwrap_or_else(|| Call::background(TIMEOUT_DEFAULT));
    let (deadline, call_id) = (call.deadline, call.request_id.clone());
    let work = call.scope(next.run(request));
    // The request is gone with its handler; what others share with it is behind locks that say when they are poisoned.
    let work = AssertUnwindSafe(work).catch_unwind();
    let outcome = if reads_only {
        tokio::time::timeout_at(deadline, work).await
    } else {
        #[expect(
            clippy::disallowed_methods,
            reason = "the one place that detaches a handler from its caller"
        )]
        let work = tokio::spawn(work);
        // An error is the end of the runtime, which nobody gets to hear of.
        tokio::time::timeout_at(deadline, work)
            .await
            .map(|joined| joined.unwrap_or_else(|error| Err(Box::new(error))))
    };
    match outcome {
        Ok(Ok(response)) => response,
        // The panic hook has said where and why.
        Ok(Err(_)) => {
            tracing::error!(request_id = call_id, "a handler panicked");
            Refusal::Internal.status(DOMAIN, "INTERNAL", "internal error").into_http()
        }
        Err(_) => Refusal::DeadlineExceeded
            .status(DOMAIN, "DEADLINE_EXCEEDED", "the call took longer than it may; it may still take effect")
            .into_http(),
    }
}

/// The request id of the call that is being served; a new one outside of any.
pub fn request_id() -> String {
    Call::current().map_or_else(|| crate::id::generate().to_string(), |call| call.request_id)
}

/// The caller and the message of a request, which is what every handler starts with.
///
/// # Errors
///
/// As [`Caller::of`].
pub fn open<T>(request: tonic::Request<T>) -> Result<(Caller, T), tonic::Status> {
    let caller = Caller::of(&request)?;
    Ok((caller, request.into_inner()))
}

#[cfg(test)]
mod tests;
