//! Which headers become metadata, and the other way round.

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{HeaderMap, HeaderValue};
use http_body::Frame;
use tonic::Status;
use tower::ServiceExt as _;
use transcoder::{Admission, BuildError, Gate, Method};

use crate::harness::{
    DESCRIPTOR_SET, Upstream, answer, builder, frame, framed, refusal, replies, request, send,
};
use crate::wire_client::{exchange, post};

const PATH: &str = "/zoo.v1.Zoo/GetAnimal";

/// The custom metadata that reached the upstream, as lines.
fn sent(upstream: &Upstream) -> Vec<String> {
    let headers = upstream.last().headers;
    let own = |name: &str| ["te", "content-type", "grpc-timeout"].contains(&name);
    let lines = headers.iter().filter(|(name, _)| !own(name.as_str()));
    let mut lines: Vec<_> =
        lines.map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
    lines.sort();
    lines
}

fn put(headers: &mut HeaderMap, lines: &[(&'static str, &'static str)]) {
    for (name, value) in lines {
        headers.append(*name, HeaderValue::from_static(value));
    }
}

/// Every header that could pose as something, and one of everything that may pass.
const CLIENT: [(&str, &str); 24] = [
    ("x-tenant", "t1"),
    ("x-tenant", "t2"),
    ("x-other", "o"),
    ("grpc-metadata-x-tenant", "t3"),
    ("grpc-metadata-x-other", "p"),
    ("grpc-metadata-authorization", "Bearer sneaky"),
    ("grpc-metadata-host", "evil"),
    ("grpc-metadata-grpc-timeout", "1H"),
    ("grpc-metadata-te", "gzip"),
    ("grpc-metadata-content-type", "text/html"),
    ("grpc-metadata-connection", "x-tenant"),
    ("grpc-metadata-grpc-metadata-x", "nested"),
    ("authorization", "Bearer a"),
    ("cookie", "a=b"),
    ("host", "example.com"),
    ("connection", "keep-alive"),
    ("keep-alive", "1"),
    ("upgrade", "h2c"),
    ("content-language", "de"),
    ("grpc-tags-bin", "AAAA"),
    ("user-agent", "curl"),
    ("x-forwarded-for", "1.2.3.4"),
    ("accept-language", "de"),
    ("sec-fetch-site", "none"),
];

#[tokio::test]
async fn by_default_no_header_of_a_client_goes_upstream_in_any_protocol() {
    let upstream = Upstream::echo();
    let transcoder = builder(&upstream).build().unwrap();
    let mut rest = request("GET", "/v1/one/leo", "");
    put(rest.headers_mut(), &CLIENT);
    assert_eq!(send(&transcoder, rest).await.status, 200);
    assert_eq!(sent(&upstream), [""; 0]);
    for (content_type, body) in [
        ("application/grpc", framed(&[])),
        ("application/grpc-web", framed(&[])),
        ("application/json", Bytes::from("{}")),
    ] {
        let mut rpc = post(PATH, content_type, body);
        put(rpc.headers_mut(), &CLIENT);
        assert_eq!(exchange(&transcoder, rpc).await.status, 200, "{content_type}");
        assert_eq!(sent(&upstream), [""; 0], "{content_type}");
    }
    assert_eq!(upstream.seen().len(), 4);
}

#[tokio::test]
async fn headers_that_are_listed_go_upstream_plain_and_over_rest_also_prefixed() {
    let upstream = Upstream::echo();
    let transcoder = builder(&upstream).request_metadata(["x-tenant", "user-agent"]).build().unwrap();
    let mut rest = request("GET", "/v1/one/leo", "");
    put(rest.headers_mut(), &CLIENT);
    assert_eq!(send(&transcoder, rest).await.status, 200);
    assert_eq!(sent(&upstream), ["user-agent: curl", "x-tenant: t1", "x-tenant: t2", "x-tenant: t3"]);
    let mut rpc = post(PATH, "application/grpc", framed(&[]));
    put(rpc.headers_mut(), &CLIENT);
    assert_eq!(exchange(&transcoder, rpc).await.trailer("grpc-status"), "0");
    assert_eq!(sent(&upstream), ["user-agent: curl", "x-tenant: t1", "x-tenant: t2"]);
}

