//! Streams in both directions over real sockets: HTTP/1.1 and HTTP/2 in front, a tonic channel behind.

use std::time::Duration;

use bytes::Bytes;
use futures::channel::{mpsc, oneshot};
use futures::{SinkExt as _, StreamExt as _};
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Incoming as AnswerBody;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tower::ServiceExt as _;
use transcoder::{Admission, Builder, Transcoder};

use crate::client_streams::{Server, echo_server, server};
use crate::gate::Recorder;
use crate::harness::{DESCRIPTOR_SET, answer, frame, replies};

/// Nothing here should take longer.
const PATIENCE: Duration = Duration::from_secs(20);

/// A transcoder in front of `upstream`, with a socket of its own in between.
async fn over_a_channel(upstream: Server) -> Builder {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let service = upstream.map_request(|request: axum::extract::Request| request.map(tonic::body::Body::new));
    tokio::spawn(async move { axum::serve(listener, axum::Router::new().fallback_service(service)).await });
    let channel = tonic::transport::Endpoint::new(format!("http://{address}")).unwrap().connect_lazy();
    Transcoder::builder(&DESCRIPTOR_SET).upstream("zoo.v1.Zoo", channel)
}

/// A socket to a server for `transcoder`.
async fn connect(transcoder: Transcoder) -> TcpStream {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(
        async move { axum::serve(listener, axum::Router::new().fallback_service(transcoder)).await },
    );
    TcpStream::connect(address).await.unwrap()
}

type Piece = Result<Frame<Bytes>, std::io::Error>;
type Pieces = StreamBody<mpsc::Receiver<Piece>>;

/// A request over HTTP/2 whose body is sent piece by piece.
async fn http2(
    transcoder: Transcoder,
    uri: &str,
    te: bool,
) -> (mpsc::Sender<Piece>, impl Future<Output = Response<AnswerBody>>) {
    let socket = TokioIo::new(connect(transcoder).await);
    let (mut client, connection) =
        hyper::client::conn::http2::handshake::<_, _, Pieces>(TokioExecutor::new(), socket).await.unwrap();
    tokio::spawn(connection);
    let (sender, receiver) = mpsc::channel(0);
    let mut request =
        Request::post(format!("http://zoo.example{uri}")).header("content-type", "application/x-ndjson");
    if te {
        request = request.header("te", "trailers");
    }
    let request = request.body(StreamBody::new(receiver)).unwrap();
    (sender, async move { client.send_request(request).await.unwrap() })
}

fn piece(text: &str) -> Frame<Bytes> {
    Frame::data(Bytes::from(text.to_owned()))
}

/// Sends the head of a chunked POST over HTTP/1.1.
async fn http1(transcoder: Transcoder, uri: &str, headers: &str) -> TcpStream {
    let mut socket = connect(transcoder).await;
    let head =
        format!("POST {uri} HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-ndjson\r\n{headers}\r\n");
    socket.write_all(head.as_bytes()).await.unwrap();
    socket
}

fn chunk(text: &str) -> Vec<u8> {
    format!("{:x}\r\n{text}\r\n", text.len()).into_bytes()
}

/// Reads until `end` has come.
async fn read_to(socket: &mut TcpStream, end: &str) -> String {
    let mut answer = String::new();
    while !answer.contains(end) {
        let mut bytes = [0; 1024];
        let length = tokio::time::timeout(PATIENCE, socket.read(&mut bytes)).await.expect(&answer).unwrap();
        assert!(length > 0, "ended before {end:?}: {answer}");
        answer.push_str(str::from_utf8(&bytes[..length]).unwrap());
    }
    answer
}

async fn read_all(socket: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    tokio::time::timeout(PATIENCE, socket.read_to_end(&mut answer)).await.unwrap().unwrap();
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn a_bidirectional_stream_is_full_duplex_over_http_2() {
    let transcoder = over_a_channel(echo_server()).await.build().unwrap();
    let (mut sender, answering) = http2(transcoder, "/v1/chat", false).await;
    let (sent, response) = tokio::join!(sender.send(Ok(piece("{\"legs\":1}\n"))), answering);
    sent.unwrap();
    assert_eq!(response.status(), 200);
    let mut body = response.into_body();
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "{\"legs\":1}\n");
    sender.send(Ok(piece("{\"legs\":2}\n"))).await.unwrap();
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "{\"legs\":2}\n");
    sender.close_channel();
    assert!(body.collect().await.unwrap().to_bytes().is_empty());
}

