//! From the upstream's answer to the client's: one JSON text, a stream of them, or raw bytes.

use std::sync::Arc;
use std::time::Duration;

use ::http_body::Frame;
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, TE, TRAILER, VARY};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use http_body_util::StreamBody;
use tokio::time::Instant;
use tonic::Code;

use crate::accept;
use crate::body::Body;
use crate::coding;
use crate::error::Problem;
use crate::events;
use crate::grpc::{Messages, Next};
use crate::http_body;
use crate::json::encode;
use crate::link::LinkEnd;
use crate::metadata::Naming;
use crate::route::rule::Route;
use crate::service::{Place, Shared};
use crate::stream::{Framing, JsonStream, Start};
use crate::upstream::{self, within};

/// How long a stream that has its head waits for its first message, so that an error that comes instead of it is an ordinary
/// one. Then the client gets the head, and with it the heartbeats of a stream of events.
const FIRST_MESSAGE_WAIT: Duration = Duration::from_secs(1);

/// What is asked, as far as the answer depends on it.
#[derive(Clone, Copy)]
pub(crate) struct Ask<'a> {
    pub(crate) shared: &'a Arc<Shared>,
    pub(crate) place: &'a Place<'a>,
    pub(crate) parts: &'a Parts,
    pub(crate) form: Form,
    /// The id of the event after which a stream of events goes on.
    pub(crate) last_event_id: Option<&'a HeaderValue>,
    pub(crate) deadline: Option<Instant>,
}

/// The form of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// One JSON text.
    Json,
    /// The data of one `google.api.HttpBody`.
    Raw,
    /// Many messages.
    Stream(Framing),
}

impl Form {
    /// The form that the client likes best.
    ///
    /// # Errors
    ///
    /// 406 when it takes none that there is. Of raw bytes the type is not known before they come, so they go to every
    /// client.
    pub(crate) fn of(shared: &Shared, place: &Place<'_>, parts: &Parts) -> Result<Self, Box<Problem>> {
        let raw = http_body::is_answer(&shared.tables, place.entry.output, place.route.response);
        let offered: &[&str] =
            if place.entry.server_stream { &Framing::MEDIA_TYPES } else { &["application/json"] };
        if raw {
            return Ok(if place.entry.server_stream { Self::Stream(Framing::Raw) } else { Self::Raw });
        }
        let offer = accept::negotiate(&parts.headers, offered)
            .ok_or_else(|| Problem::not_acceptable(&offered.join(", ")))?;
        Ok(if place.entry.server_stream { Self::Stream(Framing::of(offer)) } else { Self::Json })
    }
}

/// Turns what the upstream answers into the client's answer. `answered` collects headers; on an error they are the caller's.
pub(crate) async fn give(
    ask: Ask<'_>,
    response: Response<tonic::body::Body>,
    link: Option<LinkEnd>,
    answered: &mut HeaderMap,
) -> Result<Response<Body>, Box<Problem>> {
    let Ask { shared, place, deadline, .. } = ask;
    let (headers, mut messages) = Messages::new(response, shared.settings.reply_bytes_max)?;
    upstream::answered(shared, place.entry, Naming::Prefixed, &headers, answered);
    let wait = match ask.form {
        Form::Stream(Framing::Ndjson | Framing::Array | Framing::Events) => {
            Some(Instant::now() + FIRST_MESSAGE_WAIT)
        }
        Form::Stream(Framing::Raw) | Form::Json | Form::Raw => None,
    };
    let early = wait.filter(|wait| deadline.is_none_or(|deadline| *wait < deadline));
    let first = match early {
        None => within(deadline, messages.next()).await.and_then(|next| next.map(Some)),
        Some(wait) => {
            tokio::time::timeout_at(wait, messages.next()).await.map_or(Ok(None), |next| next.map(Some))
        }
    };
    let first = match first {
        Ok(next) => next,
        Err(problem) => {
            if let Some(trailers) = messages.trailers() {
                upstream::answered(shared, place.entry, Naming::Prefixed, trailers, answered);
            }
            return Err(upstream::at_deadline(problem, deadline));
        }
    };
    match (ask.form, first) {
        (Form::Stream(framing), first) => {
            let trailers = takes_trailers(ask.parts);
            let start = Start {
                shared: Arc::clone(shared),
                route: place.rule,
                framing,
                last_event_id: ask.last_event_id.and_then(events::number),
                messages,
                deadline,
                trailers,
                link,
            };
            let mut stream = JsonStream::start(start, first)?;
            if ask.parts.method == Method::HEAD {
                stream.leave_out();
            }
            let mut headers = std::mem::take(answered);
            headers.insert(CONTENT_TYPE, stream.content_type());
            if trailers {
                // Which will come is not known yet, and HTTP/1.1 sends only those that were announced.
                for name in shared.metadata.response.prefixed() {
                    headers.append(TRAILER, HeaderValue::from(name));
                }
            }
            let mut body = Body::stream(stream);
            if shared.settings.codings.answers {
                body = coding::stream(&ask.parts.headers, &mut headers, body);
            }
            if framing != Framing::Raw {
                headers.append(VARY, HeaderValue::from_static("accept"));
            }
            let mut response = Response::new(body);
            *response.headers_mut() = headers;
            Ok(response)
        }
        (Form::Json | Form::Raw, Some(Next::Message(message))) => {
            unary(ask, messages, &message, answered).await
        }
        (Form::Json | Form::Raw, Some(Next::End) | None) => {
            Err(Problem::bad_gateway("a unary call ended well without a message"))
        }
    }
}

