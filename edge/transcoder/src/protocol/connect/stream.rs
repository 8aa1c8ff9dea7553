//! Streams of Connect: messages in envelopes, and a last one that says how the call ended.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Response};
use http_body::Frame;

use super::{admit, error, put_json};
use crate::body::{Body, BoxError};
use crate::error::Problem;
use crate::grpc::{Messages, Next, PREFIX_LEN, finish_frame};
use crate::json::escape::put_string;
use crate::protocol::fault::Fault;
use crate::protocol::gzip::Compression;
use crate::protocol::in_body::{InBody, Piece};
use crate::protocol::relay::{Call, Encodings, Opened, Relay};
use crate::protocol::request::request_body;
use crate::protocol::status;
use crate::protocol::turn::{Codec, Form};
use crate::service::Shared;
use crate::table::Tables;

const ENCODING: HeaderName = HeaderName::from_static("connect-content-encoding");
const ACCEPT_ENCODING: HeaderName = HeaderName::from_static("connect-accept-encoding");

/// The flag of the envelope that ends a stream.
const END: u8 = 0x02;

/// How much JSON is written before it is handed on, in bytes, when the upstream is faster than the client.
const BATCH_BYTES: usize = 32 << 10;

/// Serves a stream, in whichever direction.
pub(in crate::protocol) async fn serve<B>(
    shared: &Arc<Shared>,
    index: usize,
    codec: Codec,
    parts: &Parts,
    body: B,
) -> Result<Response<Body>, Box<Problem>>
where
    B: http_body::Body + Send + 'static,
    B::Data: Send,
{
    let compression = Compression::of(parts.headers.get(ENCODING), shared.settings.codings);
    let form = Form { codec, compression };
    let (admission, deadline) = admit(shared, &shared.entries[index], form, parts).await?;
    let call = Call { shared, index, parts, admission, deadline, fault: Fault::default() };
    // Envelopes are gRPC's frames, but services without compression are too common to leave it to them.
    let decompress = form.compression != Compression::Identity;
    let (body, _) = request_body(&call, form, decompress, body).await?;
    let accepted = match codec {
        Codec::Proto => parts.headers.get(ACCEPT_ENCODING).cloned(),
        Codec::Json => None,
    };
    let Opened { headers, encodings, relay } = call.open(body, Encodings { used: None, accepted }).await?;
    let body = match codec {
        // The upstream's frames are the envelopes.
        Codec::Proto => {
            let shared = Arc::clone(shared);
            Body::stream(InBody::new(relay, move |piece| match piece {
                Piece::Data(data) => data,
                Piece::End(trailers) => end_of(&trailers, &shared.tables),
            }))
        }
        Codec::Json => Body::stream(Json {
            messages: Messages::of(relay, shared.settings.reply_bytes_max),
            shared: Arc::clone(shared),
            index,
            ended: false,
        }),
    };
    let mut response = Response::new(body);
    *response.headers_mut() = headers;
    if let Some(used) = encodings.used {
        response.headers_mut().insert(ENCODING, used);
    }
    response.headers_mut().insert(CONTENT_TYPE, media_type(codec));
    Ok(response)
}

/// A stream that is nothing but its end.
pub(in crate::protocol) fn refusal(problem: &Problem, codec: Codec, tables: &Tables) -> Response<Body> {
    let mut response = Response::new(Body::full(end(Some(problem), problem.headers(), tables)));
    response.headers_mut().insert(CONTENT_TYPE, media_type(codec));
    response
}

fn media_type(codec: Codec) -> HeaderValue {
    HeaderValue::from_static(match codec {
        Codec::Json => "application/connect+json",
        Codec::Proto => "application/connect+proto",
    })
}

/// The envelope that ends a stream. Of `metadata`, what is gRPC's own is left out.
fn end(problem: Option<&Problem>, metadata: &HeaderMap, tables: &Tables) -> Bytes {
    let mut out = vec![0; PREFIX_LEN];
    out.push(b'{');
    if let Some(problem) = problem {
        out.extend_from_slice(b"\"error\":");
        error::put_json(problem, tables, &mut out);
    }
    let mut open = false;
    for name in metadata.keys().filter(|name| !is_status(name)) {
        if !open && problem.is_some() {
            out.push(b',');
        }
        out.extend_from_slice(if open { b"," } else { b"\"metadata\":{" });
        open = true;
        put_string(&mut out, name.as_str());
        let mut separator: &[u8] = b":[";
        for value in metadata.get_all(name).iter().filter_map(|value| value.to_str().ok()) {
            out.extend_from_slice(separator);
            put_string(&mut out, value);
            separator = b",";
        }
        out.push(b']');
    }
    out.extend_from_slice(if open { b"}}" } else { b"}" });
    finish_frame(&mut out);
    out[0] = END;
    Bytes::from(out)
}

fn is_status(name: &HeaderName) -> bool {
    [status::STATUS, status::MESSAGE, status::DETAILS].contains(&name.as_str())
}

/// The envelope for the trailers that end a call.
fn end_of(trailers: &HeaderMap, tables: &Tables) -> Bytes {
    match Problem::from_trailers(trailers) {
        Ok(problem) => end(problem.as_deref(), trailers, tables),
        Err(problem) => end(Some(&problem), trailers, tables),
    }
}

/// A stream of JSON.
struct Json {
    messages: Messages<Relay>,
    shared: Arc<Shared>,
    /// Index of the method.
    index: usize,
    ended: bool,
}

impl Json {
    fn put(&self, message: &[u8], out: &mut Vec<u8>) -> Result<(), Box<Problem>> {
        let start = out.len();
        out.resize(start + PREFIX_LEN, 0);
        let put = put_json(&self.shared, &self.shared.entries[self.index], message, out);
        match put {
            Ok(()) => finish_frame(&mut out[start..]),
            Err(_) => out.truncate(start),
        }
        put
    }

    /// The last envelope, when the call has ended, well or not.
    fn end(&mut self, failed: Option<Box<Problem>>) -> Bytes {
        self.ended = true;
        let shared = Arc::clone(&self.shared);
        let broken;
        let trailers = match (self.messages.trailers(), failed) {
            (Some(trailers), _) => trailers,
            // A reply that cannot be read. The relay is told of it, and the host by the relay.
            (None, failed) => {
                let unread = || Problem::bad_gateway("answer ends without a status");
                broken = self.messages.body_mut().break_off(failed.unwrap_or_else(unread));
                &broken
            }
        };
        end_of(trailers, &shared.tables)
    }
}

impl http_body::Body for Json {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let mut out = Vec::new();
        loop {
            let failed = match self.messages.poll_next(cx) {
                Poll::Pending if out.is_empty() => return Poll::Pending,
                Poll::Pending => break,
                Poll::Ready(Ok(Next::End)) => None,
                Poll::Ready(Err(problem)) => Some(problem),
                Poll::Ready(Ok(Next::Message(message))) => match self.put(&message, &mut out) {
                    Ok(()) if out.len() >= BATCH_BYTES || !self.messages.has_message() => break,
                    Ok(()) => continue,
                    Err(problem) => Some(problem),
                },
            };
            out.extend_from_slice(&self.end(failed));
            break;
        }
        Poll::Ready(Some(Ok(Frame::data(Bytes::from(out)))))
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }
}