#[tokio::test]
async fn a_bidirectional_stream_is_full_duplex_over_http_1_1() {
    let transcoder = over_a_channel(echo_server()).await.build().unwrap();
    let mut socket =
        http1(transcoder, "/v1/chat", "transfer-encoding: chunked\r\nconnection: close\r\n").await;
    socket.write_all(&chunk("{\"legs\":1}\n")).await.unwrap();
    let head = read_to(&mut socket, "{\"legs\":1}\n").await;
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    socket.write_all(&chunk("{\"legs\":2}\n")).await.unwrap();
    read_to(&mut socket, "{\"legs\":2}\n").await;
    socket.write_all(b"0\r\n\r\n").await.unwrap();
    let rest = read_all(&mut socket).await;
    assert!(rest.ends_with("0\r\n\r\n"), "{rest}");
}

#[tokio::test]
async fn a_fault_in_the_request_ends_the_call_over_http_2_and_is_the_answer() {
    let (told, ended) = oneshot::channel();
    let told = std::sync::Mutex::new(Some(told));
    let upstream = server(move |mut incoming| {
        let told = told.lock().unwrap().take();
        async move {
            let whole = incoming.all().await.is_ok();
            told.map(|told| told.send(whole));
            replies([], &[("grpc-status", "0")])
        }
    });
    let transcoder = over_a_channel(upstream).await.build().unwrap();
    let mut socket = http1(transcoder, "/v1/feed", "transfer-encoding: chunked\r\n").await;
    socket.write_all(&chunk("{}\n{\"legs\":\"x\"}\n")).await.unwrap();
    let answer = read_to(&mut socket, "[1].legs").await;
    assert!(answer.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{answer}");
    let whole = tokio::time::timeout(PATIENCE, ended).await.expect("the upstream still waits");
    // Dropped with the call, or told of the reset: in no case was the stream whole.
    assert_ne!(whole, Ok(true));
}

/// An upstream that answers one message and then waits; the channel is closed when its call is dropped.
fn waiting() -> (Server, oneshot::Receiver<()>) {
    let (held, dropped) = oneshot::channel::<()>();
    let held = std::sync::Mutex::new(Some(held));
    let upstream = server(move |mut incoming| {
        let held = held.lock().unwrap().take();
        async move {
            incoming.next().await.unwrap();
            let first = futures::stream::iter([Ok(Frame::data(frame("GetAnimalRequest", r#"{"legs":1}"#)))]);
            answer(first.chain(futures::stream::poll_fn(move |_| {
                let _held = (&held, &incoming);
                std::task::Poll::Pending
            })))
        }
    });
    (upstream, dropped)
}

#[tokio::test]
async fn a_client_that_goes_away_cancels_the_upstream_call_through_all_hops() {
    let (upstream, dropped) = waiting();
    let transcoder = over_a_channel(upstream).await.build().unwrap();
    let mut socket = http1(transcoder, "/v1/chat", "transfer-encoding: chunked\r\n").await;
    socket.write_all(&chunk("{}\n")).await.unwrap();
    read_to(&mut socket, "{\"legs\":1}\n").await;
    drop(socket);
    tokio::time::timeout(PATIENCE, dropped).await.expect("the call goes on").unwrap_err();

    let (upstream, dropped) = waiting();
    let transcoder = over_a_channel(upstream).await.build().unwrap();
    let (mut sender, answering) = http2(transcoder, "/v1/chat", false).await;
    let (sent, response) = tokio::join!(sender.send(Ok(piece("{}\n"))), answering);
    sent.unwrap();
    let mut body = response.into_body();
    body.frame().await.unwrap().unwrap();
    drop((body, sender));
    tokio::time::timeout(PATIENCE, dropped).await.expect("the call goes on").unwrap_err();
}

#[tokio::test]
async fn an_upstream_that_ends_early_is_the_answer_while_the_client_still_sends() {
    let upstream = server(|mut incoming| async move {
        incoming.next().await.unwrap();
        replies([], &[("grpc-status", "9"), ("grpc-message", "enough")])
    });
    let transcoder = over_a_channel(upstream).await.build().unwrap();
    let (mut sender, answering) = http2(transcoder, "/v1/feed", false).await;
    let (sent, response) = tokio::join!(sender.send(Ok(piece("{}\n"))), answering);
    sent.unwrap();
    assert_eq!(response.status(), 400);
    let body: Value =
        serde_json::from_slice(&response.into_body().collect().await.unwrap().to_bytes()).unwrap();
    assert_eq!(body["message"], "enough");
}

#[tokio::test]
async fn a_stream_that_fails_over_http_2_is_reset_after_its_error() {
    let upstream = server(|mut incoming| async move {
        incoming.next().await.unwrap();
        replies([frame("GetAnimalRequest", r#"{"legs":1}"#)], &[("grpc-status", "10")])
    });
    let transcoder = over_a_channel(upstream).await.build().unwrap();
    let (mut sender, answering) = http2(transcoder, "/v1/chat", false).await;
    let (sent, response) = tokio::join!(sender.send(Ok(piece("{}\n"))), answering);
    sent.unwrap();
    let mut body = response.into_body();
    let (mut text, mut reset) = (Vec::new(), false);
    while let Some(frame) = tokio::time::timeout(PATIENCE, body.frame()).await.unwrap() {
        let Ok(frame) = frame else {
            reset = true;
            break;
        };
        text.extend_from_slice(&frame.into_data().unwrap());
    }
    let text = String::from_utf8(text).unwrap();
    assert!(reset && text.starts_with("{\"legs\":1}\n{\"error\":{\"code\":10,"), "{reset} {text}");
}

#[tokio::test]
async fn trailers_reach_the_client_over_http_1_1_and_http_2() {
    let upstream = || {
        server(|mut incoming| async move {
            incoming.next().await.unwrap();
            replies([frame("GetAnimalRequest", r#"{"legs":1}"#)], &[("grpc-status", "0"), ("x-sum", "7")])
        })
    };
    let transcoder = over_a_channel(upstream()).await.response_metadata(["x-sum"]).build().unwrap();
    let (mut sender, answering) = http2(transcoder.clone(), "/v1/chat", true).await;
    let (sent, response) = tokio::join!(sender.send(Ok(piece("{}\n"))), answering);
    sent.unwrap();
    let body = response.into_body().collect().await.unwrap();
    assert_eq!(body.trailers().unwrap()["grpc-metadata-x-sum"], "7");

    let headers = "transfer-encoding: chunked\r\nte: trailers\r\nconnection: te, close\r\n";
    let mut socket = http1(transcoder, "/v1/chat", headers).await;
    socket.write_all(&chunk("{}\n")).await.unwrap();
    socket.write_all(b"0\r\n\r\n").await.unwrap();
    let answer = read_all(&mut socket).await;
    assert!(answer.contains("\r\ntrailer: grpc-metadata-x-sum\r\n"), "{answer}");
    assert!(answer.ends_with("0\r\ngrpc-metadata-x-sum: 7\r\n\r\n"), "{answer}");
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_before_it_is_sent() {
    let gate = Recorder::new(Admission { max_body_bytes: 20, ..Admission::default() });
    let transcoder = over_a_channel(echo_server()).await.gate(gate).build().unwrap();
    let head = |length: usize| {
        let headers = "content-type: application/json\r\nexpect: 100-continue\r\nconnection: close";
        format!("POST /v1/echo HTTP/1.1\r\nhost: x\r\n{headers}\r\ncontent-length: {length}\r\n\r\n")
    };
    let mut socket = connect(transcoder.clone()).await;
    socket.write_all(head(21).as_bytes()).await.unwrap();
    let answer = read_all(&mut socket).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "no `100 Continue` invites the body: {answer}");

    let mut socket = connect(transcoder).await;
    socket.write_all(head(2).as_bytes()).await.unwrap();
    assert_eq!(read_to(&mut socket, "\r\n\r\n").await, "HTTP/1.1 100 Continue\r\n\r\n");
    socket.write_all(b"{}").await.unwrap();
    let answer = read_all(&mut socket).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
}

#[tokio::test]
async fn a_chunked_body_over_the_limit_is_413() {
    let gate = Recorder::new(Admission { max_body_bytes: 20, ..Admission::default() });
    let transcoder = over_a_channel(echo_server()).await.gate(gate).build().unwrap();
    let mut socket = connect(transcoder).await;
    let head = "POST /v1/echo HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n";
    socket.write_all(head.as_bytes()).await.unwrap();
    socket.write_all(&chunk("{\"stringValue\":")).await.unwrap();
    socket.write_all(&chunk("\"longer than that\"")).await.unwrap();
    let answer = read_to(&mut socket, "BODY_TOO_LARGE").await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
}
