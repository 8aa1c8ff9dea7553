//! The document of the public API, and its page.

use http::Method;
use serde_json::json;

use crate::harness::TestEdge;

#[tokio::test(flavor = "multi_thread")]
async fn the_document_says_who_may_call() {
    let t = TestEdge::start().await;
    let document = t.send(Method::GET, "/openapi.json", &[], "").await;
    assert_eq!(document.headers["content-type"], "application/json");
    let paths = &document.body["paths"];
    let hold = &paths["/api/v1/holds"]["post"];
    assert_eq!(hold["security"], json!([{"bearer": []}, {"session": [], "csrf": []}]));
    assert_eq!(paths["/api/v1/me"]["get"]["security"], json!([{"bearer": []}, {"session": []}]));
    assert_eq!(paths["/api/v1/flights"]["get"]["security"], json!([]));
    let roles = &paths["/api/v1/admin/roles"]["get"]["description"];
    assert!(roles.as_str().is_some_and(|text| text.ends_with("Needs the role `admin`.")), "{roles}");
    // What only services may call is not for the world.
    assert!(paths.get("/api/v1/refunds").is_none_or(|item| item.get("post").is_none()));

    let key = &hold["parameters"][0];
    assert_eq!((&key["name"], &key["required"]), (&json!("Idempotency-Key"), &json!(true)));
    let body = &hold["requestBody"]["content"]["application/json"]["schema"];
    assert!(body["properties"]["items"].is_object());
    assert!(body["properties"].get("requestId").is_none(), "the header sets it");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_documentation_page_works_without_the_network() {
    let t = TestEdge::start().await;
    let page = t.send(Method::GET, "/docs", &[], "").await;
    assert_eq!(page.headers["content-type"], "text/html; charset=utf-8");
    let policy = page.headers["content-security-policy"].to_str().expect("ASCII");
    assert!(policy.starts_with("default-src 'none';") && !policy.contains("unsafe"), "{policy}");
    assert_eq!(page.headers["x-content-type-options"], "nosniff");
    let html = page.body.as_str().expect("text").to_owned();
    for (attribute, path, media_type) in
        [("href", "docs/docs.css", "text/css"), ("src", "docs/docs.js", "text/javascript")]
    {
        assert!(html.contains(&format!("{attribute}=\"{path}\"")), "{html}");
        let file = t.send(Method::GET, &format!("/{path}"), &[], "").await;
        assert!(file.headers["content-type"].to_str().is_ok_and(|text| text.starts_with(media_type)));
        let text = file.body.as_str().expect("text");
        assert!(!text.contains("://"), "{path} names another origin");
    }
    assert!(!html.contains("://") && !html.contains("<style") && !html.contains("onclick"), "{html}");
    // Everything else keeps the policy that allows nothing.
    let other = t.send(Method::GET, "/openapi.json", &[], "").await;
    assert_eq!(other.headers["content-security-policy"], "default-src 'none'; frame-ancestors 'none'");
}
