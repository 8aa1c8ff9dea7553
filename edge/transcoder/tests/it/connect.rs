//! Connect: unary calls and GET.

mod streams;

use std::io::{Read as _, Write as _};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use http::{HeaderValue, Request};
use http_body_util::Full;
use prost::Message as _;
use serde_json::json;
use transcoder::{Admission, Transcoder};

use crate::gate::{Closed, Recorder};
use crate::harness::{Upstream, answer, builder, framed, message, refusal, reply};
use crate::wire_client::{Raw, exchange, post};

const GET: &str = "/zoo.v1.Zoo/GetAnimal";
const ECHO: &str = "/zoo.v1.Zoo/Echo";
const WATCH: &str = "/zoo.v1.Zoo/Watch";
const CHAT: &str = "/zoo.v1.Zoo/Chat";

const LEO: &str = r#"{"name":"leo","legs":4}"#;

fn leo() -> Bytes {
    Bytes::from(message("GetAnimalRequest", LEO).encode_to_vec())
}

fn get(query: &str) -> Request<Full<Bytes>> {
    Request::builder().uri(format!("{GET}?{query}")).body(Full::default()).unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn envelope(flags: u8, content: &[u8]) -> Bytes {
    let mut bytes = framed(content).to_vec();
    bytes[0] = flags;
    Bytes::from(bytes)
}

/// A request with further headers.
fn with(mut request: Request<Full<Bytes>>, headers: &[(&'static str, &'static str)]) -> Request<Full<Bytes>> {
    for (name, value) in headers {
        request.headers_mut().insert(*name, HeaderValue::from_static(value));
    }
    request
}

/// Status, code and first reason of a unary error.
fn refused(got: &Raw) -> (u16, String, String) {
    assert_eq!(got.header("content-type"), "application/json");
    let error = got.json();
    let reason = error["details"][0]["debug"]["reason"].as_str().unwrap_or_default().to_owned();
    (got.status.as_u16(), error["code"].as_str().unwrap_or_default().to_owned(), reason)
}

fn refusal_of(status: u16, code: &str, reason: &str) -> (u16, String, String) {
    (status, code.to_owned(), reason.to_owned())
}

#[tokio::test]
async fn a_unary_call_of_connect_is_plain_json_or_protobuf() {
    let upstream = Upstream::echo();
    let transcoder = builder(&upstream).build().unwrap();
    for content_type in ["application/json", "application/json; charset=utf-8"] {
        let got = exchange(&transcoder, post(GET, content_type, LEO)).await;
        assert_eq!((got.status.as_u16(), got.header("content-type")), (200, "application/json"));
        assert_eq!(&*got.body, LEO.as_bytes());
        assert_eq!(got.header("content-length"), LEO.len().to_string());
    }
    let got = exchange(&transcoder, post(GET, "application/proto", leo())).await;
    assert_eq!(
        (got.status.as_u16(), got.header("content-type"), &got.body),
        (200, "application/proto", &leo())
    );
    let got = exchange(&transcoder, post(GET, "application/proto", "")).await;
    assert_eq!((got.status.as_u16(), got.body.len()), (200, 0));
    for seen in upstream.seen() {
        assert_eq!(seen.headers["content-type"], "application/grpc");
        assert_eq!(seen.path, GET);
    }
}

#[tokio::test]
async fn connect_reaches_methods_without_a_rule() {
    let upstream = Upstream::echo();
    let transcoder = builder(&upstream).build().unwrap();
    let got = exchange(&transcoder, post("/zoo.v1.Zoo/Unannotated", "application/json", LEO)).await;
    assert_eq!((got.status.as_u16(), &*got.body), (200, LEO.as_bytes()));
}

#[tokio::test]
async fn a_method_without_side_effects_is_called_with_get() {
    let upstream = Upstream::echo();
    let transcoder = builder(&upstream).build().unwrap();
    let escaped = "%7B%22name%22:%22leo%22,%22legs%22:4%7D";
    for query in [
        format!("connect=v1&encoding=json&message={escaped}"),
        format!("message={escaped}&encoding=json"),
        format!("connect=v1&encoding=json&base64=1&message={}", URL_SAFE.encode(LEO)),
        format!("connect=v1&encoding=json&base64=1&message={}", URL_SAFE_NO_PAD.encode(LEO)),
        format!(
            "connect=v1&encoding=json&base64=1&compression=gzip&message={}",
            URL_SAFE_NO_PAD.encode(gzip(LEO.as_bytes()))
        ),
        format!("connect=v1&encoding=json&compression=identity&message={escaped}&future=x"),
    ] {
        let got = exchange(&transcoder, get(&query)).await;
        assert_eq!((got.status.as_u16(), &*got.body), (200, LEO.as_bytes()), "{query}: {got:?}");
        assert_eq!(got.header("content-type"), "application/json");
    }
    // Bytes that are no text may be escaped as well.
    for query in ["encoding=proto&message=%10%C3%01", "encoding=proto&base64=1&message=EMMB"] {
        let got = exchange(&transcoder, get(query)).await;
        assert_eq!((got.header("content-type"), &*got.body), ("application/proto", &[16, 0xc3, 1][..]));
    }
}

#[tokio::test]
async fn a_malformed_get_is_400_and_names_the_parameter() {
    let upstream = Upstream::echo();
    let transcoder = builder(&upstream).build().unwrap();
    for (query, message) in [
        ("connect=v2&encoding=json&message=%7B%7D", "`connect` must be v1"),
        ("connect=v1&message=%7B%7D", "`encoding` must be json or proto"),
        ("connect=v1&encoding=xml&message=%7B%7D", "`encoding` must be json or proto"),
        ("connect=v1&encoding=json", "`message` is required"),
        ("connect=v1&encoding=json&message=%7", "`message` has a `%` without two hexadecimal digits"),
        ("connect=v1&encoding=json&base64=1&message=A", "`message` must be base64"),
        ("connect=v1&encoding=json&base64=1&message=!!!!", "`message` must be base64"),
        ("connect=v1&encoding=json&base64=2&message=e30", "`base64` must be 1"),
        (
            "connect=v1&encoding=json&compression=gzip&message=%7B%7D",
            "a message is not what its compression says",
        ),
    ] {
        let got = exchange(&transcoder, get(query)).await;
        assert_eq!(refused(&got), refusal_of(400, "invalid_argument", "REQUEST_INVALID"), "{query}");
        assert_eq!(got.json()["message"], message);
    }
    let got = exchange(&transcoder, get("connect=v1&encoding=json&compression=br&message=e30")).await;
    assert_eq!(refused(&got), refusal_of(501, "unimplemented", "COMPRESSION_UNSUPPORTED"));
    assert!(upstream.seen().is_empty());
}

#[tokio::test]
async fn get_on_a_method_with_side_effects_is_405() {
    let upstream = Upstream::echo();
    let transcoder = builder(&upstream).build().unwrap();
    for path in [ECHO, WATCH, CHAT, "/zoo.v1.Zoo/Unannotated"] {
        let uri = format!("{path}?connect=v1&encoding=json&message=%7B%7D");
        let request = Request::builder().uri(uri).body(Full::<Bytes>::default()).unwrap();
        let got = exchange(&transcoder, request).await;
        assert_eq!((got.status.as_u16(), got.header("allow")), (405, "OPTIONS, POST"), "{path}");
    }
    for method in ["PUT", "DELETE", "PATCH", "HEAD"] {
        let mut request = post(GET, "application/json", "{}");
        *request.method_mut() = method.parse().unwrap();
        let got = exchange(&transcoder, request).await;
        assert_eq!((got.status.as_u16(), got.header("allow")), (405, "GET, OPTIONS, POST"), "{method}");
    }
    let mut options = post(GET, "application/json", "");
    *options.method_mut() = http::Method::OPTIONS;
    let got = exchange(&transcoder, options).await;
    assert_eq!((got.status.as_u16(), got.header("allow")), (204, "GET, OPTIONS, POST"));
    assert!(upstream.seen().is_empty());
}

#[tokio::test]
async fn an_error_of_connect_has_a_named_code_details_and_the_codes_own_status() {
    const CODES: [(&str, &str, u16); 16] = [
        ("1", "canceled", 499),
        ("2", "unknown", 500),
        ("3", "invalid_argument", 400),
        ("4", "deadline_exceeded", 504),
        ("5", "not_found", 404),
        ("6", "already_exists", 409),
        ("7", "permission_denied", 403),
        ("8", "resource_exhausted", 429),
        ("9", "failed_precondition", 400),
        ("10", "aborted", 409),
        ("11", "out_of_range", 400),
        ("12", "unimplemented", 501),
        ("13", "internal", 500),
        ("14", "unavailable", 503),
        ("15", "data_loss", 500),
        ("16", "unauthenticated", 401),
    ];
    for (number, name, status) in CODES {
        let upstream =
            Upstream::new(move |_| refusal(&[("grpc-status", number), ("grpc-message", "why%21")]));
        let transcoder = builder(&upstream).build().unwrap();
        let got = exchange(&transcoder, post(GET, "application/proto", leo())).await;
        assert_eq!((got.status.as_u16(), got.header("content-type")), (status, "application/json"));
        assert_eq!(got.json(), json!({"code": name, "message": "why!"}));
    }
    let known = prost_types::Any {
        type_url: "type.googleapis.com/zoo.v1.Animal".to_owned(),
        value: message("Animal", r#"{"name":"leo"}"#).encode_to_vec(),
    };
    let unknown = prost_types::Any { type_url: "example.com/some.Type".to_owned(), value: vec![1, 2, 3, 4] };
    let broken =
        prost_types::Any { type_url: "type.googleapis.com/zoo.v1.Animal".to_owned(), value: vec![255] };
    let details = [known.clone(), unknown, broken];
    let status = tonic_types::pb::Status { code: 5, message: String::new(), details: details.to_vec() };
    let status = STANDARD_NO_PAD.encode(status.encode_to_vec());
    let upstream =
        Upstream::new(move |_| refusal(&[("grpc-status", "5"), ("grpc-status-details-bin", &status)]));
    let transcoder = builder(&upstream).build().unwrap();
    let got = exchange(&transcoder, post(GET, "application/json", LEO)).await;
    let value = STANDARD_NO_PAD.encode(&known.value);
    let details = json!([
        {"type": "zoo.v1.Animal", "value": value, "debug": {"name": "leo"}},
        {"type": "some.Type", "value": "AQIDBA"},
        {"type": "zoo.v1.Animal", "value": "/w"},
    ]);
    assert_eq!(got.json(), json!({"code": "not_found", "details": details}));
}

#[tokio::test]
async fn a_refused_unary_call_of_connect_never_reaches_the_upstream() {
    let upstream = Upstream::echo();
    let small = Recorder::new(Admission { max_body_bytes: 30, ..Admission::default() });
    let transcoder = builder(&upstream).gate(small).build().unwrap();
    let bomb = gzip(&[b' '; 31]);
    for (request, expected) in [
        (post(GET, "application/json", ""), (400, "invalid_argument", "REQUEST_INVALID")),
        (post(GET, "application/json", "{"), (400, "invalid_argument", "REQUEST_INVALID")),
        (
            post(GET, "application/json", &[b'"', 0xff, b'"'][..]),
            (400, "invalid_argument", "REQUEST_INVALID"),
        ),
        (post(GET, "application/json", r#"{"nothing":1}"#), (400, "invalid_argument", "REQUEST_INVALID")),
        (post(GET, "application/json", vec![b' '; 31]), (429, "resource_exhausted", "BODY_TOO_LARGE")),
        (post(GET, "application/proto", vec![0; 31]), (429, "resource_exhausted", "BODY_TOO_LARGE")),
        (
            with(post(GET, "application/json", bomb), &[("content-encoding", "gzip")]),
            (429, "resource_exhausted", "BODY_TOO_LARGE"),
        ),
        (
            with(post(GET, "application/json", "{}"), &[("content-encoding", "gzip")]),
            (400, "invalid_argument", "REQUEST_INVALID"),
        ),
        (
            with(post(GET, "application/json", "{}"), &[("content-encoding", "br")]),
            (501, "unimplemented", "COMPRESSION_UNSUPPORTED"),
        ),
        (
            with(post(GET, "application/json", "{}"), &[("connect-protocol-version", "2")]),
            (400, "invalid_argument", "REQUEST_INVALID"),
        ),
        (
            with(post(GET, "application/json", "{}"), &[("connect-timeout-ms", "soon")]),
            (400, "invalid_argument", "REQUEST_INVALID"),
        ),
        (
            with(post(GET, "application/json", "{}"), &[("connect-timeout-ms", "12345678901")]),
            (400, "invalid_argument", "REQUEST_INVALID"),
        ),
    ] {
        let shown = format!("{request:?}");
        let got = exchange(&transcoder, request).await;
        assert_eq!(refused(&got), refusal_of(expected.0, expected.1, expected.2), "{shown}: {got:?}");
    }
    assert!(upstream.seen().is_empty());
    let got =
        exchange(&transcoder, with(post(GET, "application/json", "{}"), &[("content-encoding", "br")])).await;
    assert_eq!(got.json()["message"], "supported compressions are gzip, identity");
}

#[tokio::test]
async fn an_unknown_method_of_connect_is_404() {
    let upstream = Upstream::echo();
    let transcoder = builder(&upstream).build().unwrap();
    for content_type in ["application/connect+json", "application/connect+proto"] {
        let got = exchange(&transcoder, post("/zoo.v1.Zoo/Nothing", content_type, "")).await;
        assert_eq!(refused(&got), refusal_of(404, "unimplemented", "METHOD_UNKNOWN"));
    }
    // Of the other types nothing says that Connect is meant.
    for content_type in ["application/json", "application/proto"] {
        assert_eq!(exchange(&transcoder, post("/zoo.v1.Zoo/Nothing", content_type, "{}")).await.status, 404);
    }
}

#[tokio::test]
async fn a_refusal_of_the_host_is_an_error_of_connect() {
    let upstream = Upstream::echo();
    let transcoder = builder(&upstream).gate(Closed).build().unwrap();
    let got = exchange(&transcoder, post(GET, "application/json", "{{{")).await;
    assert_eq!(refused(&got), refusal_of(403, "permission_denied", "NO"));
    assert_eq!((got.json()["message"].as_str(), got.header("x-extra")), (Some("not “you” 100%\n"), "1"));
    let got = exchange(&transcoder, post(WATCH, "application/connect+json", "{{{")).await;
    assert_eq!((got.status.as_u16(), got.header("content-type")), (200, "application/connect+json"));
    assert_eq!(
        (&got.end()["error"]["code"], &got.end()["metadata"]["x-extra"]),
        (&json!("permission_denied"), &json!(["1"]))
    );
    assert!(upstream.seen().is_empty());
}

#[tokio::test]
async fn a_compressed_unary_request_of_connect_is_read() {
    let upstream = Upstream::echo();
    let transcoder = builder(&upstream).build().unwrap();
    let request = with(post(GET, "application/json", gzip(LEO.as_bytes())), &[("content-encoding", "gzip")]);
    let got = exchange(&transcoder, request).await;
    assert_eq!((got.status.as_u16(), &*got.body), (200, LEO.as_bytes()));
}

#[tokio::test(start_paused = true)]
async fn connect_timeouts_end_in_deadline_exceeded() {
    let silent = Upstream::new(|_| answer(futures::stream::pending()));
    let gate = Recorder::new(Admission { timeout: Some(Duration::from_millis(250)), ..Admission::default() });
    let transcoder = builder(&silent).gate(gate).build().unwrap();
    let timeout = [("connect-timeout-ms", "100")];
    let got = exchange(&transcoder, with(post(GET, "application/json", "{}"), &timeout)).await;
    assert_eq!(refused(&got), refusal_of(504, "deadline_exceeded", "DEADLINE_EXCEEDED"));
    assert_eq!(silent.last().headers["grpc-timeout"], "100000u");
    for content_type in ["application/connect+json", "application/connect+proto"] {
        let got = exchange(&transcoder, with(post(WATCH, content_type, envelope(0, b"{}")), &timeout)).await;
        assert_eq!((got.status.as_u16(), &got.end()["error"]["code"]), (200, &json!("deadline_exceeded")));
    }
}

#[tokio::test]
async fn an_answer_that_is_no_message_is_internal_in_connect() {
    let gate = Recorder::default();
    let upstream = Upstream::new(|_| reply(framed(&[255])));
    let transcoder = builder(&upstream).gate(gate.clone()).build().unwrap();
    let got = exchange(&transcoder, post(GET, "application/json", "{}")).await;
    assert_eq!(refused(&got), refusal_of(500, "internal", "UPSTREAM_INVALID"));
    let got = exchange(&transcoder, post(WATCH, "application/connect+json", envelope(0, b"{}"))).await;
    assert_eq!(got.end()["error"]["code"], "internal");
    let outcomes = gate.outcomes();
    assert!(outcomes[1].starts_with("zoo.v1.Zoo/Watch Internal 200 malformed reply"), "{outcomes:?}");
    assert_eq!(outcomes.len(), 2);
}

#[tokio::test]
async fn a_rule_with_the_path_of_a_method_wins_unless_the_client_says_connect() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let proto = r#"
        syntax = "proto3";
        package pets;
        import "google/api/annotations.proto";
        message Pet { string name = 1; }
        service Pets {
          rpc Put(Pet) returns (Pet) { option (google.api.http) = {post: "/pets.Pets/Put" body: "name"}; }
        }
    "#;
    let folder = std::env::temp_dir().join(format!("transcoder-rule-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("pets.proto"), proto).unwrap();
    let mut compiler = protox::Compiler::new([folder.clone(), root.join("proto/third_party")]).unwrap();
    compiler.include_imports(true).open_file("pets.proto").unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
    let upstream = Upstream::echo();
    let set = compiler.encode_file_descriptor_set();
    let transcoder = Transcoder::builder(&set).upstream("pets.Pets", upstream.clone()).build().unwrap();
    let rest = post("/pets.Pets/Put", "application/json", r#""rex""#);
    assert_eq!(exchange(&transcoder, rest).await.json(), json!({"name": "rex"}));
    let connect = post("/pets.Pets/Put", "application/json", r#"{"name":"rex"}"#);
    let connect = with(connect, &[("connect-protocol-version", "1")]);
    assert_eq!(exchange(&transcoder, connect).await.json(), json!({"name": "rex"}));
}

#[tokio::test]
async fn a_long_unary_answer_of_connect_is_compressed_when_the_client_takes_that() {
    let transcoder = builder(&Upstream::echo()).build().unwrap();
    let body = json!({"name": "x".repeat(5000)}).to_string();
    let plain = exchange(&transcoder, post(GET, "application/json", body.clone())).await;
    assert_eq!((plain.header("content-encoding"), &*plain.body), ("", body.as_bytes()));
    let request = with(post(GET, "application/json", body.clone()), &[("accept-encoding", "gzip")]);
    let got = exchange(&transcoder, request).await;
    assert_eq!((got.header("content-encoding"), got.header("content-type")), ("gzip", "application/json"));
    assert_eq!(got.header("content-length"), got.body.len().to_string());
    let mut text = String::new();
    flate2::read::GzDecoder::new(&*got.body).read_to_string(&mut text).unwrap();
    assert_eq!(text, body);
}

#[tokio::test]
async fn no_protocol_decompresses_requests_when_the_builder_says_so() {
    let upstream = Upstream::echo();
    let gate = Recorder::new(Admission { inspect_message: true, ..Admission::default() });
    let transcoder = builder(&upstream).gate(gate).decompress_requests(false).build().unwrap();
    let named =
        [("content-encoding", "gzip"), ("connect-content-encoding", "gzip"), ("grpc-encoding", "gzip")];
    let zip = gzip(LEO.as_bytes());
    let unary = with(post(GET, "application/json", zip.clone()), &named);
    let query = format!("encoding=json&base64=1&compression=gzip&message={}", URL_SAFE.encode(&zip));
    for request in [unary, get(&query)] {
        let got = exchange(&transcoder, request).await;
        assert_eq!(refused(&got), refusal_of(501, "unimplemented", "COMPRESSION_UNSUPPORTED"));
        assert_eq!(got.json()["message"], "supported compressions are identity");
    }
    for content_type in ["application/connect+json", "application/connect+proto"] {
        let got = exchange(&transcoder, with(post(WATCH, content_type, envelope(1, &zip)), &named)).await;
        assert_eq!(got.end()["error"]["code"], "unimplemented", "{content_type}");
    }
    // Of gRPC's, only what has to be looked into.
    let compressed = envelope(1, &gzip(&leo()));
    let got = exchange(&transcoder, with(post(GET, "application/grpc", compressed.clone()), &named)).await;
    assert_eq!(got.header("grpc-status"), "12");
    assert!(upstream.seen().is_empty());
    let transcoder = builder(&upstream).decompress_requests(false).build().unwrap();
    let got = exchange(&transcoder, with(post(GET, "application/grpc", compressed), &named)).await;
    assert_eq!(got.trailer("grpc-status"), "0");
    assert_eq!(upstream.last().headers["grpc-encoding"], "gzip");
}

#[tokio::test]
async fn a_message_counts_as_it_is_sent_and_where_it_is_looked_into_also_as_it_is() {
    let upstream = Upstream::echo();
    let animal = message("GetAnimalRequest", &json!({"name": "x".repeat(1000)}).to_string()).encode_to_vec();
    let zip = envelope(1, &gzip(&animal));
    assert!(zip.len() < 100, "{}", zip.len());
    let named = [("grpc-encoding", "gzip")];
    for (inspect_message, expected) in [(false, "0"), (true, "8")] {
        let gate = Recorder::new(Admission { max_body_bytes: 100, inspect_message, ..Admission::default() });
        let transcoder = builder(&upstream).gate(gate).build().unwrap();
        let got = exchange(&transcoder, with(post(GET, "application/grpc", zip.clone()), &named)).await;
        let status = if expected == "0" { got.trailer("grpc-status") } else { got.header("grpc-status") };
        assert_eq!(status, expected, "{inspect_message}");
    }
}
