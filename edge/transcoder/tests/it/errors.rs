//! One error body for everything.

use std::task::{Context, Poll};

use base64::Engine as _;
use bytes::Bytes;
use futures::future::BoxFuture;
use http::{HeaderValue, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt as _, Full, StreamBody};
use prost::Message as _;
use serde_json::{Value, json};
use tonic_types::pb;
use tower::{Service, ServiceExt as _};
use transcoder::{RequestId, Transcoder};

use crate::harness::{
    Answer, DESCRIPTOR_SET, Got, Upstream, answer, builder, deadline_exceeded, error_info, frame, framed,
    refusal, replies, reply, request, send, upstream_invalid, upstream_unavailable,
};

async fn failed(respond: impl Fn() -> Answer + Send + Sync + 'static) -> Got {
    let upstream = Upstream::new(move |_| respond());
    let transcoder = builder(&upstream).build().unwrap();
    send(&transcoder, request("GET", "/v1/fail/x", "")).await
}

#[tokio::test]
async fn every_code_has_its_http_status() {
    let expected = [
        (1, 499),
        (2, 500),
        (3, 400),
        (4, 504),
        (5, 404),
        (6, 409),
        (7, 403),
        (8, 429),
        (9, 400),
        (10, 409),
        (11, 400),
        (12, 501),
        (13, 500),
        (14, 503),
        (15, 500),
        (16, 401),
    ];
    for (code, status) in expected {
        let got = failed(move || {
            refusal(&[("grpc-status", &code.to_string()), ("grpc-message", "why%20%C3%A9 %")])
        })
        .await;
        assert_eq!(got.status, status, "{code}");
        assert_eq!(got.json(), json!({"code": code, "message": "why é %", "details": []}));
        assert_eq!(got.header("content-type"), "application/json");
    }
    assert_eq!(failed(|| reply(framed(&[]))).await.status, 200);
}

#[tokio::test]
async fn a_code_that_does_not_exist_is_unknown() {
    let got = failed(|| refusal(&[("grpc-status", "99")])).await;
    assert_eq!((got.status.as_u16(), got.json()["code"].as_i64()), (500, Some(2)));
}

fn details(code: i32, details: Vec<prost_types::Any>) -> String {
    let status = pb::Status { code, message: "x".to_owned(), details };
    base64::engine::general_purpose::STANDARD_NO_PAD.encode(status.encode_to_vec())
}

fn any(name: &str, message: &impl prost::Message) -> prost_types::Any {
    prost_types::Any { type_url: format!("type.googleapis.com/{name}"), value: message.encode_to_vec() }
}

fn retry_info(seconds: i64, nanos: i32) -> prost_types::Any {
    let info = pb::RetryInfo { retry_delay: Some(prost_types::Duration { seconds, nanos }) };
    any("google.rpc.RetryInfo", &info)
}

#[tokio::test]
async fn known_details_are_expanded_and_unknown_ones_kept() {
    let info = pb::ErrorInfo {
        reason: "HOLD_EXPIRED".to_owned(),
        domain: "zoo".to_owned(),
        metadata: [("hold".to_owned(), "7".to_owned())].into(),
    };
    let unknown = prost_types::Any { type_url: "type.googleapis.com/no.Such".to_owned(), value: vec![8, 1] };
    let broken =
        prost_types::Any { type_url: "type.googleapis.com/google.rpc.ErrorInfo".to_owned(), value: vec![10] };
    let encoded = details(9, vec![any("google.rpc.ErrorInfo", &info), unknown, broken]);
    let got = failed(move || {
        refusal(&[("grpc-status", "9"), ("grpc-message", "x"), ("grpc-status-details-bin", &encoded)])
    })
    .await;
    assert_eq!(
        got.json()["details"],
        json!([
            {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "HOLD_EXPIRED", "domain": "zoo", "metadata": {"hold": "7"}},
            {"@type": "type.googleapis.com/no.Such", "value": "CAE="},
            {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "value": "Cg=="}
        ])
    );
}

