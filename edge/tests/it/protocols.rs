//! gRPC, gRPC-Web and Connect through the edge, under the same policy as REST.

use http::{Method, StatusCode};
use proto::bookings::v1::{GetHoldRequest, Hold, hold_service_client::HoldServiceClient};
use serde_json::json;
use tonic::{Code, Request, transport::Endpoint};

use crate::harness::{Answer, TestEdge};

const GET_HOLD: &str = "/jetway.bookings.v1.HoldService/GetHold";
const NAME: &str = "holds/0198c0de-0000-7000-8000-000000000001";

/// The request with a bearer token, if there is one.
fn request(token: &str) -> Request<GetHoldRequest> {
    let mut request = Request::new(GetHoldRequest { name: NAME.to_owned() });
    if !token.is_empty() {
        let bearer = format!("Bearer {token}").parse().expect("ASCII");
        request.metadata_mut().insert("authorization", bearer);
    }
    request
}

async fn post(t: &TestEdge, content_type: &str, token: &str, body: Vec<u8>) -> Answer {
    let bearer = format!("Bearer {token}");
    let mut headers = vec![("content-type", content_type)];
    if !token.is_empty() {
        headers.push(("authorization", &bearer));
    }
    t.send(Method::POST, GET_HOLD, &headers, body).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_of_grpc_is_refused_without_a_token_and_answered_with_one() {
    let t = TestEdge::start().await;
    let channel = Endpoint::new(format!("http://{}", t.address())).expect("an address").connect_lazy();
    let mut client = HoldServiceClient::new(channel);

    let refused = client.get_hold(request("")).await.expect_err("no token");
    assert_eq!(refused.code(), Code::Unauthenticated);
    assert!(String::from_utf8_lossy(refused.details()).contains("CREDENTIALS_REQUIRED"), "{refused:?}");
    assert!(t.seen.lock().unwrap().is_empty());

    let reply = client.get_hold(request(&t.token(&["customer"]))).await.expect("a hold");
    assert_eq!(reply.into_inner(), Hold::default());
    assert_eq!(t.seen.lock().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_of_grpc_web_is_refused_without_a_token_and_answered_with_one() {
    let t = TestEdge::start().await;
    let mut frame = vec![0, 0, 0, 0, u8::try_from(NAME.len() + 2).expect("short")];
    frame.extend_from_slice(&[10, u8::try_from(NAME.len()).expect("short")]);
    frame.extend_from_slice(NAME.as_bytes());

    let refused = post(&t, "application/grpc-web+proto", "", frame.clone()).await;
    assert_eq!(refused.status, StatusCode::OK, "the status of gRPC-Web is in its trailers");
    let trailers = refused.body.as_str().expect("frames");
    assert!(trailers.contains("grpc-status: 16\r\n"), "{trailers:?}");
    assert!(t.seen.lock().unwrap().is_empty());

    let answered = post(&t, "application/grpc-web+proto", &t.token(&["customer"]), frame).await;
    assert_eq!(answered.status, StatusCode::OK);
    let frames = answered.body.as_str().expect("frames");
    assert!(frames.starts_with("\0\0\0\0\0") && frames.contains("grpc-status: 0\r\n"), "{frames:?}");
    assert_eq!(t.seen.lock().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_of_connect_is_refused_without_a_token_and_answered_with_one() {
    let t = TestEdge::start().await;
    let body = json!({ "name": NAME }).to_string().into_bytes();

    let refused = post(&t, "application/json", "", body.clone()).await;
    assert_eq!(
        (refused.status, &refused.body["code"]),
        (StatusCode::UNAUTHORIZED, &json!("unauthenticated"))
    );
    assert!(t.seen.lock().unwrap().is_empty());

    let token = t.token(&["customer"]);
    let answered = post(&t, "application/json", &token, body).await;
    assert_eq!((answered.status, &answered.body["state"]), (StatusCode::OK, &json!("STATE_UNSPECIFIED")));
    let bearer = format!("Bearer {token}");
    let query = format!("{GET_HOLD}?connect=v1&encoding=json&message=%7B%22name%22%3A%22{NAME}%22%7D");
    let by_get = t.send(Method::GET, &query, &[("authorization", bearer.as_str())], "").await;
    assert_eq!((by_get.status, by_get.body), (StatusCode::OK, answered.body));
    assert_eq!(t.seen.lock().unwrap().len(), 2);
}
