//! Raw requests and answers of the protocols besides REST.

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode, Version};
use http_body_util::{BodyExt as _, Full};
use prost::Message as _;
use serde_json::Value;
use tower::ServiceExt as _;
use transcoder::Transcoder;

/// An answer, read to its end.
#[derive(Debug)]
pub(crate) struct Raw {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) trailers: Option<HeaderMap>,
}

impl Raw {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub(crate) fn trailer(&self, name: &str) -> &str {
        let value = self.trailers.as_ref().and_then(|trailers| trailers.get(name));
        value.map_or("", |value| value.to_str().unwrap())
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {:?}", self.body))
    }

    /// Flag and content of each frame or envelope.
    pub(crate) fn frames(&self) -> Vec<(u8, Bytes)> {
        let mut rest = self.body.clone();
        let mut frames = Vec::new();
        while !rest.is_empty() {
            let length = u32::from_be_bytes(rest[1..5].try_into().unwrap());
            let frame = rest.split_to(5 + usize::try_from(length).unwrap());
            frames.push((frame[0], frame.slice(5..)));
        }
        frames
    }

    /// The trailers in the last frame, as gRPC-Web has them.
    pub(crate) fn web_trailers(&self) -> Vec<String> {
        let (flag, text) = self.frames().pop().unwrap();
        assert_eq!(flag, 0x80);
        let text = str::from_utf8(&text).unwrap().to_owned();
        text.split_terminator("\r\n").map(str::to_owned).collect()
    }

    /// The last envelope of a stream of Connect.
    pub(crate) fn end(&self) -> Value {
        let (flag, text) = self.frames().pop().unwrap();
        assert_eq!(flag, 2);
        serde_json::from_slice(&text).unwrap()
    }
}

/// The reasons in the details that a `grpc-status-details-bin` has.
pub(crate) fn reasons(details: &str) -> Vec<String> {
    use base64::Engine as _;
    let bytes = base64::engine::general_purpose::STANDARD_NO_PAD.decode(details).unwrap();
    let status = tonic_types::pb::Status::decode(&*bytes).unwrap();
    let infos = status.details.iter().filter(|detail| detail.type_url.ends_with("/google.rpc.ErrorInfo"));
    infos.map(|info| tonic_types::pb::ErrorInfo::decode(&*info.value).unwrap().reason).collect()
}

/// A POST over HTTP/2.
pub(crate) fn post(path: &str, content_type: &str, body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    Request::builder()
        .method("POST")
        .uri(path)
        .version(Version::HTTP_2)
        .header("content-type", content_type)
        .body(Full::new(body.into()))
        .unwrap()
}

/// As [`exchange`], with any body.
pub(crate) async fn exchange_body<B>(transcoder: &Transcoder, request: Request<B>) -> Raw
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<transcoder::BoxError>,
{
    let response = transcoder.clone().oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let collected = body.collect().await.unwrap();
    let trailers = collected.trailers().cloned();
    Raw { status: parts.status, headers: parts.headers, body: collected.to_bytes(), trailers }
}

pub(crate) async fn exchange(transcoder: &Transcoder, request: Request<Full<Bytes>>) -> Raw {
    exchange_body(transcoder, request).await
}
