//! Listeners without TLS: the edge's, and those for probes.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use axum::Router;
use mesh::accept::Limits;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::peers::{Authority, Server};

fn start(tls: Option<mesh::tls::Identity>, limits: Limits) -> Server {
    let router = Router::new().fallback(|| std::future::ready("served"));
    Server::start_at((Ipv4Addr::LOCALHOST, 0).into(), tls, router, limits)
}

/// Everything that the server sends before it closes the connection, after it was sent `request`.
pub(crate) async fn exchange(address: SocketAddr, request: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    stream.write_all(request).await.expect("written");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.expect("the server closes the connection");
    answer
}

#[tokio::test]
async fn clear_text_speaks_http_1() {
    let server = start(None, Limits::default());

    let answer =
        exchange(server.address, b"GET / HTTP/1.1\r\nhost: jetway\r\nconnection: close\r\n\r\n").await;

    let answer = String::from_utf8(answer).expect("text");
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("served"), "{answer}");
    server.stop().await;
}

#[tokio::test]
async fn clear_text_speaks_http_2() {
    let server = start(None, Limits::default());

    // The preface, empty SETTINGS, and GOAWAY so that the server closes the connection.
    let request =
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\0\0\x08\x07\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let answer = exchange(server.address, request).await;

    assert_eq!(answer.get(3), Some(&4), "the first frame is SETTINGS: {answer:?}");
    server.stop().await;
}

#[tokio::test]
async fn a_peer_that_says_nothing_is_cut_off() {
    let authority = Authority::new();
    for tls in [None, Some(authority.identity("bookings"))] {
        let server = start(tls, Limits { handshake_timeout: Duration::from_millis(10), ..Limits::default() });

        assert_eq!(exchange(server.address, b"").await, b"");

        server.stop().await;
    }
}

#[tokio::test]
async fn a_header_that_does_not_end_is_cut_off() {
    let server = start(None, Limits { header_read_timeout: Duration::from_millis(10), ..Limits::default() });

    let answer = exchange(server.address, b"GET / HTTP/1.1\r\nhost: jetway\r\n").await;

    assert!(!answer.ends_with(b"served"));
    server.stop().await;
}

#[tokio::test]
async fn connections_over_the_limit_wait_for_one_to_end() {
    let server = start(None, Limits { max_connections: 1, ..Limits::default() });
    let request = b"GET / HTTP/1.1\r\nhost: jetway\r\nconnection: close\r\n\r\n";
    let first = TcpStream::connect(server.address).await.expect("a connection");

    let second = exchange(server.address, request);
    tokio::pin!(second);
    // The first holds the only place: the second is connected by the kernel, and answered by nobody.
    assert!(tokio::time::timeout(Duration::from_millis(50), second.as_mut()).await.is_err());
    drop(first);

    assert!(second.await.ends_with(b"served"));
    server.stop().await;
}
