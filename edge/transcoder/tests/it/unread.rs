//! What is refused before the body is read: the client is spared from sending it.

use std::convert::Infallible;
use std::pin::pin;

use bytes::Bytes;
use futures::{FutureExt as _, StreamExt as _};
use http::{Request, Version};
use http_body::Frame;
use http_body_util::StreamBody;
use tower::ServiceExt as _;
use transcoder::Admission;

use crate::gate::Recorder;
use crate::harness::{Upstream, builder};

type Headers = &'static [(&'static str, &'static str)];

/// The status for a request whose body has begun with `sent` and does not go on; `None` when the rest is waited for.
fn status(method: &str, uri: &str, headers: Headers, sent: &'static str) -> Option<u16> {
    let gate = Recorder::new(Admission { max_body_bytes: 100, ..Admission::default() });
    let upstream = Upstream::echo();
    let transcoder = builder(&upstream).gate(gate).build().unwrap();
    let begun = (!sent.is_empty()).then(|| Ok::<_, Infallible>(Frame::data(Bytes::from(sent))));
    let body = StreamBody::new(futures::stream::iter(begun).chain(futures::stream::pending()));
    let mut request = Request::builder().method(method).uri(uri).body(body).unwrap();
    for (name, value) in headers {
        request.headers_mut().append(*name, value.parse().unwrap());
    }
    let response = transcoder.oneshot(request).now_or_never()?.unwrap();
    assert!(upstream.seen().is_empty(), "{uri} reached the upstream");
    Some(response.status().as_u16())
}

const JSON: (&str, &str) = ("content-type", "application/json");

#[tokio::test]
async fn a_body_of_another_type_is_refused_by_its_head() {
    for uri in ["/v1/echo", "/v1/search/leo/child", "/v1/feed"] {
        for content_type in
            ["text/plain", "application/json; charset=latin1", "application/x-www-form-urlencoded"]
        {
            let headers: Headers =
                Box::leak(Box::new([("content-type", content_type), ("content-length", "9")]));
            assert_eq!(status("POST", uri, headers, ""), Some(415), "{uri} {content_type}");
        }
        assert_eq!(status("POST", uri, &[("content-length", "9")], ""), Some(415), "{uri} without a type");
    }
    // Of unknown length, it may be empty: its first byte decides.
    for uri in ["/v1/echo", "/v1/search/leo/child"] {
        assert_eq!(status("POST", uri, &[("content-type", "text/plain")], ""), None, "{uri}");
        assert_eq!(status("POST", uri, &[("content-type", "text/plain")], "{"), Some(415), "{uri}");
    }
    let coded: Headers =
        &[("content-type", "text/plain"), ("content-encoding", "gzip"), ("content-length", "9")];
    assert_eq!(status("POST", "/v1/echo", coded, ""), Some(415));
    assert_eq!(
        status("POST", "/v1/echo", &[JSON, ("content-length", "9")], "{"),
        None,
        "the right type is read"
    );
}

#[tokio::test]
async fn an_answer_that_the_client_does_not_take_is_refused_by_the_head() {
    let headers: Headers = &[JSON, ("accept", "text/html"), ("content-length", "9")];
    for uri in ["/v1/echo", "/v1/feed", "/v1/chat"] {
        assert_eq!(status("POST", uri, headers, "{"), Some(406), "{uri}");
    }
}

#[tokio::test]
async fn a_body_that_says_it_is_too_long_is_refused_by_its_head() {
    assert_eq!(status("POST", "/v1/echo", &[JSON, ("content-length", "101")], ""), Some(413));
    assert_eq!(status("POST", "/v1/echo", &[JSON, ("content-length", "100")], ""), None);
}

#[tokio::test]
async fn a_body_that_the_rule_does_not_have_is_refused_by_its_head() {
    assert_eq!(status("DELETE", "/v1/search/leo", &[JSON, ("content-length", "2")], ""), Some(400));
    assert_eq!(
        status("DELETE", "/v1/search/leo", &[], "{"),
        Some(400),
        "of unknown length, by its first byte"
    );
}

#[tokio::test]
async fn what_path_and_query_say_is_checked_before_the_body_is_read() {
    for uri in ["/v1/search/leo/child?nope=1", "/v1/search/leo/child?int32Value=x", "/v1/echo?boolValue=true"]
    {
        assert_eq!(status("POST", uri, &[JSON, ("content-length", "9")], ""), Some(400), "{uri}");
    }
}

#[tokio::test]
async fn over_http_1_the_small_body_of_an_unknown_call_is_taken_before_the_answer() {
    let transcoder = builder(&Upstream::echo()).build().unwrap();
    for (version, taken) in [(Version::HTTP_11, true), (Version::HTTP_2, false)] {
        let (sender, receiver) = futures::channel::mpsc::channel::<Result<Frame<Bytes>, Infallible>>(1);
        let request = Request::post("/zoo.v1.Zoo/Nothing")
            .version(version)
            .header("content-type", "application/grpc-web+proto")
            .body(StreamBody::new(receiver))
            .unwrap();
        let mut answer = pin!(transcoder.clone().oneshot(request));

        let before = answer.as_mut().now_or_never();
        assert_eq!(before.is_none(), taken, "{version:?}");
        if taken {
            drop(sender);
            assert_eq!(answer.await.unwrap().status(), 200, "the status of gRPC is in the body");
        }
    }
}