#[tokio::test]
async fn all_custom_metadata_are_neither_reserved_names_nor_headers_of_http() {
    let upstream = Upstream::echo();
    let transcoder = builder(&upstream).all_metadata(true).build().unwrap();
    let mut rest = request("GET", "/v1/one/leo", "");
    put(rest.headers_mut(), &CLIENT);
    assert_eq!(send(&transcoder, rest).await.status, 200);
    assert_eq!(sent(&upstream), ["x-other: p", "x-tenant: t3"]);
    let mut rpc = post(PATH, "application/grpc", framed(&[]));
    put(rpc.headers_mut(), &CLIENT);
    assert_eq!(exchange(&transcoder, rpc).await.trailer("grpc-status"), "0");
    assert_eq!(sent(&upstream), ["x-other: o", "x-tenant: t1", "x-tenant: t2"]);
}

#[tokio::test]
async fn authorization_passes_when_it_is_named() {
    let upstream = Upstream::echo();
    let transcoder =
        builder(&upstream).all_metadata(true).request_metadata(["authorization"]).build().unwrap();
    let mut rest = request("GET", "/v1/one/leo", "");
    put(rest.headers_mut(), &[("authorization", "Bearer a")]);
    assert_eq!(send(&transcoder, rest).await.status, 200);
    assert_eq!(sent(&upstream), ["authorization: Bearer a"]);
}

struct Overriding;

impl Gate for Overriding {
    fn admit<'a>(
        &'a self,
        _method: &'a Method,
        _request: &'a http::request::Parts,
    ) -> BoxFuture<'a, Result<Admission, Status>> {
        let mut metadata = HeaderMap::new();
        put(&mut metadata, &[("x-tenant", "of-the-host"), ("x-added", "1")]);
        Box::pin(std::future::ready(Ok(Admission { metadata, ..Admission::default() })))
    }

    fn response_headers(&self, _method: &Method, upstream: &HeaderMap, out: &mut HeaderMap) {
        if let Some(value) = upstream.get("x-shown") {
            out.insert("x-renamed", value.clone());
        }
    }
}

#[tokio::test]
async fn what_the_host_gives_replaces_what_the_client_sends() {
    let upstream = Upstream::echo();
    let transcoder = builder(&upstream).gate(Overriding).all_metadata(true).build().unwrap();
    let mut rpc = post(PATH, "application/grpc", framed(&[]));
    put(rpc.headers_mut(), &CLIENT);
    exchange(&transcoder, rpc).await;
    assert_eq!(sent(&upstream), ["x-added: 1", "x-other: o", "x-tenant: of-the-host"]);
}

#[tokio::test]
async fn binary_metadata_are_base64_padded_or_not_and_go_on_without_padding() {
    for (value, expected) in [
        ("AAE", vec!["x-bin: AAE"]),
        ("AAE=", vec!["x-bin: AAE"]),
        ("_-8=", vec!["x-bin: /+8"]),
        ("AA==, AQ", vec!["x-bin: AA", "x-bin: AQ"]),
        ("", vec!["x-bin: "]),
    ] {
        let upstream = Upstream::echo();
        let transcoder = builder(&upstream).all_metadata(true).build().unwrap();
        let mut rest = request("GET", "/v1/one/leo", "");
        put(rest.headers_mut(), &[("grpc-metadata-x-bin", value)]);
        assert_eq!(send(&transcoder, rest).await.status, 200, "{value}");
        assert_eq!(sent(&upstream), expected, "{value}");
    }
}

