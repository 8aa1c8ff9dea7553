//! The errors that the edge makes itself.

use http::{Method, StatusCode};
use serde_json::json;

use crate::harness::TestEdge;

#[tokio::test(flavor = "multi_thread")]
async fn an_error_of_the_edge_says_why_in_its_own_domain() {
    let t = TestEdge::start().await;
    let json = ("content-type", "application/json");
    let signin = "/api/v1/auth/signin";
    for (method, path, header, body, status, reason) in [
        (Method::GET, "/api/v1/nothing", json, "", StatusCode::NOT_FOUND, "ROUTE_NOT_FOUND"),
        (Method::DELETE, signin, json, "", StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED"),
        (Method::POST, signin, json, "{", StatusCode::BAD_REQUEST, "REQUEST_INVALID"),
        (
            Method::POST,
            signin,
            ("content-type", "text/plain"),
            "{}",
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "UNSUPPORTED_MEDIA_TYPE",
        ),
    ] {
        let answer = t.send(method, path, &[header], body).await;
        assert_eq!(answer.status, status, "{path}: {}", answer.body);
        let info = json!({
            "@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason, "domain": "edge.jetway"
        });
        assert_eq!(answer.body["details"][0], info, "{path}");
    }
}
