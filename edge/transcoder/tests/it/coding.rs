//! gzip and zstd, both ways.

use std::io::{Read as _, Write as _};

use bytes::Bytes;
use futures::StreamExt as _;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt as _, Full, StreamBody};
use serde_json::json;
use tower::ServiceExt as _;
use transcoder::{Admission, Transcoder};

use crate::gate::Recorder;
use crate::harness::{
    Upstream, answer, builder, error_info, frame, framed, replies, reply, request, send, trailers,
};

fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

fn zstd_of(data: &[u8]) -> Vec<u8> {
    zstd::bulk::compress(data, 3).unwrap()
}

fn decode(coding: &str, data: &[u8]) -> Vec<u8> {
    match coding {
        "gzip" => {
            let mut decoded = Vec::new();
            flate2::read::MultiGzDecoder::new(data).read_to_end(&mut decoded).unwrap();
            decoded
        }
        "zstd" => zstd::stream::decode_all(data).unwrap(),
        _ => data.to_vec(),
    }
}

fn coded(coding: &str, body: Vec<u8>) -> Request<Full<Bytes>> {
    let (mut head, _) = request("POST", "/v1/echo", "{}").into_parts();
    head.headers.insert("content-encoding", coding.parse().unwrap());
    Request::from_parts(head, Full::new(Bytes::from(body)))
}

const JSON: &str = r#"{"stringValue":"lion"}"#;

#[tokio::test]
async fn a_gzip_or_zstd_request_is_decoded() {
    let transcoder = builder(&Upstream::echo()).build().unwrap();
    let two = [gzip(&JSON.as_bytes()[..9]), gzip(&JSON.as_bytes()[9..])].concat();
    let two_frames = [zstd_of(&JSON.as_bytes()[..9]), zstd_of(&JSON.as_bytes()[9..])].concat();
    for (coding, body) in [
        ("gzip", gzip(JSON.as_bytes())),
        ("X-Gzip", gzip(JSON.as_bytes())),
        ("identity, gzip", gzip(JSON.as_bytes())),
        ("gzip", two),
        ("zstd", zstd_of(JSON.as_bytes())),
        ("ZSTD", two_frames),
        ("identity", JSON.as_bytes().to_vec()),
        ("", JSON.as_bytes().to_vec()),
    ] {
        let got = send(&transcoder, coded(coding, body)).await;
        assert_eq!((got.status.as_u16(), got.text.as_str()), (200, JSON), "{coding}");
    }
}

#[tokio::test]
async fn a_coded_body_may_come_byte_by_byte() {
    let transcoder = builder(&Upstream::echo()).build().unwrap();
    let long = json!({"stringValue": "lion ".repeat(10_000)}).to_string();
    for (coding, body) in [("gzip", gzip(long.as_bytes())), ("zstd", zstd_of(long.as_bytes()))] {
        let (head, _) = coded(coding, Vec::new()).into_parts();
        let pieces: Vec<_> = body
            .into_iter()
            .map(|byte| Ok::<_, std::io::Error>(Frame::data(Bytes::from(vec![byte]))))
            .collect();
        let request = Request::from_parts(head, StreamBody::new(futures::stream::iter(pieces)));
        let response = transcoder.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), 200, "{coding}");
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), long, "{coding}");
    }
}

#[tokio::test]
async fn an_unknown_coding_is_415_with_accept_encoding() {
    let transcoder = builder(&Upstream::echo()).build().unwrap();
    for coding in ["br", "deflate", "gzip, br", "gzip, gzip", "compress"] {
        let got = send(&transcoder, coded(coding, gzip(JSON.as_bytes()))).await;
        assert_eq!(
            (got.status.as_u16(), got.header("accept-encoding")),
            (415, "gzip, zstd, identity"),
            "{coding}"
        );
        assert_eq!(got.json()["details"][0], error_info("UNSUPPORTED_MEDIA_TYPE"));
    }
    let transcoder = builder(&Upstream::echo()).decompress_requests(false).build().unwrap();
    let got = send(&transcoder, coded("gzip", gzip(JSON.as_bytes()))).await;
    assert_eq!((got.status.as_u16(), got.header("accept-encoding")), (415, "identity"));
}