#[tokio::test]
async fn metadata_that_grpc_cannot_carry_are_400() {
    for (name, value) in [
        ("grpc-metadata-x-bin", &b"A"[..]),
        ("grpc-metadata-x-bin", b"A!=="),
        ("grpc-metadata-x-bin", b"AA=="),
        ("grpc-metadata-x-bin", "\u{e9}".as_bytes()),
        ("grpc-metadata-x-text", "\u{e9}".as_bytes()),
        ("grpc-metadata-x-text", b"a\tb"),
    ] {
        let upstream = Upstream::echo();
        let transcoder = builder(&upstream).all_metadata(true).build().unwrap();
        let mut rest = request("GET", "/v1/one/leo", "");
        rest.headers_mut().insert(name, HeaderValue::from_bytes(value).unwrap());
        let got = send(&transcoder, rest).await;
        if value == b"AA==" {
            assert_eq!(got.status, 200);
        } else {
            assert_eq!(got.violation().0, name);
            assert!(upstream.seen().is_empty());
        }
    }
    // What could split a header cannot even be made into one.
    for value in [&b"a\r\nb: c"[..], b"a\nb", b"a\0b"] {
        assert!(HeaderValue::from_bytes(value).is_err());
    }
}

/// An upstream with leading and trailing metadata.
fn talkative() -> Upstream {
    Upstream::new(|_| {
        let last = [("grpc-status", "0"), ("x-cost", "7"), ("x-last-bin", "AAE="), ("x-hidden", "h")];
        let mut answer = replies([framed(&[])], &last);
        put(
            answer.headers_mut(),
            &[("x-shown", "s"), ("x-first", "1"), ("x-first", "2"), ("set-cookie", "a=b"), ("server", "s")],
        );
        answer
    })
}

fn lines(headers: &HeaderMap) -> Vec<String> {
    let shown = headers.iter().filter(|(name, _)| name.as_str().contains("x-"));
    let mut lines: Vec<_> =
        shown.map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
    lines.sort();
    lines
}

#[tokio::test]
async fn metadata_of_a_reply_are_prefixed_headers_over_rest() {
    let upstream = talkative();
    let names = ["x-first", "x-cost", "x-last-bin"];
    let transcoder = builder(&upstream).response_metadata(names).build().unwrap();
    let got = send(&transcoder, request("GET", "/v1/one/leo", "")).await;
    let expected = [
        "grpc-metadata-x-cost: 7",
        "grpc-metadata-x-first: 1",
        "grpc-metadata-x-first: 2",
        "grpc-metadata-x-last-bin: AAE",
    ];
    assert_eq!(lines(&got.headers), expected);
}

#[tokio::test]
async fn metadata_of_a_reply_are_headers_and_trailers_in_grpc() {
    let upstream = talkative();
    let transcoder =
        builder(&upstream).gate(Overriding).response_metadata(["x-first", "x-cost"]).build().unwrap();
    let got = exchange(&transcoder, post(PATH, "application/grpc", framed(&[]))).await;
    assert_eq!(lines(&got.headers), ["x-first: 1", "x-first: 2", "x-renamed: s"]);
    let trailers = got.trailers.unwrap();
    assert_eq!(lines(&trailers), ["x-cost: 7"]);
    assert_eq!(trailers.len(), 2, "the status and the cost: {trailers:?}");
}

#[tokio::test]
async fn metadata_of_a_reply_are_headers_and_trailer_headers_in_connect() {
    let upstream = talkative();
    let transcoder = builder(&upstream).all_metadata(true).build().unwrap();
    let got = exchange(&transcoder, post(PATH, "application/json", "{}")).await;
    assert_eq!(got.status, 200, "{got:?}");
    let expected = [
        "trailer-x-cost: 7",
        "trailer-x-hidden: h",
        "trailer-x-last-bin: AAE",
        "x-first: 1",
        "x-first: 2",
        "x-shown: s",
    ];
    assert_eq!(lines(&got.headers), expected);
    assert!(!got.headers.contains_key("set-cookie") && !got.headers.contains_key("server"));
}

