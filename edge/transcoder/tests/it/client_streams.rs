//! Client and bidirectional streams: in the process, against an upstream that reads as it likes.

mod flow;
mod raw;

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::{Buf as _, Bytes, BytesMut};
use futures::channel::mpsc;
use futures::{FutureExt as _, SinkExt as _, Stream};
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use prost_reflect::DynamicMessage;
use serde_json::{Value, json};
use tower::{Service, ServiceExt as _};
use transcoder::{Admission, Body, Builder, Transcoder};

use crate::gate::Recorder;
use crate::harness::{
    Answer, DESCRIPTOR_SET, Got, POOL, answer, error_info, framed, refusal, reply, trailers,
};

/// The messages that reach an upstream, one by one.
pub(crate) struct Incoming {
    body: tonic::body::Body,
    buffer: BytesMut,
    /// How many frames of the body have been read.
    frames: usize,
}

impl Incoming {
    pub(crate) fn new(body: tonic::body::Body) -> Self {
        Self { body, buffer: BytesMut::new(), frames: 0 }
    }

    /// The next message; `None` at the end; an error when the request broke off.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, tonic::Status> {
        loop {
            if let Some(prefix) = self.buffer.get(..5) {
                let length = u32::from_be_bytes(prefix[1..].try_into().unwrap());
                let length = usize::try_from(length).unwrap();
                if self.buffer.len() >= 5 + length {
                    self.buffer.advance(5);
                    return Ok(Some(self.buffer.split_to(length).freeze()));
                }
            }
            match self.body.frame().await {
                None => {
                    assert!(self.buffer.is_empty(), "ends within a message");
                    return Ok(None);
                }
                Some(frame) => {
                    self.frames += 1;
                    self.buffer.extend_from_slice(&frame?.into_data().expect("data only"));
                }
            }
        }
    }

    pub(crate) async fn all(&mut self) -> Result<Vec<Bytes>, tonic::Status> {
        let mut all = Vec::new();
        while let Some(message) = self.next().await? {
            all.push(message);
        }
        Ok(all)
    }
}

fn json_of(name: &str, message: &Bytes) -> Value {
    let descriptor = POOL.get_message_by_name(&format!("zoo.v1.{name}")).unwrap();
    serde_json::to_value(DynamicMessage::decode(descriptor, message.clone()).unwrap()).unwrap()
}

type Answering = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// An upstream that is one function.
#[derive(Clone)]
pub(crate) struct Server(Arc<dyn Fn(Incoming) -> Answering + Send + Sync>);

impl Service<Request<tonic::body::Body>> for Server {
    type Response = Answer;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Answer, Infallible>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<tonic::body::Body>) -> Self::Future {
        Box::pin((self.0)(Incoming::new(request.into_body())).map(Ok))
    }
}

