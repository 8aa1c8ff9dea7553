use serde_json::{Value, json};

use super::*;
use crate::limiter::Lane;

/// A record of a request with much that must not be logged.
fn record(uri: &str) -> Record {
    let request = Request::builder()
        .uri(uri)
        .header("user-agent", HeaderValue::from_bytes(b"a\"b\xff").unwrap())
        .header("authorization", "Bearer secret")
        .header("cookie", "a=secret")
        .header("content-length", "12")
        .body(Body::empty())
        .unwrap();
    let address = IpAddr::from([203, 0, 113, 9]);
    Record::begin(&Arc::default(), request, address, &HeaderValue::from_static("r-1")).0
}

fn line(record: &Record) -> Value {
    let mut line = Vec::new();
    record.write(&mut line, record.started.elapsed());
    assert_eq!(line.pop(), Some(b'\n'));
    assert!(!line.contains(&b'\n'));
    assert!(!line.windows(6).any(|bytes| bytes == b"secret"), "{}", String::from_utf8_lossy(&line));
    serde_json::from_slice(&line).expect("a line is JSON")
}

#[test]
fn a_line_says_who_asked_for_what_and_how_it_went() {
    let mut record = record("/v1/things/7?token=secret");
    record.notes.ended(Code::NotFound);
    record.notes.signed_in(Uuid::from_u128(1));
    (record.status, record.complete, record.bytes_out) = (Some(StatusCode::NOT_FOUND), true, 34);
    let mut line = line(&record);

    for member in ["timestamp", "elapsed_ms"] {
        assert!(!line.as_object_mut().unwrap().remove(member).expect(member).is_null());
    }
    let expected = json!({
        "level": "INFO", "target": "edge::access", "message": "request", "method": "GET", "path": "/v1/things/7",
        "status": 404, "code": "NOT_FOUND", "bytes_in": 12, "bytes_out": 34, "address": "203.0.113.9",
        "request_id": "r-1", "user": "00000000-0000-0000-0000-000000000001", "user_agent": "a\"b\u{fffd}",
        "protocol": "HTTP/1.1",
    });
    assert_eq!(line, expected);
}

#[test]
fn a_path_or_an_agent_that_looks_like_a_secret_is_left_out() {
    let mut record = record("/v1/cards/4242424242424242");
    record.agent = Some(HeaderValue::from_static("card 4242 4242 4242 4242"));
    let line = line(&record);
    assert_eq!((line.get("path"), line.get("user_agent")), (None, None));
}

#[test]
fn a_request_whose_client_left_was_cancelled() {
    let line = line(&record("/"));
    assert_eq!(
        (&line["status"], &line["code"], &line["cut_off"]),
        (&json!(499), &json!("CANCELLED"), &json!(true))
    );
}

/// What says how a call ended when it is dropped, as the stream of a transcoder does.
struct Told(Code);

impl Drop for Told {
    fn drop(&mut self) {
        Notes::of_current().expect("a body is dropped for its request").ended(self.0);
    }
}

/// The answer of a stream of two pieces, after which it ends, well or not, and says with which code.
fn streamed(code: Code, broken: bool) -> RecordedBody {
    let told = Told(code);
    let pieces = futures::stream::unfold((0, Some(told)), move |(sent, mut told)| async move {
        match sent {
            0 | 1 => Some((Ok(Bytes::from_static(b"piece")), (sent + 1, told))),
            2 if broken => {
                drop(told.take());
                Some((Err("broken off"), (3, told)))
            }
            _ => None,
        }
    });
    let mut record = record("/");
    record.status = Some(StatusCode::OK);
    RecordedBody { record, body: Some(Content::Right(Body::from_stream(pieces))) }
}

/// Reads up to `pieces` pieces.
async fn read(body: &mut RecordedBody, pieces: usize) {
    for _ in 0..pieces {
        if !matches!(std::future::poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await, Some(Ok(_))) {
            return;
        }
    }
}

#[tokio::test]
async fn a_stream_is_logged_with_what_became_of_it_at_its_end() {
    for (code, broken, cut_off) in [(Code::Ok, false, Value::Null), (Code::Unavailable, true, json!(true))] {
        let mut body = streamed(code, broken);
        read(&mut body, 3).await;
        let line = line(&body.record);
        assert_eq!((&line["code"], &line["cut_off"]), (&json!(name(code)), &cut_off));
        assert_eq!((&line["status"], &line["bytes_out"]), (&json!(200), &json!(10)));
    }
}

#[tokio::test]
async fn a_stream_that_its_client_left_is_logged_as_it_says_itself() {
    let mut body = streamed(Code::Cancelled, false);
    let notes = Arc::clone(&body.record.notes);
    read(&mut body, 1).await;
    assert_eq!(notes.code.get(), None, "it is not over");
    drop(body);
    assert_eq!(notes.code.get(), Some(&Code::Cancelled));
}

#[test]
fn a_refused_call_says_by_which_limit() {
    let record = record("/");
    let reset = Duration::from_secs(1);
    record.notes.decided(Decision {
        class: Lane::Credentials,
        lane: Lane::Credentials,
        remaining: 0,
        reset,
        allowed: false,
    });
    record.notes.decided(Decision {
        class: Lane::Default,
        lane: Lane::Default,
        remaining: 0,
        reset,
        allowed: true,
    });
    assert_eq!(line(&record)["limited"], "credentials");
}

#[test]
fn long_texts_are_cut_between_characters() {
    assert_eq!(cut("aé", 2), "a");
    let path = format!("/{}", "x".repeat(1000));
    assert_eq!(line(&record(&path))["path"].as_str().unwrap().len(), PATH_LENGTH_MAX);
}

#[test]
fn a_path_with_a_redacted_value_is_not_logged() {
    let record = record("/v1/cards/4111");
    record.notes.routed(Arc::new(Served::new("/a.B/C".to_owned(), false)));
    let line = line(&record);
    assert_eq!((&line["rpc"], &line["path"]), (&json!("/a.B/C"), &Value::Null));
}

#[test]
fn a_time_is_written_with_six_digits_of_a_second() {
    for text in ["2026-11-21T09:08:07.000120Z", "2026-11-21T09:08:07.900000Z", "2026-12-01T00:00:00.000000Z"]
    {
        let mut line = Vec::new();
        put_time(&mut line, text.parse().unwrap());
        assert_eq!(line, text.as_bytes());
    }
}
