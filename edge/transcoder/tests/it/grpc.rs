//! Native gRPC, passed through.

use std::convert::Infallible;
use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use http::{HeaderValue, Request, Response, Version};
use http_body::Frame;
use http_body_util::{BodyExt as _, Full, StreamBody};
use serde_json::json;
use tonic::Status;
use tower::ServiceExt as _;
use transcoder::{Admission, Transcoder};

use crate::gate::{Inspector, Recorder};
use crate::harness::{
    DESCRIPTOR_SET, Upstream, answer, builder, clock_passes, frame, framed, refusal, replies, reply, trailers,
};
use crate::wire_client::{exchange, exchange_body, post, reasons};

const GET: &str = "/zoo.v1.Zoo/GetAnimal";
const WATCH: &str = "/zoo.v1.Zoo/Watch";
const CHAT: &str = "/zoo.v1.Zoo/Chat";

/// An upstream that answers with the request body itself, frame by frame, while it comes.
pub(crate) fn mirror() -> Transcoder {
    let upstream = tower::service_fn(async |request: Request<tonic::body::Body>| {
        let trailers =
            futures::stream::once(async { Ok(Frame::trailers(trailers(&[("grpc-status", "0")]))) });
        let encoding = request.headers().get("grpc-encoding").cloned();
        let body = http_body_util::BodyStream::new(request.into_body());
        let mut response = answer(body.chain(trailers));
        if let Some(encoding) = encoding {
            response.headers_mut().insert("grpc-encoding", encoding);
        }
        Ok::<_, Infallible>(response)
    });
    Transcoder::builder(&DESCRIPTOR_SET).upstream("zoo.v1.Zoo", upstream).build().unwrap()
}

#[tokio::test]
async fn grpc_passes_frames_and_trailers_untouched() {
    let message = framed(&[0xff, 0xff, 1, 2, 3]);
    let upstream = Upstream::echo();
    let transcoder = builder(&upstream).build().unwrap();
    for content_type in ["application/grpc", "application/grpc+proto", "Application/GRPC; charset=utf-8"] {
        // The bytes are no message of the type, which is not ours to say.
        let got = exchange(&transcoder, post(GET, content_type, message.clone())).await;
        assert_eq!((got.status.as_u16(), got.header("content-type")), (200, "application/grpc"));
        assert_eq!((&got.body, got.trailer("grpc-status")), (&message, "0"));
        assert_eq!(upstream.last().headers["content-type"], "application/grpc");
        assert_eq!(upstream.last().path, GET);
    }
}

#[tokio::test]
async fn grpc_reaches_methods_without_a_rule() {
    let upstream = Upstream::echo();
    let transcoder = builder(&upstream).build().unwrap();
    let got = exchange(&transcoder, post("/zoo.v1.Zoo/Unannotated", "application/grpc", framed(&[]))).await;
    assert_eq!((got.trailer("grpc-status"), &*upstream.last().path), ("0", "/zoo.v1.Zoo/Unannotated"));
}

#[tokio::test]
async fn grpc_compression_flags_and_their_headers_pass() {
    let mut compressed = framed(b"not really gzip").to_vec();
    compressed[0] = 1;
    let mut request = post(CHAT, "application/grpc", compressed.clone());
    request.headers_mut().insert("grpc-encoding", HeaderValue::from_static("snappy"));
    let got = exchange(&mirror(), request).await;
    assert_eq!((&*got.body, got.header("grpc-encoding")), (&*compressed, "snappy"));
    assert_eq!(got.trailer("grpc-status"), "0");
}

#[tokio::test]
async fn grpc_streams_pass_both_ways_while_they_come() {
    let (sender, receiver) = futures::channel::mpsc::unbounded::<Result<Frame<Bytes>, Infallible>>();
    let request = post(CHAT, "application/grpc", "").map(|_| StreamBody::new(receiver));
    let response = mirror().oneshot(request).await.unwrap();
    let mut body = response.into_body();
    for piece in [&[0, 0, 0][..], &[0, 3, 1], &[2, 3, 0, 0, 0, 0, 0]] {
        sender.unbounded_send(Ok(Frame::data(Bytes::copy_from_slice(piece)))).unwrap();
        let back = body.frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(back, piece, "not kept until the rest comes");
    }
    drop(sender);
    let last = body.frame().await.unwrap().unwrap().into_trailers().unwrap();
    assert_eq!(last["grpc-status"], "0");
    assert!(body.frame().await.is_none());
}

