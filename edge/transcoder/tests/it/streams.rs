//! Server streams and raw bodies.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use http::HeaderValue;
use http_body::{Body as _, Frame};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tower::ServiceExt as _;
use transcoder::Transcoder;

use crate::gate::Recorder;
use crate::harness::{
    Answer, Got, Upstream, answer, builder, deadline_exceeded, frame, framed, refusal, replies, request,
    send, upstream_invalid, upstream_unavailable,
};

fn animal(legs: i32) -> Bytes {
    frame("GetAnimalRequest", &json!({"name": "a", "legs": legs}).to_string())
}

const OK: &[(&str, &str)] = &[("grpc-status", "0")];
const LOST: &[(&str, &str)] = &[("grpc-status", "10"), ("grpc-message", "lost")];

async fn watched(accept: &str, respond: impl Fn() -> Answer + Send + Sync + 'static) -> Got {
    let upstream = Upstream::new(move |_| respond());
    let transcoder = builder(&upstream).build().unwrap();
    let mut request = request("GET", "/v1/watch/x", "");
    if !accept.is_empty() {
        request.headers_mut().insert("accept", HeaderValue::from_str(accept).unwrap());
    }
    send(&transcoder, request).await
}

#[tokio::test]
async fn a_stream_is_ndjson_by_default() {
    for accept in ["", "*/*", "application/x-ndjson", "application/*"] {
        let got = watched(accept, || replies([animal(1), animal(2)], OK)).await;
        assert_eq!(got.header("content-type"), "application/x-ndjson", "{accept}");
        assert_eq!(got.text, "{\"name\":\"a\",\"legs\":1}\n{\"name\":\"a\",\"legs\":2}\n");
        assert!(!got.broken);
        assert_eq!(got.header("content-length"), "");
    }
}

#[tokio::test]
async fn a_stream_is_a_json_array_when_asked_for() {
    let got = watched("application/json", || replies([animal(1), animal(2)], OK)).await;
    assert_eq!(got.header("content-type"), "application/json");
    assert_eq!(got.json(), json!([{"name": "a", "legs": 1}, {"name": "a", "legs": 2}]));
    assert_eq!(watched("application/json", || replies([], OK)).await.text, "[]");
}

#[tokio::test]
async fn a_stream_is_events_when_asked_for() {
    let got = watched("text/event-stream", || replies([animal(1), animal(2)], OK)).await;
    assert_eq!(got.header("content-type"), "text/event-stream");
    assert_eq!(
        got.text,
        "id: 1\ndata: {\"name\":\"a\",\"legs\":1}\n\nid: 2\ndata: {\"name\":\"a\",\"legs\":2}\n\nevent: end\ndata: {}\n\n"
    );
}

#[tokio::test]
async fn a_stream_of_events_says_when_it_has_ended_so_that_nobody_comes_back_for_more() {
    let end = "event: end\ndata: {}\n\n";
    let got = watched("text/event-stream", || replies([], OK)).await;
    assert_eq!((got.text.as_str(), got.broken), (end, false));
    let trailers_only = watched("text/event-stream", || refusal(OK)).await;
    assert_eq!((trailers_only.text.as_str(), trailers_only.broken), (end, false));
    let got = watched("text/event-stream", || replies([animal(1)], OK)).await;
    assert_eq!((got.text.matches(end).count(), got.text.ends_with(end), got.broken), (1, true, false));
    // Not when it was broken off: then the client is to come back.
    let got = watched("text/event-stream", || replies([animal(1)], LOST)).await;
    assert!(!got.text.contains("event: end") && got.broken, "{}", got.text);
}

#[tokio::test]
async fn what_depends_on_accept_varies_by_it() {
    for accept in ["", "application/json", "text/event-stream"] {
        for status in [OK, LOST] {
            let got = watched(accept, move || replies([], status)).await;
            let vary: Vec<_> = got.headers.get_all("vary").iter().collect();
            assert_eq!(
                vary.iter().filter(|value| **value == "accept").count(),
                1,
                "{accept} {status:?}: {vary:?}"
            );
        }
    }
    let transcoder = builder(&Upstream::echo()).build().unwrap();
    for (uri, varies) in [("/v1/nothing", true), ("/v1/search?nope=1", true), ("/v1/one/leo", false)] {
        let got = send(&transcoder, request("GET", uri, "")).await;
        assert_eq!(got.headers.get_all("vary").iter().any(|value| value == "accept"), varies, "{uri}");
    }
}

