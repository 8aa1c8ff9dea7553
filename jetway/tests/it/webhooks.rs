//! Webhooks over REST, from registering a URL to the delivery that comes to it.

use http::Method;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use crate::harness::{Up, data_dir, eventually, unique};

/// Takes one delivery, and answers it.
async fn receive(listener: &TcpListener) -> (String, Value) {
    let (mut stream, _) = listener.accept().await.expect("somebody connects");
    let mut request = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&request).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            if length.and_then(|length| length.parse().ok()) == Some(body.len()) {
                stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.expect("it listens");
                return (head.to_owned(), serde_json::from_str(body).expect("an event is JSON"));
            }
        }
        let read = stream.read_buf(&mut request).await.expect("it speaks");
        assert!(read > 0, "the request breaks off: {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_is_registered_changed_and_tried_over_rest() {
    let data = data_dir();
    let up = Up::start(data.path());
    let admin = up.signed_in_as("admin").await;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/hook", listener.local_addr().expect("bound"));
    let asked = json!({ "url": url, "eventTypes": ["refund.*"] });
    let key = unique();

    let created = admin.post_with_key("/api/v1/webhookEndpoints", &asked, &key).await.expect("an answer");
    assert_eq!(created.status, 200, "{}", created.body);
    assert!(created.text("secret").starts_with("whsec_"));
    let again = admin.post_with_key("/api/v1/webhookEndpoints", &asked, &key).await.expect("an answer");
    assert_eq!(again.body, created.body);
    assert_eq!(again.headers["idempotent-replayed"], "true");
    let path = format!("/api/v1/{}", created.text("name"));
    let read = admin.get(&path).await.expect("an answer");
    assert_eq!((read.status, read.text("secret").as_str()), (200, ""));

    let change = json!({ "description": "the books", "etag": created.text("etag") });
    let changed = admin.send(Method::PATCH, &path, Some(&change), &[]).await.expect("an answer");
    assert_eq!(
        (changed.status, changed.text("description").as_str()),
        (200, "the books"),
        "{}",
        changed.body
    );
    assert_eq!(changed.body["eventTypes"], json!(["refund.*"]), "what the body does not name stays");
    let late = admin.send(Method::PATCH, &path, Some(&change), &[]).await.expect("an answer");
    assert_eq!((late.status, late.reason().as_str()), (409, "ETAG_MISMATCH"));

    let pinged = admin.post(&format!("{path}:ping"), &json!({})).await.expect("an answer");
    assert_eq!(pinged.status, 200, "{}", pinged.body);
    let (head, event) = receive(&listener).await;
    assert!(head.starts_with("POST /hook HTTP/1.1"), "{head}");
    assert!(head.contains("jetway-signature: t=") && head.contains("webhook-signature: v1,"), "{head}");
    assert_eq!(format!("events/{}", event["id"].as_str().expect("an id")), pinged.text("event"));
    let listed = eventually("the delivery has succeeded", async || {
        let filter = format!("{path}/deliveries?filter=state%20%3D%20SUCCEEDED");
        let listed = admin.get(&filter).await.expect("an answer");
        let name = listed.text("deliveries.0.name");
        (!name.is_empty()).then_some(name)
    })
    .await;
    let again = admin.post(&format!("/api/v1/{listed}:redeliver"), &json!({})).await.expect("an answer");
    assert_eq!(again.status, 200, "{}", again.body);
    let (_, repeated) = receive(&listener).await;
    assert_eq!(repeated, event);

    let rotated = admin.post(&format!("{path}:rotateSecret"), &json!({})).await.expect("an answer");
    assert_ne!(rotated.text("secret"), created.text("secret"));
    let replay = json!({ "startTime": "2020-01-01T00:00:00Z" });
    let replayed = admin.post(&format!("{path}/deliveries:replay"), &replay).await.expect("an answer");
    assert_eq!(replayed.status, 200, "{}", replayed.body);
    let metadata = json!({ "url": "http://169.254.169.254/latest" });
    let refused = admin.post("/api/v1/webhookEndpoints", &metadata).await.expect("an answer");
    assert_eq!((refused.status, refused.reason().as_str()), (400, "WEBHOOK_URL_FORBIDDEN"));
    let deleted = admin.send(Method::DELETE, &path, None, &[]).await.expect("an answer");
    assert_eq!(deleted.status, 200, "{}", deleted.body);
    assert_eq!(admin.get(&path).await.expect("an answer").status, 404);
}
