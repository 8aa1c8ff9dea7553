//! Answers that end inside a message: nobody may take what follows for the rest of it, or the message for whole.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures::StreamExt as _;
use http::{HeaderMap, HeaderValue, Request};
use http_body::Frame;
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tonic::Status;
use tower::ServiceExt as _;
use transcoder::Transcoder;

use crate::gate::Recorder;
use crate::harness::{Upstream, answer, builder, frame, framed, trailers};
use crate::wire_client::{Raw, exchange, post};

const WATCH: &str = "/zoo.v1.Zoo/Watch";

/// How an upstream ends its answer.
#[derive(Clone, Copy, Debug)]
enum Ending {
    /// With this `grpc-status`.
    Status(&'static str),
    /// Its connection is lost.
    Lost,
    /// It ends as if it were whole, without trailers.
    Silent,
    /// It says no more until the deadline.
    Late,
    /// The next message begins as the end of an answer does in gRPC-Web, then in Connect.
    WebEnd,
    ConnectEnd,
}

const ENDINGS: [Ending; 7] = [
    Ending::Status("0"),
    Ending::Status("10"),
    Ending::Lost,
    Ending::Silent,
    Ending::Late,
    Ending::WebEnd,
    Ending::ConnectEnd,
];

/// One whole message and `rest`, byte by byte, then `ending`.
fn upstream(rest: &[u8], ending: Ending) -> Upstream {
    let mut bytes = frame("GetAnimalRequest", r#"{"legs": 4}"#).to_vec();
    bytes.extend_from_slice(rest);
    Upstream::new(move |_| {
        let pieces: Vec<_> =
            bytes.iter().map(|byte| Ok(Frame::data(Bytes::copy_from_slice(&[*byte])))).collect();
        let pieces = futures::stream::iter(pieces);
        let last = match ending {
            Ending::Status(code) => Ok(Frame::trailers(trailers(&[("grpc-status", code)]))),
            Ending::Lost => Err(Status::unavailable("connection to 10.0.0.1 lost")),
            Ending::Silent => return answer(pieces),
            Ending::Late => return answer(pieces.chain(futures::stream::pending())),
            Ending::WebEnd => Ok(Frame::data(Bytes::from_static(&[0x80, 0, 0, 0, 1, b'x']))),
            Ending::ConnectEnd => Ok(Frame::data(Bytes::from_static(&[2, 0, 0, 0, 2, b'{', b'}']))),
        };
        answer(pieces.chain(futures::stream::once(async { last })))
    })
}

fn transcoder(rest: &[u8], ending: Ending) -> (Transcoder, Recorder) {
    let gate = Recorder::default();
    (builder(&upstream(rest, ending)).gate(gate.clone()).build().unwrap(), gate)
}

fn watch(content_type: &str) -> Request<Full<Bytes>> {
    let body = match content_type {
        "application/connect+json" => framed(b"{}"),
        "application/grpc-web-text" => STANDARD.encode(framed(&[])).into(),
        _ => framed(&[]),
    };
    let mut request = post(WATCH, content_type, body);
    request.headers_mut().insert("grpc-timeout", HeaderValue::from_static("1S"));
    request.headers_mut().insert("connect-timeout-ms", HeaderValue::from_static("1000"));
    request
}

/// What has come, and whether the body ended with an error.
async fn read(transcoder: &Transcoder, content_type: &str) -> (Vec<u8>, bool) {
    let response = transcoder.clone().oneshot(watch(content_type)).await.unwrap();
    let (mut bytes, mut body) = (Vec::new(), response.into_body());
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) if content_type == "application/grpc-web-text" => {
                bytes.extend(STANDARD.decode(frame.into_data().unwrap()).unwrap());
            }
            Ok(frame) => bytes.extend_from_slice(&frame.into_data().unwrap()),
            Err(_) => return (bytes, true),
        }
    }
    (bytes, false)
}

/// As long as the prefix is not whole, and as long as the message is not.
const CUTS: [&[u8]; 4] = [&[0], &[0, 0, 0, 0], &[0, 0, 0, 0, 9], &[0, 0, 0, 0, 9, 16, 4]];

