//! An upstream's answer, passed on frame by frame as it comes.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use http_body::{Frame, SizeHint};
use tokio::time::Instant;
use tonic::Code;

use super::fault::Fault;
use super::scan::Boundaries;
use super::status::{self, DETAILS, MESSAGE, STATUS};
use crate::body::BoxError;
use crate::error::Problem;
use crate::gate::{Admission, RequestId};
use crate::grpc::{LEFT, PREFIX_LEN, check_head};
use crate::metadata::Naming;
use crate::service::Shared;
use crate::timed::{Ended, Timed, Timer};
use crate::upstream;

const ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
const ACCEPT_ENCODING: HeaderName = HeaderName::from_static("grpc-accept-encoding");

/// How messages are compressed, in one direction or the other.
#[derive(Debug, Default)]
pub(super) struct Encodings {
    pub(super) used: Option<HeaderValue>,
    pub(super) accepted: Option<HeaderValue>,
}

impl Encodings {
    /// Those that `headers` name in gRPC's way.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        Self { used: headers.get(ENCODING).cloned(), accepted: headers.get(ACCEPT_ENCODING).cloned() }
    }

    pub(super) fn put(self, headers: &mut HeaderMap) {
        if let Some(value) = self.used {
            headers.insert(ENCODING, value);
        }
        if let Some(value) = self.accepted {
            headers.insert(ACCEPT_ENCODING, value);
        }
    }
}

/// The head of an answer.
pub(super) struct Opened {
    /// What the client may see of the metadata.
    pub(super) headers: HeaderMap,
    pub(super) encodings: Encodings,
    pub(super) relay: Relay,
}

/// A call on its way.
pub(super) struct Call<'a> {
    pub(super) shared: &'a Arc<Shared>,
    /// Index of the method.
    pub(super) index: usize,
    pub(super) parts: &'a Parts,
    pub(super) admission: Admission,
    pub(super) deadline: Option<Instant>,
    /// What is wrong with the request body, once it is.
    pub(super) fault: Fault,
}

impl Call<'_> {
    /// Sends the request. The head of the answer has come when this returns.
    pub(super) async fn open(
        self,
        body: tonic::body::Body,
        encodings: Encodings,
    ) -> Result<Opened, Box<Problem>> {
        let Call { shared, index, parts, admission, deadline, fault } = self;
        let entry = &shared.entries[index];
        let mut request = upstream::request(entry, admission.metadata, deadline, body);
        encodings.put(request.headers_mut());
        let mut timer = Timer::at(deadline);
        let sent = timer.bound(upstream::deliver(entry, request)).await;
        // An upstream that was sent half a request may say anything.
        if let Some(problem) = fault.take() {
            return Err(problem);
        }
        let (head, body) = sent??.into_parts();
        let trailers_only = check_head(head.status, &head.headers)?;
        let mut relay = Relay {
            shared: Arc::clone(shared),
            index,
            request_id: parts.extensions.get::<RequestId>().cloned(),
            body: Some(Timed::new(body, timer)),
            boundaries: Boundaries::default(),
            last: None,
            deadline,
            fault,
        };
        let mut headers = HeaderMap::new();
        if trailers_only {
            relay.end(&head.headers);
        } else {
            upstream::answered(shared, entry, Naming::Plain, &head.headers, &mut headers);
        }
        Ok(Opened { headers, encodings: Encodings::of(&head.headers), relay })
    }
}

/// The body of an answer: the upstream's frames, untouched, then trailers that always have a status. Dropping it ends the
/// call.
pub(super) struct Relay {
    shared: Arc<Shared>,
    index: usize,
    request_id: Option<RequestId>,
    /// `None` when it has ended.
    body: Option<Timed>,
    /// Of the messages that were handed out.
    boundaries: Boundaries,
    /// The trailers, when they have not been handed out.
    last: Option<HeaderMap>,
    deadline: Option<Instant>,
    fault: Fault,
}

impl Relay {
    /// The trailers, when there is nothing else.
    pub(super) fn take_only_trailers(&mut self) -> Option<HeaderMap> {
        self.last.take()
    }

