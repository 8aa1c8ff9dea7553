//! Headers that say too much, or two things at once.

use http::{Method, StatusCode};

use crate::harness::TestEdge;

const HOLD: &str = "/api/v1/holds/0198c0de-0000-7000-8000-000000000001";

#[tokio::test(flavor = "multi_thread")]
async fn a_header_that_speaks_of_identity_reaches_no_service_in_any_spelling() {
    let t = TestEdge::start().await;
    let authorization = format!("Bearer {}", t.token(&["customer"]));
    let smuggled = [
        "x-user-id",
        "x_user_id",
        "X_User-Id",
        "x-jetway-user",
        "x_jetway_roles",
        "x-forwarded-for",
        "x_forwarded_for",
        "x-forwarded-client-cert",
        "forwarded",
        "x-real-ip",
        "x-peer-workload",
        "x-client-cert",
        "x-ssl-client-verify",
        "grpc-metadata-x-user-id",
        "grpc-metadata-authorization",
        "grpc_metadata_authorization",
        "grpc-metadata-anything",
        "grpc-trace-bin",
        "traceparent",
        "baggage",
        "cookie",
    ];
    let mut headers = vec![("authorization", authorization.as_str()), ("x-request-id", "mine")];
    headers.extend(smuggled.map(|name| (name, "smuggled")));

    let answer = t.send(Method::GET, HOLD, &headers, "").await;

    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    let seen = t.seen.lock().unwrap();
    let mut names: Vec<_> = seen[0].metadata.clone().into_headers().keys().map(ToString::to_string).collect();
    names.sort();
    // What the gate and the channel write, and nothing else.
    let expected = [
        "authorization",
        "content-length",
        "content-type",
        "date",
        "grpc-timeout",
        "te",
        "traceparent",
        "user-agent",
        "x-request-id",
    ];
    names.retain(|name| !expected.contains(&name.as_str()));
    assert_eq!(names, Vec::<String>::new());
    let values = seen[0].metadata.clone().into_headers();
    assert!(!values.values().any(|value| value.as_bytes() == b"smuggled"), "{values:?}");
    assert_eq!(values["authorization"], authorization);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_be_read_in_two_ways_is_refused() {
    let t = TestEdge::start().await;
    let bearer = format!("Bearer {}", t.token(&["customer"]));
    let authorization = ("authorization", bearer.as_str());
    for (headers, reason) in [
        (&[authorization, ("host", "a.example"), ("host", "b.example")][..], "HEADER_REPEATED"),
        (&[authorization, ("host", "a.example"), ("host", "a.example")], "HEADER_REPEATED"),
        (&[authorization, authorization], "HEADER_REPEATED"),
        (&[authorization, ("authorization", "Bearer another")], "HEADER_REPEATED"),
        (&[authorization, ("host", "a.example, b.example")], "HOST_INVALID"),
        (&[authorization, ("host", "user@a.example")], "HOST_INVALID"),
        (&[authorization, ("host", "")], "HOST_INVALID"),
    ] {
        let answer = t.send(Method::GET, HOLD, headers, "").await;
        assert_eq!((answer.status, answer.reason()), (StatusCode::BAD_REQUEST, reason), "{headers:?}");
        assert_eq!(answer.body["code"], 3);
        let id = answer.headers["x-request-id"].to_str().unwrap();
        assert!(
            answer.body["details"].to_string().contains(id),
            "the body names the request: {}",
            answer.body
        );
    }
    assert!(t.seen.lock().unwrap().is_empty());
}
