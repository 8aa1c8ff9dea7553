//! HTTP/2 clients that ask for answers and let them lie, while they keep the connection busy otherwise.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::AsyncRead;

use super::http_2::{END_HEADERS, END_STREAM, FIELDS, HEADERS, PING, SETTINGS, WINDOW_UPDATE, frame};
use super::*;

const GOAWAY: u8 = 7;
const DATA: u8 = 0;

const STALL: Duration = Duration::from_millis(400);
const REPLY_BYTES: usize = 256 * 1024;

/// Counts the bytes of the replies that are in memory.
#[derive(Clone, Default)]
struct Memory(Arc<AtomicUsize>);

struct Reply {
    bytes: Vec<u8>,
    memory: Memory,
}

impl AsRef<[u8]> for Reply {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        self.memory.0.fetch_sub(self.bytes.len(), Ordering::SeqCst);
    }
}

impl Memory {
    /// A reply of so many bytes, all in one piece.
    fn reply(&self, length: usize) -> Body {
        self.0.fetch_add(length, Ordering::SeqCst);
        Body::from(Bytes::from_owner(Reply { bytes: vec![b'x'; length], memory: self.clone() }))
    }

    fn held(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }

    fn router(&self) -> Router {
        let memory = self.clone();
        Router::new().fallback(move || std::future::ready(memory.reply(REPLY_BYTES)))
    }
}

/// The connection preface, with this initial window for every stream.
fn preface(window: u32) -> Vec<u8> {
    let initial_window_size = [&[0, 4], &window.to_be_bytes()[..]].concat();
    [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), frame(SETTINGS, 0, 0, &initial_window_size)].concat()
}

fn get(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_STREAM | END_HEADERS, stream, FIELDS)
}

/// The next frame: its kind, stream and payload. `None` at the end of the connection.
async fn next(read: &mut (impl AsyncRead + Unpin)) -> Option<(u8, u32, Vec<u8>)> {
    let mut head = [0; 9];
    read.read_exact(&mut head).await.ok()?;
    let [a, b, c, kind, _, stream @ ..] = head;
    let length = usize::try_from(u32::from_be_bytes([0, a, b, c])).expect("small");
    let mut payload = vec![0; length];
    read.read_exact(&mut payload).await.ok()?;
    Some((kind, u32::from_be_bytes(stream), payload))
}

