//! A listener that the world reaches: what it refuses, and what it does not let anyone hold on to.

mod http_2;
mod slow;
mod tls;
mod unread;

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::Extension;
use http::StatusCode;
use mesh::accept::{Limits, PeerAddr, Shutdown, Transport};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use crate::accept::exchange;
use crate::peers::Server;

const GET: &[u8] = b"GET / HTTP/1.1\r\nhost: jetway\r\n\r\n";

/// As the world finds it, with answers of the listener's own.
fn limits() -> Limits {
    Limits { app_answers_violations: false, ..Limits::public() }
}

/// Serves what `router` answers.
fn start(router: Router, limits: Limits) -> Server {
    Server::start_at((Ipv4Addr::LOCALHOST, 0).into(), Transport::Clear, router, limits)
}

fn served() -> Router {
    Router::new().fallback(async |body: Bytes| format!("served {}", body.len()))
}

async fn ask(address: SocketAddr, request: &[u8]) -> String {
    String::from_utf8_lossy(&exchange(address, request).await).into_owned()
}

async fn connect(address: SocketAddr, first: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    stream.write_all(first).await.expect("written");
    stream
}

/// Reads until what was read ends with `end`.
async fn read_to(stream: &mut TcpStream, end: &str) -> String {
    let mut read = Vec::new();
    while !read.ends_with(end.as_bytes()) {
        let byte = stream.read_u8().await.unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&read)));
        read.push(byte);
    }
    String::from_utf8_lossy(&read).into_owned()
}

/// Whether the server has ended the connection, in order or not.
async fn ended(mut stream: TcpStream) -> bool {
    let mut rest = Vec::new();
    tokio::time::timeout(Duration::from_secs(60), stream.read_to_end(&mut rest)).await.is_ok()
}

