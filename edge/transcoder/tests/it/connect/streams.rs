//! Connect: streams in envelopes.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use http::{HeaderValue, Request};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use serde_json::{Value, json};
use tower::ServiceExt as _;
use transcoder::{Admission, Transcoder};

use super::{CHAT, LEO, WATCH, envelope, gzip, leo, with};
use crate::gate::Recorder;
use crate::grpc::mirror;
use crate::harness::{DESCRIPTOR_SET, Upstream, answer, builder, frame, framed, refusal, replies, reply};
use crate::wire_client::{exchange, exchange_body, post};

#[tokio::test]
async fn a_stream_of_connect_is_envelopes_and_an_end() {
    let upstream = Upstream::new(|_| {
        let frames = ["{}", r#"{"legs": 4}"#].map(|text| frame("GetAnimalRequest", text));
        let mut answer = replies(frames, &[("grpc-status", "0"), ("x-cost", "1")]);
        answer.headers_mut().insert("x-first", HeaderValue::from_static("2"));
        answer
    });
    let transcoder = builder(&upstream).all_metadata(true).build().unwrap();
    for (codec, expected) in [("json", [&b"{}"[..], b"{\"legs\":4}"]), ("proto", [b"", &[16, 4]])] {
        let content_type = format!("application/connect+{codec}");
        let body = if codec == "json" { envelope(0, LEO.as_bytes()) } else { framed(&leo()) };
        let got = exchange(&transcoder, post(WATCH, &content_type, body)).await;
        assert_eq!((got.status.as_u16(), got.header("content-type")), (200, &*content_type));
        let frames = got.frames();
        assert_eq!(frames.len(), 3);
        for (frame, expected) in frames.iter().zip(expected) {
            assert_eq!((frame.0, &*frame.1), (0, expected));
        }
        assert_eq!(got.end(), json!({"metadata": {"x-cost": ["1"]}}));
        assert_eq!(got.header("x-first"), "2");
        assert_eq!(upstream.last().json("GetAnimalRequest"), serde_json::from_str::<Value>(LEO).unwrap());
    }
}

#[tokio::test]
async fn a_stream_of_connect_ends_with_its_error() {
    let upstream = Upstream::new(|_| {
        let last = [("grpc-status", "9"), ("grpc-message", "shut"), ("x-why", "a\"b")];
        replies([frame("GetAnimalRequest", "{}")], &last)
    });
    let transcoder = builder(&upstream).all_metadata(true).build().unwrap();
    for (content_type, body) in
        [("application/connect+json", envelope(0, b"{}")), ("application/connect+proto", framed(&[]))]
    {
        let got = exchange(&transcoder, post(WATCH, content_type, body)).await;
        assert_eq!(got.frames().len(), 2);
        let error = json!({"code": "failed_precondition", "message": "shut"});
        assert_eq!(got.end(), json!({"error": error, "metadata": {"x-why": ["a\"b"]}}));
    }
}

#[tokio::test]
async fn streams_of_connect_pass_both_ways_while_they_come() {
    let (sender, receiver) = futures::channel::mpsc::unbounded::<Result<Frame<Bytes>, Infallible>>();
    let request = post(CHAT, "application/connect+json", "").map(|_| StreamBody::new(receiver));
    let response = mirror().oneshot(request).await.unwrap();
    let mut body = response.into_body();
    for text in [r#"{"stringValue":"a"}"#, "{}", r#"{"stringValue":"b"}"#] {
        sender.unbounded_send(Ok(Frame::data(envelope(0, text.as_bytes())))).unwrap();
        let back = body.frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(back, envelope(0, text.as_bytes()));
    }
    drop(sender);
    let end = body.frame().await.unwrap().unwrap().into_data().unwrap();
    assert_eq!(end, envelope(2, b"{}"));
    assert!(body.frame().await.is_none());
}

#[tokio::test]
async fn compressed_envelopes_are_read_and_unknown_compressions_refused() {
    let content = gzip(br#"{"stringValue":"abc"}"#);
    let body = [envelope(1, &content), envelope(0, b"{}")].concat();
    let named = [("connect-content-encoding", "gzip")];
    let got = exchange(&mirror(), with(post(CHAT, "application/connect+json", body), &named)).await;
    assert_eq!(&*got.frames()[0].1, br#"{"stringValue":"abc"}"#);
    assert_eq!(got.end(), json!({}));
    let body = envelope(1, &gzip(&leo()));
    let got = exchange(&mirror(), with(post(CHAT, "application/connect+proto", body), &named)).await;
    assert_eq!(got.frames()[0], (0, leo()));

    let unknown = [("connect-content-encoding", "br")];
    let got =
        exchange(&mirror(), with(post(CHAT, "application/connect+json", envelope(1, &content)), &unknown))
            .await;
    assert_eq!(got.end()["error"]["code"], "unimplemented");
    assert_eq!(got.end()["error"]["message"], "supported compressions are gzip, identity");
}

#[tokio::test]
async fn a_bad_envelope_ends_the_stream_with_an_error() {
    let reading = tower::service_fn(async |request: Request<tonic::body::Body>| {
        let read = request.into_body().collect().await;
        Ok::<_, Infallible>(if read.is_ok() { reply(framed(&[])) } else { refusal(&[("grpc-status", "13")]) })
    });
    let gate = Recorder::new(Admission { max_body_bytes: 30, ..Admission::default() });
    let transcoder =
        Transcoder::builder(&DESCRIPTOR_SET).upstream("zoo.v1.Zoo", reading).gate(gate).build().unwrap();
    let json = "application/connect+json";
    let proto = "application/connect+proto";
    for (path, content_type, body, code) in [
        (CHAT, json, envelope(2, b"{}"), "invalid_argument"),
        (CHAT, json, envelope(4, b"{}"), "invalid_argument"),
        (CHAT, json, envelope(1, b"{}"), "invalid_argument"),
        (CHAT, json, envelope(0, b""), "invalid_argument"),
        (CHAT, json, envelope(0, b"{"), "invalid_argument"),
        (CHAT, json, Bytes::from_static(&[0, 0, 0]), "invalid_argument"),
        (CHAT, json, Bytes::from_static(&[0, 0, 0, 0, 9, b'{']), "invalid_argument"),
        (CHAT, json, envelope(0, &[b' '; 31]), "resource_exhausted"),
        (CHAT, proto, envelope(0, &[b' '; 31]), "resource_exhausted"),
        (CHAT, proto, envelope(2, b"{}"), "invalid_argument"),
        (WATCH, json, Bytes::new(), "unimplemented"),
        (WATCH, json, Bytes::from([envelope(0, b"{}"), envelope(0, b"{}")].concat()), "unimplemented"),
        (WATCH, proto, Bytes::from([framed(&[]), framed(&[])].concat()), "unimplemented"),
    ] {
        let got = exchange(&transcoder, post(path, content_type, body.clone())).await;
        assert_eq!((got.status.as_u16(), got.header("content-type")), (200, content_type));
        assert_eq!(got.end()["error"]["code"], code, "{path} {content_type} {body:?}");
    }
    let bomb = envelope(1, &gzip(&[b' '; 31]));
    let got =
        exchange(&transcoder, with(post(CHAT, json, bomb), &[("connect-content-encoding", "gzip")])).await;
    assert_eq!(got.end()["error"]["code"], "resource_exhausted");
}

#[tokio::test]
async fn a_fast_stream_of_connect_is_read_only_as_fast_as_the_client_reads() {
    let made = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = made.clone();
    let upstream = Upstream::new(move |_| {
        let count = count.clone();
        answer(futures::stream::repeat_with(move || {
            count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            Ok(Frame::data(frame("GetAnimalRequest", "{}")))
        }))
    });
    let transcoder = builder(&upstream).build().unwrap();
    let request = post(WATCH, "application/connect+json", envelope(0, b"{}"));
    let response = transcoder.oneshot(request).await.unwrap();
    let body = http_body_util::BodyStream::new(response.into_body());
    assert_eq!(body.take(3).count().await, 3);
    assert_eq!(made.load(std::sync::atomic::Ordering::SeqCst), 3);
}

#[tokio::test]
async fn a_stream_body_is_read_within_its_deadline() {
    let upstream = Upstream::echo();
    let gate = Recorder::new(Admission { timeout: Some(Duration::from_millis(20)), ..Admission::default() });
    let transcoder = builder(&upstream).gate(gate).build().unwrap();
    let silent = StreamBody::new(futures::stream::pending::<Result<Frame<Bytes>, Infallible>>());
    let request = post(WATCH, "application/connect+json", "").map(|_| silent);
    let got = exchange_body(&transcoder, request).await;
    assert_eq!(got.end()["error"]["code"], "deadline_exceeded");
    assert!(upstream.seen().is_empty());
}