#[tokio::test]
async fn the_framing_follows_the_weights_of_accept() {
    let got = watched("application/json;q=0.5, text/event-stream;q=0.9", || replies([], OK)).await;
    assert_eq!(got.header("content-type"), "text/event-stream");
    assert_eq!(watched("text/html", || replies([], OK)).await.status, 406);
}

#[tokio::test]
async fn an_error_before_the_first_message_is_an_ordinary_error() {
    for accept in ["", "application/json", "text/event-stream"] {
        let got = watched(accept, || refusal(LOST)).await;
        assert_eq!((got.status.as_u16(), got.header("content-type")), (409, "application/json"));
        assert!(!got.broken);
    }
    assert_eq!(watched("", || replies([framed(&[0xff])], OK)).await.status, 502);
}

#[tokio::test]
async fn an_error_after_the_first_message_is_in_band_and_breaks_the_body() {
    let error = r#"{"code":10,"message":"lost","details":[]}"#;
    let got = watched("", || replies([animal(1)], LOST)).await;
    assert_eq!(got.text, format!("{{\"name\":\"a\",\"legs\":1}}\n{{\"error\":{error}}}\n"));
    assert!(got.broken);
    let got = watched("application/json", || replies([animal(1)], LOST)).await;
    assert_eq!(got.text, format!("[{{\"name\":\"a\",\"legs\":1}},{{\"error\":{error}}}"));
    assert!(got.broken);
    let got = watched("text/event-stream", || replies([animal(1)], LOST)).await;
    assert_eq!(
        got.text,
        format!("id: 1\ndata: {{\"name\":\"a\",\"legs\":1}}\n\nevent: error\ndata: {error}\n\n")
    );
    assert!(got.broken);
}

/// The error that the last line of NDJSON tells of.
fn error_line(got: &Got) -> Value {
    let line = got.text.strip_suffix('\n').and_then(|text| text.lines().last()).unwrap_or_default();
    let value: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {}", got.text));
    value["error"].clone()
}

#[tokio::test]
async fn a_stream_that_stops_without_a_status_is_broken_off() {
    let got = watched("", || answer(futures::stream::iter([Ok(Frame::data(animal(1)))]))).await;
    assert!(got.broken);
    assert_eq!(error_line(&got), upstream_invalid());
    let got = watched("", || {
        let reset = tonic::Status::unavailable("connection to 10.1.2.3 lost");
        answer(futures::stream::iter([Ok(Frame::data(animal(1))), Err(reset)]))
    })
    .await;
    assert!(got.broken);
    assert_eq!(error_line(&got), upstream_unavailable());
}

#[tokio::test]
async fn a_malformed_message_in_a_stream_breaks_it_off() {
    let got = watched("application/json", || replies([animal(1), framed(&[0xff]), animal(2)], OK)).await;
    assert!(got.broken);
    // The closing bracket is missing, and nothing else.
    let array: Value = serde_json::from_str(&format!("{}]", got.text)).unwrap();
    assert_eq!(array, json!([{"name": "a", "legs": 1}, {"error": upstream_invalid()}]));
}

#[tokio::test(start_paused = true)]
async fn the_deadline_bounds_the_whole_stream() {
    let upstream = Upstream::new(|_| {
        let first = futures::stream::iter([Ok(Frame::data(animal(1)))]);
        answer(first.chain(futures::stream::pending()))
    });
    let transcoder = builder(&upstream).build().unwrap();
    let mut request = request("GET", "/v1/watch/x", "");
    request.headers_mut().insert("grpc-timeout", HeaderValue::from_static("5S"));
    let begun = tokio::time::Instant::now();
    let got = send(&transcoder, request).await;
    assert_eq!(begun.elapsed().as_secs(), Duration::from_secs(5).as_secs());
    assert!(got.broken);
    assert_eq!(error_line(&got), deadline_exceeded());
}

