//! The protocols besides REST that the same methods are served in, by their paths `/package.Service/Method`: gRPC, gRPC-Web
//! and Connect.
//!
//! The first two are the upstream's own messages in other envelopes, and so are Connect's binary streams: they pass through
//! uncoded. Only Connect's JSON, and its calls of one request and one reply, are turned over.

mod connect;
mod fault;
mod grpc;
mod grpc_web;
mod gzip;
mod in_body;
mod reframe;
mod relay;
mod request;
mod scan;
mod status;
mod turn;

use std::sync::Arc;

use http::header::{ALLOW, CONNECTION};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Version};
use tonic::Code;

use self::turn::Codec;
use crate::accept;
use crate::body::{Body, BoxError, take_unwanted};
use crate::error::Problem;
use crate::gate::RequestId;
use crate::leaving;
use crate::route::matcher::{Match, split};
use crate::service::{Shared, URI_BYTES_MAX};

/// Which protocol a request speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Grpc,
    GrpcWeb(grpc_web::Form),
    /// One request and one reply, with POST.
    ConnectUnary(Codec),
    /// One request, in the query, and one reply.
    ConnectGet,
    ConnectStream(Codec),
    /// A method's path, but none of the above.
    Unknown,
}

/// The protocol of a request; `None` for REST.
pub(crate) fn of(shared: &Shared, parts: &Parts) -> Option<Protocol> {
    let media = accept::media_type(&parts.headers);
    let path = parts.uri.path();
    let known = shared.by_path.contains_key(path);
    let has_rule =
        || matches!(shared.matcher.find(parts.method.as_str(), path, &split(path)), Match::Rule { .. });
    if let Some(protocol) = media.and_then(by_type) {
        // REST takes bodies of any type where it takes files.
        return (known || !has_rule()).then_some(protocol);
    }
    if !known {
        return None;
    }
    // A rule may have the path of a method, too. Then the client has to say that it means Connect.
    let says_connect = parts.headers.contains_key(connect::VERSION) || connect::is_get(parts);
    if !says_connect && has_rule() {
        return None;
    }
    if parts.method == Method::GET {
        return Some(Protocol::ConnectGet);
    }
    let codec = media.and_then(|media| strip(media, "application/")).and_then(Codec::named);
    Some(codec.map_or(Protocol::Unknown, Protocol::ConnectUnary))
}

/// The protocol that a media type alone tells.
fn by_type(media: &str) -> Option<Protocol> {
    if let Some(kind) = strip(media, "application/grpc") {
        return match kind {
            "" | "+proto" => Some(Protocol::Grpc),
            _ if kind.starts_with(['+', '-']) => {
                Some(grpc_web::Form::of(kind).map_or(Protocol::Unknown, Protocol::GrpcWeb))
            }
            _ => None,
        };
    }
    let codec = strip(media, "application/connect+")?;
    Some(Codec::named(codec).map_or(Protocol::Unknown, Protocol::ConnectStream))
}

/// What follows `prefix`, whose case does not matter.
fn strip<'t>(text: &'t str, prefix: &str) -> Option<&'t str> {
    let (head, rest) = text.split_at_checked(prefix.len())?;
    head.eq_ignore_ascii_case(prefix).then_some(rest)
}