    /// Whether what was handed out ends inside a message. Nothing may then follow it that looks like a message: only trailers
    /// of HTTP, or an error of the body.
    pub(super) fn is_cut(&self) -> bool {
        !self.boundaries.between_messages()
    }

    /// Ends the answer with what the upstream says of it.
    fn end(&mut self, trailers: &HeaderMap) {
        if let Some(problem) = self.fault.take() {
            return self.fail(problem);
        }
        let code = trailers.get(STATUS).and_then(|value| value.to_str().ok()?.parse().ok());
        let Some(code) = code.map(Code::from_i32) else {
            return self.fail(Problem::bad_gateway("no grpc-status, or not a number"));
        };
        if upstream::is_for_deadline(code, self.deadline) {
            return self.fail(Problem::deadline_exceeded());
        }
        if code == Code::Ok && self.is_cut() {
            return self.fail(Problem::bad_gateway("answer ends inside a message"));
        }
        let entry = &self.shared.entries[self.index];
        let mut last = HeaderMap::new();
        upstream::answered(&self.shared, entry, Naming::Plain, trailers, &mut last);
        for name in [STATUS, MESSAGE, DETAILS] {
            if let Some(value) = trailers.get(name) {
                last.insert(name, value.clone());
            }
        }
        self.shared.observe(Some(entry), code, StatusCode::OK, None);
        self.last = Some(last);
        self.body = None;
    }

    /// Ends the call and the answer with an error of ours. Returns the trailers, which are then handed out.
    pub(super) fn break_off(&mut self, problem: Box<Problem>) -> HeaderMap {
        if self.body.is_some() {
            self.fail(problem);
        }
        self.last.take().unwrap_or_default()
    }

    /// Ends the answer with an error of ours, and the call.
    fn fail(&mut self, mut problem: Box<Problem>) {
        problem.name_reason(&self.shared.error_domain);
        problem.name_request(self.request_id.as_ref());
        let entry = &self.shared.entries[self.index];
        self.shared.observe(Some(entry), problem.code, StatusCode::OK, problem.cause.as_deref());
        self.last = Some(status::trailers(&problem));
        self.body = None;
    }
}

/// Where the messages are after `frame`.
///
/// # Errors
///
/// For flags that no message of gRPC has. In the protocols that put the end of a call into its body, they are what marks it.
fn follow(mut boundaries: Boundaries, frame: &Frame<Bytes>) -> Result<Boundaries, &'static str> {
    let data = frame.data_ref().map(|data| &**data).unwrap_or_default();
    boundaries.follow(data, |prefix: [u8; PREFIX_LEN]| {
        let [flags, length @ ..] = prefix;
        if flags > 1 {
            return Err("a message has unknown flags");
        }
        usize::try_from(u32::from_be_bytes(length)).map_err(|_| "message too large")
    })?;
    Ok(boundaries)
}

impl http_body::Body for Relay {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        if let Some(body) = &mut this.body {
            match ready!(Pin::new(body).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_trailers() {
                    Err(frame) => match follow(this.boundaries, &frame) {
                        Ok(boundaries) => {
                            this.boundaries = boundaries;
                            return Poll::Ready(Some(Ok(frame)));
                        }
                        Err(fault) => this.fail(Problem::bad_gateway(fault)),
                    },
                    Ok(trailers) => this.end(&trailers),
                },
                Some(Err(Ended::Late)) => this.fail(Problem::deadline_exceeded()),
                Some(Err(Ended::Lost(error))) => {
                    let lost = || Problem::upstream_unavailable(upstream::describe(&error));
                    let problem = this.fault.take().unwrap_or_else(lost);
                    this.fail(problem);
                }
                None => {
                    // Without trailers nobody can tell a whole answer from a broken one.
                    let broken = || Problem::bad_gateway("answer ends without a status");
                    let problem = this.fault.take().unwrap_or_else(broken);
                    this.fail(problem);
                }
            }
        }
        Poll::Ready(this.last.take().map(|trailers| Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_none() && self.last.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        if let Some(body) = &self.body {
            let code = if body.is_late() { Code::DeadlineExceeded } else { LEFT };
            self.shared.observe(Some(&self.shared.entries[self.index]), code, StatusCode::OK, None);
        }
    }
}
