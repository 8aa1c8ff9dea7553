//! The bodies of requests, which may have to be sent again, and of responses, which end with the deadline.

use std::future::{Future as _, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use bytes::{Bytes, BytesMut};
use h2::{Reason, SendStream};
use http::HeaderMap;
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt as _;
use tokio::time::{Instant, Sleep, sleep_until};
use tonic::Status;
use tonic::body::Body;

use super::connection::Download;
use super::{deadline_exceeded, unavailable};

/// How much of a request is kept to be sent again, in bytes. Larger ones are sent once.
const BUFFER_MAX: usize = 64 * 1024;

/// The body of a request.
pub(crate) enum Payload {
    /// All of it: may be sent any number of times.
    Whole(Bytes),
    /// What is at hand and what comes after it: may be sent once, and is gone then.
    Streamed(Option<(Bytes, Body)>),
}

impl Payload {
    /// Takes what of the body is there without waiting: all of it for a message that is ready.
    pub(crate) fn at_hand(mut body: Body) -> Result<Self, Status> {
        let mut kept = Kept::default();
        loop {
            if body.is_end_stream() {
                return Ok(Self::Whole(kept.into_bytes()));
            }
            match Pin::new(&mut body).poll_frame(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(None) => return Ok(Self::Whole(kept.into_bytes())),
                // Requests have no trailers in gRPC.
                Poll::Ready(Some(frame)) => kept.push(frame?.into_data().unwrap_or_default()),
                Poll::Pending => return Ok(Self::Streamed(Some((kept.into_bytes(), body)))),
            }
            if kept.len() > BUFFER_MAX && !body.is_end_stream() {
                return Ok(Self::Streamed(Some((kept.into_bytes(), body))));
            }
        }
    }

    /// Reads on to the end, unless the body is too large to be kept.
    pub(crate) async fn buffered(body: Body) -> Result<Self, Status> {
        let (start, mut body) = match Self::at_hand(body)? {
            Self::Streamed(Some(streamed)) => streamed,
            whole @ (Self::Whole(_) | Self::Streamed(None)) => return Ok(whole),
        };
        let mut kept = Kept::default();
        kept.push(start);
        while kept.len() <= BUFFER_MAX {
            match body.frame().await {
                None => return Ok(Self::Whole(kept.into_bytes())),
                Some(frame) => kept.push(frame?.into_data().unwrap_or_default()),
            }
        }
        Ok(Self::Streamed(Some((kept.into_bytes(), body))))
    }

    /// Whether there is nothing to send.
    pub(crate) fn is_empty(&self) -> bool {
        matches!(self, Self::Whole(bytes) if bytes.is_empty())
    }

    /// Whether it can be sent after an attempt that may have been looked at.
    pub(crate) fn repeats(&self) -> bool {
        matches!(self, Self::Whole(bytes) if bytes.len() <= BUFFER_MAX)
    }

    /// Whether there is all of it to send.
    pub(crate) fn is_whole(&self) -> bool {
        matches!(self, Self::Whole(_) | Self::Streamed(Some(_)))
    }
}

/// Frames put together, without a copy when there is one.
#[derive(Default)]
struct Kept {
    first: Bytes,
    all: BytesMut,
}

impl Kept {
    fn push(&mut self, data: Bytes) {
        if self.first.is_empty() && self.all.is_empty() {
            self.first = data;
            return;
        }
        if self.all.is_empty() {
            self.all.extend_from_slice(&std::mem::take(&mut self.first));
        }
        self.all.extend_from_slice(&data);
    }

    fn len(&self) -> usize {
        self.first.len() + self.all.len()
    }

    fn into_bytes(self) -> Bytes {
        if self.all.is_empty() { self.first } else { self.all.freeze() }
    }
}

/// Sends a body as it comes, as fast as the peer takes it. A body that breaks off cancels the call.
pub(crate) async fn upload(mut stream: SendStream<Bytes>, start: Bytes, mut body: Body) {
    let mut data = start;
    loop {
        let last = body.is_end_stream();
        while !data.is_empty() {
            stream.reserve_capacity(data.len());
            // Nothing and errors alike: the peer takes no more.
            let Some(Ok(capacity)) = poll_fn(|cx| stream.poll_capacity(cx)).await else { return };
            let part = data.split_to(capacity.min(data.len()));
            let end = last && data.is_empty();
            if stream.send_data(part, end).is_err() || end {
                return;
            }
        }
        match body.frame().await {
            Some(Ok(frame)) => data = frame.into_data().unwrap_or_default(),
            Some(Err(_)) => return stream.send_reset(Reason::CANCEL),
            None => {
                // Fails when the peer has ended the call, and then there is nobody to tell.
                let _ended = stream.send_data(Bytes::new(), true);
                return;
            }
        }
    }
}

/// The body of a response: ends with `DEADLINE_EXCEEDED` at the deadline, and counts the call as in flight until it is dropped.
pub(crate) struct ResponseBody {
    download: Download,
    /// All data has come, and trailers are next.
    at_trailers: bool,
    deadline: Option<Pin<Box<Sleep>>>,
    service: Arc<str>,
}

impl ResponseBody {
    pub(crate) fn new(download: Download, deadline: Option<Instant>, service: &Arc<str>) -> Self {
        let deadline = deadline.map(|deadline| Box::pin(sleep_until(deadline)));
        Self { download, at_trailers: false, deadline, service: Arc::clone(service) }
    }

    fn poll_stream(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Frame<Bytes>>, h2::Error>> {
        let Some(stream) = self.download.stream() else { return Poll::Ready(Ok(None)) };
        if !self.at_trailers {
            match ready!(stream.poll_data(cx)).transpose()? {
                Some(data) => {
                    // Fails when the call has ended, and then there is nothing to release.
                    let _ended = stream.flow_control().release_capacity(data.len());
                    return Poll::Ready(Ok(Some(Frame::data(data))));
                }
                None => self.at_trailers = true,
            }
        }
        let trailers: Option<HeaderMap> = ready!(stream.poll_trailers(cx))?;
        self.download.end();
        Poll::Ready(Ok(trailers.map(Frame::trailers)))
    }
}

impl http_body::Body for ResponseBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if let Poll::Ready(frame) = self.poll_stream(cx) {
            return Poll::Ready(frame.map_or_else(
                |error| {
                    self.download.end();
                    // The end of an answer that does not wait for the rest of the request.
                    if error.reason() == Some(Reason::NO_ERROR) {
                        return None;
                    }
                    tracing::debug!(service = &*self.service, %error, "answer broke off");
                    Some(Err(unavailable(&self.service)))
                },
                |frame| frame.map(Ok),
            ));
        }
        let Some(deadline) = &mut self.deadline else { return Poll::Pending };
        deadline.as_mut().poll(cx).map(|()| Some(Err(deadline_exceeded())))
    }

    fn is_end_stream(&self) -> bool {
        self.download.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}