/// Those that are none between two messages are endings inside one.
fn cuts() -> impl Iterator<Item = (&'static [u8], Ending)> {
    let inside = |ending: &Ending| !matches!(ending, Ending::WebEnd | Ending::ConnectEnd);
    CUTS.into_iter().flat_map(move |cut| ENDINGS.into_iter().filter(inside).map(move |ending| (cut, ending)))
}

#[tokio::test(start_paused = true)]
async fn a_reply_that_is_cut_inside_a_message_breaks_the_body_of_grpc_web_off() {
    for content_type in ["application/grpc-web", "application/grpc-web-text"] {
        for (cut, ending) in cuts() {
            let (transcoder, gate) = transcoder(cut, ending);
            let (bytes, broken) = read(&transcoder, content_type).await;
            assert!(broken, "{content_type} {cut:?} {ending:?}");
            let whole = frame("GetAnimalRequest", r#"{"legs": 4}"#);
            assert_eq!(bytes, [&whole, cut].concat(), "{content_type} {cut:?} {ending:?}");
            let [outcome] = &*gate.outcomes() else { panic!("told once") };
            assert!(!outcome.contains(" Ok "), "{outcome}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_reply_that_is_cut_inside_a_message_breaks_a_binary_stream_of_connect_off() {
    for (cut, ending) in cuts() {
        let (transcoder, gate) = transcoder(cut, ending);
        let (bytes, broken) = read(&transcoder, "application/connect+proto").await;
        assert!(broken, "{cut:?} {ending:?}");
        assert_eq!(bytes, [&frame("GetAnimalRequest", r#"{"legs": 4}"#), cut].concat());
        let [outcome] = &*gate.outcomes() else { panic!("told once") };
        assert!(!outcome.contains(" Ok "), "{outcome}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_reply_that_is_cut_inside_a_message_is_an_error_of_a_json_stream_of_connect() {
    for (cut, ending) in cuts() {
        let (transcoder, gate) = transcoder(cut, ending);
        let got = exchange(&transcoder, watch("application/connect+json")).await;
        let frames = got.frames();
        assert_eq!((frames.len(), &*frames[0].1), (2, &br#"{"legs":4}"#[..]), "{cut:?} {ending:?}");
        let code = match ending {
            Ending::Status("10") => "aborted",
            Ending::Lost => "unavailable",
            Ending::Late => "deadline_exceeded",
            Ending::Status(_) | Ending::Silent | Ending::WebEnd | Ending::ConnectEnd => "internal",
        };
        let error = &got.end()["error"];
        assert_eq!(error["code"], code, "{cut:?} {ending:?}");
        if code == "internal" {
            assert_eq!(error["details"][0]["debug"]["reason"], "UPSTREAM_INVALID", "{cut:?} {ending:?}");
        }
        let [outcome] = &*gate.outcomes() else { panic!("told once") };
        assert!(!outcome.contains(" Ok "), "{outcome}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_reply_that_is_cut_inside_a_message_is_no_success_of_grpc() {
    for (cut, ending) in cuts() {
        let (transcoder, _) = transcoder(cut, ending);
        let got: Raw = exchange(&transcoder, watch("application/grpc")).await;
        let code = match ending {
            Ending::Status("10") => "10",
            Ending::Lost => "14",
            Ending::Late => "4",
            Ending::Status(_) | Ending::Silent | Ending::WebEnd | Ending::ConnectEnd => "13",
        };
        assert_eq!(got.trailer("grpc-status"), code, "{cut:?} {ending:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_reply_that_breaks_off_between_two_messages_ends_with_its_error_in_every_protocol() {
    for ending in ENDINGS {
        let (name, number) = match ending {
            Ending::Status("0") => continue,
            Ending::Status(_) => ("aborted", "grpc-status: 10"),
            Ending::Lost => ("unavailable", "grpc-status: 14"),
            Ending::Late => ("deadline_exceeded", "grpc-status: 4"),
            // What the upstream makes up does not pass for an end.
            Ending::Silent | Ending::WebEnd | Ending::ConnectEnd => ("internal", "grpc-status: 13"),
        };
        for content_type in ["application/connect+proto", "application/connect+json"] {
            let (transcoder, _) = transcoder(&[], ending);
            let got = exchange(&transcoder, watch(content_type)).await;
            assert_eq!(got.frames().len(), 2, "{content_type} {ending:?}");
            assert_eq!(got.end()["error"]["code"], json!(name), "{content_type} {ending:?}");
        }
        let (transcoder, _) = transcoder(&[], ending);
        let got = exchange(&transcoder, watch("application/grpc-web")).await;
        assert_eq!(got.frames().len(), 2, "{ending:?}");
        assert!(got.web_trailers().iter().any(|line| line == number), "{ending:?}");
    }
}

/// Nothing here should take longer.
const PATIENCE: Duration = Duration::from_secs(20);

async fn connect(transcoder: Transcoder) -> TcpStream {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(
        async move { axum::serve(listener, axum::Router::new().fallback_service(transcoder)).await },
    );
    TcpStream::connect(address).await.unwrap()
}

#[tokio::test]
async fn a_client_of_http_1_1_sees_a_cut_message_as_a_connection_that_ends_early() {
    for content_type in ["application/grpc-web", "application/connect+proto"] {
        let (transcoder, _) = transcoder(CUTS[3], Ending::Lost);
        let mut socket = connect(transcoder).await;
        let head = format!("POST {WATCH} HTTP/1.1\r\nhost: x\r\ncontent-type: {content_type}\r\n");
        socket.write_all(head.as_bytes()).await.unwrap();
        socket.write_all(b"content-length: 5\r\n\r\n\0\0\0\0\0").await.unwrap();
        let mut bytes = Vec::new();
        tokio::time::timeout(PATIENCE, socket.read_to_end(&mut bytes)).await.unwrap().unwrap();
        let text = String::from_utf8_lossy(&bytes);
        assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{text}");
        assert!(text.contains("transfer-encoding: chunked") && !text.ends_with("0\r\n\r\n"), "{text}");
        assert!(!text.contains("grpc-status") && !text.contains("error"), "{text}");
    }
}

#[tokio::test]
async fn a_client_of_http_2_sees_a_cut_message_as_a_reset() {
    for content_type in ["application/grpc-web", "application/connect+proto"] {
        let (transcoder, _) = transcoder(CUTS[3], Ending::Lost);
        let socket = TokioIo::new(connect(transcoder).await);
        let (mut client, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), socket).await.unwrap();
        tokio::spawn(connection);
        let mut request = watch(content_type);
        *request.uri_mut() = format!("http://zoo.example{WATCH}").parse().unwrap();
        let response = tokio::time::timeout(PATIENCE, client.send_request(request)).await.unwrap().unwrap();
        assert_eq!(response.status(), 200);
        let (mut bytes, mut body) = (Vec::new(), response.into_body());
        let reset = loop {
            match tokio::time::timeout(PATIENCE, body.frame()).await.unwrap().expect("no end") {
                Ok(frame) => bytes.extend_from_slice(&frame.into_data().unwrap()),
                Err(error) => break error,
            }
        };
        assert!(format!("{reset:?}").contains("Reset"), "{reset:?}");
        assert_eq!(bytes, [&frame("GetAnimalRequest", r#"{"legs": 4}"#), CUTS[3]].concat(), "whatever came");
    }
}

#[tokio::test]
async fn the_status_of_grpc_says_more_than_the_status_of_http() {
    for (http, grpc, rest, raw) in
        [(500, "5", 404, "5"), (404, "16", 401, "16"), (503, "0", 503, "14"), (400, "0", 502, "13")]
    {
        let upstream = Upstream::new(move |_| {
            let mut answer = answer(futures::stream::empty());
            *answer.status_mut() = http::StatusCode::from_u16(http).unwrap();
            let headers: HeaderMap = trailers(&[("grpc-status", grpc), ("content-type", "text/html")]);
            answer.headers_mut().extend(headers);
            answer
        });
        let transcoder = builder(&upstream).build().unwrap();
        let get = crate::harness::request("GET", "/v1/one/leo", "");
        assert_eq!(crate::harness::send(&transcoder, get).await.status, rest, "{http} {grpc}");
        for path in ["/zoo.v1.Zoo/GetAnimal", WATCH] {
            let got = exchange(&transcoder, post(path, "application/grpc", framed(&[]))).await;
            assert_eq!(got.header("grpc-status"), raw, "{path} {http} {grpc}");
        }
    }
}