#[tokio::test]
async fn a_client_of_grpc_that_goes_away_cancels_the_call() {
    let gate = Recorder::default();
    let held = Arc::new(());
    let seen = Arc::downgrade(&held);
    let held = std::sync::Mutex::new(Some(held));
    let upstream = Upstream::new(move |_| {
        let held = held.lock().unwrap().take();
        answer(futures::stream::once(async { Ok(Frame::data(framed(&[]))) }).chain(futures::stream::once(
            async move {
                std::future::pending::<()>().await;
                drop(held);

                Ok(Frame::data(Bytes::new()))
            },
        )))
    });
    let transcoder = builder(&upstream).gate(gate.clone()).build().unwrap();
    let response = transcoder.oneshot(post(WATCH, "application/grpc", framed(&[]))).await.unwrap();
    let mut body = response.into_body();
    body.frame().await.unwrap().unwrap();
    assert!(seen.upgrade().is_some());
    drop(body);
    assert!(seen.upgrade().is_none(), "the upstream's answer is dropped");
    assert_eq!(gate.outcomes(), ["zoo.v1.Zoo/Watch Cancelled 200 -"]);
}

#[tokio::test]
async fn the_upstream_of_grpc_is_read_only_as_fast_as_the_client_reads() {
    let made = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&made);
    let upstream = Upstream::new(move |_| {
        let count = Arc::clone(&count);
        answer(futures::stream::repeat_with(move || {
            count.fetch_add(1, Ordering::SeqCst);
            Ok(Frame::data(framed(&[0; 1000])))
        }))
    });
    let transcoder = builder(&upstream).build().unwrap();
    let response = transcoder.oneshot(post(WATCH, "application/grpc", framed(&[]))).await.unwrap();
    let mut body = response.into_body();
    for _ in 0..3 {
        body.frame().await.unwrap().unwrap();
    }
    assert_eq!(made.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn a_status_of_the_upstream_passes_with_its_details() {
    let status = [("grpc-status", "9"), ("grpc-message", "not%20yet"), ("grpc-status-details-bin", "CAk")];
    let after_message = Upstream::new(move |_| replies([framed(&[1])], &status));
    let got =
        exchange(&builder(&after_message).build().unwrap(), post(WATCH, "application/grpc", framed(&[])))
            .await;
    assert_eq!(got.frames().len(), 1);
    for (name, value) in status {
        assert_eq!(got.trailer(name), value);
    }
    let alone = Upstream::new(move |_| refusal(&status));
    let got = exchange(&builder(&alone).build().unwrap(), post(WATCH, "application/grpc", framed(&[]))).await;
    assert!(got.trailers.is_none() && got.body.is_empty());
    for (name, value) in status {
        assert_eq!(got.header(name), value);
    }
}

#[tokio::test]
async fn an_unknown_method_of_grpc_is_unimplemented_in_grpcs_own_way() {
    let upstream = Upstream::echo();
    let transcoder = builder(&upstream).build().unwrap();
    for path in ["/zoo.v1.Zoo/Nothing", "/nothing", "/zoo.v1.Zoo/GetAnimal/", "/grpc.health.v1.Health/Check"]
    {
        let got = exchange(&transcoder, post(path, "application/grpc", framed(&[]))).await;
        assert_eq!((got.status.as_u16(), got.header("content-type")), (200, "application/grpc"), "{path}");
        assert_eq!(
            (got.header("grpc-status"), got.header("grpc-message")),
            ("12", "there is no such method")
        );
        assert_eq!(reasons(got.header("grpc-status-details-bin")), ["METHOD_UNKNOWN"]);
        assert!(got.body.is_empty() && got.trailers.is_none());
    }
    assert!(upstream.seen().is_empty());
}

#[tokio::test]
async fn a_refusal_of_the_host_is_a_status_of_grpc() {
    let upstream = Upstream::echo();
    let transcoder = builder(&upstream).gate(crate::gate::Closed).build().unwrap();
    let got = exchange(&transcoder, post(GET, "application/grpc", framed(&[]))).await;
    assert_eq!((got.status.as_u16(), got.header("grpc-status")), (200, "7"));
    assert_eq!(got.header("grpc-message"), "not %E2%80%9Cyou%E2%80%9D 100%25%0A", "percent-encoded UTF-8");
    assert_eq!(reasons(got.header("grpc-status-details-bin")), ["NO"]);
    assert_eq!(got.header("x-extra"), "1");
    assert!(upstream.seen().is_empty());
}

#[tokio::test]
async fn a_message_over_the_limit_is_resource_exhausted_and_one_within_it_passes() {
    let gate = Recorder::new(Admission { max_body_bytes: 4, ..Admission::default() });
    let upstream = Upstream::echo();
    let transcoder = builder(&upstream).gate(gate.clone()).build().unwrap();
    let got = exchange(&transcoder, post(GET, "application/grpc", framed(&[0; 4]))).await;
    assert_eq!(got.trailer("grpc-status"), "0");
    // The prefix alone shows it: what it announces need not come.
    for body in [framed(&[0; 5]), Bytes::from_static(&[0, 0xff, 0xff, 0xff, 0xff])] {
        let got = exchange(&transcoder, post(GET, "application/grpc", body)).await;
        assert_eq!((got.status.as_u16(), got.header("grpc-status")), (200, "8"), "{got:?}");
        assert_eq!(got.header("grpc-message"), "a message of the request is larger than 4 bytes");
        assert_eq!(reasons(got.header("grpc-status-details-bin")), ["BODY_TOO_LARGE"]);
    }
    assert_eq!(gate.outcomes().last().unwrap(), "zoo.v1.Zoo/GetAnimal ResourceExhausted 200 -");
}

#[tokio::test]
async fn the_limit_holds_for_each_message_of_a_stream_and_not_for_all_together() {
    let gate = Recorder::new(Admission { max_body_bytes: 4, ..Admission::default() });
    let upstream = tower::service_fn(async |request: Request<tonic::body::Body>| {
        let read = request.into_body().collect().await;
        Ok::<_, Infallible>(match read {
            Ok(_) => reply(framed(&[])),
            Err(_) => refusal(&[("grpc-status", "13")]),
        })
    });
    let transcoder =
        Transcoder::builder(&DESCRIPTOR_SET).upstream("zoo.v1.Zoo", upstream).gate(gate).build().unwrap();
    let feed = |sizes: &[usize]| {
        let body: Vec<u8> = sizes.iter().flat_map(|size| framed(&vec![7; *size])).collect();
        // In pieces that never meet the frames.
        let pieces: Vec<_> = body
            .chunks(7)
            .map(|piece| Ok::<_, Infallible>(Frame::data(Bytes::copy_from_slice(piece))))
            .collect();
        post("/zoo.v1.Zoo/Feed", "application/grpc", "")
            .map(|_| StreamBody::new(futures::stream::iter(pieces)))
    };
    let got = exchange_body(&transcoder, feed(&[4, 0, 4, 3, 1, 4])).await;
    assert_eq!(got.trailer("grpc-status"), "0");
    let got = exchange_body(&transcoder, feed(&[4, 0, 4, 3, 5, 4])).await;
    assert_eq!(got.header("grpc-status"), "8");
}

#[tokio::test]
async fn a_malformed_request_of_grpc_is_refused() {
    let upstream = tower::service_fn(async |request: Request<tonic::body::Body>| {
        let _unread = request.into_body().collect().await;
        Ok::<_, Infallible>(reply(framed(&[])))
    });
    let transcoder = Transcoder::builder(&DESCRIPTOR_SET).upstream("zoo.v1.Zoo", upstream).build().unwrap();
    let two = [framed(&[]), framed(&[])].concat();
    for (body, code, reason) in [
        (Bytes::from_static(&[0, 0, 0]), "3", "BODY_UNREADABLE"),
        (Bytes::from_static(&[0, 0, 0, 0, 2, 1]), "3", "BODY_UNREADABLE"),
        (Bytes::from_static(&[2, 0, 0, 0, 0]), "3", "REQUEST_INVALID"),
        (Bytes::from_static(&[0x80, 0, 0, 0, 0]), "3", "REQUEST_INVALID"),
        (Bytes::from(two), "12", "NOT_ONE_MESSAGE"),
    ] {
        let got = exchange(&transcoder, post(GET, "application/grpc", body.clone())).await;
        assert_eq!(got.header("grpc-status"), code, "{body:?}");
        assert_eq!(reasons(got.header("grpc-status-details-bin")), [reason], "{body:?}");
    }
    let mut bad_timeout = post(GET, "application/grpc", framed(&[]));
    bad_timeout.headers_mut().insert("grpc-timeout", HeaderValue::from_static("soon"));
    let got = exchange(&transcoder, bad_timeout).await;
    assert_eq!(
        (got.header("grpc-status"), reasons(got.header("grpc-status-details-bin"))),
        ("3", vec!["REQUEST_INVALID".to_owned()])
    );
}

#[tokio::test(start_paused = true)]
async fn grpc_timeouts_and_the_methods_ceiling_end_in_deadline_exceeded() {
    for (timeout, expected) in [(None, "250000u"), (Some("100m"), "100000u"), (Some("9S"), "250000u")] {
        let gate =
            Recorder::new(Admission { timeout: Some(Duration::from_millis(250)), ..Admission::default() });
        let silent = Upstream::new(|_| answer(futures::stream::pending()));
        let transcoder = builder(&silent).gate(gate).build().unwrap();
        let mut request = post(GET, "application/grpc", framed(&[]));
        if let Some(timeout) = timeout {
            request.headers_mut().insert("grpc-timeout", HeaderValue::from_static(timeout));
        }
        let got = exchange(&transcoder, request).await;
        assert_eq!((got.status.as_u16(), got.trailer("grpc-status")), (200, "4"));
        assert_eq!(reasons(got.trailer("grpc-status-details-bin")), ["DEADLINE_EXCEEDED"]);
        assert_eq!(silent.last().headers["grpc-timeout"], expected);
    }
}

#[tokio::test]
async fn an_upstream_that_never_pauses_does_not_outlive_the_deadline() {
    let gate = Recorder::new(Admission { timeout: Some(Duration::from_millis(30)), ..Admission::default() });
    let endless = Upstream::new(|_| answer(futures::stream::repeat_with(|| Ok(Frame::data(framed(&[]))))));
    let transcoder = builder(&endless).gate(gate).build().unwrap();
    let got = exchange(&transcoder, post(WATCH, "application/grpc", framed(&[]))).await;
    assert_eq!(got.trailer("grpc-status"), "4");
}

#[tokio::test]
async fn an_upstream_that_breaks_off_gives_a_status_all_the_same() {
    for (frames, code) in [
        (vec![Ok(Frame::data(framed(&[])))], "13"),
        (vec![Ok(Frame::data(framed(&[]))), Err(Status::unknown("10.0.0.1 reset"))], "14"),
        (vec![Ok(Frame::trailers(trailers(&[("x-a", "b")])))], "13"),
    ] {
        let frames = std::sync::Mutex::new(Some(frames));
        let upstream =
            Upstream::new(move |_| answer(futures::stream::iter(frames.lock().unwrap().take().unwrap())));
        let got =
            exchange(&builder(&upstream).build().unwrap(), post(WATCH, "application/grpc", framed(&[])))
                .await;
        assert_eq!(got.trailer("grpc-status"), code);
        assert!(!format!("{got:?}").contains("10.0.0.1"), "what the upstream's connection says stays here");
    }
    let upstream = tower::service_fn(async |_: Request<tonic::body::Body>| {
        let page = Response::builder().status(500).header("content-type", "text/html");
        Ok::<_, Infallible>(page.body(Full::new(Bytes::from("<html>"))).unwrap())
    });
    let transcoder = Transcoder::builder(&DESCRIPTOR_SET).upstream("zoo.v1.Zoo", upstream).build().unwrap();
    let got = exchange(&transcoder, post(WATCH, "application/grpc", framed(&[]))).await;
    assert_eq!((got.header("grpc-status"), &*got.body), ("13", &b""[..]));
}

#[tokio::test]
async fn grpc_over_http_1_and_by_other_http_methods_is_refused_by_http() {
    let upstream = Upstream::echo();
    let transcoder = builder(&upstream).build().unwrap();
    let mut old = post(GET, "application/grpc", framed(&[]));
    *old.version_mut() = Version::HTTP_11;
    let got = exchange(&transcoder, old).await;
    assert_eq!(got.status, 505);
    assert_eq!(got.json()["details"][0]["reason"], "HTTP2_REQUIRED");
    for method in ["GET", "PUT", "HEAD", "DELETE"] {
        let mut wrong = post(GET, "application/grpc", framed(&[]));
        *wrong.method_mut() = method.parse().unwrap();
        let got = exchange(&transcoder, wrong).await;
        assert_eq!((got.status.as_u16(), got.header("allow")), (405, "GET, OPTIONS, POST"), "{method}");
    }
}

#[tokio::test]
async fn media_types_that_no_protocol_has_are_415_and_name_those_that_there_are() {
    let upstream = Upstream::echo();
    let transcoder = builder(&upstream).build().unwrap();
    for content_type in [
        "application/grpc+json",
        "application/grpc-foo",
        "application/connect+xml",
        "text/plain",
        "application/xml",
        "application/grpcx",
    ] {
        let got = exchange(&transcoder, post(GET, content_type, framed(&[]))).await;
        assert_eq!(got.status, 415, "{content_type}");
        assert!(got.header("accept-post").contains("application/grpc-web-text"), "{content_type}");
        assert_eq!(got.json()["details"][0]["reason"], "UNSUPPORTED_MEDIA_TYPE");
    }
    // Connect calls a stream by other types than a unary method.
    for (path, content_type) in [
        (GET, "application/connect+json"),
        (WATCH, "application/json"),
        (WATCH, "application/proto"),
        (CHAT, "application/json"),
    ] {
        assert_eq!(
            exchange(&transcoder, post(path, content_type, "{}")).await.status,
            415,
            "{path} {content_type}"
        );
    }
}

#[tokio::test]
async fn what_the_host_sets_in_the_message_is_set_in_every_protocol() {
    let fields = vec![("name".to_owned(), "of-the-host".to_owned())];
    let gate = Recorder::new(Admission { fields, ..Admission::default() });
    let upstream = Upstream::echo();
    let transcoder = builder(&upstream).gate(gate).build().unwrap();
    let wire = frame("GetAnimalRequest", r#"{"legs": 4}"#);
    let expected = json!({"name": "of-the-host", "legs": 4});
    for (content_type, body) in [
        ("application/grpc", wire.clone()),
        ("application/grpc-web", wire.clone()),
        ("application/proto", wire.slice(5..)),
        ("application/json", Bytes::from(r#"{"legs": 4}"#)),
    ] {
        let got = exchange(&transcoder, post(GET, content_type, body)).await;
        assert_eq!(got.status, 200, "{content_type}");
        assert_eq!(upstream.last().json("GetAnimalRequest"), expected, "{content_type}");
    }
    let got = exchange(&transcoder, post(WATCH, "application/connect+proto", wire)).await;
    assert_eq!(got.end(), json!({}));
    assert_eq!(upstream.last().json("GetAnimalRequest"), expected);
    let other = frame("GetAnimalRequest", r#"{"name": "of-the-client"}"#);
    let got = exchange(&transcoder, post(GET, "application/grpc", other)).await;
    assert_eq!(got.header("grpc-status"), "3");
}

#[tokio::test(start_paused = true)]
async fn an_upstream_that_cancels_for_the_deadline_has_exceeded_it() {
    let upstream = tower::service_fn(async |_: Request<tonic::body::Body>| {
        // What a server of tonic answers when `grpc-timeout` is over.
        clock_passes(Duration::from_millis(100)).await;
        Ok::<_, Infallible>(refusal(&[("grpc-status", "1")]))
    });
    let transcoder = Transcoder::builder(&DESCRIPTOR_SET).upstream("zoo.v1.Zoo", upstream).build().unwrap();
    for (timeout, grpc, connect) in [("100", "4", 504), ("5000", "1", 499)] {
        let mut request = post(GET, "application/grpc", framed(&[]));
        request.headers_mut().insert("grpc-timeout", format!("{timeout}m").parse().unwrap());
        assert_eq!(exchange(&transcoder, request).await.header("grpc-status"), grpc);
        let mut request = post(GET, "application/json", "{}");
        request.headers_mut().insert("connect-timeout-ms", timeout.parse().unwrap());
        assert_eq!(exchange(&transcoder, request).await.status, connect);
    }
}

#[tokio::test]
async fn a_connection_of_http_1_is_closed_when_the_rest_of_a_request_is_not_read() {
    let gate = Recorder::new(Admission { max_body_bytes: 4, ..Admission::default() });
    let transcoder = builder(&Upstream::echo()).gate(gate).build().unwrap();
    for (version, expected) in [(Version::HTTP_11, "close"), (Version::HTTP_2, "")] {
        for content_type in ["application/json", "application/grpc-web"] {
            let mut request = post(GET, content_type, framed(&[0; 5]));
            *request.version_mut() = version;
            let got = exchange(&transcoder, request).await;
            assert_eq!(got.header("connection"), expected, "{content_type}");
        }
    }
}

#[tokio::test]
async fn the_gate_is_asked_about_the_message_in_every_protocol() {
    let upstream = Upstream::echo();
    let transcoder = builder(&upstream).gate(Inspector { inspect_message: true }).build().unwrap();
    let json = |legs: u32| Bytes::from(format!("{{\"legs\":{legs}}}"));
    // Two bytes of protobuf pass the gate, three do not.
    let (short, long) = (framed(&[16, 4]), framed(&[16, 0x80, 1]));
    let zip = |frame: &Bytes| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(&frame[5..]).unwrap();
        let mut frame = framed(&encoder.finish().unwrap()).to_vec();
        frame[0] = 1;
        Bytes::from(frame)
    };
    let mut passed = 0;
    for (content_type, path, good, bad) in [
        ("application/grpc", GET, short.clone(), long.clone()),
        ("application/grpc", GET, zip(&short), zip(&long)),
        ("application/grpc-web", GET, short.clone(), long.clone()),
        ("application/proto", GET, short.slice(5..), long.slice(5..)),
        ("application/json", GET, json(4), json(128)),
        ("application/connect+proto", WATCH, short.clone(), long.clone()),
        ("application/connect+json", WATCH, framed(&json(4)), framed(&json(128))),
    ] {
        let request = |body: &Bytes| {
            let mut request = post(path, content_type, body.clone());
            if content_type == "application/grpc" && body[0] == 1 {
                request.headers_mut().insert("grpc-encoding", HeaderValue::from_static("gzip"));
            }
            request
        };
        exchange(&transcoder, request(&good)).await;
        passed += 1;
        assert_eq!(upstream.seen().len(), passed, "{content_type}");
        assert_eq!(&*upstream.last().message, [16, 4], "{content_type}");
        let got = exchange(&transcoder, request(&bad)).await;
        assert_eq!(upstream.seen().len(), passed, "{content_type}: {got:?}");
    }
    let mut unknown = post(GET, "application/grpc", zip(&short));
    unknown.headers_mut().insert("grpc-encoding", HeaderValue::from_static("snappy"));
    let got = exchange(&transcoder, unknown).await;
    assert_eq!(reasons(got.header("grpc-status-details-bin")), ["COMPRESSION_UNSUPPORTED"]);
}