#[tokio::test]
async fn equal_values_of_one_name_are_all_shown_in_their_order() {
    let upstream = Upstream::new(|_| {
        let mut last = HeaderMap::new();
        put(
            &mut last,
            &[("grpc-status", "0"), ("x-tag", "a"), ("x-tag", "c"), ("x-tag", "a"), ("x-n-bin", "AA")],
        );
        let frames = [Ok(Frame::data(framed(&[]))), Ok(Frame::trailers(last))];
        let mut answer = answer(futures::stream::iter(frames));
        put(answer.headers_mut(), &[("x-tag", "b"), ("x-tag", "a"), ("x-tag", "a"), ("x-n-bin", "AA")]);
        answer
    });
    let transcoder = builder(&upstream).all_metadata(true).build().unwrap();
    let all = |headers: &HeaderMap, name: &str| -> Vec<String> {
        headers.get_all(name).iter().map(|value| value.to_str().unwrap().to_owned()).collect()
    };
    // Over REST what comes behind the message is in the head as well, unless the client takes trailers.
    let rest = send(&transcoder, request("GET", "/v1/one/leo", "")).await;
    assert_eq!(all(&rest.headers, "grpc-metadata-x-tag"), ["b", "a", "a", "a", "c", "a"]);
    assert_eq!(all(&rest.headers, "grpc-metadata-x-n-bin"), ["AA", "AA"]);
    let mut taking = request("GET", "/v1/one/leo", "");
    put(taking.headers_mut(), &[("te", "trailers")]);
    let rest = exchange(&transcoder, taking).await;
    assert_eq!(all(&rest.headers, "grpc-metadata-x-tag"), ["b", "a", "a"]);
    assert_eq!(all(&rest.trailers.unwrap(), "grpc-metadata-x-tag"), ["a", "c", "a"]);
    let connect = exchange(&transcoder, post(PATH, "application/json", "{}")).await;
    assert_eq!(all(&connect.headers, "x-tag"), ["b", "a", "a"]);
    assert_eq!(all(&connect.headers, "trailer-x-tag"), ["a", "c", "a"]);
    let grpc = exchange(&transcoder, post(PATH, "application/grpc", framed(&[]))).await;
    assert_eq!(all(&grpc.headers, "x-tag"), ["b", "a", "a"]);
    assert_eq!(all(&grpc.trailers.unwrap(), "x-tag"), ["a", "c", "a"]);
}

#[tokio::test]
async fn equal_values_of_one_header_all_go_upstream() {
    let upstream = Upstream::echo();
    let transcoder = builder(&upstream).request_metadata(["x-tag"]).build().unwrap();
    let mut rest = request("GET", "/v1/one/leo", "");
    put(rest.headers_mut(), &[("x-tag", "a"), ("grpc-metadata-x-tag", "a"), ("x-tag", "a")]);
    assert_eq!(send(&transcoder, rest).await.status, 200);
    assert_eq!(sent(&upstream), ["x-tag: a", "x-tag: a", "x-tag: a"]);
}

#[tokio::test]
async fn an_error_without_a_body_shows_its_metadata_once() {
    let upstream = Upstream::new(|_| refusal(&[("grpc-status", "5"), ("x-why", "w")]));
    let transcoder = builder(&upstream).all_metadata(true).build().unwrap();
    let rest = send(&transcoder, request("GET", "/v1/one/leo", "")).await;
    assert_eq!(
        (rest.status.as_u16(), lines(&rest.headers)),
        (404, vec!["grpc-metadata-x-why: w".to_owned()])
    );
    let connect = exchange(&transcoder, post(PATH, "application/json", "{}")).await;
    assert_eq!((connect.status.as_u16(), lines(&connect.headers)), (404, vec!["x-why: w".to_owned()]));
    let grpc = exchange(&transcoder, post(PATH, "application/grpc", framed(&[]))).await;
    assert_eq!((grpc.header("grpc-status"), lines(&grpc.headers)), ("5", vec!["x-why: w".to_owned()]));
    let web = exchange(&transcoder, post(PATH, "application/grpc-web", framed(&[]))).await;
    assert_eq!(web.web_trailers(), ["x-why: w", "grpc-status: 5"]);
}

