//! The bodies of requests, which may have to be sent again, and of responses, which end with the deadline.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use futures::{StreamExt, stream};
use http_body::{Frame, SizeHint};
use http_body_util::{BodyExt, BodyStream, Full, StreamBody};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep, sleep_until};
use tonic::Status;
use tonic::body::Body;

use crate::tls::Workload;

use super::endpoint::InFlight;
use super::{deadline_exceeded, unavailable};

/// How much of a request is kept to be sent again, in bytes. Larger ones are sent once.
const BUFFER_MAX: usize = 64 * 1024;

/// The body of a request.
pub(crate) enum Payload {
    /// All of it: may be sent any number of times.
    Whole(Bytes),
    /// May be sent once, and is gone then.
    Once(Option<Body>),
}

impl Payload {
    pub(crate) fn once(body: Body) -> Self {
        Self::Once(Some(body))
    }

    /// Reads the body, unless it is too large to be kept.
    pub(crate) async fn buffered(mut body: Body) -> Result<Self, Status> {
        let mut kept = BytesMut::new();
        while let Some(frame) = body.frame().await {
            // Requests have no trailers in gRPC.
            let Ok(data) = frame?.into_data() else { continue };
            kept.extend_from_slice(&data);
            if kept.len() > BUFFER_MAX {
                let start = stream::iter([Ok::<_, Status>(Frame::data(kept.freeze()))]);
                return Ok(Self::once(Body::new(StreamBody::new(start.chain(BodyStream::new(body))))));
            }
        }
        Ok(Self::Whole(kept.freeze()))
    }

    /// The body for one attempt; `None` when it is gone.
    pub(crate) fn take(&mut self) -> Option<Body> {
        match self {
            Self::Whole(bytes) => Some(Body::new(Full::new(bytes.clone()))),
            Self::Once(body) => body.take(),
        }
    }

    /// Takes back what an attempt did not send.
    pub(crate) fn give_back(&mut self, unsent: Body) {
        if let Self::Once(body) = self {
            *body = Some(unsent);
        }
    }

    /// Whether it can be sent after an attempt that may have been written.
    pub(crate) fn repeats(&self) -> bool {
        matches!(self, Self::Whole(_))
    }

    /// Whether there is all of it to send.
    pub(crate) fn is_whole(&self) -> bool {
        matches!(self, Self::Whole(_) | Self::Once(Some(_)))
    }
}

/// The body of a response: ends with `DEADLINE_EXCEEDED` at the deadline, and counts the call as in flight until it is dropped.
pub(crate) struct ResponseBody {
    incoming: Incoming,
    deadline: Pin<Box<Sleep>>,
    service: Workload,
    _in_flight: InFlight,
}

impl ResponseBody {
    pub(crate) fn new(incoming: Incoming, deadline: Instant, in_flight: InFlight, service: Workload) -> Self {
        Self { incoming, deadline: Box::pin(sleep_until(deadline)), service, _in_flight: in_flight }
    }
}

impl http_body::Body for ResponseBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.incoming).poll_frame(cx) {
            return Poll::Ready(frame.map(|frame| {
                frame.map_err(|error| {
                    tracing::debug!(service = self.service.name(), %error, "answer broke off");
                    unavailable(&self.service)
                })
            }));
        }
        self.deadline.as_mut().poll(cx).map(|()| Some(Err(deadline_exceeded())))
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