async fn first_frame(transcoder: &Transcoder) -> (Bytes, transcoder::Body) {
    let response = transcoder.clone().oneshot(request("GET", "/v1/watch/x", "")).await.unwrap();
    let mut body = response.into_body();
    let data = body.frame().await.unwrap().unwrap().into_data().unwrap();
    (data, body)
}

#[tokio::test(start_paused = true)]
async fn an_error_in_band_can_be_written_before_the_body_breaks_however_late_the_task_is() {
    let transcoder = builder(&Upstream::new(|_| replies([animal(1)], LOST))).build().unwrap();
    let (mut text, mut body) = first_frame(&transcoder).await;
    while !text.ends_with(b"[]}}\n") {
        text = body.frame().await.unwrap().unwrap().into_data().unwrap();
    }
    tokio::time::advance(Duration::from_secs(1)).await;
    // A server writes what it has when a body has nothing more for it, and drops it when the body fails.
    assert!(futures::poll!(body.frame()).is_pending());
    assert!(body.frame().await.unwrap().is_err());
}

#[tokio::test(start_paused = true)]
async fn a_silent_stream_of_events_has_a_comment_every_15_seconds() {
    let upstream = Upstream::new(|_| {
        let first = futures::stream::iter([Ok(Frame::data(animal(1)))]);
        answer(first.chain(futures::stream::pending()))
    });
    let transcoder = builder(&upstream).build().unwrap();
    let mut request = request("GET", "/v1/watch/x", "");
    request.headers_mut().insert("accept", HeaderValue::from_static("text/event-stream"));
    let mut body = transcoder.oneshot(request).await.unwrap().into_body();
    body.frame().await.unwrap().unwrap();
    let begun = tokio::time::Instant::now();
    for beat in 1..=3 {
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), ":\n\n");
        assert_eq!(begun.elapsed().as_secs(), 15 * beat);
    }
}

/// Counts itself out when dropped.
struct Alive(Arc<AtomicUsize>);

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[tokio::test]
async fn a_client_that_goes_away_cancels_the_upstream_call() {
    let dropped = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&dropped);
    let upstream = Upstream::new(move |_| {
        let alive = Alive(Arc::clone(&counter));
        let first = futures::stream::iter([Ok(Frame::data(animal(1)))]);
        answer(first.chain(futures::stream::poll_fn(move |_| {
            let _held = &alive;
            std::task::Poll::Pending
        })))
    });
    let gate = Recorder::default();
    let transcoder = builder(&upstream).gate(gate.clone()).build().unwrap();
    let (_, body) = first_frame(&transcoder).await;
    assert_eq!(dropped.load(Ordering::SeqCst), 0);
    drop(body);
    assert_eq!(dropped.load(Ordering::SeqCst), 1);
    assert_eq!(gate.outcomes(), ["zoo.v1.Zoo/Watch Cancelled 200 -"]);
}

#[tokio::test]
async fn the_upstream_is_read_only_as_fast_as_the_client_reads() {
    let sent = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&sent);
    let upstream = Upstream::new(move |_| {
        let counter = Arc::clone(&counter);
        answer(futures::stream::repeat_with(move || {
            counter.fetch_add(1, Ordering::SeqCst);
            Ok(Frame::data(animal(1)))
        }))
    });
    let transcoder = builder(&upstream).build().unwrap();
    let (_, mut body) = first_frame(&transcoder).await;
    assert!(sent.load(Ordering::SeqCst) <= 2, "{}", sent.load(Ordering::SeqCst));
    for _ in 0..3 {
        poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await.unwrap().unwrap();
    }
    assert!(sent.load(Ordering::SeqCst) <= 5, "{}", sent.load(Ordering::SeqCst));
}

