//! What the host decides.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt as _;
use futures::future::BoxFuture;
use http::{HeaderMap, HeaderValue, Version};
use http_body::Frame;
use prost::Message as _;
use serde_json::json;
use tonic::Status;
use transcoder::{Admission, Gate, Method, Outcome};

use crate::harness::{
    Upstream, answer, builder, clock_passes, deadline_exceeded, framed, refusal, reply, request, send,
};
use crate::wire_client::{exchange, post};

/// Admits everything on the given terms and notes how it ended.
#[derive(Clone, Default)]
pub(crate) struct Recorder {
    admission: Admission,
    outcomes: Arc<Mutex<Vec<String>>>,
}

impl Recorder {
    pub(crate) fn outcomes(&self) -> Vec<String> {
        self.outcomes.lock().unwrap().clone()
    }

    pub(crate) fn new(admission: Admission) -> Self {
        Self { admission, outcomes: Arc::default() }
    }
}

impl Gate for Recorder {
    fn admit<'a>(
        &'a self,
        _method: &'a Method,
        _request: &'a http::request::Parts,
    ) -> BoxFuture<'a, Result<Admission, Status>> {
        Box::pin(std::future::ready(Ok(self.admission.clone())))
    }

    fn response_headers(&self, _method: &Method, upstream: &HeaderMap, out: &mut HeaderMap) {
        if let Some(value) = upstream.get("x-shown") {
            out.insert("x-shown", value.clone());
        }
    }

    fn observe(&self, outcome: Outcome<'_>) {
        let method = outcome.method.map_or("-", |method| &method.path()[1..]);
        let cause = outcome.cause.unwrap_or("-");
        let line = format!("{method} {:?} {} {cause}", outcome.code, outcome.http_status.as_u16());
        self.outcomes.lock().unwrap().push(line);
    }
}

/// Refuses everything, with a message that no header can hold as it is, a detail and a header.
pub(crate) struct Closed;

impl Gate for Closed {
    fn admit<'a>(
        &'a self,
        _method: &'a Method,
        _request: &'a http::request::Parts,
    ) -> BoxFuture<'a, Result<Admission, Status>> {
        let info = tonic_types::pb::ErrorInfo { reason: "NO".to_owned(), ..Default::default() };
        let detail = prost_types::Any {
            type_url: "type.googleapis.com/google.rpc.ErrorInfo".to_owned(),
            value: info.encode_to_vec(),
        };
        let details = tonic_types::pb::Status { code: 7, message: String::new(), details: vec![detail] };
        let code = tonic::Code::PermissionDenied;
        let mut status = Status::with_details(code, "not “you” 100%\n", details.encode_to_vec().into());
        status.metadata_mut().insert("x-extra", "1".parse().unwrap());
        Box::pin(std::future::ready(Err(status)))
    }
}

/// Refuses what the method's own option does not name.
struct Refuser;

impl Gate for Refuser {
    fn admit<'a>(
        &'a self,
        method: &'a Method,
        request: &'a http::request::Parts,
    ) -> BoxFuture<'a, Result<Admission, Status>> {
        Box::pin(async move {
            let extension = method.descriptor().parent_pool().get_extension_by_name("zoo.v1.label").unwrap();
            let label = method.descriptor().options().get_extension(&extension).into_owned();
            assert_eq!(label.as_message().unwrap().get_field_by_name("text").unwrap().as_str(), Some("echo"));
            assert_eq!(
                (method.path(), method.service(), method.name()),
                ("/zoo.v1.Zoo/Echo", "zoo.v1.Zoo", "Echo")
            );
            assert_eq!(method.input().full_name(), "zoo.v1.Everything");
            assert_eq!(method.output().full_name(), "zoo.v1.Everything");
            assert_eq!(request.uri.path(), "/v1/echo");
            let info = tonic_types::pb::ErrorInfo { reason: "NO".to_owned(), ..Default::default() };
            let detail = prost_types::Any {
                type_url: "type.googleapis.com/google.rpc.ErrorInfo".to_owned(),
                value: info.encode_to_vec(),
            };
            let details = tonic_types::pb::Status { code: 7, message: String::new(), details: vec![detail] };
            let mut status = Status::with_details(
                tonic::Code::PermissionDenied,
                "not you",
                details.encode_to_vec().into(),
            );
            status.metadata_mut().insert("x-extra", "1".parse().unwrap());
            Err(status)
        })
    }
}

