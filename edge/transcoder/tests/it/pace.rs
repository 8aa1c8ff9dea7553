//! Bodies that come too slowly.

use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use serde_json::Value;
use tower::ServiceExt as _;
use transcoder::{Body, Transcoder};

use crate::grpc::mirror;
use crate::harness::{Upstream, builder, clock_passes, error_info, framed, request};
use crate::wire_client::{Raw, exchange_body, post};

/// Sends `pieces` with a pause before each.
async fn drip(transcoder: &Transcoder, uri: &str, pieces: Vec<(u64, String)>) -> Response<Body> {
    let (head, _) = request("POST", uri, "{}").into_parts();
    let body = futures::stream::iter(pieces).then(|(seconds, piece)| async move {
        clock_passes(Duration::from_secs(seconds)).await;
        Ok::<_, std::io::Error>(Frame::data(Bytes::from(piece)))
    });
    transcoder.clone().oneshot(Request::from_parts(head, StreamBody::new(body))).await.unwrap()
}

/// A JSON body whose middle comes in as many pieces of this size, this many seconds apart.
fn pieces(count: usize, seconds: u64, bytes: usize) -> Vec<(u64, String)> {
    let mut all = vec![(0, r#"{"stringValue":""#.to_owned())];
    all.extend((0..count).map(|_| (seconds, "x".repeat(bytes))));
    all.push((0, r#""}"#.to_owned()));
    all
}

#[tokio::test(start_paused = true)]
async fn a_body_below_the_minimum_rate_is_408() {
    let transcoder = builder(&Upstream::echo()).build().unwrap();
    let begun = tokio::time::Instant::now();
    let response = drip(&transcoder, "/v1/echo", pieces(1000, 1, 10)).await;
    assert_eq!(response.status(), 408);
    // Ten seconds of grace, then the first window of five.
    assert_eq!(begun.elapsed().as_secs(), 15);
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(body["details"][0], error_info("BODY_TOO_SLOW"));
    // A body that stops is no better than one that trickles, however fast it began.
    let mut stopped = pieces(1, 1, 100_000);
    stopped.push((3600, "late".to_owned()));
    assert_eq!(drip(&transcoder, "/v1/echo", stopped).await.status(), 408);
}

#[tokio::test(start_paused = true)]
async fn a_body_at_the_minimum_rate_is_taken() {
    let transcoder = builder(&Upstream::echo()).build().unwrap();
    assert_eq!(drip(&transcoder, "/v1/echo", pieces(60, 1, 241)).await.status(), 200);
    // Within the grace, anything goes.
    assert_eq!(drip(&transcoder, "/v1/echo", pieces(9, 1, 1)).await.status(), 200);
    let patient = builder(&Upstream::echo()).body_bytes_per_second_min(0).build().unwrap();
    assert_eq!(drip(&patient, "/v1/echo", pieces(10, 3600, 1)).await.status(), 200);
}

#[tokio::test(start_paused = true)]
async fn the_deadline_of_a_slow_body_is_504_when_it_comes_first() {
    let transcoder = builder(&Upstream::echo()).build().unwrap();
    let (mut head, _) = request("POST", "/v1/echo", "{}").into_parts();
    head.headers.insert("grpc-timeout", "12S".parse().unwrap());
    let body = StreamBody::new(futures::stream::pending::<Result<Frame<Bytes>, std::io::Error>>());
    let begun = tokio::time::Instant::now();
    let response = transcoder.oneshot(Request::from_parts(head, body)).await.unwrap();
    assert_eq!((response.status().as_u16(), begun.elapsed().as_secs()), (504, 12));
}

/// Answers a call of `path` whose request comes in these pieces, with a pause before each.
async fn dripped(
    transcoder: &Transcoder,
    path: &str,
    content_type: &str,
    pieces: Vec<(u64, Vec<u8>)>,
) -> Raw {
    let body = futures::stream::iter(pieces).then(|(seconds, piece)| async move {
        clock_passes(Duration::from_secs(seconds)).await;
        Ok::<_, std::io::Error>(Frame::data(Bytes::from(piece)))
    });
    exchange_body(transcoder, post(path, content_type, "").map(|_| StreamBody::new(body))).await
}

const GET: &str = "/zoo.v1.Zoo/GetAnimal";
const CHAT: &str = "/zoo.v1.Zoo/Chat";

/// The types whose messages are passed on as they are, and the one whose messages are turned over.
const TYPES: [&str; 4] =
    ["application/grpc", "application/grpc-web", "application/connect+proto", "application/connect+json"];

/// A message of a stream, as each of them has it.
fn message(content_type: &str) -> Vec<u8> {
    framed(if content_type.ends_with("json") { b"{}" } else { b"\x0a\0" }).to_vec()
}

#[tokio::test(start_paused = true)]
async fn a_message_of_grpc_or_connect_that_comes_too_slowly_ends_the_call() {
    let transcoder = builder(&Upstream::echo()).build().unwrap();
    for content_type in TYPES {
        let whole = message(content_type);
        let half = whole[..4].to_vec();
        let begun = tokio::time::Instant::now();
        let got = dripped(
            &transcoder,
            CHAT,
            content_type,
            vec![(0, whole.clone()), (100, half.clone()), (60, vec![])],
        )
        .await;
        assert_eq!(begun.elapsed().as_secs(), 115, "{content_type}: ten seconds of grace, then five");
        let said = String::from_utf8_lossy(&got.body).into_owned() + got.header("grpc-message");
        assert!(said.contains("bytes a second"), "{content_type}: {got:?}");
    }
    for content_type in ["application/grpc", "application/grpc-web"] {
        for first in [vec![], message(content_type)] {
            let got = dripped(&transcoder, GET, content_type, vec![(0, first), (60, vec![])]).await;
            let said = String::from_utf8_lossy(&got.body).into_owned() + got.header("grpc-message");
            assert!(
                said.contains("bytes a second"),
                "one message is all there is to come: {content_type}: {got:?}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_of_grpc_or_connect_may_be_silent_between_messages() {
    for content_type in TYPES {
        let whole = message(content_type);
        let (begin, rest) = whole.split_at(6);
        let quiet = vec![(3600, whole.clone()), (3600, begin.to_vec()), (9, rest.to_vec()), (3600, vec![])];
        let got = dripped(&mirror(), CHAT, content_type, quiet).await;
        assert_eq!(got.frames()[..2].len(), 2, "{content_type}: {got:?}");
        let said = String::from_utf8_lossy(&got.body).into_owned() + got.trailer("grpc-message");
        assert!(!said.contains("bytes a second"), "{content_type}: {got:?}");
    }
}
