//! A transcoder over the descriptors of `tests/proto/zoo.proto`, and an upstream whose answers each test writes.

use std::convert::Infallible;
use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, LazyLock, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use futures::Stream;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt as _, Full, StreamBody};
use prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage};
use serde_json::{Value, json};
use tokio::time::Instant;
use tower::{Service, ServiceExt as _};
use transcoder::{Builder, Transcoder};

/// The compiled descriptor set.
pub(crate) static DESCRIPTOR_SET: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let includes = [root.join("tests/proto"), root.join("proto/third_party")];
    let mut compiler = protox::Compiler::new(includes).expect("the folders exist");
    compiler.include_imports(true).include_source_info(true);
    compiler.open_file("zoo.proto").expect("zoo.proto compiles");
    compiler.encode_file_descriptor_set()
});

pub(crate) static POOL: LazyLock<DescriptorPool> =
    LazyLock::new(|| DescriptorPool::decode(DESCRIPTOR_SET.as_slice()).expect("protox wrote it"));

/// The message of the type `zoo.v1.{name}` that the JSON `text` is, by prost-reflect.
pub(crate) fn message(name: &str, text: &str) -> DynamicMessage {
    let descriptor = POOL.get_message_by_name(&format!("zoo.v1.{name}")).expect("in zoo.proto");
    let mut deserializer = serde_json::Deserializer::from_str(text);
    DynamicMessage::deserialize(descriptor, &mut deserializer).expect("valid for prost-reflect")
}

/// A frame with the wire bytes of [`message`].
pub(crate) fn frame(name: &str, text: &str) -> Bytes {
    framed(&message(name, text).encode_to_vec())
}

pub(crate) fn framed(message: &[u8]) -> Bytes {
    let mut bytes = vec![0];
    bytes.extend_from_slice(&u32::try_from(message.len()).expect("small").to_be_bytes());
    bytes.extend_from_slice(message);
    Bytes::from(bytes)
}

pub(crate) fn trailers(entries: &[(&'static str, &str)]) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    for (name, value) in entries {
        trailers.insert(*name, HeaderValue::from_str(value).expect("a header value"));
    }
    trailers
}

pub(crate) type FrameStream = Pin<Box<dyn Stream<Item = Result<Frame<Bytes>, tonic::Status>> + Send>>;
pub(crate) type Answer = Response<StreamBody<FrameStream>>;

/// A gRPC answer of these frames.
pub(crate) fn answer(
    frames: impl Stream<Item = Result<Frame<Bytes>, tonic::Status>> + Send + 'static,
) -> Answer {
    let stream: FrameStream = Box::pin(frames);
    let mut response = Response::new(StreamBody::new(stream));
    response.headers_mut().insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}

/// One message, then OK.
pub(crate) fn reply(frame: Bytes) -> Answer {
    replies([frame], &[("grpc-status", "0")])
}

/// Messages, then trailers.
pub(crate) fn replies(frames: impl IntoIterator<Item = Bytes>, last: &[(&'static str, &str)]) -> Answer {
    let mut all: Vec<_> = frames.into_iter().map(|bytes| Ok(Frame::data(bytes))).collect();
    all.push(Ok(Frame::trailers(trailers(last))));
    answer(futures::stream::iter(all))
}

/// No message and this status, in the headers only.
pub(crate) fn refusal(last: &[(&'static str, &str)]) -> Answer {
    let mut response = answer(futures::stream::empty());
    response.headers_mut().extend(trailers(last));
    response
}

/// What reached the upstream.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) message: Bytes,
}

impl Seen {
    /// The request as JSON, by prost-reflect.
    pub(crate) fn json(&self, name: &str) -> Value {
        let descriptor = POOL.get_message_by_name(&format!("zoo.v1.{name}")).expect("in zoo.proto");
        let message = DynamicMessage::decode(descriptor, self.message.clone()).expect("valid wire bytes");
        serde_json::to_value(message).expect("valid for prost-reflect")
    }
}

type Respond = dyn Fn(&Seen) -> Answer + Send + Sync;

/// A gRPC server in the shape of a tower service.
#[derive(Clone)]
pub(crate) struct Upstream {
    respond: Arc<Respond>,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Upstream {
    pub(crate) fn new(respond: impl Fn(&Seen) -> Answer + Send + Sync + 'static) -> Self {
        Self { respond: Arc::new(respond), seen: Arc::default() }
    }

    /// Answers every request with its own message.
    pub(crate) fn echo() -> Self {
        Self::new(|seen| reply(framed(&seen.message)))
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().expect("no test panics while it holds the lock").clone()
    }

    pub(crate) fn last(&self) -> Seen {
        self.seen().pop().expect("a request reached the upstream")
    }
}

impl Service<Request<tonic::body::Body>> for Upstream {
    type Response = Answer;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Answer, Infallible>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<tonic::body::Body>) -> Self::Future {
        let this = self.clone();
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            // A call whose request is broken off is over, whatever is answered.
            let Ok(body) = body.collect().await else { return Ok(refusal(&[("grpc-status", "1")])) };
            let mut bytes = body.to_bytes();
            let declared = bytes.get(1..5).expect("a frame").to_vec();
            bytes.advance(5);
            assert_eq!(declared, u32::try_from(bytes.len()).expect("small").to_be_bytes());
            let seen = Seen { path: parts.uri.path().to_owned(), headers: parts.headers, message: bytes };
            this.seen.lock().expect("no test panics while it holds the lock").push(seen.clone());
            Ok((this.respond)(&seen))
        })
    }
}

pub(crate) fn builder(upstream: &Upstream) -> Builder {
    Transcoder::builder(&DESCRIPTOR_SET).upstream("zoo.v1.Zoo", upstream.clone())
}

/// An answer, read to its end.
#[derive(Debug)]
pub(crate) struct Got {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
    /// Whether the body ended with an error.
    pub(crate) broken: bool,
}

impl Got {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("visible"))
    }

    /// The first field violation of the error: field and description.
    pub(crate) fn violation(&self) -> (String, String) {
        assert_eq!(self.status, StatusCode::BAD_REQUEST, "{}", self.text);
        let json = self.json();
        assert_eq!(json["details"][0], error_info("REQUEST_INVALID"), "{}", self.text);
        let violation = &json["details"][1]["fieldViolations"][0];
        let text = |name: &str| violation[name].as_str().unwrap_or("").to_owned();
        (text("field"), text("description"))
    }
}