#[tokio::test]
async fn a_body_that_is_not_what_its_coding_says_is_400() {
    let transcoder = builder(&Upstream::echo()).build().unwrap();
    let zip = gzip(JSON.as_bytes());
    let frame = zstd_of(JSON.as_bytes());
    let mut wrong_sum = zip.clone();
    let sum = wrong_sum.len() - 6;
    wrong_sum[sum] ^= 1;
    for (coding, body) in [
        ("gzip", JSON.as_bytes().to_vec()),
        ("gzip", zip[..zip.len() - 1].to_vec()),
        ("gzip", zip[..zip.len() - 9].to_vec()),
        ("gzip", zip[..5].to_vec()),
        ("gzip", wrong_sum),
        ("gzip", [zip.clone(), b"tail".to_vec()].concat()),
        ("zstd", JSON.as_bytes().to_vec()),
        ("zstd", frame[..frame.len() - 1].to_vec()),
        ("zstd", [frame.clone(), b"tail".to_vec()].concat()),
    ] {
        let got = send(&transcoder, coded(coding, body.clone())).await;
        assert_eq!(got.status, 400, "{coding} {body:?}: {}", got.text);
        assert_eq!(got.json()["details"][0], error_info("BODY_UNREADABLE"), "{coding} {body:?}");
    }
}

#[tokio::test]
async fn the_decoded_size_is_bounded_by_the_body_limit() {
    let gate = Recorder::new(Admission { max_body_bytes: 1000, ..Admission::default() });
    let upstream = Upstream::echo();
    let transcoder = builder(&upstream).gate(gate).build().unwrap();
    let of = |length: usize| format!("{{\"stringValue\":\"{}\"}}", "x".repeat(length - 18)).into_bytes();
    for (coding, fits, over) in
        [("gzip", gzip(&of(1000)), gzip(&of(1001))), ("zstd", zstd_of(&of(1000)), zstd_of(&of(1001)))]
    {
        assert_eq!(send(&transcoder, coded(coding, fits)).await.status, 200, "{coding}");
        assert_eq!(send(&transcoder, coded(coding, over)).await.status, 413, "{coding}");
    }
}

#[tokio::test]
async fn a_bomb_is_413_and_is_not_decoded_to_its_end() {
    let transcoder = builder(&Upstream::echo()).build().unwrap();
    let zeroes = vec![b' '; 16 << 20];
    for (coding, bomb) in [("gzip", gzip(&zeroes)), ("zstd", zstd_of(&zeroes))] {
        assert!(bomb.len() < 20_000, "{}", bomb.len());
        // Were it decoded to its end, the missing rest would be found, and be a 400.
        let cut = bomb[..bomb.len() - 4].to_vec();
        let got = send(&transcoder, coded(coding, cut)).await;
        assert_eq!(
            (got.status.as_u16(), &got.json()["details"][0]),
            (413, &error_info("BODY_TOO_LARGE")),
            "{coding}"
        );
    }
}

#[tokio::test]
async fn the_coded_size_is_bounded_by_the_body_limit_as_well() {
    let gate = Recorder::new(Admission { max_body_bytes: 1000, ..Admission::default() });
    let transcoder = builder(&Upstream::echo()).gate(gate).build().unwrap();
    // What decodes to nothing could go on for ever.
    for (coding, nothing) in
        [("gzip", gzip(b"")), ("zstd", zstd_of(b"")), ("zstd", vec![0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0])]
    {
        let (head, _) = coded(coding, Vec::new()).into_parts();
        let endless = futures::stream::repeat(Bytes::from(nothing))
            .map(|bytes| Ok::<_, std::io::Error>(Frame::data(bytes)));
        let request = Request::from_parts(head, StreamBody::new(endless));
        let response = transcoder.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), 413, "{coding}");
    }
}