/// Sends `first` and then pings, each when the one before is answered, to the end of the connection; the kinds of frames that came.
async fn ping_to_the_end(address: SocketAddr, first: &[u8]) -> Vec<u8> {
    let stream = connect(address, first).await;
    let (mut read, mut write) = stream.into_split();
    let mut kinds = Vec::new();
    let pinging = async {
        let ping = frame(PING, 0, 0, b"whatever");
        let _ended = write.write_all(&ping).await;
        while let Some((kind, _, payload)) = next(&mut read).await {
            kinds.push(kind);
            if kind == PING && payload == b"whatever" {
                let _ended = write.write_all(&ping).await;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(60), pinging).await.expect("the server ends it");
    kinds
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_for_which_no_window_is_opened_do_not_stay_in_memory_whatever_else_is_read() {
    // With a window of one byte, h2 takes all of the answer from us and the end of its stream with it.
    for window in [0, 1] {
        let memory = Memory::default();
        let server = start(memory.router(), Limits { write_stall_timeout: STALL, ..limits() });
        let requests: Vec<u8> = (0..10).flat_map(|number| get(2 * number + 1)).collect();
        let kinds = ping_to_the_end(server.address, &[preface(window), requests].concat()).await;
        assert!(kinds.contains(&GOAWAY), "{window}: the client is told first: {kinds:?}");
        assert!(kinds.iter().rposition(|kind| *kind == PING) > Some(10), "it was not idle: {kinds:?}");
        server.stop().await;
        assert_eq!(memory.held(), 0, "{window}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_window_opened_byte_by_byte_does_not_hold_an_answer() {
    let memory = Memory::default();
    let server = start(memory.router(), Limits { write_stall_timeout: STALL, ..limits() });
    let mut stream = connect(server.address, &[preface(0), get(1)].concat()).await;
    let open = frame(WINDOW_UPDATE, 0, 1, &1_u32.to_be_bytes());
    let opening = async {
        let mut ticks = tokio::time::interval(Duration::from_millis(5));
        let (mut read, mut write) = stream.split();
        let mut taken = 0;
        while let Some((kind, _, payload)) = next(&mut read).await {
            taken += if kind == DATA { payload.len() } else { 0 };
            if matches!(kind, DATA | HEADERS) {
                ticks.tick().await;
                let _ended = write.write_all(&open).await;
            }
        }
        taken
    };
    let taken = tokio::time::timeout(Duration::from_secs(60), opening).await.expect("the server ends it");
    assert!(taken > 0 && taken < REPLY_BYTES, "{taken}");
    server.stop().await;
    assert_eq!(memory.held(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_of_answers_gets_them_all() {
    // Much, so that a busy machine is not taken for a client that reads nothing.
    let stall = STALL * 2;
    let memory = Memory::default();
    let server = start(memory.router(), Limits { write_stall_timeout: stall, ..limits() });
    let mut stream = connect(server.address, &[preface(0), get(1)].concat()).await;
    let piece = u32::try_from(REPLY_BYTES / 16).expect("small");
    let open = [0, 1].map(|stream| frame(WINDOW_UPDATE, 0, stream, &piece.to_be_bytes())).concat();
    let mut taken = 0;
    let mut ticks = tokio::time::interval(stall / 8);
    // Twice as long as a client may take that reads nothing.
    while taken < REPLY_BYTES {
        ticks.tick().await;
        stream.write_all(&open).await.expect("the connection lasts");
        let granted = taken + REPLY_BYTES / 16;
        while taken < granted {
            let (kind, _, payload) = next(&mut stream).await.expect("the connection lasts");
            taken += if kind == DATA { payload.len() } else { 0 };
        }
    }
    drop(stream);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_further_request_is_begun_for_a_peer_that_has_too_much_unread() {
    let memory = Memory::default();
    let begun = Arc::new(AtomicUsize::new(0));
    let router = Router::new().fallback({
        let (memory, begun) = (memory.clone(), Arc::clone(&begun));
        move || {
            begun.fetch_add(1, Ordering::SeqCst);
            std::future::ready(memory.reply(REPLY_BYTES))
        }
    });
    let server = start(router, Limits { max_unread_bytes: REPLY_BYTES - 1, ..limits() });
    let mut stream = connect(server.address, &[preface(0), get(1)].concat()).await;
    while !matches!(next(&mut stream).await, Some((HEADERS, 1, _))) {}
    let ping = frame(PING, 0, 0, b"whatever");
    let more: Vec<u8> = (1..10).flat_map(|number| get(2 * number + 1)).chain(ping).collect();
    stream.write_all(&more).await.expect("written");
    while !matches!(next(&mut stream).await, Some((PING, 0, _))) {}
    assert_eq!((begun.load(Ordering::SeqCst), memory.held()), (1, REPLY_BYTES));

    let opened: Vec<u8> = (0..10)
        .map(|number| 2 * number + 1)
        .chain([0])
        .flat_map(|stream| frame(WINDOW_UPDATE, 0, stream, &(1_u32 << 24).to_be_bytes()))
        .collect();
    stream.write_all(&opened).await.expect("written");
    let mut taken = 0;
    while taken < 10 * REPLY_BYTES {
        let (kind, _, payload) = next(&mut stream).await.expect("the connection lasts");
        taken += if kind == DATA { payload.len() } else { 0 };
    }
    drop(stream);
    server.stop().await;
    assert_eq!((begun.load(Ordering::SeqCst), memory.held()), (10, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_crosses_the_end_of_an_idle_connection_is_served_whole() {
    let idle_timeout = Duration::from_millis(50);
    // Longer than an idle connection has to end.
    let slow = Router::new().fallback(async || {
        let _long = tokio::time::timeout(Duration::from_millis(1_500), std::future::pending::<()>()).await;
        "served after all"
    });
    let server = start(slow, Limits { idle_timeout, ..limits() });
    let mut stream = connect(server.address, &preface(1 << 16)).await;
    while !matches!(next(&mut stream).await, Some((GOAWAY, ..))) {}
    stream.write_all(&get(1)).await.expect("written");
    let answer = loop {
        let (kind, _, payload) = next(&mut stream).await.expect("the connection lasts");
        if kind == DATA {
            break payload;
        }
    };
    assert_eq!(answer, b"served after all");
    drop(stream);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_to_be_kept_until_an_answer_was_sent_is_kept_until_the_client_took_it() {
    let held = Arc::new(());
    let router = Router::new().fallback({
        let held = Arc::clone(&held);
        move || {
            let place = mesh::accept::UntilSent(Arc::new(Arc::clone(&held)));
            std::future::ready((Extension(place), vec![b'x'; REPLY_BYTES]))
        }
    });
    let server = start(router, limits());
    let before = Arc::strong_count(&held);
    // A byte of window: the answer is h2's now, and its body gone.
    let mut stream = connect(server.address, &[preface(1), get(1)].concat()).await;
    while !matches!(next(&mut stream).await, Some((DATA, 1, _))) {}
    stream.write_all(&frame(PING, 0, 0, b"whatever")).await.expect("written");
    while !matches!(next(&mut stream).await, Some((PING, 0, _))) {}
    assert_eq!(Arc::strong_count(&held), before + 1, "nearly all of the answer is still there");

    let opened = [0, 1].map(|stream| frame(WINDOW_UPDATE, 0, stream, &(1_u32 << 24).to_be_bytes())).concat();
    stream.write_all(&opened).await.expect("written");
    let mut taken = 1;
    while taken < REPLY_BYTES {
        let (kind, _, payload) = next(&mut stream).await.expect("the connection lasts");
        taken += if kind == DATA { payload.len() } else { 0 };
    }
    // All is written when it is read; that it is let go follows.
    let again = frame(PING, 0, 0, b"whatever");
    while Arc::strong_count(&held) > before {
        stream.write_all(&again).await.expect("written");
        while !matches!(next(&mut stream).await, Some((PING, 0, _))) {}
    }
    drop(stream);
    server.stop().await;
}
