//! The body of an answer.

use std::fmt;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use ::http_body::{Frame, SizeHint};
use bytes::{Buf as _, Bytes};
use http::Version;
use http::header::EXPECT;
use http::request::Parts;
use tokio::time::timeout;

/// Any error, boxed.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The body of an answer of the transcoder: whole in a buffer, or a stream.
///
/// A stream that was broken off ends with an error, so that the server closes the connection instead of ending the answer
/// well.
pub struct Body(Kind);

enum Kind {
    Full(Option<Bytes>),
    Stream(Pin<Box<dyn ::http_body::Body<Data = Bytes, Error = BoxError> + Send>>),
}

impl Body {
    pub(crate) fn empty() -> Self {
        Self(Kind::Full(None))
    }

    pub(crate) fn full(bytes: Bytes) -> Self {
        Self(Kind::Full(Some(bytes).filter(|bytes| !bytes.is_empty())))
    }

    pub(crate) fn stream(
        body: impl ::http_body::Body<Data = Bytes, Error = BoxError> + Send + 'static,
    ) -> Self {
        Self(Kind::Stream(Box::pin(body)))
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Full(bytes) => write!(f, "Body({} bytes)", bytes.as_ref().map_or(0, Bytes::len)),
            Kind::Stream(_) => f.write_str("Body(stream)"),
        }
    }
}

impl ::http_body::Body for Body {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match &mut self.0 {
            Kind::Full(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Kind::Stream(body) => body.as_mut().poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Full(bytes) => bytes.is_none(),
            Kind::Stream(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Full(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| crate::wire::wide(bytes.len())))
            }
            Kind::Stream(body) => body.size_hint(),
        }
    }
}

/// The next data of a client's body; frames of anything else are passed over, as no protocol here has trailers of the client.
/// Without a copy when the server hands out `Bytes`, as hyper does.
pub(crate) fn poll_data<B: ::http_body::Body>(
    mut body: Pin<&mut B>,
    cx: &mut Context<'_>,
) -> Poll<Option<Result<Bytes, B::Error>>> {
    loop {
        match ready!(body.as_mut().poll_frame(cx)) {
            Some(Ok(frame)) => {
                if let Ok(mut data) = frame.into_data() {
                    return Poll::Ready(Some(Ok(data.copy_to_bytes(data.remaining()))));
                }
            }
            Some(Err(error)) => return Poll::Ready(Some(Err(error))),
            None => return Poll::Ready(None),
        }
    }
}

/// How much of a body that nobody wants is still taken, and for how long.
const UNWANTED_BYTES_MAX: usize = 64 * 1024;
const UNWANTED_TIME: Duration = Duration::from_secs(1);

/// Takes the body of a request that is refused whatever it says, when it is small: over HTTP/1.1 the server would close the connection in front of what is
/// still on its way, and the client may lose the answer with it (RFC 9112, section 9.6). A client that waits to be asked for the body is not asked.
pub(crate) async fn take_unwanted<B: ::http_body::Body>(parts: &Parts, body: B) {
    if parts.version >= Version::HTTP_2 || body.is_end_stream() || parts.headers.contains_key(EXPECT) {
        return;
    }
    let taking = async {
        let mut body = pin!(body);
        let mut taken = 0;
        while taken <= UNWANTED_BYTES_MAX
            && let Some(Ok(data)) = poll_fn(|cx| poll_data(body.as_mut(), cx)).await
        {
            taken += data.len();
        }
    };
    let _in_time = timeout(UNWANTED_TIME, taking).await;
}
