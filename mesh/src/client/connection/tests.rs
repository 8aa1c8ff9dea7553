use std::time::Duration;

use http_body::Body as _;
use tokio::io::DuplexStream;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::super::body::ResponseBody;
use super::*;

/// How many calls the connections of these tests take.
const STREAMS: u16 = 4;

/// More than every window.
const LARGE: usize = 1 << 20;

/// A server that answers `/fill` with as much as one stream may be sent unread, and waits then; and anything else with [`LARGE`] bytes and an end.
async fn serve(io: DuplexStream, filled: UnboundedSender<()>) {
    let mut connection = h2::server::handshake(io).await.unwrap();
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        let filled = filled.clone();
        #[expect(clippy::disallowed_methods, reason = "ends with the connection")]
        tokio::spawn(async move {
            let fills = request.uri().path() == "/fill";
            let mut stream = respond.send_response(Response::new(()), false).unwrap();
            let mut left = if fills { usize::try_from(STREAM_WINDOW).unwrap() } else { LARGE };
            while left > 0 {
                stream.reserve_capacity(left);
                let Some(Ok(capacity)) = poll_fn(|cx| stream.poll_capacity(cx)).await else { return };
                let part = capacity.min(left);
                left -= part;
                stream.send_data(Bytes::from(vec![0; part]), left == 0 && !fills).unwrap();
            }
            if fills {
                filled.send(()).unwrap();
                let _reset = poll_fn(|cx| stream.poll_reset(cx)).await;
            }
        });
    }
}

async fn connect() -> (Arc<Connection>, UnboundedReceiver<()>) {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let (filled, fills) = unbounded_channel();
    #[expect(clippy::disallowed_methods, reason = "ends with the connection")]
    tokio::spawn(serve(far, filled));
    (handshake(near, STREAMS, &Arc::default()).await.unwrap(), fills)
}

async fn call(connection: &Arc<Connection>, path: &str) -> Download {
    let head = Request::get(format!("http://peer{path}")).body(()).unwrap();
    let place = connection.place().expect("there is a place");
    let mut flight = place.send(head, &mut Payload::Whole(Bytes::new())).unwrap();
    poll_fn(|cx| flight.poll(cx)).await.unwrap().into_body()
}

/// Answers that are sent as much as can be, and of which nothing is read.
async fn unread(
    connection: &Arc<Connection>,
    fills: &mut UnboundedReceiver<()>,
    calls: u16,
) -> Vec<Download> {
    let mut unread = Vec::new();
    for _ in 0..calls {
        unread.push(call(connection, "/fill").await);
    }
    for _ in 0..calls {
        soon(fills.recv()).await.expect("the server sends all that the window of the stream allows");
    }
    unread
}

async fn soon<F: Future>(future: F) -> F::Output {
    timeout(Duration::from_secs(30), future).await.expect("it happens")
}

async fn until(condition: impl Fn() -> bool) {
    soon(async {
        while !condition() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn readers_that_stand_still_leave_enough_of_the_connection_for_one_that_does_not() {
    let (connection, mut fills) = connect().await;
    let stalled = unread(&connection, &mut fills, STREAMS - 1).await;

    let mut body = ResponseBody::new(call(&connection, "/").await, None, &Arc::from("peer"));
    let mut read = 0;
    while let Some(frame) = soon(poll_fn(|cx| Pin::new(&mut body).poll_frame(cx))).await {
        read += frame.unwrap().data_ref().map_or(0, Bytes::len);
    }

    assert_eq!(read, LARGE);
    assert_eq!(stalled.len(), 3);
}

#[tokio::test]
async fn an_answer_that_is_dropped_unread_gives_back_its_part_of_the_connection() {
    let (connection, mut fills) = connect().await;
    // Several times the window of the connection.
    for _ in 0..6 {
        let unread = unread(&connection, &mut fills, STREAMS).await;
        drop(unread);
        until(|| connection.load() == 0).await;
    }
}

#[tokio::test]
async fn a_call_has_its_place_until_the_peer_is_told_that_it_is_cancelled() {
    let (connection, mut fills) = connect().await;
    let mut unread = unread(&connection, &mut fills, STREAMS).await;
    assert!(connection.place().is_none() && !connection.has_room());

    unread.pop();

    assert_eq!((connection.in_flight(), connection.load()), (3, 4));
    assert!(connection.place().is_none(), "the peer still has four");
    until(|| connection.load() == 3).await;
    assert!(connection.place().is_some());
}
