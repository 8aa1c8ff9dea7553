//! PATCH without an update mask.

use serde_json::json;

use crate::harness::reached;

async fn patched(uri: &str, body: &str) -> serde_json::Value {
    reached("PATCH", uri, body, "UpdateAnimalRequest").await
}

#[tokio::test]
async fn the_mask_of_a_patch_is_built_from_its_body() {
    let body =
        r#"{"displayName": "Leo", "home": {"city": "x"}, "labels": {"a": "b"}, "legs": 0, "foods": []}"#;
    let seen = patched("/v1/animals/leo", body).await;
    assert_eq!(seen["updateMask"], "displayName,home.city,labels,legs,foods");
}

#[tokio::test]
async fn null_and_an_empty_message_are_in_the_mask() {
    let seen = patched("/v1/animals/leo", r#"{"displayName": null, "home": {}}"#).await;
    assert_eq!(
        seen,
        json!({"animal": {"name": "animals/leo", "home": {}}, "updateMask": "displayName,home"})
    );
}

#[tokio::test]
async fn a_mask_in_the_request_is_kept() {
    let seen = patched("/v1/animals/leo?updateMask=legs", r#"{"legs": 3, "displayName": "x"}"#).await;
    assert_eq!(seen["updateMask"], "legs");
    let body = r#"{"title": "x", "updateMask": "title"}"#;
    assert_eq!(reached("PATCH", "/v1/whole/n", body, "WholeUpdateRequest").await["updateMask"], "title");
}

#[tokio::test]
async fn the_mask_leaves_out_what_the_path_binds() {
    let seen = reached("PATCH", "/v1/whole/n", r#"{"title": "x", "name": "n"}"#, "WholeUpdateRequest").await;
    assert_eq!(seen, json!({"name": "n", "title": "x", "updateMask": "title"}));
    let seen = patched("/v1/animals/leo", r#"{"name": "animals/leo", "legs": 3}"#).await;
    assert_eq!(seen["updateMask"], "legs");
}