#[tokio::test]
async fn the_gate_reads_the_methods_own_options_and_may_refuse_with_details() {
    let upstream = Upstream::echo();
    let transcoder = builder(&upstream).gate(Refuser).build().unwrap();
    // The body is not even JSON: it is not looked at.
    let got = send(&transcoder, request("POST", "/v1/echo", "{{{")).await;
    assert_eq!(got.status, 403);
    let detail = json!({"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "NO"});
    assert_eq!(got.json(), json!({"code": 7, "message": "not you", "details": [detail]}));
    assert_eq!(got.header("x-extra"), "1");
    assert!(upstream.seen().is_empty());
}

/// Admits every head, and no message with more than two bytes.
pub(crate) struct Inspector {
    pub(crate) inspect_message: bool,
}

impl Gate for Inspector {
    fn admit<'a>(
        &'a self,
        _method: &'a Method,
        _request: &'a http::request::Parts,
    ) -> BoxFuture<'a, Result<Admission, Status>> {
        let admission = Admission { inspect_message: self.inspect_message, ..Admission::default() };
        Box::pin(std::future::ready(Ok(admission)))
    }

    fn admit_message<'a>(
        &'a self,
        _method: &'a Method,
        _request: &'a http::request::Parts,
        message: &'a [u8],
    ) -> BoxFuture<'a, Result<(), Status>> {
        let refused = Err(Status::new(tonic::Code::ResourceExhausted, "too long"));
        Box::pin(std::future::ready(if message.len() > 2 { refused } else { Ok(()) }))
    }
}