#[tokio::test]
async fn a_request_that_can_be_read_in_two_ways_is_refused_and_the_connection_closed() {
    let server = start(served(), limits());
    for request in [
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ncontent-length: 4\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\ncontent-length: 5\r\n\r\nabcde",
        "GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: me@a\r\n\r\n",
        "GET http://b/ HTTP/1.1\r\nhost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\nx: 1\r\n 2\r\n\r\n",
        "GET / HTTP/1.1\nhost: a\n\n",
        "GET / HTTP/1.1\r\nhost: a\r\nx: 1\r2\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\nx : 1\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\nx: 1\x002\r\n\r\n",
    ] {
        let smuggled = [request.as_bytes(), GET].concat();
        let answer = ask(server.address, &smuggled).await;
        assert!(answer.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{request:?}: {answer}");
        assert!(!answer.contains("served"), "{request:?}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{request:?}: {answer}");
    }
    server.stop().await;
}

#[tokio::test]
async fn requests_before_a_refused_one_are_answered() {
    let server = start(served(), limits());
    let answer = ask(server.address, &[GET, b"GET / HTTP/1.1\n\n", GET].concat()).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert_eq!((answer.matches("served").count(), answer.matches(" 400 ").count()), (1, 1), "{answer}");
    server.stop().await;
}

#[tokio::test]
async fn a_header_block_over_16_kib_is_431_and_a_target_414() {
    let server = start(served(), limits());
    let long = "x".repeat(17 * 1024);
    for (request, status) in [
        (format!("GET / HTTP/1.1\r\nhost: a\r\nx: {long}\r\n\r\n"), "431"),
        (format!("GET / HTTP/1.1\r\nhost: a\r\nx: {long}"), "431"),
        (format!("GET /{long}"), "414"),
    ] {
        let answer = ask(server.address, request.as_bytes()).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
    }
    server.stop().await;
}

#[tokio::test]
async fn what_cannot_be_read_comes_to_an_app_that_answers_it() {
    let router = Router::new().fallback(async |violation: Option<Extension<mesh::accept::Violation>>| {
        violation.map_or(StatusCode::OK, |Extension(violation)| violation.status())
    });
    let server = start(router, Limits::public());
    let answer = ask(server.address, b"GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("connection: close"), "{answer}");
    server.stop().await;
}

#[tokio::test]
async fn requests_are_pipelined_and_connections_kept() {
    let server = start(served(), limits());
    let body = b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    let mut stream = connect(server.address, &[GET, body, GET].concat()).await;
    for answer in ["served 0", "served 3", "served 0"] {
        read_to(&mut stream, answer).await;
    }
    stream.write_all(GET).await.expect("still open");
    read_to(&mut stream, "served 0").await;
    server.stop().await;
}

#[tokio::test]
async fn a_client_that_waits_for_100_continue_is_told_to_send_only_when_its_body_is_wanted() {
    let head = b"POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 3\r\n\r\n";
    let server = start(served(), limits());
    let mut stream = connect(server.address, head).await;
    assert_eq!(read_to(&mut stream, "\r\n\r\n").await, "HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"abc").await.expect("written");
    read_to(&mut stream, "served 3").await;
    server.stop().await;

    let server = start(Router::new().fallback(async || StatusCode::FORBIDDEN), limits());
    let mut stream = connect(server.address, head).await;
    assert!(read_to(&mut stream, "\r\n\r\n").await.starts_with("HTTP/1.1 403 "));
    assert!(ended(stream).await, "nobody can say whether the body still comes");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_refused_unread_does_not_cost_the_client_its_answer() {
    let server = start(Router::new().fallback(async || StatusCode::PAYLOAD_TOO_LARGE), limits());
    let length = 8 << 20;
    let head = format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {length}\r\n\r\n");
    let mut stream = connect(server.address, head.as_bytes()).await;
    // All of it, before the answer is looked at.
    stream.write_all(&vec![b'x'; length]).await.expect("written");
    assert!(read_to(&mut stream, "\r\n\r\n").await.starts_with("HTTP/1.1 413 "));
    assert!(ended(stream).await);
    server.stop().await;
}

#[tokio::test]
async fn a_network_has_so_many_connections_and_more_are_closed() {
    let server = start(served(), Limits { max_connections_per_network: 2, ..limits() });
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut stream = connect(server.address, GET).await;
        read_to(&mut stream, "served 0").await;
        held.push(stream);
    }
    let third = TcpStream::connect(server.address).await.expect("the kernel connects it");
    assert!(ended(third).await);
    drop(held.pop());
    // The place is given back when the server has noticed.
    loop {
        let mut stream = TcpStream::connect(server.address).await.expect("a connection");
        if stream.write_all(GET).await.is_ok() && stream.read_u8().await.is_ok() {
            break;
        }
    }
    server.stop().await;
}

fn who() -> Router {
    Router::new().fallback(async |Extension(peer): Extension<PeerAddr>| format!("<{}>", peer.0))
}

#[tokio::test]
async fn a_trusted_proxy_names_the_client() {
    let server = start(who(), Limits { proxies: vec!["127.0.0.0/8".parse().unwrap()], ..limits() });
    let v2_ipv4 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xcb\0\x71\x09\x7f\0\0\x01\x30\x39\0\x50";
    let v2_local = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";
    for (header, client) in [
        (b"PROXY TCP4 203.0.113.9 127.0.0.1 12345 80\r\n".as_slice(), "<203.0.113.9:12345>"),
        (b"PROXY TCP6 2001:db8::9 2001:db8::1 12345 80\r\n", "<[2001:db8::9]:12345>"),
        (b"PROXY UNKNOWN\r\n", "<127.0.0.1:"),
        (v2_ipv4, "<203.0.113.9:12345>"),
        (v2_local, "<127.0.0.1:"),
    ] {
        let mut stream = connect(server.address, &[header, GET].concat()).await;
        let answer = read_to(&mut stream, ">").await;
        assert!(answer.contains(client), "{client}: {answer}");
    }
    for none in [GET, b"PROXY TCP4 203.0.113.9\r\n", b"PROXY nonsense that does not end"] {
        let mut stream = connect(server.address, none).await;
        stream.shutdown().await.expect("that was all");
        let mut answer = Vec::new();
        let _reset = stream.read_to_end(&mut answer).await;
        assert_eq!(answer, b"");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_connection_that_is_not_a_trusted_proxys_is_closed() {
    let server = start(who(), Limits { proxies: vec!["203.0.113.0/24".parse().unwrap()], ..limits() });
    let mut stream = TcpStream::connect(server.address).await.expect("the kernel connects it");
    let _reset = stream.write_all(b"PROXY TCP4 203.0.113.9 127.0.0.1 12345 80\r\n").await;
    let mut answer = Vec::new();
    let _reset = stream.read_to_end(&mut answer).await;
    assert_eq!(answer, b"");
    server.stop().await;
}

#[tokio::test]
async fn answers_say_so_when_the_listener_is_about_to_stop() {
    let shutdown = Shutdown { announced: CancellationToken::new(), stop: CancellationToken::new() };
    let at = (Ipv4Addr::LOCALHOST, 0).into();
    let server = Server::start_announced(at, Transport::Clear, served(), limits(), shutdown.clone());
    let mut stream = connect(server.address, GET).await;
    assert!(!read_to(&mut stream, "served 0").await.contains("connection: close"));

    shutdown.announced.cancel();
    // A new connection shows that the announcement has arrived.
    while !ask_once(server.address).await.contains("connection: close") {}
    stream.write_all(GET).await.expect("still open");
    assert!(read_to(&mut stream, "served 0").await.contains("connection: close"));
    assert!(ended(stream).await);
    server.stop().await;
}

async fn ask_once(address: SocketAddr) -> String {
    let mut stream = connect(address, GET).await;
    read_to(&mut stream, "served 0").await
}

#[tokio::test]
async fn an_old_connection_ends_with_an_answer() {
    let age = Duration::from_millis(20);
    let server = start(served(), Limits { max_connection_age: age, ..limits() });
    let mut stream = TcpStream::connect(server.address).await.expect("a connection");
    loop {
        stream.write_all(GET).await.expect("only an answer ends it");
        if read_to(&mut stream, "served 0").await.contains("connection: close") {
            break;
        }
    }
    assert!(ended(stream).await);
    server.stop().await;
}

/// A body of so many bytes that says how many were asked of it.
fn endless(pulled: &std::sync::Arc<std::sync::atomic::AtomicUsize>) -> Body {
    let pulled = std::sync::Arc::clone(pulled);
    Body::from_stream(futures::stream::repeat_with(move || {
        pulled.fetch_add(PIECE.len(), std::sync::atomic::Ordering::SeqCst);
        Ok::<_, std::io::Error>(Bytes::from_static(&PIECE))
    }))
}

static PIECE: [u8; 16 * 1024] = [b'x'; 16 * 1024];