/// The detail by which an error of the transcoder's own says why.
pub(crate) fn error_info(reason: &str) -> Value {
    json!({"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason, "domain": "transcoder"})
}

/// The whole body of the 502.
pub(crate) fn upstream_invalid() -> Value {
    json!({"code": 13, "message": "invalid answer from upstream", "details": [error_info("UPSTREAM_INVALID")]})
}

/// The whole body of the 503.
pub(crate) fn upstream_unavailable() -> Value {
    let retry = json!({"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "1s"});
    let details = [error_info("UPSTREAM_UNAVAILABLE"), retry];
    json!({"code": 14, "message": "upstream unavailable", "details": details})
}

/// The whole body of the 504.
pub(crate) fn deadline_exceeded() -> Value {
    json!({"code": 4, "message": "deadline exceeded", "details": [error_info("DEADLINE_EXCEEDED")]})
}

/// Lets this long go by on the stopped clock: nobody waits for it.
pub(crate) async fn clock_passes(time: Duration) {
    let then = Instant::now() + time;
    // Panics unless the clock is stopped, so that no test waits for a real one.
    tokio::time::advance(Duration::ZERO).await;
    tokio::time::sleep_until(then).await;
}

pub(crate) async fn send(transcoder: &Transcoder, request: Request<Full<Bytes>>) -> Got {
    let response = transcoder.clone().oneshot(request).await.expect("never fails");
    let (parts, mut body) = response.into_parts();
    let mut bytes = Vec::new();
    let mut broken = false;
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) => bytes.extend_from_slice(&frame.into_data().expect("data only")),
            Err(_) => broken = true,
        }
    }
    let text = String::from_utf8(bytes).expect("UTF-8");
    Got { status: parts.status, headers: parts.headers, text, broken }
}

pub(crate) fn request(method: &str, uri: &str, body: &str) -> Request<Full<Bytes>> {
    let mut request = Request::builder().method(method).uri(uri);
    if !body.is_empty() {
        request = request.header("content-type", "application/json");
    }
    request.body(Full::new(Bytes::from(body.to_owned()))).expect("a valid request")
}

/// One request to an upstream that echoes: the answer, and what the upstream saw, if anything.
pub(crate) async fn echo(method: &str, uri: &str, body: &str) -> (Got, Option<Seen>) {
    let upstream = Upstream::echo();
    let transcoder = builder(&upstream).build().expect("zoo.proto has valid rules");
    let got = send(&transcoder, request(method, uri, body)).await;
    (got, upstream.seen().pop())
}

/// As [`echo`], when it must reach the upstream: the request as JSON.
pub(crate) async fn reached(method: &str, uri: &str, body: &str, name: &str) -> Value {
    let (got, seen) = echo(method, uri, body).await;
    assert_eq!(got.status, StatusCode::OK, "{}", got.text);
    seen.expect("reached the upstream").json(name)
}

/// As [`echo`], when it must be refused with 400: field and rule.
pub(crate) async fn refused(method: &str, uri: &str, body: &str) -> (String, String) {
    let (got, seen) = echo(method, uri, body).await;
    assert!(seen.is_none(), "reached the upstream: {got:?}");
    got.violation()
}
