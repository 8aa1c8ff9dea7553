//! Clients that leave, or stay and take nothing.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use futures::{FutureExt as _, StreamExt as _};
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt as _, Full};
use tower::ServiceExt as _;
use transcoder::{Body, Transcoder};

use crate::gate::Recorder;
use crate::harness::{
    Answer, DESCRIPTOR_SET, Upstream, answer, builder, clock_passes, frame, framed, request,
};

/// Counts the calls that were ended.
#[derive(Clone, Default)]
struct Calls(Arc<AtomicUsize>);

impl Calls {
    fn ended(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

/// A call, which ends when this is dropped.
struct Call(Calls);

impl Drop for Call {
    fn drop(&mut self) {
        self.0.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// An upstream that sends one message and keeps the call.
fn lingering(calls: &Calls) -> Upstream {
    let calls = calls.clone();
    Upstream::new(move |_| {
        let call = Call(calls.clone());
        let first = futures::stream::iter([Ok(Frame::data(frame("Animal", r#"{"name": "a"}"#)))]);
        answer(first.chain(futures::stream::poll_fn(move |_| {
            let _held = &call;
            Poll::Pending
        })))
    })
}

/// Over every protocol, a stream that may take 100 ms.
fn streams() -> Vec<Request<Full<Bytes>>> {
    let mut rest: Vec<_> = ["application/x-ndjson", "text/event-stream"]
        .into_iter()
        .map(|accept| {
            let mut request = request("GET", "/v1/watch/x", "");
            request.headers_mut().insert("accept", accept.parse().unwrap());
            request
        })
        .collect();
    let others =
        ["application/grpc", "application/grpc-web", "application/connect+proto", "application/connect+json"];
    rest.extend(others.into_iter().map(|content_type| {
        let message = if content_type.ends_with("json") { framed(b"{}") } else { framed(&[]) };
        let request = Request::post("/zoo.v1.Zoo/Watch").version(http::Version::HTTP_2);
        let request = request.header("content-type", content_type).header("connect-timeout-ms", "100");
        request.body(Full::new(message)).unwrap()
    }));
    for request in &mut rest {
        request.headers_mut().insert("grpc-timeout", "100m".parse().unwrap());
    }
    rest
}

async fn give(transcoder: &Transcoder, request: Request<Full<Bytes>>) -> Response<Body> {
    transcoder.clone().oneshot(request).await.expect("never fails")
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_nobody_reads_ends_upstream_at_its_deadline_all_the_same() {
    for request in streams() {
        let name = format!("{:?}", request.headers());
        let (calls, gate) = (Calls::default(), Recorder::default());
        let transcoder = builder(&lingering(&calls)).gate(gate.clone()).build().unwrap();

        let unread = give(&transcoder, request).await.into_body();
        clock_passes(Duration::from_millis(99)).await;
        assert_eq!(calls.ended(), 0, "{name}");
        clock_passes(Duration::from_millis(2)).await;

        assert_eq!(calls.ended(), 1, "{name}");
        drop(unread);
        assert_eq!(gate.outcomes(), ["zoo.v1.Zoo/Watch DeadlineExceeded 200 -"], "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_read_too_late_says_that_its_deadline_is_exceeded() {
    for request in streams() {
        let name = format!("{:?}", request.headers());
        let (calls, gate) = (Calls::default(), Recorder::default());
        let transcoder = builder(&lingering(&calls)).gate(gate.clone()).build().unwrap();

        let mut late = give(&transcoder, request).await.into_body();
        clock_passes(Duration::from_millis(101)).await;

        let mut told = String::new();
        while let Some(Ok(frame)) = late.frame().await {
            match frame.into_data() {
                Ok(data) => told.push_str(&String::from_utf8_lossy(&data)),
                Err(trailers) => told += trailers.into_trailers().unwrap()["grpc-message"].to_str().unwrap(),
            }
        }
        assert!(told.contains("deadline") && told.contains("exceeded"), "{name}: {told}");
        drop(late);
        assert_eq!(gate.outcomes(), ["zoo.v1.Zoo/Watch DeadlineExceeded 200 -"], "{name}");
    }
}

#[tokio::test]
async fn a_client_that_leaves_before_the_head_cancels_the_call_and_is_told_of_with_499() {
    let rest = request("GET", "/v1/animals/x", "");
    let others = ["application/grpc", "application/grpc-web+proto", "application/json"].map(|content_type| {
        let message = if content_type.ends_with("json") { Bytes::from("{}") } else { framed(&[]) };
        let request = Request::post("/zoo.v1.Zoo/GetAnimal").version(http::Version::HTTP_2);
        request.header("content-type", content_type).body(Full::new(message)).unwrap()
    });
    for request in std::iter::once(rest).chain(others) {
        let name = format!("{:?}", request.headers());
        let (calls, gate) = (Calls::default(), Recorder::default());
        let asked = calls.clone();
        let upstream = tower::service_fn(move |_: Request<tonic::body::Body>| {
            let call = Call(asked.clone());
            async move {
                std::future::pending::<()>().await;
                drop(call);
                Ok::<Answer, Infallible>(answer(futures::stream::empty()))
            }
        });
        let transcoder = Transcoder::builder(&DESCRIPTOR_SET).upstream("zoo.v1.Zoo", upstream);
        let transcoder = transcoder.gate(gate.clone()).build().unwrap();

        let mut waiting = Box::pin(transcoder.oneshot(request));
        assert!((&mut waiting).now_or_never().is_none(), "{name}");
        assert_eq!((calls.ended(), gate.outcomes().len()), (0, 0), "{name}");
        drop(waiting);

        assert_eq!(calls.ended(), 1, "{name}");
        assert_eq!(gate.outcomes(), ["zoo.v1.Zoo/GetAnimal Cancelled 499 -"], "{name}");
    }
}

#[tokio::test]
async fn a_head_of_a_stream_is_answered_and_ends_the_call() {
    let (calls, gate) = (Calls::default(), Recorder::default());
    let transcoder = builder(&lingering(&calls)).gate(gate.clone()).build().unwrap();

    let (head, body) = give(&transcoder, request("HEAD", "/v1/watch/x", "")).await.into_parts();

    assert_eq!(
        (head.status.as_u16(), &head.headers["content-type"]),
        (200, &"application/x-ndjson".parse().unwrap())
    );
    assert!(body.collect().await.unwrap().to_bytes().is_empty());
    assert_eq!(calls.ended(), 1);
    assert_eq!(gate.outcomes(), ["zoo.v1.Zoo/Watch Ok 200 -"]);
}
