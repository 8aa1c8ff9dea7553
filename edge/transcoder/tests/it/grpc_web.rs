//! gRPC-Web, binary and text.

use std::convert::Infallible;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::HeaderValue;
use http_body::Frame;
use http_body_util::StreamBody;
use transcoder::Admission;

use crate::gate::{Closed, Recorder};
use crate::grpc::mirror;
use crate::harness::{Upstream, builder, framed, refusal, replies};
use crate::wire_client::{Raw, exchange, exchange_body, post};

const GET: &str = "/zoo.v1.Zoo/GetAnimal";
const WATCH: &str = "/zoo.v1.Zoo/Watch";
const CHAT: &str = "/zoo.v1.Zoo/Chat";

/// The answer as if it had been binary: its text is padded piece by piece.
fn untext(mut got: Raw) -> Raw {
    assert_eq!(got.header("content-type"), "application/grpc-web-text+proto");
    let text = str::from_utf8(&got.body).unwrap().to_owned();
    let groups = text.as_bytes().chunks(4);
    got.body = groups.flat_map(|group| STANDARD.decode(group).unwrap()).collect::<Vec<_>>().into();
    got
}

#[tokio::test]
async fn the_trailers_of_grpc_web_are_the_last_frame() {
    let last = [("grpc-status", "0"), ("x-cost", "1")];
    let upstream = Upstream::new(move |_| replies([framed(&[1]), framed(&[2])], &last));
    let transcoder = builder(&upstream).all_metadata(true).build().unwrap();
    for content_type in ["application/grpc-web", "application/grpc-web+proto"] {
        let got = exchange(&transcoder, post(WATCH, content_type, framed(&[]))).await;
        assert_eq!((got.status.as_u16(), got.header("content-type")), (200, "application/grpc-web+proto"));
        assert_eq!(got.frames().len(), 3);
        assert_eq!(got.web_trailers(), ["x-cost: 1", "grpc-status: 0"]);
        assert!(got.trailers.is_none());
    }
}

#[tokio::test]
async fn grpc_web_text_is_base64_in_pieces_in_both_directions() {
    let message = framed(b"any bytes");
    let other = framed(b"and others");
    // Each piece padded on its own, all of them in one, and cut where no group ends.
    let apart = format!("{}{}", STANDARD.encode(&message), STANDARD.encode(&other));
    let together = STANDARD.encode([message.clone(), other.clone()].concat());
    for text in [apart, together] {
        for size in [1, 3, 4, 7, 1000] {
            let pieces: Vec<_> = text.as_bytes().chunks(size).map(Bytes::copy_from_slice).collect();
            let frames = pieces.into_iter().map(|piece| Ok::<_, Infallible>(Frame::data(piece)));
            let body = StreamBody::new(futures::stream::iter(frames.collect::<Vec<_>>()));
            let request = post(CHAT, "application/grpc-web-text", "").map(|_| body);
            let got = untext(exchange_body(&mirror(), request).await);
            let frames = got.frames();
            assert_eq!(frames[0].1, message.slice(5..));
            assert_eq!(frames[1].1, other.slice(5..));
            assert_eq!(got.web_trailers(), ["grpc-status: 0"]);
        }
    }
}

#[tokio::test]
async fn the_form_of_the_answer_is_the_one_that_is_accepted() {
    let upstream = Upstream::echo();
    let transcoder = builder(&upstream).build().unwrap();
    let text = STANDARD.encode(framed(&[]));
    for (content_type, body, accept, expected) in [
        ("application/grpc-web", framed(&[]), "application/grpc-web-text", "application/grpc-web-text+proto"),
        (
            "application/grpc-web-text",
            Bytes::from(text.clone()),
            "application/grpc-web",
            "application/grpc-web+proto",
        ),
        ("application/grpc-web-text", Bytes::from(text), "*/*", "application/grpc-web-text+proto"),
    ] {
        let mut request = post(GET, content_type, body);
        request.headers_mut().insert("accept", HeaderValue::from_static(accept));
        let got = exchange(&transcoder, request).await;
        assert_eq!(got.header("content-type"), expected);
    }
}

#[tokio::test]
async fn errors_of_grpc_web_are_trailers_in_the_body() {
    let upstream = Upstream::new(|_| refusal(&[("grpc-status", "5"), ("grpc-message", "no%20lion")]));
    let transcoder = builder(&upstream).build().unwrap();
    let got = exchange(&transcoder, post(GET, "application/grpc-web", framed(&[]))).await;
    assert_eq!(got.status, 200);
    assert_eq!(got.web_trailers(), ["grpc-status: 5", "grpc-message: no%20lion"]);

    let got = exchange(&transcoder, post("/nothing", "application/grpc-web-text", "")).await;
    let trailers = untext(got).web_trailers();
    assert_eq!(trailers[..2], ["grpc-status: 12", "grpc-message: there is no such method"]);

    let closed = builder(&upstream).gate(Closed).build().unwrap();
    let got = exchange(&closed, post(GET, "application/grpc-web", framed(&[]))).await;
    assert_eq!(got.web_trailers()[..2], ["x-extra: 1", "grpc-status: 7"]);

    let small = Recorder::new(Admission { max_body_bytes: 4, ..Admission::default() });
    let transcoder = builder(&upstream).gate(small).build().unwrap();
    let got = exchange(&transcoder, post(GET, "application/grpc-web", framed(&[0; 5]))).await;
    assert_eq!(got.web_trailers()[0], "grpc-status: 8");
}

#[tokio::test]
async fn text_that_is_not_base64_is_refused() {
    for text in ["AAA", "AAAA!AAA", "====", "A===", "\u{e9}\u{e9}"] {
        let request = post(CHAT, "application/grpc-web-text", text);
        let got = exchange(&mirror(), request).await;
        let trailers = untext(got).web_trailers();
        assert_eq!(trailers[..2], ["grpc-status: 3", "grpc-message: the body is not base64"], "{text}");
    }
}
