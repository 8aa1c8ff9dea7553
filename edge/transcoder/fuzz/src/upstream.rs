//! A transcoder over `paths.proto`, and an upstream that echoes.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::sync::{Arc, LazyLock, Mutex};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use tower::{Service, ServiceExt as _};
use transcoder::Transcoder;

use super::subject::compiled;

/// Answers each call with its own message.
#[derive(Clone, Default)]
pub struct Echo {
    shared: Arc<Mutex<Shared>>,
}

#[derive(Default)]
struct Shared {
    /// The path of the last call.
    called: Option<String>,
    headers: Vec<(HeaderName, HeaderValue)>,
    trailers: Vec<(HeaderName, HeaderValue)>,
}

impl Service<Request<tonic::body::Body>> for Echo {
    type Response = Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<tonic::body::Body>) -> Self::Future {
        let mut shared = self.shared.lock().expect("nothing panics while it holds the lock");
        shared.called = Some(request.uri().path().to_owned());
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        trailers.extend(shared.trailers.iter().cloned());
        let body = request.into_body().with_trailers(ready(Some(Ok(trailers))));
        let mut response = Response::new(tonic::body::Body::new(body));
        response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
        response.headers_mut().extend(shared.headers.iter().cloned());
        ready(Ok(response))
    }
}

/// A transcoder and its upstream.
pub struct Gateway {
    transcoder: Transcoder,
    echo: Echo,
}

/// An answer, and the name of the method that was called for it, if any.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub method: Option<String>,
}

thread_local! {
    static RUNTIME: tokio::runtime::Runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
}

/// Of all targets and tests: the upstream remembers nothing between calls but what it was last told.
pub static GATEWAY: LazyLock<Mutex<Gateway>> = LazyLock::new(|| {
    let echo = Echo::default();
    let transcoder = Transcoder::builder(&compiled("paths.proto"))
        .upstream("paths.v1.Paths", echo.clone())
        .build()
        .expect("paths.proto has valid rules");
    Mutex::new(Gateway { transcoder, echo })
});

impl Gateway {
    /// Sets what the next answers of the upstream carry.
    pub fn answer_with(
        &self,
        headers: Vec<(HeaderName, HeaderValue)>,
        trailers: Vec<(HeaderName, HeaderValue)>,
    ) {
        let mut shared = self.echo.shared.lock().expect("nothing panics while it holds the lock");
        (shared.headers, shared.trailers) = (headers, trailers);
    }

    pub fn send(&self, request: Request<Bytes>) -> Answer {
        let lock = || self.echo.shared.lock().expect("nothing panics while it holds the lock");
        lock().called = None;
        let request = request.map(Full::new);
        let (parts, body) = RUNTIME.with(|runtime| {
            runtime.block_on(async {
                let response = self.transcoder.clone().oneshot(request).await.expect("never fails");
                let (parts, body) = response.into_parts();
                (parts, body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default())
            })
        });
        let method = lock().called.take().and_then(|path| Some(path.rsplit_once('/')?.1.to_owned()));
        Answer { status: parts.status, headers: parts.headers, body, method }
    }
}
