//! HTTP/2 frames that cost the sender little and a careless server much.

use super::*;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// `GET http://a/` in HPACK: three indexed fields and an authority.
pub(super) const FIELDS: &[u8] = b"\x82\x86\x84\x41\x01a";

pub(super) const HEADERS: u8 = 1;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PING: u8 = 6;
pub(super) const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

pub(super) const END_STREAM: u8 = 1;
pub(super) const END_HEADERS: u8 = 4;

pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let [_, length @ ..] = u32::try_from(payload.len()).expect("small").to_be_bytes();
    [&length, &[kind, flags][..], &stream.to_be_bytes(), payload].concat()
}

/// Sends the same bytes again and again, and reads nothing, until the server has had enough; how many bytes it took.
async fn flood(address: SocketAddr, first: &[u8], again: impl Fn(u32) -> Vec<u8>) -> usize {
    let mut stream = connect(address, &[PREFACE, first].concat()).await;
    let mut sent = 0;
    let sending = async {
        for round in 0.. {
            let bytes = again(round);
            if stream.write_all(&bytes).await.is_err() {
                return;
            }
            sent += bytes.len();
        }
    };
    tokio::time::timeout(Duration::from_secs(120), sending).await.expect("the server ends it");
    sent
}

async fn others_are_served(address: SocketAddr) {
    assert!(ask_once(address).await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_continuation_frames_ends_the_connection() {
    let server = start(served(), limits());
    let piece = frame(CONTINUATION, 0, 1, &[0x0f; 1024]);
    // Fields that are never indexed, with a name that never ends, or none at all.
    for first in [frame(HEADERS, END_STREAM, 1, FIELDS), frame(HEADERS, END_STREAM, 1, b"")] {
        for again in [piece.clone(), frame(CONTINUATION, 0, 1, b"")] {
            flood(server.address, &first, |_| again.clone()).await;
            others_are_served(server.address).await;
        }
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn floods_that_want_answers_and_read_none_end() {
    let server = start(served(), Limits { write_stall_timeout: Duration::from_millis(200), ..limits() });
    for again in [frame(PING, 0, 0, b"whatever"), frame(SETTINGS, 0, 0, b"")] {
        let many = again.repeat(1000);
        flood(server.address, b"", |_| many.clone()).await;
        others_are_served(server.address).await;
    }
    server.stop().await;
}

#[tokio::test]
async fn a_window_over_its_maximum_ends_the_connection() {
    let server = start(served(), limits());
    let grow = frame(WINDOW_UPDATE, 0, 0, &0x7fff_ffff_u32.to_be_bytes());
    flood(server.address, b"", |_| grow.clone()).await;
    let nothing = frame(WINDOW_UPDATE, 0, 0, &0_u32.to_be_bytes());
    flood(server.address, b"", |_| nothing.clone()).await;
    others_are_served(server.address).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_taken_back_as_fast_as_they_are_made_end_the_connection() {
    let never = Router::new()
        .route("/", axum::routing::get(std::future::pending::<String>))
        .fallback(async || "served 0");
    let server = start(never, Limits { max_abandoned: 20, ..limits() });
    let reset = |round: u32| {
        let stream = 2 * round + 1;
        let cancel = frame(3, 0, stream, &8_u32.to_be_bytes());
        [frame(HEADERS, END_STREAM | END_HEADERS, stream, FIELDS), cancel].concat()
    };
    flood(server.address, b"", reset).await;

    // One at a time, each begun before it is taken back: h2 alone takes this for ordinary.
    let stream = TcpStream::connect(server.address).await.expect("a connection");
    let (requests, connection) = h2::client::handshake(stream).await.expect("HTTP/2");
    let taking_back = async {
        let mut requests = requests.ready().await?;
        loop {
            let (answer, mut request) = requests.send_request(http::Request::new(()), true)?;
            tokio::task::yield_now().await;
            request.send_reset(h2::Reason::CANCEL);
            drop(answer);
            requests = requests.ready().await?;
            tokio::task::yield_now().await;
        }
        #[expect(unreachable_code, reason = "says the type of the error")]
        Ok::<(), h2::Error>(())
    };
    tokio::time::timeout(Duration::from_secs(120), async { tokio::join!(connection, taking_back) })
        .await
        .expect("the server ends it")
        .1
        .expect_err("the connection is gone");

    let mut other = connect(server.address, b"GET /other HTTP/1.1\r\nhost: a\r\n\r\n").await;
    read_to(&mut other, "served 0").await;
    server.stop().await;
}

async fn status(address: SocketAddr, request: http::Request<()>) -> StatusCode {
    let stream = TcpStream::connect(address).await.expect("a connection");
    let (mut requests, connection) = h2::client::handshake(stream).await.expect("HTTP/2");
    let (answer, _) = requests.send_request(request, true).expect("sent");
    tokio::select! {
        answer = answer => answer.expect("an answer").status(),
        ended = connection => panic!("the connection ended: {ended:?}"),
    }
}

#[tokio::test]
async fn a_header_block_over_16_kib_is_431_on_http_2() {
    let server = start(served(), limits());
    let request = http::Request::get("http://a/").header("x", "x".repeat(17 * 1024));
    let answer = status(server.address, request.body(()).expect("a request")).await;
    assert_eq!(answer, StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
    server.stop().await;
}

#[tokio::test]
async fn a_host_that_is_not_the_authority_is_refused_on_http_2() {
    let server = start(served(), limits());
    for (hosts, expected) in [
        (vec![], StatusCode::OK),
        (vec!["a"], StatusCode::OK),
        (vec!["b"], StatusCode::BAD_REQUEST),
        (vec!["a", "a"], StatusCode::BAD_REQUEST),
    ] {
        let mut request = http::Request::get("http://a/");
        for host in &hosts {
            request = request.header("host", *host);
        }
        assert_eq!(status(server.address, request.body(()).expect("a request")).await, expected, "{hosts:?}");
    }
    server.stop().await;
}
