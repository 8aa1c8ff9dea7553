//! Client streams of compressed and of raw bytes.

use bytes::Bytes;
use futures::SinkExt as _;
use http_body::Frame;
use http_body_util::BodyExt as _;
use serde_json::json;
use tower::ServiceExt as _;
use transcoder::Admission;

use super::{Heard, NDJSON, collecting, echoing, live, sent};
use crate::gate::Recorder;

#[tokio::test]
async fn a_compressed_client_stream_is_decoded_message_by_message() {
    use std::io::Write as _;
    let mut zip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    zip.write_all(b"{\"legs\":1}\n{\"legs\":2}\n").unwrap();
    zip.flush().unwrap();
    let begun = std::mem::take(zip.get_mut());
    zip.write_all(b"{\"legs\":3}").unwrap();
    let rest = zip.finish().unwrap();
    let transcoder = echoing().build().unwrap();
    let (mut sender, mut request) = live("/v1/chat", NDJSON);
    request.headers_mut().insert("content-encoding", "gzip".parse().unwrap());
    let answering = tokio::spawn(transcoder.oneshot(request));
    sender.send(Ok(Frame::data(Bytes::from(begun)))).await.unwrap();
    let mut body = answering.await.unwrap().unwrap().into_body();
    let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
    assert!(first.starts_with(b"{\"legs\":1}\n"));
    // Sent when it is read, which the next line does.
    tokio::spawn(async move { sender.send(Ok(Frame::data(Bytes::from(rest)))).await });
    let rest = body.collect().await.unwrap().to_bytes();
    assert!(rest.ends_with(b"{\"legs\":3}\n"), "{rest:?}");
}

/// The chunks of a raw upload: content type (only of the first) and data.
#[tokio::test]
async fn an_http_body_comes_in_as_a_stream_of_chunks() {
    let heard = Heard::default();
    let transcoder = collecting(&heard).build().unwrap();
    let got = sent(&transcoder, "/v1/upload-stream/x", "image/png", b"abcde", 2).await;
    assert_eq!(got.status, 200, "{}", got.text);
    assert_eq!(
        heard.json("UploadRequest"),
        [
            json!({"name": "x", "file": {"contentType": "image/png", "data": "YWI="}}),
            json!({"name": "x", "file": {"data": "Y2Q="}}),
            json!({"name": "x", "file": {"data": "ZQ=="}}),
        ]
    );
    let heard = Heard::default();
    let transcoder = collecting(&heard).build().unwrap();
    assert_eq!(sent(&transcoder, "/v1/upload-stream/x", "", b"", 2).await.status, 200);
    let first = json!({"name": "x", "file": {"contentType": "application/octet-stream"}});
    assert_eq!(heard.json("UploadRequest"), [first], "an empty upload is one message");
}

#[tokio::test]
async fn a_raw_stream_of_any_length_goes_through_in_both_directions() {
    let gate = Recorder::new(Admission { max_body_bytes: 10, ..Admission::default() });
    let transcoder = echoing().gate(gate).build().unwrap();
    let got = sent(&transcoder, "/v1/convert", "text/csv", "a,b\n".repeat(1000).as_bytes(), 64).await;
    assert_eq!((got.status.as_u16(), got.header("content-type")), (200, "text/csv"));
    assert!(!got.broken && got.text == "a,b\n".repeat(1000));
}

#[tokio::test]
async fn the_content_type_of_a_raw_request_must_be_a_media_type() {
    let heard = Heard::default();
    let transcoder = collecting(&heard).build().unwrap();
    for content_type in ["text", "a b/c", "/", "text/"] {
        for uri in ["/v1/upload-stream/x", "/v1/upload/x"] {
            let got = sent(&transcoder, uri, content_type, b"abc", 3).await;
            let rule = "the header `Content-Type` must be one media type, as `type/subtype; parameters`";
            assert_eq!(got.violation(), (String::new(), rule.to_owned()), "{uri} {content_type}");
        }
    }
    assert_eq!(heard.whole(), None);
}
