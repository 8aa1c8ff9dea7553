//! `application/problem+json` by `Accept`.

use serde_json::{Value, json};
use transcoder::RequestId;

use crate::harness::{Got, Upstream, builder, error_info, refusal, request, send};

async fn failed(accept: &str) -> Got {
    let upstream = Upstream::new(|_| refusal(&[("grpc-status", "5"), ("grpc-message", "no such animal")]));
    let transcoder = builder(&upstream).build().unwrap();
    let mut request = request("GET", "/v1/one/leo", "");
    request.headers_mut().insert("accept", accept.parse().unwrap());
    send(&transcoder, request).await
}

#[tokio::test]
async fn an_error_is_a_problem_when_accept_names_it() {
    let got = failed("application/json, application/problem+json").await;
    assert_eq!(
        (got.status.as_u16(), got.header("content-type")),
        (404, "application/problem+json"),
        "{}",
        got.text
    );
    let expected = json!({
        "type": "about:blank", "title": "Not Found", "status": 404, "detail": "no such animal", "code": 5, "details": []
    });
    assert_eq!(got.json(), expected);
    assert_eq!(got.header("content-length"), got.text.len().to_string());
}

#[tokio::test]
async fn an_error_honours_the_weights_of_accept() {
    for (accept, problem) in [
        ("*/*", false),
        ("application/*", false),
        ("application/json", false),
        ("application/json, application/problem+json", true),
        ("application/problem+json, application/json", true),
        ("application/json;q=0.9, application/problem+json;q=0.8", false),
        ("application/json;q=0.8, application/problem+json;q=0.9", true),
        ("application/json, application/problem+json;q=0", false),
        ("application/PROBLEM+json, */*;q=0.1", true),
    ] {
        let got = failed(accept).await;
        let expected = if problem { "application/problem+json" } else { "application/json" };
        assert_eq!((got.status.as_u16(), got.header("content-type")), (404, expected), "{accept}");
    }
}

#[tokio::test]
async fn an_accept_that_cannot_be_met_for_the_error_gets_the_default_body() {
    let got = failed("text/html").await;
    assert_eq!((got.status.as_u16(), got.header("content-type")), (406, "application/json"));
    assert_eq!(got.json()["details"][0], error_info("NOT_ACCEPTABLE"));
    // It can be met for the error, though not for the answer.
    let got = failed("application/problem+json").await;
    assert_eq!((got.status.as_u16(), got.header("content-type")), (406, "application/problem+json"));
}

#[tokio::test]
async fn a_problem_names_the_request_as_its_instance_and_keeps_headers_and_details() {
    let transcoder = builder(&Upstream::echo()).build().unwrap();
    let mut request = request("DELETE", "/v1/one/leo", "");
    request.headers_mut().insert("accept", "application/problem+json".parse().unwrap());
    request.extensions_mut().insert(RequestId("r 7/é".to_owned()));
    let got = send(&transcoder, request).await;
    assert_eq!((got.status.as_u16(), got.header("allow")), (405, "GET, HEAD, OPTIONS"));
    let mut problem = got.json();
    assert_eq!(problem["instance"].take(), json!("r%207%2F%C3%A9"));
    assert_eq!(
        (problem["title"].take(), problem["status"].take()),
        (json!("Method Not Allowed"), json!(405))
    );
    let details: Vec<Value> = problem["details"].as_array().unwrap().clone();
    assert_eq!(details[0], error_info("METHOD_NOT_ALLOWED"));
    assert_eq!(details[1]["requestId"], "r 7/é");
}