#[tokio::test]
async fn messages_that_come_in_one_frame_are_printed_in_one_chunk() {
    let upstream = Upstream::new(|_| {
        let both = [animal(1), animal(2), animal(3)].concat();
        replies([Bytes::from(both)], OK)
    });
    let transcoder = builder(&upstream).build().unwrap();
    let (first, mut body) = first_frame(&transcoder).await;
    assert_eq!(first, "{\"name\":\"a\",\"legs\":1}\n");
    let rest = body.frame().await.unwrap().unwrap().into_data().unwrap();
    assert_eq!(rest, "{\"name\":\"a\",\"legs\":2}\n{\"name\":\"a\",\"legs\":3}\n");
}

fn http_body(content_type: &str, data: &[u8]) -> Bytes {
    let mut message = vec![10, u8::try_from(content_type.len()).unwrap()];
    message.extend_from_slice(content_type.as_bytes());
    message.extend_from_slice(&[18, u8::try_from(data.len()).unwrap()]);
    message.extend_from_slice(data);
    framed(&message)
}

#[tokio::test]
async fn an_http_body_goes_out_as_it_is() {
    let upstream = Upstream::new(|_| replies([http_body("text/csv; charset=utf-8", b"a,b\n")], OK));
    let transcoder = builder(&upstream).build().unwrap();
    let mut request = request("GET", "/v1/download/x", "");
    request.headers_mut().insert("accept", HeaderValue::from_static("text/csv"));
    let got = send(&transcoder, request).await;
    assert_eq!(
        (got.status.as_u16(), got.header("content-type"), got.text.as_str()),
        (200, "text/csv; charset=utf-8", "a,b\n")
    );
    assert_eq!(got.header("content-length"), "4");
}

#[tokio::test]
async fn the_content_type_of_an_http_body_must_be_a_media_type() {
    for content_type in ["text/html\r\nx-evil: 1", "text", "/", "a b/c", "text/html;\u{1}", "téxt/html"] {
        let upstream = Upstream::new(move |_| replies([http_body(content_type, b"x")], OK));
        let transcoder = builder(&upstream).build().unwrap();
        assert_eq!(
            send(&transcoder, request("GET", "/v1/download/x", "")).await.status,
            502,
            "{content_type:?}"
        );
    }
}

#[tokio::test]
async fn a_stream_of_http_bodies_is_one_body() {
    let upstream = Upstream::new(|_| replies([http_body("image/png", b"ab"), http_body("", b"cd")], OK));
    let transcoder = builder(&upstream).build().unwrap();
    let got = send(&transcoder, request("GET", "/v1/download-stream/x", "")).await;
    assert_eq!((got.header("content-type"), got.text.as_str(), got.broken), ("image/png", "abcd", false));
    let upstream = Upstream::new(|_| replies([http_body("image/png", b"ab")], LOST));
    let transcoder = builder(&upstream).build().unwrap();
    let got = send(&transcoder, request("GET", "/v1/download-stream/x", "")).await;
    assert_eq!((got.text.as_str(), got.broken), ("ab", true));
}

#[tokio::test]
async fn an_http_body_that_is_the_response_body_goes_out_as_it_is() {
    let file = |content_type: &str, data: &[u8]| {
        let body = http_body(content_type, data).slice(5..);
        let mut message = vec![18, u8::try_from(body.len()).unwrap()];
        message.extend_from_slice(&body);
        framed(&message)
    };
    // Two occurrences of a message are one message.
    let scattered = framed(&[&file("text/csv", b"a")[5..], &file("", b"b,c")[5..]].concat());
    for (uri, messages, content_type, data) in [
        ("/v1/uploads/x:file", vec![file("text/csv", b"a,b")], "text/csv", "a,b"),
        ("/v1/uploads/x:file", vec![framed(&[10, 1, b'x'])], "application/octet-stream", ""),
        ("/v1/uploads/x:file", vec![scattered], "text/csv", "b,c"),
        ("/v1/uploads/x:watch", vec![file("text/csv", b"a"), file("", b"b")], "text/csv", "ab"),
    ] {
        let upstream = Upstream::new(move |_| replies(messages.clone(), OK));
        let transcoder = builder(&upstream).build().unwrap();
        let got = send(&transcoder, request("GET", uri, "")).await;
        assert_eq!((got.header("content-type"), got.text.as_str()), (content_type, data), "{uri}");
    }
}

