//! Clients that take their time.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::net::TcpSocket;

use super::*;

const SOON: Duration = Duration::from_millis(50);

#[tokio::test]
async fn a_header_that_does_not_end_is_408() {
    let server = start(served(), Limits { header_read_timeout: SOON, ..limits() });
    let answer = ask(server.address, b"GET / HTTP/1.1\r\nhost: jetway\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    server.stop().await;
}

#[tokio::test]
async fn a_connection_may_be_idle_longer_than_a_header_may_take_and_not_for_ever() {
    let idle_timeout = SOON * 10;
    let server = start(served(), Limits { header_read_timeout: SOON, idle_timeout, ..limits() });
    let mut stream = connect(server.address, GET).await;
    read_to(&mut stream, "served 0").await;
    let since = tokio::time::Instant::now();
    assert!(ended(stream).await);
    assert!(since.elapsed() > idle_timeout / 2, "an idle connection is not a slow header");
    server.stop().await;
}

#[tokio::test]
async fn half_a_preface_of_http_2_does_not_hold_a_connection() {
    let server = start(served(), Limits { handshake_timeout: SOON, ..limits() });
    let stream = connect(server.address, b"PRI * HTTP/2.0\r\n\r\nSM").await;
    assert!(ended(stream).await);
    server.stop().await;
}

#[tokio::test]
async fn a_body_of_known_length_must_come_at_a_rate() {
    let server = start(served(), Limits { handshake_timeout: SOON, ..limits() });
    let head = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1000\r\n\r\na";
    let answer = ask(server.address, head).await;
    assert!(answer.starts_with("HTTP/1.1 400 ") && !answer.contains("served"), "{answer}");
    server.stop().await;
}

/// Completes when the answer that it was moved into is dropped.
struct Dropped(Arc<tokio::sync::Notify>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

fn endless_until_dropped(dropped: &Arc<tokio::sync::Notify>) -> Router {
    let dropped = Arc::clone(dropped);
    Router::new().fallback(move || {
        let guard = Dropped(Arc::clone(&dropped));
        let pieces = futures::stream::repeat_with(move || {
            let _held = &guard;
            Ok::<_, std::io::Error>(Bytes::from_static(&PIECE))
        });
        std::future::ready(Body::from_stream(pieces))
    })
}

#[tokio::test]
async fn a_client_that_reads_nothing_is_cut_off() {
    let dropped = Arc::default();
    let router = endless_until_dropped(&dropped);
    let server = start(router, Limits { write_stall_timeout: SOON * 4, ..limits() });
    let stream = connect(server.address, GET).await;
    dropped.notified().await;
    assert!(ended(stream).await);
    server.stop().await;
}

#[tokio::test]
async fn a_client_that_lets_nothing_flow_on_http_2_is_cut_off() {
    let dropped = Arc::default();
    let router = endless_until_dropped(&dropped);
    let server = start(router, Limits { write_stall_timeout: SOON * 4, ..limits() });
    let stream = TcpStream::connect(server.address).await.expect("a connection");
    let (mut requests, connection) = h2::client::handshake(stream).await.expect("HTTP/2");
    let (answer, _) = requests.send_request(http::Request::new(()), true).expect("sent");
    // The window is never opened again.
    let held = async { (answer.await.expect("an answer"), std::future::pending::<()>().await) };
    tokio::select! {
        _ = connection => {}
        _ = held => {}
    }
    dropped.notified().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_of_a_large_stream_gets_on_and_costs_no_memory() {
    const READS: usize = 300;
    let pulled = Arc::new(AtomicUsize::new(0));
    let router = Router::new().fallback({
        let pulled = Arc::clone(&pulled);
        move || std::future::ready(endless(&pulled))
    });
    let server = start(router, Limits { write_stall_timeout: Duration::from_secs(1), ..limits() });
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(64 * 1024).expect("a small buffer");
    let mut stream = socket.connect(server.address).await.expect("a connection");
    stream.write_all(GET).await.expect("written");

    // Three times as long as a client may take that reads nothing.
    let mut ticks = tokio::time::interval(Duration::from_millis(10));
    let (mut read, mut most) = (0, 0);
    let mut piece = vec![0; 16 * 1024];
    for _ in 0..READS {
        ticks.tick().await;
        read += stream.read_exact(&mut piece).await.expect("it makes progress, and is not cut off");
        most = most.max(pulled.load(Ordering::SeqCst).saturating_sub(read));
    }
    assert!(most < 2 << 20, "{most} bytes were asked for ahead of the reader");
    drop(stream);
    server.stop().await;
}
