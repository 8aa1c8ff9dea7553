//! Clients that mean no good, against an edge in a process of its own: its memory stays bounded, and other clients are served meanwhile.

use std::{io::Write as _, net::SocketAddr, sync::Arc, time::Duration};

use futures::{StreamExt as _, stream};
use http::Method;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
};

use crate::{
    greeter::{self, Greeter, Reflection},
    process::EdgeProcess,
};

const HEALTH: &[u8] = b"GET /healthz HTTP/1.1\r\nhost: edge\r\n\r\n";
const MIB: usize = 1 << 20;

/// An edge in front of a service that greets, open to all.
pub(crate) struct Target {
    pub(crate) edge: EdgeProcess,
    pub(crate) greeter: Greeter,
    _dir: tempfile::TempDir,
    _upstream: greeter::Running,
    before: usize,
}

impl Target {
    pub(crate) async fn start(further: &[&str]) -> Self {
        let further: Vec<String> = further.iter().map(|setting| (*setting).to_owned()).collect();
        let target = Self::start_secure(&further).await;
        target.others_are_served().await;
        let before = target.edge.memory().0;
        Self { before, ..target }
    }

    /// Without asking for anything: the edge may speak TLS.
    pub(crate) async fn start_secure(further: &[String]) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let descriptors = greeter::descriptor_set("/v1/hello/{name}");
        let path = dir.path().join("hello.binpb");
        std::fs::write(&path, &descriptors).expect("written");
        let greeter = Greeter::default();
        let upstream = greeter.clone().start(Reflection::None, &descriptors).await;
        let mut settings = vec![
            format!("upstream.0.address={}", upstream.url()),
            format!("upstream.0.descriptor_set={}", path.display()),
            "upstream.0.access=open".to_owned(),
            "limits.default_per_minute=100000000".to_owned(),
            "telemetry.log=warn,mesh::run=info,mesh::health=info".to_owned(),
        ];
        settings.extend_from_slice(further);
        let edge = EdgeProcess::start(&settings).await;
        Self { edge, greeter, _dir: dir, _upstream: upstream, before: 0 }
    }

    async fn others_are_served(&self) {
        let answer = self.edge.ask(Method::GET, "/v1/hello/ada", &[], "").await;
        assert_eq!((answer.status.as_u16(), answer.body.as_str()), (200, r#"{"name":"Hello, ada!"}"#));
    }

    /// Others are served, and the edge has never had more than `most` bytes beyond what it began with.
    async fn withstands(&self, attack: &str, most: usize) {
        self.others_are_served().await;
        let (now, peak) = self.edge.memory();
        let grown = peak.saturating_sub(self.before);
        eprintln!(
            "{attack}: {} MiB before, {} MiB at most, {} MiB now; others are served",
            self.before / MIB,
            peak / MIB,
            now / MIB
        );
        assert!(grown < most, "{attack}: {grown} bytes more than before");
    }
}

async fn connect(address: SocketAddr, first: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    stream.write_all(first).await.expect("written");
    stream
}

/// All that comes until the server ends the connection, in order or not.
async fn rest(mut stream: TcpStream) -> String {
    let mut rest = Vec::new();
    let reading = stream.read_to_end(&mut rest);
    let _reset = tokio::time::timeout(Duration::from_secs(120), reading).await.expect("the edge ends it");
    String::from_utf8_lossy(&rest).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_idle_connections() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).expect("raised");

    let t = Target::start(&["public.connections_max=20000"]).await;
    let address = t.edge.address();
    let open = async |number: u8| {
        let socket = TcpSocket::new_v4().expect("a socket");
        // Each of these clients may have a thousand.
        socket.bind(([127, 0, 1, number], 0).into()).expect("all of 127/8 is ours");
        let mut stream = socket.connect(address).await.expect("a connection");
        stream.write_all(HEALTH).await.expect("written");
        let mut answer = Vec::new();
        while !answer.ends_with(b"ok\n") {
            answer.push(stream.read_u8().await.expect("an answer"));
        }
        stream
    };
    let held: Vec<TcpStream> =
        stream::iter((0..10_000).map(|number| open(u8::try_from(number % 10).expect("small") + 1)))
            .buffer_unordered(50)
            .collect()
            .await;
    t.withstands("10,000 idle connections", 400 * MIB).await;
    assert_eq!(held.len(), 10_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_loris() {
    let t = Target::start(&[]).await;
    let header = b"GET /v1/hello/ada HTTP/1.1\r\nhost: edge\r\nx: ".as_slice();
    let body =
        b"POST /v1/echo HTTP/1.1\r\nhost: edge\r\ncontent-type: application/json\r\ncontent-length: 9000\r\n\r\n[";
    let mut held = Vec::new();
    for first in [header, body] {
        for _ in 0..300 {
            held.push(connect(t.edge.address(), first).await);
        }
    }
    t.withstands("slow headers and bodies, while they last", 200 * MIB).await;
    for stream in held {
        let answer = rest(stream).await;
        let refused = answer.starts_with("HTTP/1.1 408 ") || answer.contains("BODY_UNREADABLE");
        assert!(refused, "{answer}");
    }
    t.withstands("slow headers and bodies", 200 * MIB).await;
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// `GET http://a/v1/hello/x` in HPACK.
const FIELDS: &[u8] = b"\x82\x86\x04\x0b/v1/hello/x\x41\x01a";

pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let [_, length @ ..] = u32::try_from(payload.len()).expect("small").to_be_bytes();
    [&length, &[kind, flags][..], &stream.to_be_bytes(), payload].concat()
}

/// Sends without reading until the edge has had enough, on some connections one after the other.
async fn flood(address: SocketAddr, first: &[u8], again: impl Fn(u32) -> Vec<u8>) {
    for _ in 0..10 {
        let mut stream = connect(address, &[PREFACE, first].concat()).await;
        let sending = async {
            let mut round = 0;
            while stream.write_all(&again(round)).await.is_ok() {
                round += 1;
            }
        };
        tokio::time::timeout(Duration::from_secs(120), sending).await.expect("the edge ends it");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rapid_reset() {
    let t = Target::start(&[]).await;
    flood(t.edge.address(), b"", |round| {
        let stream = 2 * round + 1;
        [frame(1, 5, stream, FIELDS), frame(3, 0, stream, &8_u32.to_be_bytes())].concat()
    })
    .await;
    t.withstands("rapid reset", 100 * MIB).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn continuation_flood() {
    let t = Target::start(&[]).await;
    let piece = frame(9, 0, 1, &[0x0f; 1024]);
    flood(t.edge.address(), &frame(1, 1, 1, FIELDS), |_| piece.clone()).await;
    t.withstands("CONTINUATION flood", 100 * MIB).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_of_8_megabytes() {
    let t = Target::start(&[]).await;
    let body = format!("[{{\"name\":\"{}\"}}]", "x".repeat(8 * MIB));
    let head = format!(
        "POST /v1/echo HTTP/1.1\r\nhost: edge\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let mut stream = connect(t.edge.address(), head.as_bytes()).await;
    stream.write_all(body.as_bytes()).await.expect("taken, or thrown away");
    let answer = rest(stream).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    t.withstands("a body of 8 MB", 100 * MIB).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gzip_bomb() {
    let t = Target::start(&[]).await;
    let mut bomb = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    bomb.write_all(b"[{\"name\":\"").expect("compressed");
    for _ in 0..512 {
        bomb.write_all(&vec![b'x'; MIB]).expect("compressed");
    }
    let bomb = bomb.finish().expect("compressed");
    let head = format!(
        "POST /v1/echo HTTP/1.1\r\nhost: edge\r\ncontent-type: application/json\r\ncontent-encoding: gzip\r\n\
         content-length: {}\r\n\r\n",
        bomb.len()
    );
    let mut stream = connect(t.edge.address(), head.as_bytes()).await;
    stream.write_all(&bomb).await.expect("taken, or thrown away");
    let answer = rest(stream).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    t.withstands("512 MiB in a gzip of 2 MiB", 100 * MIB).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_of_a_gigabyte_with_a_slow_reader() {
    use std::sync::atomic::Ordering;

    let t = Target::start(&[]).await;
    let body = "{\"name\":\"flood\"}\n";
    let request = format!(
        "POST /v1/echo HTTP/1.1\r\nhost: edge\r\ncontent-type: application/x-ndjson\r\n\
         accept: application/x-ndjson\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(64 * 1024).expect("a small buffer");
    let mut stream = socket.connect(t.edge.address()).await.expect("a connection");
    stream.write_all(request.as_bytes()).await.expect("written");
    let flooded = Arc::clone(&t.greeter.flooded);
    let mut piece = vec![0; 16 * 1024];
    let mut ticks = tokio::time::interval(Duration::from_millis(5));
    let mut most = 0;
    for read in 1..=200 {
        ticks.tick().await;
        stream.read_exact(&mut piece).await.expect("the stream goes on");
        assert!(read > 1 || piece.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&piece));
        most = most.max((flooded.load(Ordering::SeqCst) * 1024).saturating_sub(read * piece.len()));
    }
    eprintln!("a slow reader: {most} bytes were asked of the service ahead of it");
    assert!(most < 16 * MIB, "{most} bytes were asked of the service ahead of the reader");
    t.withstands("a stream of 1 GB with a slow reader", 100 * MIB).await;
}

/// `GET http://a/v1/hello/x…` in HPACK, whose answer is as long as the name.
fn hello(name_length: usize) -> Vec<u8> {
    let path = format!("/v1/hello/{}", "x".repeat(name_length));
    // An integer of HPACK (RFC 7541, section 5.1) with a prefix of seven bits.
    let rest = u16::try_from(path.len() - 127).expect("two more bytes are enough");
    let [low, high] =
        [rest % 128 + 128, rest / 128].map(|part| u8::try_from(part).expect("seven bits, and a mark"));
    [b"\x82\x86\x04\x7f".as_slice(), &[low, high], path.as_bytes(), b"\x41\x01a"].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_nobody_reads() {
    let t = Target::start(&["public.write_stall_timeout_ms=3000"]).await;
    let one_byte = [&[0, 4], &1_u32.to_be_bytes()[..]].concat();
    let requests = (0..100).flat_map(|number| frame(1, 5, 2 * number + 1, &hello(4000)));
    let requests: Vec<u8> = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), frame(4, 0, 0, &one_byte)]
        .concat()
        .into_iter()
        .chain(requests)
        .collect();
    let open = async || {
        let socket = TcpSocket::new_v4().expect("a socket");
        // One client, and not the one whose calls are looked at.
        socket.bind(([127, 0, 0, 2], 0).into()).expect("all of 127/8 is ours");
        let mut stream = socket.connect(t.edge.address()).await.expect("a connection");
        stream.write_all(&requests).await.expect("written");
        stream
    };
    let held: Vec<TcpStream> = stream::iter((0..50).map(|_| open())).buffer_unordered(10).collect().await;
    t.withstands("5,000 answers that nobody reads, while they last", 200 * MIB).await;
    for stream in held {
        rest(stream).await;
    }
    t.withstands("5,000 answers that nobody reads", 200 * MIB).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_can_be_read_in_two_ways_is_refused_in_the_edges_own_words() {
    let t = Target::start(&[]).await;
    let hidden = "GET /v1/hello/hidden HTTP/1.1\r\nhost: edge\r\n\r\n";
    for header in [
        "content-length: 5\r\ntransfer-encoding: chunked\r\n",
        "content-length: 5\r\ncontent-length: 6\r\n",
        "host: other\r\n",
        "x: y\r\n z\r\n",
        "x: y\n",
    ] {
        let request = format!("GET /v1/hello/ada HTTP/1.1\r\nhost: edge\r\n{header}\r\n0\r\n\r\n{hidden}");
        let answer = rest(connect(t.edge.address(), request.as_bytes()).await).await;
        assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("REQUEST_UNREADABLE"), "{answer}");
        for shown in ["strict-transport-security: ", "x-request-id: ", "connection: close"] {
            assert!(answer.contains(shown), "{shown}: {answer}");
        }
        assert!(!answer.contains("Hello"), "{answer}");
    }
}