#[tokio::test]
async fn response_body_is_one_field_of_each_message_of_a_stream() {
    for (accept, expected) in [
        ("application/x-ndjson", "\"a\"\n\"\"\n"),
        ("application/json", "[\"a\",\"\"]"),
        ("text/event-stream", "id: 1\ndata: \"a\"\n\nid: 2\ndata: \"\"\n\nevent: end\ndata: {}\n\n"),
    ] {
        let upstream = Upstream::new(|_| replies([framed(&[10, 1, b'a']), framed(&[])], OK));
        let transcoder = builder(&upstream).build().unwrap();
        let mut request = request("GET", "/v1/uploads/x:names", "");
        request.headers_mut().insert("accept", HeaderValue::from_str(accept).unwrap());
        assert_eq!(send(&transcoder, request).await.text, expected, "{accept}");
    }
}

#[tokio::test]
async fn only_the_first_http_body_of_a_stream_says_the_type_but_each_must_be_valid() {
    let upstream =
        Upstream::new(|_| replies([http_body("text/csv", b"a"), http_body("text/html", b"b")], OK));
    let transcoder = builder(&upstream).build().unwrap();
    let got = send(&transcoder, request("GET", "/v1/download-stream/x", "")).await;
    assert_eq!((got.header("content-type"), got.text.as_str(), got.broken), ("text/csv", "ab", false));
    for malformed in [http_body("no type", b"b"), framed(&[18, 9, b'x'])] {
        let upstream = Upstream::new(move |_| replies([http_body("text/csv", b"a"), malformed.clone()], OK));
        let transcoder = builder(&upstream).build().unwrap();
        let got = send(&transcoder, request("GET", "/v1/download-stream/x", "")).await;
        assert_eq!((got.text.as_str(), got.broken), ("a", true));
    }
}

#[tokio::test]
async fn an_http_body_comes_in_as_it_is() {
    let upstream = Upstream::echo();
    let transcoder = builder(&upstream).build().unwrap();
    let mut request = request("POST", "/v1/upload/x", "a,b");
    request.headers_mut().insert("content-type", HeaderValue::from_static("text/csv"));
    assert_eq!(send(&transcoder, request).await.status, 200);
    let seen = upstream.last().json("UploadRequest");
    assert_eq!(seen, json!({"name": "x", "file": {"contentType": "text/csv", "data": "YSxi"}}));
}

async fn events(ids: &[&str]) -> (Got, Option<String>) {
    let upstream = Upstream::new(|_| replies([animal(1), animal(2)], OK));
    let transcoder = builder(&upstream).build().unwrap();
    let mut request = request("GET", "/v1/watch/x", "");
    request.headers_mut().insert("accept", HeaderValue::from_static("text/event-stream"));
    for id in ids {
        request.headers_mut().append("last-event-id", HeaderValue::from_bytes(id.as_bytes()).unwrap());
    }
    let got = send(&transcoder, request).await;
    let seen = upstream
        .seen()
        .pop()
        .map(|seen| seen.headers.get("last-event-id").map_or("", |value| value.to_str().unwrap()).to_owned());
    (got, seen)
}

#[tokio::test]
async fn last_event_id_is_passed_upstream_and_the_ids_go_on_from_a_number() {
    for (id, first) in [
        ("7", 8),
        ("9007199254740991", 9_007_199_254_740_992_u64),
        ("9007199254740992", 1),
        ("99999999999999999999999", 1),
        ("007", 1),
        ("-1", 1),
        ("page 2", 1),
    ] {
        let (got, seen) = events(&[id]).await;
        assert_eq!(seen.as_deref(), Some(id));
        let ids: Vec<_> = got.text.lines().filter_map(|line| line.strip_prefix("id: ")).collect();
        assert_eq!(ids, [first.to_string(), (first + 1).to_string()], "{id}");
    }
    let (got, seen) = events(&[""]).await;
    assert_eq!((seen.as_deref(), got.text.starts_with("id: 1\n")), (Some(""), true));
}

