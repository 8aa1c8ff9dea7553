//! From an HTTP method and path to a method and its path fields.

use serde_json::json;

use crate::harness::{echo, reached};

#[tokio::test]
async fn a_post_with_a_body_reaches_its_method_and_comes_back() {
    let (got, seen) = echo("POST", "/v1/echo", r#"{"stringValue": "lion", "int64Value": "7"}"#).await;
    assert_eq!(got.status, 200, "{}", got.text);
    assert_eq!(got.header("content-type"), "application/json");
    assert_eq!(got.json(), json!({"stringValue": "lion", "int64Value": "7"}));
    assert_eq!(seen.expect("reached").path, "/zoo.v1.Zoo/Echo");
}

#[tokio::test]
async fn a_get_binds_path_and_query() {
    let seen = reached("GET", "/v1/search/lion?int32Value=3&strings=a&strings=b", "", "Everything").await;
    assert_eq!(seen, json!({"stringValue": "lion", "int32Value": 3, "strings": ["a", "b"]}));
}
