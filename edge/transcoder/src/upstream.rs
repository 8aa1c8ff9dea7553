//! The call behind every protocol in front: who may make it, with what metadata, until when.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use http::header::{CONTENT_TYPE, TE};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Request, Response};
use tokio::task::unconstrained;
use tokio::time::{Instant, Sleep, sleep_until};
use tonic::Code;

use crate::error::Problem;
use crate::gate::Admission;
use crate::grpc;
use crate::metadata::{self, Naming};
use crate::service::{Entry, Shared};

/// Asks the host about the call, and adds the metadata of the client that may pass.
pub(crate) async fn admit(
    shared: &Shared,
    entry: &Entry,
    parts: &Parts,
    naming: Naming,
) -> Result<Admission, Box<Problem>> {
    let mut admission =
        shared.gate.admit(&entry.method, parts).await.map_err(|status| Problem::from_status(&status))?;
    metadata::add_request(&shared.metadata, naming, &parts.headers, &mut admission.metadata)?;
    Ok(admission)
}

/// Asks the host about the request message, if it wants to be asked. For requests of one message, before [`call`].
pub(crate) async fn admit_message(
    shared: &Shared,
    entry: &Entry,
    parts: &Parts,
    admission: &Admission,
    message: &[u8],
) -> Result<(), Box<Problem>> {
    if !admission.inspect_message {
        return Ok(());
    }
    let asked = shared.gate.admit_message(&entry.method, parts, message).await;
    asked.map_err(|status| Problem::from_status(&status))
}

/// When the call must be over: after the client's time or the host's, whichever is shorter.
pub(crate) fn deadline(client: Option<Duration>, admission: &Admission) -> Option<Instant> {
    let timeout = [client, admission.timeout].into_iter().flatten().min();
    timeout.and_then(|timeout| Instant::now().checked_add(timeout))
}

/// Calls the method with the metadata of its [`Admission`] and with `body`, which is gRPC frames, none of them compressed.
///
/// # Errors
///
/// 503 when the upstream cannot be reached, 504 at the deadline.
pub(crate) async fn call(
    entry: &Entry,
    metadata: HeaderMap,
    deadline: Option<Instant>,
    body: tonic::body::Body,
) -> Result<Response<tonic::body::Body>, Box<Problem>> {
    send(entry, deadline, request(entry, metadata, deadline, body)).await
}

/// The request of [`call`], for protocols that have more to say than it does.
pub(crate) fn request(
    entry: &Entry,
    metadata: HeaderMap,
    deadline: Option<Instant>,
    body: tonic::body::Body,
) -> Request<tonic::body::Body> {
    let mut request = Request::new(body);
    *request.method_mut() = http::Method::POST;
    *request.uri_mut() = entry.method.uri();
    *request.version_mut() = http::Version::HTTP_2;
    let headers = request.headers_mut();
    if metadata.keys().all(|name| grpc::forwardable(name.as_str())) {
        *headers = metadata;
    } else {
        let forwarded = metadata.iter().filter(|(name, _)| grpc::forwardable(name.as_str()));
        headers.extend(forwarded.map(|(name, value)| (name.clone(), value.clone())));
    }
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(TE, HeaderValue::from_static("trailers"));
    let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
    if let Some(value) = left.and_then(grpc::timeout_value) {
        headers.insert("grpc-timeout", value);
    }
    request
}

/// Sends what [`request`] made. The answer's head has come when this returns, its body has not.
pub(crate) async fn send(
    entry: &Entry,
    deadline: Option<Instant>,
    request: Request<tonic::body::Body>,
) -> Result<Response<tonic::body::Body>, Box<Problem>> {
    within(deadline, deliver(entry, request)).await?
}

/// As [`send`], for callers that keep the deadline themselves.
pub(crate) async fn deliver(
    entry: &Entry,
    request: Request<tonic::body::Body>,
) -> Result<Response<tonic::body::Body>, Box<Problem>> {
    (entry.upstream)(request).await.map_err(|error| {
        // A channel of tonic has a timer of its own for the same deadline.
        let first: &(dyn std::error::Error + 'static) = &*error;
        let mut causes = std::iter::successors(Some(first), |error| error.source());
        if causes.any(<dyn std::error::Error>::is::<tonic::TimeoutExpired>) {
            return Problem::deadline_exceeded();
        }
        Problem::upstream_unavailable(describe(&*error))
    })
}

/// How much earlier than ours the upstream's timer for the same deadline may fire.
const TIMERS_DIFFER: Duration = Duration::from_millis(5);

/// Whether an upstream that cancels the call now does so for the deadline, which a server of tonic does not say.
pub(crate) fn is_for_deadline(code: Code, deadline: Option<Instant>) -> bool {
    code == Code::Cancelled && deadline.is_some_and(|deadline| deadline <= Instant::now() + TIMERS_DIFFER)
}

/// What the upstream says went wrong, unless it only says so because the time is over.
pub(crate) fn at_deadline(problem: Box<Problem>, deadline: Option<Instant>) -> Box<Problem> {
    if is_for_deadline(problem.code, deadline) { Problem::deadline_exceeded() } else { problem }
}

/// Adds what the client may see of the upstream's headers or trailers to the answer.
pub(crate) fn answered(
    shared: &Shared,
    entry: &Entry,
    naming: Naming,
    upstream: &HeaderMap,
    out: &mut HeaderMap,
) {
    shared.gate.response_headers(&entry.method, upstream, out);
    metadata::add_response(&shared.metadata, naming, upstream, out);
}

/// The result of `work`, unless the deadline comes first.
pub(crate) async fn within<T>(
    deadline: Option<Instant>,
    work: impl Future<Output = T>,
) -> Result<T, Box<Problem>> {
    let Some(deadline) = deadline else { return Ok(work.await) };
    let mut work = pin!(work);
    // Not made for what is there already, as the end of a small answer is when its beginning has come.
    let mut timer = pin!(None::<Sleep>);
    poll_fn(|cx| {
        if let Poll::Ready(done) = work.as_mut().poll(cx) {
            return Poll::Ready(Ok(done));
        }
        if timer.is_none() {
            timer.set(Some(sleep_until(deadline)));
        }
        let Some(timer) = timer.as_mut().as_pin_mut() else { return Poll::Pending };
        // Work that takes all of the task's turn must not keep the deadline from being seen.
        Pin::new(&mut unconstrained(timer)).poll(cx).map(|()| Err(Problem::deadline_exceeded()))
    })
    .await
}

/// The chain of causes, for the host's log.
pub(crate) fn describe(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
