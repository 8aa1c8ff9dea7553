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
    for (lines, reason) in [
        (format!("Host: a.example\r\nHost: b.example\r\nAuthorization: {bearer}"), "REQUEST_UNREADABLE"),
        (format!("Host: a.example\r\nHost: a.example\r\nAuthorization: {bearer}"), "REQUEST_UNREADABLE"),
        (format!("Host: user@a.example\r\nAuthorization: {bearer}"), "REQUEST_UNREADABLE"),
        (format!("Authorization: {bearer}"), "REQUEST_UNREADABLE"),
        (format!("Host: a.example\r\nAuthorization: {bearer}\r\nAuthorization: {bearer}"), "HEADER_REPEATED"),
        (format!("Host: a.example\r\nAuthorization: {bearer}\r\nAuthorization: Bearer x"), "HEADER_REPEATED"),
    ] {
        let answer =
            t.send_raw(&format!("GET {HOLD} HTTP/1.1\r\nConnection: close\r\n{lines}\r\n\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{lines}: {answer}");
        assert!(answer.contains(&format!("\"{reason}\"")), "{lines}: {answer}");
    }
    assert!(t.seen.lock().unwrap().is_empty());
    let whole = format!(
        "GET {HOLD} HTTP/1.1\r\nConnection: close\r\nHost: a.example\r\nAuthorization: {bearer}\r\n\r\n"
    );
    assert!(t.send_raw(&whole).await.starts_with("HTTP/1.1 200 "), "nothing else was wrong with them");
}