pub(crate) fn server<F>(serve: impl Fn(Incoming) -> F + Send + Sync + 'static) -> Server
where
    F: Future<Output = Answer> + Send + 'static,
{
    Server(Arc::new(move |incoming| Box::pin(serve(incoming))))
}

/// A server that sends every message back as it comes.
pub(crate) fn echo_server() -> Server {
    server(|incoming| async move { answer(echoed(incoming)) })
}

fn echoed(incoming: Incoming) -> impl Stream<Item = Result<Frame<Bytes>, tonic::Status>> + Send {
    futures::stream::unfold(Some(incoming), |incoming| async {
        let mut incoming = incoming?;
        match incoming.next().await {
            Ok(Some(message)) => Some((Ok(Frame::data(framed(&message))), Some(incoming))),
            Ok(None) => Some((Ok(Frame::trailers(trailers(&[("grpc-status", "0")]))), None)),
            Err(status) => Some((Err(status), None)),
        }
    })
}

fn serving<F>(serve: impl Fn(Incoming) -> F + Send + Sync + 'static) -> Builder
where
    F: Future<Output = Answer> + Send + 'static,
{
    Transcoder::builder(&DESCRIPTOR_SET).upstream("zoo.v1.Zoo", server(serve))
}

/// What an upstream was sent, and whether it came to its end.
#[derive(Clone, Default)]
struct Heard(Arc<Mutex<(Vec<Bytes>, Option<bool>)>>);

impl Heard {
    fn json(&self, name: &str) -> Vec<Value> {
        self.0.lock().unwrap().0.iter().map(|message| json_of(name, message)).collect()
    }

    /// Whether the messages ended well; `None` when they did not end.
    fn whole(&self) -> Option<bool> {
        self.0.lock().unwrap().1
    }
}

/// Reads all messages, then answers with an empty message.
fn collecting(heard: &Heard) -> Builder {
    let heard = heard.clone();
    serving(move |mut incoming| {
        let heard = heard.clone();
        async move {
            loop {
                match incoming.next().await {
                    Ok(Some(message)) => heard.0.lock().unwrap().0.push(message),
                    Ok(None) => break heard.0.lock().unwrap().1 = Some(true),
                    Err(_) => {
                        heard.0.lock().unwrap().1 = Some(false);
                        return refusal(&[("grpc-status", "13"), ("grpc-message", "broken request")]);
                    }
                }
            }
            reply(framed(&[]))
        }
    })
}

/// Sends every message back as it comes.
fn echoing() -> Builder {
    Transcoder::builder(&DESCRIPTOR_SET).upstream("zoo.v1.Zoo", echo_server())
}

const NDJSON: &str = "application/x-ndjson";
const ARRAY: &str = "application/json";

type Piece = Result<Frame<Bytes>, std::io::Error>;

fn post(uri: &str, content_type: &str) -> http::request::Builder {
    let request = Request::builder().method("POST").uri(uri);
    if content_type.is_empty() { request } else { request.header("content-type", content_type) }
}

/// A request whose body is sent piece by piece.
fn live(uri: &str, content_type: &str) -> (mpsc::Sender<Piece>, Request<StreamBody<mpsc::Receiver<Piece>>>) {
    let (sender, receiver) = mpsc::channel(0);
    (sender, post(uri, content_type).body(StreamBody::new(receiver)).unwrap())
}

#[expect(clippy::unnecessary_wraps, reason = "an item of a body")]
fn piece(text: &str) -> Piece {
    Ok(Frame::data(Bytes::from(text.to_owned())))
}

async fn read(response: Response<Body>) -> Got {
    let (head, mut body) = response.into_parts();
    let mut bytes = Vec::new();
    let mut broken = false;
    while let Some(frame) = body.frame().await {
        match frame.map(Frame::into_data) {
            Ok(Ok(data)) => bytes.extend_from_slice(&data),
            Ok(Err(_)) => {}
            Err(_) => broken = true,
        }
    }
    let text = String::from_utf8(bytes).unwrap();
    Got { status: head.status, headers: head.headers, text, broken }
}

/// Sends a body cut into pieces of `size` bytes.
async fn sent(transcoder: &Transcoder, uri: &str, content_type: &str, body: &[u8], size: usize) -> Got {
    let pieces: Vec<_> = body
        .chunks(size)
        .map(|chunk| Ok::<_, std::io::Error>(Frame::data(Bytes::copy_from_slice(chunk))))
        .collect();
    let request = post(uri, content_type).body(StreamBody::new(futures::stream::iter(pieces))).unwrap();
    read(transcoder.clone().oneshot(request).await.unwrap()).await
}

#[tokio::test]
async fn a_client_stream_is_ndjson_or_a_json_array() {
    let expected =
        [json!({"name": "a\n,]\"\\"}), json!({"legs": 2}), json!({}), json!({"name": "é", "legs": 4})];
    let lines = "{\"name\":\"a\\n,]\\\"\\\\\"}\n \r\n{\"legs\":2}\r\n\n{}\n{\"name\":\"é\",\"legs\":4}";
    let array = " [ {\"name\":\"a\\n,]\\\"\\\\\"} ,\n{\"legs\":2},{}, {\"name\":\"é\",\"legs\":4} ] \n";
    for (content_type, body) in
        [(NDJSON, lines), ("application/x-ndjson; charset=utf-8", lines), (ARRAY, array)]
    {
        for size in [1, 2, 7, 1000] {
            let heard = Heard::default();
            let transcoder = collecting(&heard).build().unwrap();
            let got = sent(&transcoder, "/v1/feed", content_type, body.as_bytes(), size).await;
            assert_eq!((got.status.as_u16(), got.text.as_str()), (200, "{}"), "{content_type} {size}");
            assert_eq!(got.header("content-type"), "application/json");
            assert_eq!(heard.json("GetAnimalRequest"), expected, "{content_type} {size}");
            assert_eq!(heard.whole(), Some(true));
        }
    }
}

#[tokio::test]
async fn a_client_stream_may_be_empty() {
    for (content_type, body) in
        [(NDJSON, ""), (NDJSON, "\n \n"), (ARRAY, "[]"), (ARRAY, " [ ] "), (ARRAY, ""), ("", "")]
    {
        let heard = Heard::default();
        let transcoder = collecting(&heard).build().unwrap();
        let got = sent(&transcoder, "/v1/feed", content_type, body.as_bytes(), 1).await;
        let whole = heard.whole();
        if content_type.is_empty() {
            // A body of unknown length may yet bring something.
            assert_eq!(got.status, 415);
            let request = post("/v1/feed", "").body(http_body_util::Empty::<Bytes>::new()).unwrap();
            assert_eq!(transcoder.oneshot(request).await.unwrap().status(), 200);
        } else {
            assert_eq!(
                (got.status.as_u16(), whole),
                (200, Some(true)),
                "{content_type} {body:?}: {}",
                got.text
            );
        }
        assert!(heard.json("GetAnimalRequest").is_empty());
    }
}

#[tokio::test]
async fn a_client_stream_of_another_type_is_415() {
    let heard = Heard::default();
    let transcoder = collecting(&heard).build().unwrap();
    for content_type in ["text/plain", "application/x-ndjson; charset=latin1", "application/jsonl", ""] {
        let got = sent(&transcoder, "/v1/feed", content_type, b"{}", 10).await;
        assert_eq!(got.status, 415, "{content_type}");
        assert_eq!(got.json()["details"][0], error_info("UNSUPPORTED_MEDIA_TYPE"));
    }
    assert_eq!(heard.whole(), None, "the upstream is not called");
}

#[tokio::test]
async fn an_error_in_an_item_names_its_index_and_ends_the_upstream_call() {
    for (content_type, body, field, rule) in [
        (
            NDJSON,
            "{}\n{}\n{\"legs\":\"many\"}\n{}",
            "[2].legs",
            "must be an integer from -2147483648 to 2147483647",
        ),
        (ARRAY, "[{},{\"nope\":1},{}]", "[1].nope", "is not a field of the request"),
        (NDJSON, "{}{}\n", "[0]", "invalid JSON at line 1 column 3: expected nothing after the value"),
        (NDJSON, "[{}]\n", "[0]", "invalid JSON at line 1 column 1: expected an object"),
        (ARRAY, "{}", "[0]", "must be an element of a JSON array"),
        (ARRAY, "[{},]", "[1]", "invalid JSON: expected a value"),
        (ARRAY, "[,{}]", "[0]", "invalid JSON: expected a value"),
        (ARRAY, "[{}] {}", "[1]", "invalid JSON: expected nothing after the array"),
        (ARRAY, "[{},{}", "[1]", "JSON ends too early, expected the end of the array"),
        (ARRAY, "[{},", "[1]", "JSON ends too early, expected the end of the array"),
        (ARRAY, "[{} {}]", "[0]", "invalid JSON at line 1 column 4: expected nothing after the value"),
        (ARRAY, "[{]}]", "[0]", "invalid JSON at line 1 column 2: expected a string"),
    ] {
        for size in [1, 100] {
            let heard = Heard::default();
            let transcoder = collecting(&heard).build().unwrap();
            let got = sent(&transcoder, "/v1/feed", content_type, body.as_bytes(), size).await;
            assert_eq!(got.violation(), (field.to_owned(), rule.to_owned()), "{body}");
            assert_ne!(heard.whole(), Some(true), "{body}: the upstream takes it for whole");
        }
    }
}

#[tokio::test]
async fn a_message_that_is_not_utf_8_is_refused() {
    let transcoder = collecting(&Heard::default()).build().unwrap();
    let got = sent(&transcoder, "/v1/feed", NDJSON, b"{}\n{\"name\":\"\xff\"}\n", 100).await;
    assert_eq!(got.violation(), ("[1]".to_owned(), "the body is not UTF-8".to_owned()));
}

#[tokio::test]
async fn the_body_limit_is_for_each_message_and_not_for_all() {
    let gate = Recorder::new(Admission { max_body_bytes: 20, ..Admission::default() });
    for (content_type, fits, over) in [
        (
            NDJSON,
            format!("{{\"name\":\"{}\"}}\n", "x".repeat(9)).repeat(50),
            format!("{{}}\n{{\"name\":\"{}\"}}\n", "x".repeat(10)),
        ),
        (
            ARRAY,
            format!("[{}{{}}]", format!("{{\"name\":\"{}\"}},", "x".repeat(9)).repeat(50)),
            format!("[{{}},{{\"name\":\"{}\"}}]", "x".repeat(10)),
        ),
    ] {
        for size in [1, 10_000] {
            let transcoder = collecting(&Heard::default()).gate(gate.clone()).build().unwrap();
            let got = sent(&transcoder, "/v1/feed", content_type, fits.as_bytes(), size).await;
            assert_eq!(got.status, 200, "{content_type} {size}: {}", got.text);
            let got = sent(&transcoder, "/v1/feed", content_type, over.as_bytes(), size).await;
            assert_eq!(got.status, 413, "{content_type} {size}: {}", got.text);
            assert_eq!(got.json()["message"], "message [1] of the request is larger than 20 bytes");
        }
    }
}

#[tokio::test]
async fn what_the_path_query_and_host_bind_is_part_of_every_message() {
    let gate = Recorder::new(Admission {
        fields: vec![("request_id".to_owned(), "r1".to_owned())],
        ..Admission::default()
    });
    let heard = Heard::default();
    let transcoder = collecting(&heard).gate(gate).build().unwrap();
    let uri = "/v1/zoos/z%20z/animals:all?cage=c";
    let got = sent(&transcoder, uri, NDJSON, b"{\"legs\":1}\n{\"legs\":2}\n", 100).await;
    assert_eq!(got.status, 200, "{}", got.text);
    let message =
        |legs: i32| json!({"parent": "zoos/z z", "animal": {"legs": legs}, "requestId": "r1", "cage": "c"});
    assert_eq!(heard.json("CreateAnimalRequest"), [message(1), message(2)]);
    // A contradiction is one of the message that contradicts.
    let transcoder = echoing().build().unwrap();
    let got =
        sent(&transcoder, "/v1/chat/leo", NDJSON, b"{\"name\":\"leo\"}\n{\"name\":\"nala\"}\n", 1).await;
    assert_eq!(got.status, 200);
    assert!(got.broken);
    let line: Value = serde_json::from_str(got.text.lines().last().unwrap()).unwrap();
    assert_eq!(line["error"]["details"][1]["fieldViolations"][0]["field"], "[1].name");
}

#[tokio::test]
async fn a_long_query_is_part_of_each_of_many_messages() {
    let heard = Heard::default();
    let transcoder = collecting(&heard).build().unwrap();
    let cage = "c".repeat(8_000);
    let uri = format!("/v1/zoos/z/animals:all?cage={cage}&requestId=r");
    let got = sent(&transcoder, &uri, NDJSON, "{\"legs\":1}\n".repeat(300).as_bytes(), 1 << 20).await;
    assert_eq!(got.status, 200, "{}", got.text);
    let message = json!({"parent": "zoos/z", "animal": {"legs": 1}, "requestId": "r", "cage": cage});
    assert_eq!(heard.json("CreateAnimalRequest"), vec![message; 300]);
}

#[tokio::test]
async fn what_is_bound_from_elsewhere_is_checked_before_the_upstream_is_called() {
    let heard = Heard::default();
    let transcoder = collecting(&heard).build().unwrap();
    for (uri, field) in [
        ("/v1/zoos/z/animals:all?nope=1", "nope"),
        ("/v1/zoos/z/animals:all?animal.legs=1", "animal.legs"),
        ("/v1/feed?legs=1", ""),
    ] {
        assert_eq!(sent(&transcoder, uri, NDJSON, b"", 1).await.violation().0, field, "{uri}");
    }
    assert_eq!(heard.whole(), None);
}

#[tokio::test]
async fn a_rule_without_a_body_is_a_stream_of_one_message() {
    let heard = Heard::default();
    let transcoder = collecting(&heard).build().unwrap();
    let request =
        Request::get("/v1/zoos/z/animals:none?cage=c").body(http_body_util::Empty::<Bytes>::new()).unwrap();
    assert_eq!(transcoder.clone().oneshot(request).await.unwrap().status(), 200);
    assert_eq!(heard.json("CreateAnimalRequest"), [json!({"parent": "zoos/z", "cage": "c"})]);
    let request =
        Request::get("/v1/zoos/z/animals:none").body(http_body_util::Full::new(Bytes::from("{}"))).unwrap();
    assert_eq!(transcoder.oneshot(request).await.unwrap().status(), 400);
}

#[tokio::test]
async fn a_bidirectional_stream_answers_each_message_before_the_next_is_sent() {
    for (accept, before, separator, after) in [
        (NDJSON, "", "\n", ""),
        (ARRAY, "[", "", "]"),
        ("text/event-stream", "id: 1\ndata: ", "\n\n", "event: end\ndata: {}\n\n"),
    ] {
        let transcoder = echoing().build().unwrap();
        let (mut sender, mut request) = live("/v1/chat", NDJSON);
        request.headers_mut().insert("accept", accept.parse().unwrap());
        let answering = tokio::spawn(transcoder.oneshot(request));
        sender.send(piece("{\"legs\":1}\n")).await.unwrap();
        let response = answering.await.unwrap().unwrap();
        assert_eq!(response.headers()["content-type"], accept);
        let mut body = response.into_body();
        let mut next = async || body.frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(next().await, format!("{before}{{\"legs\":1}}{separator}"), "{accept}");
        // The client says the next only now that it has the answer to the first.
        let (second, answer) = tokio::join!(sender.send(piece("{\"legs\":2}\n")), next());
        second.unwrap();
        let answer = String::from_utf8(answer.to_vec()).unwrap();
        assert!(answer.contains("{\"legs\":2}"), "{answer}");
        sender.close_channel();
        let rest = body.collect().await.unwrap().to_bytes();
        assert_eq!(rest, after, "{accept}");
    }
}

#[tokio::test]
async fn a_fault_in_the_middle_of_a_bidirectional_stream_is_in_band_in_each_framing() {
    for (accept, begin, end) in [
        (NDJSON, "{\"legs\":1}\n{\"error\":", "}\n"),
        (ARRAY, "[{\"legs\":1},{\"error\":", "}"),
        ("text/event-stream", "id: 1\ndata: {\"legs\":1}\n\nevent: error\ndata: ", "\n\n"),
    ] {
        let gate = Recorder::default();
        let transcoder = echoing().gate(gate.clone()).build().unwrap();
        let pieces = [piece("{\"legs\":1}\n"), piece("{\"legs\":x}\n")];
        let request = post("/v1/chat", NDJSON).header("accept", accept);
        let request = request.body(StreamBody::new(futures::stream::iter(pieces))).unwrap();
        let got = read(transcoder.oneshot(request).await.unwrap()).await;
        assert!(got.broken, "{accept}");
        let error = got.text.strip_prefix(begin).and_then(|text| text.strip_suffix(end));
        let error: Value = serde_json::from_str(error.unwrap_or_else(|| panic!("{}", got.text))).unwrap();
        assert_eq!(error["details"][0], error_info("REQUEST_INVALID"), "{accept}");
        assert_eq!(error["details"][1]["fieldViolations"][0]["field"], "[1].legs", "{accept}");
        assert_eq!(gate.outcomes(), ["zoo.v1.Zoo/Talk InvalidArgument 200 -"], "{accept}");
    }
}

#[tokio::test]
async fn a_request_that_breaks_off_is_400_and_is_not_taken_for_whole() {
    let heard = Heard::default();
    let transcoder = collecting(&heard).build().unwrap();
    let pieces = [piece("{}\n"), Err(std::io::Error::other("reset"))];
    let request = post("/v1/feed", NDJSON).body(StreamBody::new(futures::stream::iter(pieces))).unwrap();
    let got = read(transcoder.oneshot(request).await.unwrap()).await;
    assert_eq!((got.status.as_u16(), &got.json()["details"][0]), (400, &error_info("BODY_UNREADABLE")));
    assert_ne!(heard.whole(), Some(true));
}