/// Answers a request of `protocol`.
pub(crate) async fn serve<B>(shared: Arc<Shared>, protocol: Protocol, parts: Parts, body: B) -> Response<Body>
where
    B: http_body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    let mut answered = HeaderMap::new();
    let (mut problem, shape) = match enter(&shared, protocol, &parts) {
        Entered::Answered(response) => return response,
        Entered::Refused(problem, shape) => {
            take_unwanted(&parts, body).await;
            (problem, shape)
        }
        Entered::Method(index) => {
            let work = async {
                match protocol {
                    Protocol::Grpc => grpc::serve(&shared, index, &parts, body).await,
                    Protocol::GrpcWeb(form) => grpc_web::serve(&shared, index, form, &parts, body).await,
                    Protocol::ConnectUnary(codec) => {
                        connect::post(&shared, index, codec, &parts, body, &mut answered).await
                    }
                    Protocol::ConnectGet => connect::get(&shared, index, &parts, &mut answered).await,
                    Protocol::ConnectStream(codec) => {
                        connect::stream(&shared, index, codec, &parts, body).await
                    }
                    Protocol::Unknown => Err(Problem::unsupported_protocol(false)),
                }
            };
            match leaving::watch(&shared, &shared.entries[index], work).await {
                Ok(response) => return response,
                Err(problem) => (problem, protocol),
            }
        }
    };
    problem.name_reason(&shared.error_domain);
    problem.name_request(parts.extensions.get::<RequestId>());
    for (name, value) in &answered {
        problem.headers_mut().append(name, value.clone());
    }
    let entry = shared.by_path.get(parts.uri.path()).map(|index| &shared.entries[*index]);
    let (code, cause) = (problem.code, problem.cause.take());
    let ends_connection = problem.ends_connection(parts.version);
    let mut response = match shape {
        Protocol::Grpc => grpc::refusal(&problem),
        Protocol::GrpcWeb(form) => grpc_web::refusal(&problem, form.of_answer(&parts.headers)),
        Protocol::ConnectUnary(_) | Protocol::ConnectGet => connect::refusal(&problem, &shared.tables),
        Protocol::ConnectStream(codec) => connect::stream_refusal(&problem, codec, &shared.tables),
        Protocol::Unknown => problem.into_response_for(&shared.tables, &parts),
    };
    if ends_connection {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    shared.observe(entry, code, response.status(), cause.as_deref());
    response
}

/// What can be said of a request before the host is asked.
enum Entered {
    /// The index of its method.
    Method(usize),
    Answered(Response<Body>),
    /// To be answered in the shape of a protocol.
    Refused(Box<Problem>, Protocol),
}

fn enter(shared: &Shared, protocol: Protocol, parts: &Parts) -> Entered {
    // What a server of HTTP says, whatever the protocol.
    let refused = |problem| Entered::Refused(problem, Protocol::Unknown);
    if parts.uri.path_and_query().is_some_and(|target| target.as_str().len() > URI_BYTES_MAX) {
        return refused(Problem::uri_too_long(URI_BYTES_MAX));
    }
    let Some(index) = shared.by_path.get(parts.uri.path()).copied() else {
        let shape = match protocol {
            // A stream of Connect that never begins is refused like a unary call.
            Protocol::ConnectStream(_) => Protocol::ConnectGet,
            Protocol::Grpc
            | Protocol::GrpcWeb(_)
            | Protocol::ConnectUnary(_)
            | Protocol::ConnectGet
            | Protocol::Unknown => protocol,
        };
        return Entered::Refused(Problem::method_unknown(), shape);
    };
    let entry = &shared.entries[index];
    let by_get = entry.no_side_effects && !entry.client_stream && !entry.server_stream;
    let allow = if by_get { "GET, OPTIONS, POST" } else { "OPTIONS, POST" };
    if parts.method == Method::OPTIONS {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        response.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
        shared.observe(Some(entry), Code::Ok, StatusCode::NO_CONTENT, None);
        return Entered::Answered(response);
    }
    let get = protocol == Protocol::ConnectGet;
    if (get && !by_get) || (!get && parts.method != Method::POST) {
        return refused(Problem::method_not_allowed(allow));
    }
    if protocol == Protocol::Grpc && parts.version < Version::HTTP_2 {
        return refused(Problem::http2_required());
    }
    // Of a stream, Connect has no unary form, and the other way round.
    let stream = entry.client_stream || entry.server_stream;
    let fits = match protocol {
        Protocol::ConnectUnary(_) => !stream,
        Protocol::ConnectStream(_) => stream,
        Protocol::Grpc | Protocol::GrpcWeb(_) | Protocol::ConnectGet => true,
        Protocol::Unknown => false,
    };
    if fits { Entered::Method(index) } else { refused(Problem::unsupported_protocol(stream)) }
}