async fn unary(
    ask: Ask<'_>,
    mut messages: Messages,
    message: &Bytes,
    answered: &mut HeaderMap,
) -> Result<Response<Body>, Box<Problem>> {
    let Ask { shared, place, parts, .. } = ask;
    let entry = place.entry;
    let end = within(ask.deadline, messages.next()).await.and_then(|next| next);
    let mut trailers = HeaderMap::new();
    if let Some(all) = messages.trailers() {
        // They have come before the head is sent, so that they can be part of it.
        let in_head = end.is_err() || !takes_trailers(parts);
        upstream::answered(
            shared,
            entry,
            Naming::Prefixed,
            all,
            if in_head { answered } else { &mut trailers },
        );
    }
    if let Next::Message(_) = end.map_err(|problem| upstream::at_deadline(problem, ask.deadline))? {
        return Err(Problem::bad_gateway("a unary call answered two messages"));
    }
    let (content_type, mut body) = if ask.form == Form::Raw {
        raw(shared, place.route, message)?
    } else {
        let mut json = Vec::with_capacity(message.len() * 3 + 32);
        reply(shared, place.route, message, &mut json)?;
        (HeaderValue::from_static("application/json"), Bytes::from(json))
    };
    let mut headers = std::mem::take(answered);
    headers.insert(CONTENT_TYPE, content_type);
    if body.len() >= coding::PLAIN_BYTES_MAX && shared.settings.codings.answers {
        body = coding::whole(&parts.headers, &mut headers, body);
    }
    let body = if trailers.is_empty() {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
        Body::full(body)
    } else {
        with_trailers(body, trailers, &mut headers)
    };
    let mut response = Response::new(body);
    *response.headers_mut() = headers;
    shared.observe(Some(entry), Code::Ok, StatusCode::OK, None);
    Ok(response)
}

/// A body and what follows it. HTTP/1.1 sends only trailers that were announced.
fn with_trailers(body: Bytes, trailers: HeaderMap, headers: &mut HeaderMap) -> Body {
    for name in trailers.keys() {
        headers.append(TRAILER, HeaderValue::from(name.clone()));
    }
    let frames = [Ok(Frame::data(body)), Ok(Frame::trailers(trailers))];
    Body::stream(StreamBody::new(futures::stream::iter(frames)))
}

/// Whether the client takes trailers.
///
/// Source: RFC 9110, section 6.5.1.
fn takes_trailers(parts: &Parts) -> bool {
    parts.headers.get_all(TE).iter().any(|value| {
        value.to_str().is_ok_and(|text| {
            text.split(',').any(|coding| {
                coding.split(';').next().is_some_and(|name| name.trim().eq_ignore_ascii_case("trailers"))
            })
        })
    })
}

/// Content type and data of one reply message, or of its field that the rule asks for.
pub(crate) fn raw(
    shared: &Shared,
    route: &Route,
    message: &Bytes,
) -> Result<(HeaderValue, Bytes), Box<Problem>> {
    let output = shared.entries[route.method].output;
    http_body::decode(&http_body::of_answer(&shared.tables, output, route.response, message)?)
}

/// Appends the JSON of one reply message, or of its field that the rule asks for.
pub(crate) fn reply(
    shared: &Shared,
    route: &Route,
    message: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), Box<Problem>> {
    let output = shared.entries[route.method].output;
    let options = shared.settings.encode;
    match route.response {
        None => encode::message(&shared.tables, output, message, out, options),
        Some(field) => encode::field(&shared.tables, output, field, message, out, options),
    }
    .map_err(|malformed| Problem::bad_gateway(format!("malformed reply: {}", malformed.0)))
}