#[test]
fn a_name_that_is_never_forwarded_cannot_be_listed() {
    let upstream = Upstream::new(|_| answer(futures::stream::empty()));
    for name in ["host", "TE", "grpc-timeout", "content-type", "connection", "transfer-encoding", "a b", ""] {
        let built = transcoder::Transcoder::builder(&DESCRIPTOR_SET)
            .upstream("zoo.v1.Zoo", upstream.clone())
            .request_metadata([name])
            .build();
        assert!(matches!(built, Err(BuildError::Metadata { .. })), "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn headers_of_a_reply_are_sent_before_its_first_message() {
    let upstream = Upstream::new(|_| {
        let mut silent = answer(futures::stream::pending());
        silent.headers_mut().insert("x-first", HeaderValue::from_static("1"));
        silent
    });
    let transcoder = builder(&upstream).response_metadata(["x-first"]).build().unwrap();
    let rest = transcoder.clone().oneshot(request("GET", "/v1/watch/x", "")).await.unwrap();
    assert_eq!(
        (rest.status().as_u16(), &rest.headers()["grpc-metadata-x-first"]),
        (200, &HeaderValue::from_static("1"))
    );
    let call = post("/zoo.v1.Zoo/Watch", "application/grpc", framed(&[]));
    let grpc = transcoder.oneshot(call).await.unwrap();
    assert_eq!(grpc.headers()["x-first"], "1");
}

#[tokio::test]
async fn cr_lf_and_nul_can_never_reach_a_header() {
    // Wherever text of a client or of the upstream could become a header.
    for hostile in ["a\r\nset-cookie: x=y", "a\nb", "a\rb", "a\0b"] {
        let wire = frame("GetAnimalRequest", &serde_json::json!({"name": hostile}).to_string());
        let typed = {
            let mut body = vec![10, u8::try_from(hostile.len()).unwrap()];
            body.extend_from_slice(hostile.as_bytes());
            framed(&body)
        };
        let escaped = hostile.bytes().map(|byte| format!("%{byte:02X}")).collect::<Vec<_>>().concat();
        let message = escaped.clone();
        let upstream = Upstream::new(move |seen| match seen.path.as_str() {
            "/zoo.v1.Zoo/Fail" => refusal(&[("grpc-status", "3"), ("grpc-message", &message)]),
            "/zoo.v1.Zoo/Download" => replies([typed.clone()], &[("grpc-status", "0")]),
            _ => replies([wire.clone()], &[("grpc-status", "0")]),
        });
        let transcoder = builder(&upstream).all_metadata(true).build().unwrap();
        let mut answers = Vec::new();
        for uri in ["/v1/fail/x", "/v1/download/x", "/v1/one/x"] {
            answers.push(send(&transcoder, request("GET", uri, "")).await.headers);
        }
        for uri in [
            format!("/v1/one/{escaped}"),
            format!("/v1/nothing/{escaped}"),
            format!("/v1/one/x?{escaped}=1"),
            format!("/v1/echo/{escaped}:verb"),
        ] {
            answers.push(send(&transcoder, request("GET", &uri, "")).await.headers);
        }
        for content_type in ["application/grpc", "application/grpc-web", "application/proto"] {
            let body = if content_type == "application/proto" { Bytes::new() } else { framed(&[]) };
            let got = exchange(&transcoder, post("/zoo.v1.Zoo/Fail", content_type, body)).await;
            answers.push(got.headers);
            answers.extend(got.trailers);
        }
        for headers in answers {
            assert!(!headers.contains_key("set-cookie"), "{hostile:?}: {headers:?}");
            for (name, value) in &headers {
                let clean = !value.as_bytes().iter().any(|byte| b"\r\n\0".contains(byte));
                assert!(clean, "{hostile:?}: {name}: {value:?}");
            }
        }
        for seen in upstream.seen() {
            assert!(!seen.headers.contains_key("set-cookie"), "{hostile:?}: {:?}", seen.headers);
        }
        let got = send(&transcoder, request("GET", "/v1/download/x", "")).await;
        assert_eq!(got.status, 502, "a content type that is no header value");
    }
}
