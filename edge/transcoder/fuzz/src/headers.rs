//! Headers of the request and of the upstream's answer: any of them, in any form, and the answer is well formed.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, StatusCode};

use super::upstream::GATEWAY;

/// Data: lines of `name: value` for the request; after an empty line those of the upstream's headers, then of its trailers.
pub fn check(data: &[u8]) {
    let mut sections = data
        .split(|byte| *byte == b'\n')
        .collect::<Vec<_>>()
        .split(|line| line.is_empty())
        .map(lines)
        .collect::<Vec<_>>();
    sections.resize(3, Vec::new());
    let [request_headers, headers, trailers]: [Vec<(HeaderName, HeaderValue)>; 3] =
        sections.try_into().expect("three of them");

    let gateway = GATEWAY.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    gateway.answer_with(headers, trailers);
    let mut request = Request::post("/echo").body(Bytes::from_static(b"{\"name\":\"x\"}")).expect("valid");
    request.headers_mut().extend(request_headers.iter().cloned());
    let answer = gateway.send(request);

    if let Some(timeout) = one(&request_headers, "grpc-timeout") {
        let text = timeout.to_str().unwrap_or("");
        let valid = text.len() >= 2
            && text.len() <= 9
            && text[..text.len() - 1].bytes().all(|digit| digit.is_ascii_digit())
            && text.ends_with(['H', 'M', 'S', 'm', 'u', 'n']);
        assert!(valid || !answer.status.is_success(), "{timeout:?}: {answer:?}");
    }
    let json = one(&request_headers, "content-type").is_some_and(|value| value == "application/json");
    let plain = json && request_headers.len() == 1;
    if plain && answer.status != StatusCode::OK {
        assert!(answer.method.is_some(), "refused, whatever the upstream says: {answer:?}");
    }
    for (name, value) in &answer.headers {
        assert!(!value.as_bytes().iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)), "{name}: {value:?}");
    }
    let declared = answer.headers.get("content-type").and_then(|value| value.to_str().ok()).unwrap_or("");
    if declared == "application/json" || declared == "application/problem+json" {
        serde_json::from_slice::<serde_json::Value>(&answer.body)
            .unwrap_or_else(|why| panic!("{why}: {:?}", String::from_utf8_lossy(&answer.body)));
    }
}

fn lines(lines: &[&[u8]]) -> Vec<(HeaderName, HeaderValue)> {
    lines
        .iter()
        .filter_map(|line| {
            let colon = line.iter().position(|byte| *byte == b':')?;
            let value = line[colon + 1..].trim_ascii();
            Some((HeaderName::from_bytes(&line[..colon]).ok()?, HeaderValue::from_bytes(value).ok()?))
        })
        .collect()
}

/// The value of a header that is there once.
fn one<'h>(headers: &'h [(HeaderName, HeaderValue)], name: &str) -> Option<&'h HeaderValue> {
    let mut values = headers.iter().filter(|(known, _)| known == name);
    let (first, second) = (values.next(), values.next());
    first.filter(|_| second.is_none()).map(|(_, value)| value)
}