#[tokio::test]
async fn retry_after_is_the_retry_delay_in_whole_seconds_rounded_up() {
    for (code, seconds, nanos, expected) in
        [(8, 2, 1, "3"), (14, 2, 0, "2"), (8, 0, 5, "1"), (9, 2, 0, ""), (14, -1, 0, "")]
    {
        let encoded = details(code, vec![retry_info(seconds, nanos)]);
        let got = failed(move || {
            refusal(&[("grpc-status", &code.to_string()), ("grpc-status-details-bin", &encoded)])
        })
        .await;
        assert_eq!(got.header("retry-after"), expected, "{code} {seconds} {nanos}");
    }
}

#[tokio::test]
async fn unauthenticated_carries_a_challenge() {
    let got = failed(|| refusal(&[("grpc-status", "16")])).await;
    assert_eq!(got.header("www-authenticate"), "Bearer");
    assert_eq!(failed(|| refusal(&[("grpc-status", "7")])).await.header("www-authenticate"), "");
}

#[tokio::test]
async fn a_refusal_by_trailers_after_the_message_is_the_error() {
    let got = failed(|| replies([framed(&[])], &[("grpc-status", "10"), ("grpc-message", "lost")])).await;
    assert_eq!((got.status.as_u16(), got.json()["message"].as_str()), (409, Some("lost")));
}

#[tokio::test]
async fn an_answer_that_is_not_grpc_is_502() {
    let html = || {
        let mut answer = reply(framed(&[]));
        answer.headers_mut().insert("content-type", "text/html".parse().unwrap());
        answer
    };
    let grpc_web = || {
        let mut answer = reply(framed(&[]));
        answer.headers_mut().insert("content-type", "application/grpc-web".parse().unwrap());
        answer
    };
    let not_found = || {
        let mut answer = reply(framed(&[]));
        *answer.status_mut() = http::StatusCode::NOT_FOUND;
        answer
    };
    let mut compressed = framed(&[]).to_vec();
    compressed[0] = 1;
    let cases: Vec<Box<dyn Fn() -> Answer + Send + Sync>> = vec![
        Box::new(html),
        Box::new(grpc_web),
        Box::new(not_found),
        Box::new(|| replies([framed(&[])], &[])),
        Box::new(|| replies([framed(&[])], &[("grpc-status", "x")])),
        Box::new(|| replies([], &[("grpc-status", "0")])),
        Box::new(|| replies([framed(&[]), framed(&[])], &[("grpc-status", "0")])),
        Box::new(|| replies([framed(&[1, 2, 3]).slice(..6)], &[("grpc-status", "0")])),
        Box::new(|| answer(futures::stream::empty())),
        Box::new(move || reply(compressed.clone().into())),
    ];
    for (index, case) in cases.into_iter().enumerate() {
        let got = failed(case).await;
        assert_eq!(got.status, 502, "case {index}: {}", got.text);
        assert_eq!(got.json(), upstream_invalid(), "case {index}");
    }
}

#[tokio::test]
async fn a_proxy_on_the_way_that_is_overloaded_is_503() {
    let got = failed(|| {
        let mut answer = reply(framed(&[]));
        *answer.status_mut() = http::StatusCode::SERVICE_UNAVAILABLE;
        answer
    })
    .await;
    assert_eq!((got.status.as_u16(), got.json()), (503, upstream_unavailable()));
    assert_eq!(got.header("retry-after"), "1");
}