#[tokio::test]
async fn a_last_event_id_that_cannot_be_passed_on_is_400() {
    let long = "x".repeat(257);
    for ids in [&["1", "2"][..], &["caf\u{e9}"], &["a\tb"], &[long.as_str()]] {
        let (got, seen) = events(ids).await;
        assert!(got.violation().1.contains("`Last-Event-ID`"), "{ids:?}");
        assert_eq!(seen, None, "{ids:?}");
    }
    for control in ["1\r\nx-user: 1", "1\n", "1\0"] {
        assert!(HeaderValue::from_bytes(control.as_bytes()).is_err(), "no HTTP server lets it through");
    }
}

#[tokio::test]
async fn only_a_stream_of_events_has_a_last_event_id() {
    let upstream = Upstream::new(|_| replies([animal(1)], OK));
    let transcoder = builder(&upstream).build().unwrap();
    let mut request = request("GET", "/v1/watch/x", "");
    request.headers_mut().insert("last-event-id", HeaderValue::from_static("7"));
    assert_eq!(send(&transcoder, request).await.status, 200);
    assert!(!upstream.last().headers.contains_key("last-event-id"));
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_has_no_message_yet_has_its_head_and_its_heartbeats() {
    let upstream = Upstream::new(|_| {
        let mut answer = answer(futures::stream::pending());
        answer.headers_mut().insert("x-shown", HeaderValue::from_static("1"));
        answer
    });
    let transcoder = builder(&upstream).gate(Recorder::default()).build().unwrap();
    let mut request = request("GET", "/v1/watch/x", "");
    request.headers_mut().insert("accept", HeaderValue::from_static("text/event-stream"));
    let begun = tokio::time::Instant::now();
    let response = transcoder.oneshot(request).await.unwrap();
    assert_eq!(
        (response.status().as_u16(), &response.headers()["x-shown"]),
        (200, &HeaderValue::from_static("1"))
    );
    assert_eq!(begun.elapsed().as_secs(), 1);
    let mut body = response.into_body();
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), ":\n\n");
    assert_eq!(begun.elapsed().as_secs(), 16);
}

/// An answer with trailers: the headers, the body, the trailers.
async fn trailed(uri: &str, te: Option<&'static str>) -> (http::HeaderMap, Bytes, http::HeaderMap) {
    let upstream = Upstream::new(|_| {
        let mut answer =
            replies([animal(1)], &[("grpc-status", "0"), ("x-shown", "late"), ("x-internal", "1")]);
        answer.headers_mut().insert("x-internal", HeaderValue::from_static("1"));
        answer
    });
    let transcoder = builder(&upstream).gate(Recorder::default()).build().unwrap();
    let mut request = request("GET", uri, "");
    if let Some(te) = te {
        request.headers_mut().insert("te", HeaderValue::from_static(te));
    }
    let (head, body) = transcoder.oneshot(request).await.unwrap().into_parts();
    let body = body.collect().await.unwrap();
    let trailers = body.trailers().cloned().unwrap_or_default();
    (head.headers, body.to_bytes(), trailers)
}

#[tokio::test]
async fn trailers_of_the_upstream_are_http_trailers_when_te_says_so() {
    for uri in ["/v1/watch/x", "/v1/one/x"] {
        for te in ["trailers", "gzip;q=0.5, Trailers"] {
            let (headers, body, trailers) = trailed(uri, Some(te)).await;
            assert_eq!(trailers, crate::harness::trailers(&[("x-shown", "late")]), "{uri} {te}");
            assert!(
                !headers.contains_key("x-shown") && !headers.contains_key("content-length"),
                "{headers:?}"
            );
            assert!(body.starts_with(b"{\"name\":\"a\""), "{uri} {te}");
        }
        for te in [None, Some("gzip"), Some("")] {
            let (headers, _, trailers) = trailed(uri, te).await;
            assert!(trailers.is_empty(), "{uri} {te:?}");
            // Of a unary call, they are known before the head is sent.
            assert_eq!(headers.contains_key("x-shown"), uri == "/v1/one/x", "{uri} {te:?}");
        }
    }
    let (headers, _, _) = trailed("/v1/one/x", Some("trailers")).await;
    assert_eq!(headers["trailer"], "x-shown");
}
