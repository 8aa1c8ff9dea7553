//! Connect: unary calls that are plain HTTP, also with GET, and streams in envelopes like gRPC's, without trailers.
//!
//! Source: *Connect Protocol Reference*.

mod error;
mod query;
mod stream;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use http_body_util::Full;
use tokio::time::Instant;
use tonic::Code;

pub(super) use self::error::refusal;
pub(super) use self::query::is_get;
pub(super) use self::stream::{refusal as stream_refusal, serve as stream};
use super::gzip::Compression;
use super::turn::{self, Codec, Form};
use crate::body::Body;
use crate::coding;
use crate::error::Problem;
use crate::gate::Admission;
use crate::grpc::{Messages, Next, PREFIX_LEN};
use crate::json::encode;
use crate::metadata::Naming;
use crate::read::{self, Limits};
use crate::service::{Entry, Shared};
use crate::upstream::{self, within};

/// The header by which a client says that it speaks Connect.
pub(super) const VERSION: HeaderName = HeaderName::from_static("connect-protocol-version");
const TIMEOUT: HeaderName = HeaderName::from_static("connect-timeout-ms");

/// Serves a unary call with POST. `answered` gets the upstream's metadata, also when the call fails.
pub(super) async fn post<B>(
    shared: &Arc<Shared>,
    index: usize,
    codec: Codec,
    parts: &Parts,
    body: B,
    answered: &mut HeaderMap,
) -> Result<Response<Body>, Box<Problem>>
where
    B: http_body::Body + Send + 'static,
    B::Data: Send,
{
    let entry = &shared.entries[index];
    let compression = Compression::of(parts.headers.get(CONTENT_ENCODING), shared.settings.codings);
    let form = Form { codec, compression };
    let (admission, deadline) = admit(shared, entry, form, parts).await?;
    let limits = Limits::of(shared, &admission, deadline);
    let message = read::body(&parts.headers, body, limits).await.map_err(Problem::in_codes_of_grpc)?;
    unary(shared, entry, form, parts, &admission, deadline, message, answered).await
}

/// Serves a unary call with GET: its message is in the query.
pub(super) async fn get(
    shared: &Arc<Shared>,
    index: usize,
    parts: &Parts,
    answered: &mut HeaderMap,
) -> Result<Response<Body>, Box<Problem>> {
    let entry = &shared.entries[index];
    let query::Get { form, message } =
        query::parse(parts.uri.query().unwrap_or_default(), shared.settings.codings)?;
    let (admission, deadline) = admit(shared, entry, form, parts).await?;
    let message = Bytes::from(message);
    if message.len() > admission.max_body_bytes {
        return Err(Problem::message_too_large(admission.max_body_bytes));
    }
    unary(shared, entry, form, parts, &admission, deadline, message, answered).await
}

/// What can be decided by the head of a request.
async fn admit(
    shared: &Shared,
    entry: &Entry,
    form: Form,
    parts: &Parts,
) -> Result<(Admission, Option<Instant>), Box<Problem>> {
    if parts.headers.get(VERSION).is_some_and(|version| version != "1") {
        return Err(Problem::bad_request("`Connect-Protocol-Version` must be 1"));
    }
    if let Compression::Unknown(known) = form.compression {
        return Err(Problem::compression_unsupported(known));
    }
    let timeout = client_timeout(&parts.headers)?;
    let admission = upstream::admit(shared, entry, parts, Naming::Plain).await?;
    let deadline = upstream::deadline(timeout, &admission);
    Ok((admission, deadline))
}

fn client_timeout(headers: &HeaderMap) -> Result<Option<Duration>, Box<Problem>> {
    let Some(value) = headers.get(TIMEOUT) else { return Ok(None) };
    let digits = value
        .to_str()
        .ok()
        .filter(|text| (1..=10).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit()));
    let millis: Option<u64> = digits.and_then(|digits| digits.parse().ok());
    let malformed = || Problem::bad_request("`Connect-Timeout-Ms` must be at most 10 digits");
    millis.map(|millis| Some(Duration::from_millis(millis))).ok_or_else(malformed)
}

#[expect(clippy::too_many_arguments, reason = "what GET and POST have found out, each on its own")]
async fn unary(
    shared: &Shared,
    entry: &Entry,
    form: Form,
    parts: &Parts,
    admission: &Admission,
    deadline: Option<Instant>,
    message: Bytes,
    answered: &mut HeaderMap,
) -> Result<Response<Body>, Box<Problem>> {
    let compressed = form.compression == Compression::Gzip;
    let limit = admission.max_body_bytes;
    let frame = turn::frame(shared, entry, form, compressed, message, limit, &admission.fields)?;
    upstream::admit_message(shared, entry, parts, admission, &frame[PREFIX_LEN..]).await?;
    let frame = tonic::body::Body::new(Full::new(Bytes::from(frame)));
    let response = upstream::call(entry, admission.metadata.clone(), deadline, frame).await?;
    let (headers, mut messages) = Messages::new(response, shared.settings.reply_bytes_max)?;
    upstream::answered(shared, entry, Naming::Plain, &headers, answered);
    let reply = within(deadline, one_reply(&mut messages)).await.and_then(|reply| reply);
    if let Some(trailers) = messages.trailers() {
        upstream::answered(shared, entry, Naming::Trailer, trailers, answered);
    }
    let reply = reply.map_err(|problem| upstream::at_deadline(problem, deadline))?;
    let (content_type, mut body) = match form.codec {
        Codec::Proto => ("application/proto", reply),
        Codec::Json => {
            let mut json = Vec::with_capacity(reply.len() * 3 + 32);
            put_json(shared, entry, &reply, &mut json)?;
            ("application/json", Bytes::from(json))
        }
    };
    let mut response = Response::new(Body::empty());
    *response.headers_mut() = std::mem::take(answered);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    if body.len() >= coding::PLAIN_BYTES_MAX && shared.settings.codings.answers {
        body = coding::whole(&parts.headers, response.headers_mut(), body);
    }
    response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
    *response.body_mut() = Body::full(body);
    shared.observe(Some(entry), Code::Ok, StatusCode::OK, None);
    Ok(response)
}

/// The reply of a unary call, once the call has ended well.
async fn one_reply(messages: &mut Messages) -> Result<Bytes, Box<Problem>> {
    let Next::Message(reply) = messages.next().await? else {
        return Err(Problem::bad_gateway("a unary call ended well without a message"));
    };
    match messages.next().await? {
        Next::End => Ok(reply),
        Next::Message(_) => Err(Problem::bad_gateway("a unary call answered two messages")),
    }
}

/// Appends the JSON of a reply.
fn put_json(shared: &Shared, entry: &Entry, reply: &[u8], out: &mut Vec<u8>) -> Result<(), Box<Problem>> {
    encode::message(&shared.tables, entry.output, reply, out, shared.settings.encode)
        .map_err(|malformed| Problem::bad_gateway(format!("malformed reply: {}", malformed.0)))
}