#[tokio::test]
async fn a_zstd_window_over_8_mib_is_refused() {
    let transcoder = builder(&Upstream::echo()).build().unwrap();
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
    encoder.window_log(24).unwrap();
    encoder.write_all(JSON.as_bytes()).unwrap();
    let got = send(&transcoder, coded("zstd", encoder.finish().unwrap())).await;
    assert_eq!((got.status.as_u16(), &got.json()["details"][0]), (400, &error_info("BODY_UNREADABLE")));
}

/// Status, headers and undecoded body.
async fn got(transcoder: &Transcoder, uri: &str, headers: &[(&'static str, &str)]) -> (Response<()>, Bytes) {
    let mut request = request("GET", uri, "");
    for (name, value) in headers {
        request.headers_mut().append(*name, value.parse().unwrap());
    }
    let (head, body) = transcoder.clone().oneshot(request).await.unwrap().into_parts();
    (Response::from_parts(head, ()), body.collect().await.unwrap().to_bytes())
}

fn header<'r>(response: &'r Response<()>, name: &str) -> &'r str {
    response.headers().get(name).map_or("", |value| value.to_str().unwrap())
}

/// Answers with about this many bytes of JSON.
fn long(length: usize) -> Upstream {
    Upstream::new(move |_| reply(frame("GetAnimalRequest", &json!({"name": "x".repeat(length)}).to_string())))
}

#[tokio::test]
async fn an_answer_is_coded_as_accept_encoding_likes_it() {
    let transcoder = builder(&long(2000)).build().unwrap();
    let plain = json!({"name": "x".repeat(2000)}).to_string();
    for (accepted, expected) in [
        ("gzip", "gzip"),
        ("zstd", "zstd"),
        ("gzip, deflate, br, zstd", "zstd"),
        ("zstd;q=0.1, gzip;q=0.2", "gzip"),
        ("GZIP;Q=0.5", "gzip"),
        ("*", "zstd"),
        ("*;q=0.5, zstd;q=0", "gzip"),
        ("identity", ""),
        ("br", ""),
        ("", ""),
        ("gzip;q=0", ""),
        ("identity, gzip;q=0.5", ""),
        ("identity;q=0.5, gzip", "gzip"),
    ] {
        let (head, body) = got(&transcoder, "/v1/one/x", &[("accept-encoding", accepted)]).await;
        assert_eq!(header(&head, "content-encoding"), expected, "{accepted}");
        assert_eq!(header(&head, "vary"), "accept-encoding", "{accepted}");
        assert_eq!(header(&head, "content-length"), body.len().to_string(), "{accepted}");
        assert_eq!(decode(expected, &body), plain.as_bytes(), "{accepted}");
        assert!(expected.is_empty() || body.len() < 200, "{accepted}: {}", body.len());
    }
    let (head, _) = got(&transcoder, "/v1/one/x", &[]).await;
    assert_eq!((header(&head, "content-encoding"), header(&head, "vary")), ("", "accept-encoding"));
}

#[tokio::test]
async fn a_short_answer_and_one_of_a_builder_without_compression_is_not_coded() {
    let short = builder(&long(900)).build().unwrap();
    let off = builder(&long(2000)).compress_answers(false).build().unwrap();
    for transcoder in [short, off] {
        let (head, _) = got(&transcoder, "/v1/one/x", &[("accept-encoding", "gzip")]).await;
        assert_eq!((header(&head, "content-encoding"), header(&head, "vary")), ("", ""));
    }
}

