//! The public listener of an edge in a process of its own.

use http::{Method, StatusCode};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::attacks::{Target, frame};

const HEALTH: &[u8] = b"GET /healthz HTTP/1.1\r\nhost: edge\r\n\r\n";

/// The connection, and what came on it until `end`.
async fn asked(t: &Target, request: &[u8], end: &str) -> (TcpStream, String) {
    let mut stream = TcpStream::connect(t.edge.address()).await.expect("a connection");
    stream.write_all(request).await.expect("written");
    let mut answer = Vec::new();
    while !answer.ends_with(end.as_bytes()) {
        let byte = stream.read_u8().await;
        answer.push(byte.unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&answer))));
    }
    (stream, String::from_utf8_lossy(&answer).into_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_proxy_protocol_names_the_client_and_a_forged_header_does_not() {
    let further = ["public.proxy_networks=127.0.0.0/8", "limits.default_per_minute=1", "telemetry.log=info"];
    let t = Target::start_secure(&further.map(str::to_owned)).await;
    for (client, id) in [("203.0.113.9", "one"), ("203.0.113.10", "another")] {
        let request = format!(
            "PROXY TCP4 {client} 127.0.0.1 12345 80\r\nGET /v1/hello/ada HTTP/1.1\r\nhost: edge\r\n\
             x-forwarded-for: 198.51.100.66\r\nx-request-id: {id}\r\n\r\n"
        );
        asked(&t, request.as_bytes(), "Hello, ada!\"}").await;
        assert_eq!(t.edge.access(id).await["address"], json!(client));
        // Each client has its own budget, whatever it says of itself.
        let (_, answer) = asked(&t, request.as_bytes(), "\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 429 "), "{answer}");
    }
    let mut unnamed = TcpStream::connect(t.edge.address()).await.expect("a connection");
    unnamed.write_all(HEALTH).await.expect("written");
    unnamed.shutdown().await.expect("that was all");
    let mut answer = Vec::new();
    let _reset = unnamed.read_to_end(&mut answer).await;
    assert_eq!(answer, b"", "who does not begin with the header is not served");
}

#[tokio::test(flavor = "multi_thread")]
async fn open_connections_are_counted() {
    let t = Target::start_secure(&[]).await;
    let (one, _) = asked(&t, HEALTH, "ok\n").await;
    let (other, _) = asked(&t, HEALTH, "ok\n").await;
    assert_eq!(t.edge.metric("edge_connections").await, Some(2.0));
    drop((one, other));
    // The edge has to notice.
    while t.edge.metric("edge_connections").await != Some(0.0) {}
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_has_so_many_calls_in_flight_and_those_whose_answers_it_does_not_read_are_some() {
    let t = Target::start_secure(&["limits.in_flight_per_client_max=2".to_owned()]).await;
    // Two answers for which there is a window of one byte: all of their bodies is handed over, and lies there.
    let one_byte = [&[0, 4], &1_u32.to_be_bytes()[..]].concat();
    let get = |stream| frame(1, 5, stream, b"\x82\x86\x04\x0b/v1/hello/x\x41\x01a");
    let first =
        [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), frame(4, 0, 0, &one_byte), get(1), get(3)].concat();
    let (mut held, mut data) = (TcpStream::connect(t.edge.address()).await.expect("a connection"), 0);
    held.write_all(&first).await.expect("written");
    while data < 2 {
        let mut head = [0; 9];
        held.read_exact(&mut head).await.expect("a frame");
        let length = usize::from(head[1]) * 256 + usize::from(head[2]);
        held.read_exact(&mut vec![0; length]).await.expect("a frame");
        data += usize::from(head[3] == 0);
    }

    let refused = t.edge.ask(Method::GET, "/v1/hello/ada", &[], "").await;
    assert_eq!(refused.status, StatusCode::TOO_MANY_REQUESTS, "{}", refused.body);
    assert!(refused.body.contains("TOO_MANY_CALLS_AT_ONCE"), "{}", refused.body);
    assert_eq!(refused.headers["retry-after"], "1");
    assert_eq!(t.edge.ask(Method::GET, "/healthz", &[], "").await.status, StatusCode::OK, "probes are free");

    drop(held);
    // The edge has to notice.
    while t.edge.ask(Method::GET, "/v1/hello/ada", &[], "").await.status != StatusCode::OK {}
}