#[tokio::test]
async fn the_gate_is_asked_about_the_message_when_it_wants_to_be() {
    for (inspect_message, body, expected) in
        [(true, "{}", 200), (true, r#"{"stringValue":"ab"}"#, 429), (false, r#"{"stringValue":"ab"}"#, 200)]
    {
        let upstream = Upstream::echo();
        let transcoder = builder(&upstream).gate(Inspector { inspect_message }).build().unwrap();
        let got = send(&transcoder, request("POST", "/v1/echo", body)).await;
        assert_eq!(got.status, expected, "{body}");
        assert_eq!(upstream.seen().len(), usize::from(expected == 200));
    }
}

#[tokio::test]
async fn only_the_metadata_of_the_admission_goes_upstream() {
    let mut metadata = HeaderMap::new();
    for (name, value) in [
        ("authorization", "Bearer x"),
        ("x-request-id", "7"),
        ("te", "gzip"),
        ("grpc-timeout", "1H"),
        ("host", "a"),
        ("content-type", "text/plain"),
        ("connection", "close"),
    ] {
        metadata.insert(name, HeaderValue::from_static(value));
    }
    let upstream = Upstream::echo();
    let gate = Recorder::new(Admission { metadata, ..Admission::default() });
    let transcoder = builder(&upstream).gate(gate).build().unwrap();
    let mut request = request("GET", "/v1/one/leo", "");
    for (name, value) in [("x-user-id", "admin"), ("cookie", "a=b"), ("authorization", "Bearer forged")] {
        request.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    assert_eq!(send(&transcoder, request).await.status, 200);
    let headers = upstream.last().headers;
    let mut sent: Vec<_> =
        headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
    sent.sort();
    assert_eq!(
        sent,
        ["authorization: Bearer x", "content-type: application/grpc", "te: trailers", "x-request-id: 7"]
    );
}

#[tokio::test]
async fn a_body_over_the_limit_is_413() {
    let gate = Recorder::new(Admission { max_body_bytes: 20, ..Admission::default() });
    let upstream = Upstream::echo();
    let transcoder = builder(&upstream).gate(gate).build().unwrap();
    let exact = r#"{"stringValue":"ab"}"#;
    assert_eq!(exact.len(), 20);
    assert_eq!(send(&transcoder, request("POST", "/v1/echo", exact)).await.status, 200);
    let got = send(&transcoder, request("POST", "/v1/echo", r#"{"stringValue":"abc"}"#)).await;
    assert_eq!(got.status, 413);
    assert_eq!(got.json()["message"], "the request body is larger than 20 bytes");
    let mut declared = request("POST", "/v1/echo", "{}");
    declared.headers_mut().insert("content-length", HeaderValue::from_static("21"));
    assert_eq!(send(&transcoder, declared).await.status, 413);
}

#[tokio::test]
async fn the_default_limit_is_one_mebibyte() {
    let upstream = Upstream::echo();
    let transcoder = builder(&upstream).build().unwrap();
    let body = |length: usize| format!("{{\"stringValue\":\"{}\"}}", "x".repeat(length - 18));
    assert_eq!(send(&transcoder, request("POST", "/v1/echo", &body(1 << 20))).await.status, 200);
    assert_eq!(send(&transcoder, request("POST", "/v1/echo", &body((1 << 20) + 1))).await.status, 413);
}

#[tokio::test(start_paused = true)]
async fn the_admitted_time_is_sent_and_enforced() {
    let gate = Recorder::new(Admission { timeout: Some(Duration::from_millis(250)), ..Admission::default() });
    let upstream = Upstream::new(|_| answer(futures::stream::pending()));
    let transcoder = builder(&upstream).gate(gate).build().unwrap();
    let got = send(&transcoder, request("GET", "/v1/one/leo", "")).await;
    assert_eq!(got.status, 504);
    assert_eq!(got.json(), deadline_exceeded());
    assert_eq!(upstream.last().headers["grpc-timeout"], "250000u");
}

#[tokio::test(start_paused = true)]
async fn a_shorter_time_of_the_client_wins() {
    for (value, expected) in [("100m", "100000u"), ("2S", "250000u"), ("90000u", "90000u")] {
        let gate =
            Recorder::new(Admission { timeout: Some(Duration::from_millis(250)), ..Admission::default() });
        let upstream = Upstream::echo();
        let transcoder = builder(&upstream).gate(gate).build().unwrap();
        let mut request = request("GET", "/v1/one/leo", "");
        request.headers_mut().insert("grpc-timeout", HeaderValue::from_static(value));
        assert_eq!(send(&transcoder, request).await.status, 200);
        assert_eq!(upstream.last().headers["grpc-timeout"], expected, "{value}");
    }
}

#[tokio::test]
async fn a_malformed_grpc_timeout_is_400() {
    let upstream = Upstream::echo();
    let transcoder = builder(&upstream).build().unwrap();
    for value in ["", "S", "1", "1s", "-1S", "123456789S", "1 S"] {
        let mut request = request("GET", "/v1/one/leo", "");
        request.headers_mut().insert("grpc-timeout", HeaderValue::from_static(value));
        assert_eq!(send(&transcoder, request).await.status, 400, "{value:?}");
    }
}

#[tokio::test]
async fn preset_fields_are_bound_and_may_not_be_contradicted() {
    let fields =
        vec![("request_id".to_owned(), "r1".to_owned()), ("no_such_field".to_owned(), "x".to_owned())];
    let gate = Recorder::new(Admission { fields, ..Admission::default() });
    let upstream = Upstream::echo();
    let transcoder = builder(&upstream).gate(gate).build().unwrap();
    let uri = "/v1/zoos/z/animals";
    assert_eq!(send(&transcoder, request("POST", uri, "{}")).await.status, 200);
    let seen = upstream.last().json("CreateAnimalRequest");
    assert_eq!(seen, json!({"parent": "zoos/z", "animal": {}, "requestId": "r1"}));
    let same = send(&transcoder, request("POST", &format!("{uri}?requestId=r1"), "{}")).await;
    assert_eq!(same.status, 200, "{}", same.text);
    let other = send(&transcoder, request("POST", &format!("{uri}?requestId=r2"), "{}")).await;
    assert_eq!(other.violation().0, "requestId");
}

#[tokio::test]
async fn a_preset_field_of_a_whole_body_may_only_be_repeated() {
    let fields = vec![("string_value".to_owned(), "r1".to_owned())];
    let gate = Recorder::new(Admission { fields, ..Admission::default() });
    let upstream = Upstream::echo();
    let transcoder = builder(&upstream).gate(gate).build().unwrap();
    for (body, expected) in [
        ("{}", 200),
        ("", 200),
        (r#"{"stringValue":"r1"}"#, 200),
        (r#"{"stringValue":"r2"}"#, 400),
        (r#"{"stringValue":""}"#, 400),
    ] {
        let got = send(&transcoder, request("POST", "/v1/echo", body)).await;
        assert_eq!(got.status, expected, "{body}: {}", got.text);
    }
}

#[tokio::test]
async fn only_what_the_gate_copies_of_the_reply_metadata_is_shown() {
    let upstream = Upstream::new(|_| {
        let mut answer = reply(framed(&[]));
        answer.headers_mut().insert("x-shown", HeaderValue::from_static("1"));
        answer.headers_mut().insert("x-internal", HeaderValue::from_static("10.0.0.1"));
        answer.headers_mut().insert("server", HeaderValue::from_static("tonic"));
        answer
    });
    let transcoder = builder(&upstream).gate(Recorder::default()).build().unwrap();
    let got = send(&transcoder, request("GET", "/v1/one/leo", "")).await;
    let mut names: Vec<_> = got.headers.keys().map(http::HeaderName::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["content-length", "content-type", "x-shown"]);
    let upstream = Upstream::new(|_| refusal(&[("grpc-status", "5"), ("x-shown", "2")]));
    let transcoder = builder(&upstream).gate(Recorder::default()).build().unwrap();
    let got = send(&transcoder, request("GET", "/v1/one/leo", "")).await;
    assert_eq!((got.status.as_u16(), got.header("x-shown")), (404, "2"));
}

#[tokio::test]
async fn the_host_is_told_how_each_request_ended() {
    let gate = Recorder::default();
    let upstream = Upstream::echo();
    let transcoder = builder(&upstream).gate(gate.clone()).build().unwrap();
    for (method, uri, body) in
        [("GET", "/v1/one/leo", ""), ("GET", "/nothing", ""), ("POST", "/v1/echo", "{")]
    {
        send(&transcoder, request(method, uri, body)).await;
    }
    assert_eq!(
        gate.outcomes(),
        ["zoo.v1.Zoo/GetAnimal Ok 200 -", "- NotFound 404 -", "zoo.v1.Zoo/Echo InvalidArgument 400 -"]
    );
}

#[tokio::test(start_paused = true)]
async fn an_upstream_that_cancels_for_the_deadline_has_exceeded_it_over_rest() {
    // What a server of tonic answers when `grpc-timeout` is over.
    let cancels = |after: usize| {
        Upstream::new(move |_| {
            let messages: Vec<_> = (0..after).map(|_| Ok(Frame::data(framed(&[16, 4])))).collect();
            let cancelled = async {
                clock_passes(Duration::from_millis(99)).await;
                let mut trailers = HeaderMap::new();
                trailers.insert("grpc-status", HeaderValue::from_static("1"));
                Ok(Frame::trailers(trailers))
            };
            answer(futures::stream::iter(messages).chain(futures::stream::once(cancelled)))
        })
    };
    for (uri, messages) in [("/v1/one/x", 0), ("/v1/one/x", 1), ("/v1/watch/x", 0)] {
        let transcoder = builder(&cancels(messages)).build().unwrap();
        for (timeout, status) in [("100m", 504), ("5S", 499)] {
            let mut request = request("GET", uri, "");
            request.headers_mut().insert("grpc-timeout", HeaderValue::from_static(timeout));
            let got = send(&transcoder, request).await;
            assert_eq!(got.status, status, "{uri} after {messages}: {}", got.text);
        }
    }
    let transcoder = builder(&cancels(1)).build().unwrap();
    for (timeout, code) in [("100m", 4), ("5S", 1)] {
        let mut request = request("GET", "/v1/watch/x", "");
        request.headers_mut().insert("grpc-timeout", HeaderValue::from_static(timeout));
        let got = send(&transcoder, request).await;
        let last: serde_json::Value = serde_json::from_str(got.text.lines().last().unwrap()).unwrap();
        assert_eq!(last["error"]["code"], code, "{}", got.text);
    }
}

#[tokio::test]
async fn a_connection_of_http_1_is_closed_when_the_body_was_too_large_to_be_read() {
    let gate = Recorder::new(Admission { max_body_bytes: 4, ..Admission::default() });
    let transcoder = builder(&Upstream::echo()).gate(gate).build().unwrap();
    for (version, expected) in [(Version::HTTP_11, "close"), (Version::HTTP_2, "")] {
        for uri in ["/v1/echo", "/v1/feed"] {
            let mut request = request("POST", uri, r#"[{"name": "longer than four"}]"#);
            *request.version_mut() = version;
            let got = send(&transcoder, request).await;
            assert_eq!((got.status.as_u16(), got.header("connection")), (413, expected), "{uri}");
        }
    }
}

/// Adds a header to every answer it is shown the metadata of, and counts.
#[derive(Clone, Default)]
struct Adder(Arc<Mutex<usize>>);

impl Gate for Adder {
    fn admit<'a>(
        &'a self,
        _method: &'a Method,
        _request: &'a http::request::Parts,
    ) -> BoxFuture<'a, Result<Admission, Status>> {
        Box::pin(std::future::ready(Ok(Admission::default())))
    }

    fn response_headers(&self, _method: &Method, _upstream: &HeaderMap, out: &mut HeaderMap) {
        *self.0.lock().unwrap() += 1;
        out.append("x-added", HeaderValue::from_static("1"));
    }
}

#[tokio::test]
async fn an_answer_that_is_nothing_but_a_status_is_shown_to_the_gate_once() {
    const GET: &str = "/zoo.v1.Zoo/GetAnimal";
    const WATCH: &str = "/zoo.v1.Zoo/Watch";
    for status in ["0", "5"] {
        let gate = Adder::default();
        let upstream = Upstream::new(move |_| refusal(&[("grpc-status", status)]));
        let transcoder = builder(&upstream).gate(gate.clone()).build().unwrap();
        let shown = || std::mem::take(&mut *gate.0.lock().unwrap());
        for uri in ["/v1/one/leo", "/v1/watch/leo"] {
            let got = send(&transcoder, request("GET", uri, "")).await;
            let added = got.headers.get_all("x-added").iter().count();
            assert_eq!((shown(), added), (1, 1), "{uri} {status}");
        }
        let envelope = framed(b"{}");
        for (path, content_type, body) in [
            (GET, "application/grpc", framed(&[])),
            (GET, "application/grpc-web", framed(&[])),
            (GET, "application/json", envelope.slice(5..)),
            (GET, "application/proto", envelope.slice(..0)),
            (WATCH, "application/connect+json", envelope),
            (WATCH, "application/connect+proto", framed(&[])),
        ] {
            let got = exchange(&transcoder, post(path, content_type, body)).await;
            let in_head = got.headers.get_all("x-added").iter().count();
            let in_body = got.body.windows(7).filter(|window| window == b"x-added").count();
            assert_eq!((shown(), in_head + in_body), (1, 1), "{content_type} {status}: {got:?}");
            assert!(got.trailers.is_none(), "{content_type} {status}");
        }
    }
}