#[tokio::test]
async fn a_reply_over_the_limit_is_502() {
    let upstream = Upstream::new(|_| reply(frame("Everything", r#"{"stringValue": "more than ten bytes"}"#)));
    let transcoder = builder(&upstream).reply_bytes_max(10).build().unwrap();
    let got = send(&transcoder, request("GET", "/v1/search", "")).await;
    assert_eq!((got.status.as_u16(), got.json()), (502, upstream_invalid()));
}

#[tokio::test]
async fn a_message_cut_over_many_frames_is_put_together() {
    let upstream = Upstream::new(|_| {
        let whole = frame("Everything", r#"{"stringValue": "put together"}"#);
        let pieces: Vec<_> = whole.chunks(2).map(Bytes::copy_from_slice).collect();
        replies(pieces, &[("grpc-status", "0")])
    });
    let transcoder = builder(&upstream).build().unwrap();
    let got = send(&transcoder, request("GET", "/v1/search", "")).await;
    assert_eq!(got.text, r#"{"stringValue":"put together"}"#);
}

/// An upstream that cannot be reached, and says more about it than a client may know.
#[derive(Clone)]
struct Unreachable;

impl Service<Request<tonic::body::Body>> for Unreachable {
    type Response = Response<tonic::body::Body>;
    type Error = std::io::Error;
    type Future = BoxFuture<'static, Result<Self::Response, std::io::Error>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), std::io::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _request: Request<tonic::body::Body>) -> Self::Future {
        Box::pin(async { Err(std::io::Error::other("connect 10.1.2.3:50051 refused")) })
    }
}

#[tokio::test]
async fn a_transport_failure_is_503_and_says_nothing_of_the_upstream() {
    let gate = crate::gate::Recorder::default();
    let transcoder = Transcoder::builder(&DESCRIPTOR_SET)
        .upstream("zoo.v1.Zoo", Unreachable)
        .gate(gate.clone())
        .build()
        .unwrap();
    let got = send(&transcoder, request("GET", "/v1/fail/x", "")).await;
    assert_eq!(got.status, 503);
    assert_eq!(got.json(), upstream_unavailable());
    assert_eq!(got.header("retry-after"), "1");
    assert_eq!(gate.outcomes(), ["zoo.v1.Zoo/Fail Unavailable 503 connect 10.1.2.3:50051 refused"]);
}

fn with_header(
    mut request: Request<Full<Bytes>>,
    name: &'static str,
    value: &'static str,
) -> Request<Full<Bytes>> {
    request.headers_mut().insert(name, HeaderValue::from_static(value));
    request
}

#[tokio::test]
async fn each_refusal_of_its_own_has_its_reason() {
    let upstream = Upstream::echo();
    let transcoder = builder(&upstream).build().unwrap();
    let one = || request("GET", "/v1/one/leo", "");
    let large = "x".repeat((1 << 20) + 1);
    let cases = [
        (request("GET", "/v1/nothing", ""), 404, "ROUTE_NOT_FOUND"),
        (request("GET", "no-slash.example:80", ""), 404, "ROUTE_NOT_FOUND"),
        (request("GET", "/v1/echo", ""), 405, "METHOD_NOT_ALLOWED"),
        (with_header(one(), "accept", "text/html"), 406, "NOT_ACCEPTABLE"),
        (request("POST", "/v1/echo", &large), 413, "BODY_TOO_LARGE"),
        (with_header(request("POST", "/v1/echo", "{}"), "content-length", "1048577"), 413, "BODY_TOO_LARGE"),
        (request("GET", &format!("/v1/search?stringValue={}", "x".repeat(9000)), ""), 414, "URI_TOO_LONG"),
        (
            with_header(request("POST", "/v1/echo", "{}"), "content-type", "text/plain"),
            415,
            "UNSUPPORTED_MEDIA_TYPE",
        ),
        (request("POST", "/v1/echo", "{"), 400, "REQUEST_INVALID"),
        (request("POST", "/v1/echo", r#"{"int32Value": "many"}"#), 400, "REQUEST_INVALID"),
        (request("GET", "/v1/search?nope=1", ""), 400, "REQUEST_INVALID"),
        (request("GET", "/v1/one/%ff", ""), 400, "REQUEST_INVALID"),
        (request("GET", "/v1/one/leo", "{}"), 400, "REQUEST_INVALID"),
        (with_header(one(), "grpc-timeout", "soon"), 400, "REQUEST_INVALID"),
    ];
    for (request, status, reason) in cases {
        let uri = request.uri().clone();
        let got = send(&transcoder, request).await;
        assert_eq!(got.status, status, "{uri}: {}", got.text);
        let details = got.json()["details"].as_array().unwrap().clone();
        assert_eq!(details[0], error_info(reason), "{uri}");
        let bad_request = details.iter().any(|detail| detail.get("fieldViolations").is_some());
        assert_eq!(bad_request, reason == "REQUEST_INVALID", "{uri}: {}", got.text);
        assert_eq!(details.len(), 1 + usize::from(bad_request), "{uri}: {}", got.text);
        assert_eq!(got.header("retry-after"), "", "{uri}");
    }
    assert!(upstream.seen().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_call_that_takes_too_long_has_its_reason() {
    let upstream = Upstream::new(|_| answer(futures::stream::pending()));
    let transcoder = builder(&upstream).build().unwrap();
    let request = with_header(request("GET", "/v1/one/leo", ""), "grpc-timeout", "1S");
    let got = send(&transcoder, request).await;
    assert_eq!((got.status.as_u16(), got.json()), (504, deadline_exceeded()));
    // It may have taken effect, so nobody is told to send it again.
    assert_eq!(got.header("retry-after"), "");
}

#[tokio::test]
async fn a_body_that_breaks_off_has_its_reason() {
    let upstream = Upstream::echo();
    let transcoder = builder(&upstream).build().unwrap();
    let frames = [Ok(Frame::data(Bytes::from_static(b"{"))), Err(std::io::Error::other("reset"))];
    let (head, ()) = request("POST", "/v1/echo", "{}").map(drop).into_parts();
    let request = Request::from_parts(head, StreamBody::new(futures::stream::iter(frames)));
    let response = transcoder.oneshot(request).await.unwrap();
    assert_eq!(response.status(), 400);
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let body: Value = serde_json::from_slice(&body).unwrap();
    let details = [error_info("BODY_UNREADABLE")];
    assert_eq!(body, json!({"code": 3, "message": "the body cannot be read", "details": details}));
    assert!(upstream.seen().is_empty());
}

#[tokio::test]
async fn the_host_names_the_domain() {
    let transcoder = builder(&Upstream::echo()).error_domain("edge.zoo").build().unwrap();
    let got = send(&transcoder, request("GET", "/v1/nothing", "")).await;
    let detail = &got.json()["details"][0];
    assert_eq!((&detail["reason"], &detail["domain"]), (&json!("ROUTE_NOT_FOUND"), &json!("edge.zoo")));
}

#[tokio::test]
async fn the_request_is_named_after_the_reason_and_in_errors_of_the_upstream() {
    let upstream = Upstream::new(|_| refusal(&[("grpc-status", "10")]));
    let transcoder = builder(&upstream).build().unwrap();
    let request_info = json!({"@type": "type.googleapis.com/google.rpc.RequestInfo", "requestId": "r7"});
    for (uri, expected) in [
        ("/v1/nothing", json!([error_info("ROUTE_NOT_FOUND"), request_info])),
        ("/v1/search?nope=1", json!([error_info("REQUEST_INVALID"), Value::Null, request_info])),
        ("/v1/fail/x", json!([request_info])),
    ] {
        let mut request = request("GET", uri, "");
        request.extensions_mut().insert(RequestId("r7".to_owned()));
        let mut details = send(&transcoder, request).await.json()["details"].take();
        for detail in details.as_array_mut().unwrap() {
            if detail.get("fieldViolations").is_some() {
                detail.take();
            }
        }
        assert_eq!(details, expected, "{uri}");
    }
}

#[tokio::test]
async fn an_error_for_head_has_the_headers_of_get_and_no_body() {
    let transcoder =
        Transcoder::builder(&DESCRIPTOR_SET).upstream("zoo.v1.Zoo", Unreachable).build().unwrap();
    for uri in ["/v1/one/leo", "/v1/nothing"] {
        let get = send(&transcoder, request("GET", uri, "")).await;
        let head = send(&transcoder, request("HEAD", uri, "")).await;
        assert_eq!((head.status, &head.headers), (get.status, &get.headers), "{uri}");
        assert_eq!((head.text.as_str(), get.text.is_empty()), ("", false), "{uri}");
    }
}