#[tokio::test]
async fn a_media_type_that_is_compressed_already_is_not_coded() {
    for (content_type, expected) in [
        ("text/csv; charset=utf-8", "gzip"),
        ("image/svg+xml", "gzip"),
        ("application/vnd.zoo+json", "gzip"),
        ("image/png", ""),
        ("application/zip", ""),
        ("application/octet-stream", ""),
        ("video/mp4", ""),
    ] {
        let upstream = Upstream::new(move |_| {
            let mut message = vec![10, u8::try_from(content_type.len()).unwrap()];
            message.extend_from_slice(content_type.as_bytes());
            message.extend_from_slice(&[18, 0x80, 0x10]);
            message.extend_from_slice(&[b'x'; 2048]);
            reply(framed(&message))
        });
        let transcoder = builder(&upstream).build().unwrap();
        let (head, body) = got(&transcoder, "/v1/download/x", &[("accept-encoding", "gzip")]).await;
        assert_eq!(header(&head, "content-encoding"), expected, "{content_type}");
        assert_eq!(decode(expected, &body), [b'x'; 2048], "{content_type}");
    }
}

#[tokio::test]
async fn a_stream_is_coded_and_flushed_message_by_message() {
    let first = frame("GetAnimalRequest", r#"{"legs": 1}"#);
    for coding in ["gzip", "zstd"] {
        let message = first.clone();
        let upstream = Upstream::new(move |_| {
            let once = futures::stream::iter([Ok(Frame::data(message.clone()))]);
            answer(once.chain(futures::stream::pending()))
        });
        let transcoder = builder(&upstream).build().unwrap();
        let mut request = request("GET", "/v1/watch/x", "");
        request.headers_mut().insert("accept-encoding", coding.parse().unwrap());
        let response = transcoder.oneshot(request).await.unwrap();
        assert_eq!(response.headers()["content-encoding"], coding);
        assert_eq!(response.headers()["vary"], "accept-encoding");
        let chunk = response.into_body().frame().await.unwrap().unwrap().into_data().unwrap();
        // The stream has not ended: only what was flushed can be read.
        let mut decoded = vec![0; 11];
        match coding {
            "gzip" => flate2::read::GzDecoder::new(&*chunk).read_exact(&mut decoded).unwrap(),
            _ => zstd::stream::read::Decoder::new(&*chunk).unwrap().read_exact(&mut decoded).unwrap(),
        }
        assert_eq!(decoded, b"{\"legs\":1}\n", "{coding}");
    }
}

#[tokio::test]
async fn a_coded_stream_ends_whole_with_its_trailers_or_breaks_off() {
    let one = || frame("GetAnimalRequest", r#"{"legs": 1}"#);
    for coding in ["gzip", "zstd"] {
        let upstream =
            Upstream::new(move |_| replies([one(), one()], &[("grpc-status", "0"), ("x-shown", "7")]));
        let transcoder = builder(&upstream).gate(Recorder::default()).build().unwrap();
        let mut asked = request("GET", "/v1/watch/x", "");
        asked.headers_mut().insert("accept-encoding", coding.parse().unwrap());
        asked.headers_mut().insert("te", "trailers".parse().unwrap());
        let body = transcoder.oneshot(asked).await.unwrap().into_body().collect().await.unwrap();
        assert_eq!(body.trailers(), Some(&trailers(&[("x-shown", "7")])));
        assert_eq!(decode(coding, &body.to_bytes()), b"{\"legs\":1}\n{\"legs\":1}\n", "{coding}");

        let upstream = Upstream::new(move |_| replies([one()], &[("grpc-status", "10")]));
        let transcoder = builder(&upstream).build().unwrap();
        let mut asked = request("GET", "/v1/watch/x", "");
        asked.headers_mut().insert("accept-encoding", coding.parse().unwrap());
        let mut body = transcoder.oneshot(asked).await.unwrap().into_body();
        let mut ended_well = true;
        while let Some(frame) = body.frame().await {
            ended_well &= frame.is_ok();
        }
        assert!(!ended_well, "{coding}");
    }
}
