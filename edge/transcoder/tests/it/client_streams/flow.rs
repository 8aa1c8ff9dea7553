//! How fast a client stream goes, and how it ends before its time.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;

use futures::{FutureExt as _, SinkExt as _, StreamExt as _};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use tower::ServiceExt as _;

use super::{Heard, NDJSON, collecting, live, piece, post, read, sent, serving};
use crate::harness::{answer, clock_passes, deadline_exceeded, error_info, frame, framed, reply, trailers};

#[tokio::test]
async fn the_request_is_read_only_as_fast_as_the_upstream_reads() {
    let given = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&given);
    // Reads two messages, and then no more, and does not answer either.
    let transcoder = serving(|mut incoming| async move {
        incoming.next().await.unwrap();
        incoming.next().await.unwrap();
        std::future::pending().await
    })
    .build()
    .unwrap();
    let pieces = futures::stream::repeat_with(move || {
        counter.fetch_add(1, Ordering::SeqCst);
        piece("{\"legs\":1}\n")
    });
    let request = post("/v1/feed", NDJSON).body(StreamBody::new(pieces)).unwrap();
    assert!(transcoder.oneshot(request).now_or_never().is_none());
    assert_eq!(given.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn messages_that_come_at_once_go_upstream_at_once() {
    let transcoder = serving(|mut incoming| async move {
        let count = incoming.all().await.unwrap().len();
        assert_eq!((count, incoming.frames), (1000, 1));
        reply(framed(&[]))
    })
    .build()
    .unwrap();
    let got = sent(&transcoder, "/v1/feed", NDJSON, "{\"legs\":1}\n".repeat(1000).as_bytes(), 1 << 20).await;
    assert_eq!(got.status, 200, "{}", got.text);
}

/// Tells when it is dropped.
struct Flag(Arc<AtomicBool>);

impl Drop for Flag {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[tokio::test]
async fn a_client_that_goes_away_cancels_the_upstream_call() {
    let dropped = Arc::new(AtomicBool::new(false));
    let watched = Arc::clone(&dropped);
    let transcoder = serving(move |mut incoming| {
        let flag = Flag(Arc::clone(&watched));
        async move {
            incoming.next().await.unwrap();
            let first = futures::stream::iter([Ok(Frame::data(frame("GetAnimalRequest", "{}")))]);
            answer(first.chain(futures::stream::poll_fn(move |_| {
                let (_held, _reading) = (&flag, &incoming);
                Poll::Pending
            })))
        }
    })
    .build()
    .unwrap();
    let (mut sender, request) = live("/v1/chat", NDJSON);
    let answering = tokio::spawn(transcoder.oneshot(request));
    sender.send(piece("{}\n")).await.unwrap();
    let mut body = answering.await.unwrap().unwrap().into_body();
    body.frame().await.unwrap().unwrap();
    assert!(!dropped.load(Ordering::SeqCst) && !sender.is_closed());
    drop(body);
    assert!(dropped.load(Ordering::SeqCst), "the call goes on");
    assert!(sender.is_closed(), "the request is still read");
}

#[tokio::test]
async fn an_upstream_that_ends_early_ends_the_reading() {
    for (code, status) in [("0", 200), ("9", 400)] {
        let transcoder = serving(move |mut incoming| async move {
            incoming.next().await.unwrap();
            let frames =
                [Ok(Frame::data(framed(&[]))), Ok(Frame::trailers(trailers(&[("grpc-status", code)])))];
            answer(futures::stream::iter(frames))
        })
        .build()
        .unwrap();
        let (mut sender, request) = live("/v1/feed", NDJSON);
        let answering = tokio::spawn(transcoder.oneshot(request));
        sender.send(piece("{}\n")).await.unwrap();
        // The request has not ended, and yet there is an answer.
        assert_eq!(answering.await.unwrap().unwrap().status(), status);
        assert!(sender.is_closed());
    }
}

#[tokio::test]
async fn a_request_that_another_task_reads_ends_with_the_answer() {
    let (ended, waits) = futures::channel::oneshot::channel();
    let ended = Mutex::new(Some(ended));
    // As a channel over HTTP/2 does, the messages are read by a task of their own.
    let transcoder = serving(move |mut incoming| {
        let ended = ended.lock().unwrap().take().unwrap();
        tokio::spawn(async move { ended.send(incoming.all().await.is_err()) });
        async { reply(framed(&[])) }
    })
    .build()
    .unwrap();
    let (sender, request) = live("/v1/feed", NDJSON);
    assert_eq!(transcoder.oneshot(request).await.unwrap().status(), 200);
    assert!(waits.await.unwrap(), "the request ended well, which it did not");
    assert!(sender.is_closed());
}

#[tokio::test]
async fn a_fault_that_another_task_finds_is_the_answer_though_the_upstream_is_silent() {
    let transcoder = serving(|mut incoming| {
        tokio::spawn(async move { incoming.all().await });
        std::future::pending()
    })
    .build()
    .unwrap();
    let got = sent(&transcoder, "/v1/feed", NDJSON, b"{}\n{\"legs\":true}\n", 4).await;
    assert_eq!(got.violation().0, "[1].legs");
}

#[tokio::test(start_paused = true)]
async fn the_deadline_bounds_a_client_stream() {
    let transcoder = collecting(&Heard::default()).build().unwrap();
    let (sender, mut request) = live("/v1/feed", NDJSON);
    request.headers_mut().insert("grpc-timeout", "5S".parse().unwrap());
    let begun = tokio::time::Instant::now();
    let got = read(transcoder.oneshot(request).await.unwrap()).await;
    assert_eq!((got.status.as_u16(), got.json()), (504, deadline_exceeded()));
    assert_eq!(begun.elapsed().as_secs(), 5);
    assert!(sender.is_closed());
}

#[tokio::test(start_paused = true)]
async fn a_message_that_comes_too_slowly_is_408_but_the_time_between_messages_is_free() {
    let drip = |pieces: Vec<(u64, &'static str)>| {
        futures::stream::iter(pieces).then(|(seconds, text)| async move {
            clock_passes(std::time::Duration::from_secs(seconds)).await;
            piece(text)
        })
    };
    let idle = drip(vec![(100, "{}\n"), (100, "{}\n"), (9, "{\"name\":"), (5, "\"a\"}\n"), (100, "{}\n")]);
    let slow = drip(vec![(100, "{}\n"), (1, "{\"name\":"), (16, "\"a\"}\n")]);
    let transcoder = collecting(&Heard::default()).build().unwrap();
    let request = post("/v1/feed", NDJSON).body(StreamBody::new(idle)).unwrap();
    assert_eq!(transcoder.clone().oneshot(request).await.unwrap().status(), 200);
    let request = post("/v1/feed", NDJSON).body(StreamBody::new(slow)).unwrap();
    let got = read(transcoder.oneshot(request).await.unwrap()).await;
    assert_eq!((got.status.as_u16(), &got.json()["details"][0]), (408, &error_info("BODY_TOO_SLOW")));
}
