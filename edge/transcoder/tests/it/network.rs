//! Over real sockets: HTTP/1.1 in front, a tonic channel over HTTP/2 behind.

use bytes::Bytes;
use http_body::Frame;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tower::ServiceExt as _;
use transcoder::Transcoder;

use crate::harness::{
    DESCRIPTOR_SET, Upstream, answer, frame, framed, reply, request, send, upstream_unavailable,
};

/// Serves `upstream` on a port of its own and returns a channel to it.
async fn channel(upstream: &Upstream) -> tonic::transport::Channel {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let service = upstream.clone().map_request(|request: axum::extract::Request| {
        assert_eq!(request.version(), http::Version::HTTP_2);
        request.map(tonic::body::Body::new)
    });
    let router = axum::Router::new().fallback_service(service);
    tokio::spawn(async move { axum::serve(listener, router).await });
    tonic::transport::Endpoint::new(format!("http://{address}")).unwrap().connect_lazy()
}

fn over(channel: tonic::transport::Channel) -> Transcoder {
    Transcoder::builder(&DESCRIPTOR_SET).upstream("zoo.v1.Zoo", channel).build().unwrap()
}

/// The raw answer of an HTTP/1.1 server in front of `transcoder`.
async fn exchange(transcoder: Transcoder, head: &str, body: &str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(
        async move { axum::serve(listener, axum::Router::new().fallback_service(transcoder)).await },
    );
    let mut socket = TcpStream::connect(address).await.unwrap();
    let request =
        format!("{head}\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).await.unwrap();
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn json_goes_to_a_grpc_server_and_back() {
    let upstream = Upstream::echo();
    let transcoder = over(channel(&upstream).await);
    let head = "POST /v1/echo HTTP/1.1\r\ncontent-type: application/json";
    let answer = exchange(transcoder, head, r#"{"stringValue":"lion","int64s":["1","2"]}"#).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.ends_with("\r\n\r\n{\"stringValue\":\"lion\",\"int64s\":[\"1\",\"2\"]}"), "{answer}");
    assert_eq!(upstream.last().path, "/zoo.v1.Zoo/Echo");
}

#[tokio::test]
async fn a_large_reply_comes_through_whole() {
    let body = json!({"strings": vec!["x".repeat(1000); 500]}).to_string();
    let upstream = Upstream::echo();
    let transcoder = over(channel(&upstream).await);
    let got = send(&transcoder, request("POST", "/v1/echo", &body)).await;
    assert_eq!((got.status.as_u16(), got.text), (200, body));
}

#[tokio::test]
async fn a_stream_that_ends_well_has_its_last_chunk() {
    let upstream = Upstream::new(|_| reply(frame("GetAnimalRequest", r#"{"legs": 4}"#)));
    let answer = exchange(over(channel(&upstream).await), "GET /v1/watch/x HTTP/1.1", "").await;
    assert!(answer.contains("{\"legs\":4}\n"), "{answer}");
    assert!(answer.ends_with("\r\n0\r\n\r\n"), "{answer}");
}

#[tokio::test]
async fn a_stream_that_fails_cannot_be_taken_for_whole() {
    let upstream = Upstream::new(|_| {
        let mut trailers = http::HeaderMap::new();
        trailers.insert("grpc-status", http::HeaderValue::from_static("10"));
        let frames: Vec<Result<Frame<Bytes>, tonic::Status>> =
            vec![Ok(Frame::data(framed(&[16, 4]))), Ok(Frame::trailers(trailers))];
        answer(futures::stream::iter(frames))
    });
    let answer = exchange(over(channel(&upstream).await), "GET /v1/watch/x HTTP/1.1", "").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.contains("{\"legs\":4}\n"), "{answer}");
    assert!(!answer.ends_with("0\r\n\r\n"), "the last chunk says that the answer is whole: {answer}");
}

#[tokio::test]
async fn an_upstream_that_is_not_there_is_503() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let channel = tonic::transport::Endpoint::new(format!("http://{address}")).unwrap().connect_lazy();
    let got = send(&over(channel), request("GET", "/v1/one/leo", "")).await;
    assert_eq!(got.status, 503);
    assert_eq!(got.json(), upstream_unavailable());
    assert_eq!(got.header("retry-after"), "1");
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_their_order() {
    let upstream = Upstream::echo();
    let one = "GET /v1/one/first HTTP/1.1\r\nhost: x\r\n\r\n";
    let two =
        "POST /v1/echo HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}";
    let head = format!("{one}{two}GET /v1/one/last HTTP/1.1");
    let answer = exchange(over(channel(&upstream).await), &head, "").await;
    let bodies: Vec<_> =
        answer.split("HTTP/1.1 200 OK\r\n").filter_map(|one| Some(one.split_once("\r\n\r\n")?.1)).collect();
    assert_eq!(bodies, [r#"{"name":"first"}"#, "{}", r#"{"name":"last"}"#], "{answer}");
}

#[tokio::test]
async fn a_raw_stream_that_fails_cannot_be_taken_for_whole() {
    let upstream = Upstream::new(|_| {
        let message = framed(&[18, 3, b'a', b',', b'b']);
        crate::harness::replies([message], &[("grpc-status", "10")])
    });
    let head = "GET /v1/download-stream/x HTTP/1.1";
    let answer = exchange(over(channel(&upstream).await), head, "").await;
    assert!(answer.contains("a,b") && !answer.ends_with("0\r\n\r\n"), "{answer}");
}
