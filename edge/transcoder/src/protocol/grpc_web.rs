//! gRPC-Web: gRPC for clients that cannot read trailers, which are the last frame of the body instead, and, as text, for
//! clients that cannot read bytes.
//!
//! Source: *gRPC Web*, the protocol specification (PROTOCOL-WEB.md).

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Response};
use http_body::Frame;
use pin_project_lite::pin_project;

use super::fault::{BrokenOff, Fault};
use super::grpc::open;
use super::in_body::{InBody, Piece};
use super::relay::Opened;
use super::status;
use crate::body::{Body, poll_data};
use crate::error::Problem;
use crate::grpc::PREFIX_LEN;
use crate::json::escape::{base64_length, decode_base64};
use crate::service::Shared;

/// Whether a body is text, which is its bytes in base64.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Binary,
    Text,
}

/// The flag of the frame that holds the trailers.
const TRAILERS: u8 = 0x80;

impl Form {
    /// By what follows `application/grpc` in a media type.
    pub(super) fn of(kind: &str) -> Option<Self> {
        let is = |name: &str| kind.eq_ignore_ascii_case(name);
        if is("-web") || is("-web+proto") {
            Some(Self::Binary)
        } else if is("-web-text") || is("-web-text+proto") {
            Some(Self::Text)
        } else {
            None
        }
    }

    /// The form of the answer: the request's, unless the client asks for the other one.
    pub(super) fn of_answer(self, headers: &HeaderMap) -> Self {
        let accept = headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let asked = accept.split(',').find_map(|range| {
            let media = range.split(';').next().unwrap_or_default().trim();
            Self::of(super::strip(media, "application/grpc")?)
        });
        asked.unwrap_or(self)
    }

    fn media_type(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Binary => "application/grpc-web+proto",
            Self::Text => "application/grpc-web-text+proto",
        })
    }

    /// The bytes as a body of this form has them. Of a text each piece is padded on its own, so that none waits for the next.
    fn write(self, bytes: Bytes) -> Bytes {
        match self {
            Self::Binary => bytes,
            Self::Text => Bytes::from(STANDARD.encode(&bytes)),
        }
    }
}

pub(super) async fn serve<B>(
    shared: &Arc<Shared>,
    index: usize,
    form: Form,
    parts: &Parts,
    body: B,
) -> Result<Response<Body>, Box<Problem>>
where
    B: http_body::Body + Send + 'static,
    B::Data: Send,
{
    let fault = Fault::default();
    let opened = match form {
        Form::Binary => open(shared, index, parts, fault, body).await?,
        Form::Text => {
            let body = Decoded { body, carried: Vec::new(), fault: fault.clone() };
            open(shared, index, parts, fault, body).await?
        }
    };
    let Opened { headers, encodings, relay } = opened;
    let form = form.of_answer(&parts.headers);
    let body = InBody::new(relay, move |piece| match piece {
        Piece::Data(data) => form.write(data),
        Piece::End(trailers) => form.write(trailers_frame(&trailers)),
    });
    let mut response = Response::new(Body::stream(body));
    *response.headers_mut() = headers;
    encodings.put(response.headers_mut());
    response.headers_mut().insert(CONTENT_TYPE, form.media_type());
    Ok(response)
}

/// An answer that is nothing but a status.
pub(super) fn refusal(problem: &Problem, form: Form) -> Response<Body> {
    let frame = trailers_frame(&status::trailers(problem));
    let mut response = Response::new(Body::full(form.write(frame)));
    response.headers_mut().insert(CONTENT_TYPE, form.media_type());
    response
}

fn trailers_frame(trailers: &HeaderMap) -> Bytes {
    let mut frame = vec![0; PREFIX_LEN];
    for (name, value) in trailers {
        for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
            frame.extend_from_slice(part);
        }
    }
    crate::grpc::finish_frame(&mut frame);
    frame[0] = TRAILERS;
    Bytes::from(frame)
}

pin_project! {
    /// The bytes of a body of base64, whose pieces may each be padded.
    struct Decoded<B> {
        #[pin]
        body: B,
        // The characters of a group of four that has not come whole.
        carried: Vec<u8>,
        fault: Fault,
    }
}

/// Appends what the whole groups of `text` stand for.
fn decode_groups(text: &[u8], out: &mut Vec<u8>) -> bool {
    let mut decode = |part: &[u8]| {
        str::from_utf8(part).is_ok_and(|part| base64_length(part).is_some() && decode_base64(out, part))
    };
    // Padding ends a piece, and the next one begins; a text without it is one piece.
    if text.contains(&b'=') { text.chunks(4).all(decode) } else { decode(text) }
}

impl<B: http_body::Body> http_body::Body for Decoded<B> {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        let mut this = self.project();
        let broken = |problem| Poll::Ready(Some(Err(this.fault.set(problem))));
        loop {
            match ready!(poll_data(this.body.as_mut(), cx)) {
                Some(Ok(data)) => {
                    this.carried.extend_from_slice(&data);
                    let whole = this.carried.len() / 4 * 4;
                    let mut bytes = Vec::with_capacity(whole / 4 * 3);
                    if !decode_groups(&this.carried[..whole], &mut bytes) {
                        return broken(Problem::bad_request("the body is not base64"));
                    }
                    this.carried.drain(..whole);
                    if !bytes.is_empty() {
                        return Poll::Ready(Some(Ok(Frame::data(Bytes::from(bytes)))));
                    }
                }
                Some(Err(_)) => return broken(Problem::body_unreadable()),
                None if !this.carried.is_empty() => {
                    return broken(Problem::bad_request("the body is not base64"));
                }
                None => return Poll::Ready(None),
            }
        }
    }
}
