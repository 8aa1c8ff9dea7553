//! gRPC: the upstream's own protocol, passed through.
//!
//! Source: *gRPC over HTTP2*, the protocol specification.

use std::sync::Arc;

use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{HeaderValue, Response};

use super::fault::Fault;
use super::gzip::Compression;
use super::relay::{Call, Encodings, Opened};
use super::request::request_body;
use super::status;
use super::turn::{Codec, Form};
use crate::body::Body;
use crate::error::Problem;
use crate::grpc::client_timeout;
use crate::metadata::Naming;
use crate::service::Shared;
use crate::upstream;

const MEDIA_TYPE: HeaderValue = HeaderValue::from_static("application/grpc");

pub(super) async fn serve<B>(
    shared: &Arc<Shared>,
    index: usize,
    parts: &Parts,
    body: B,
) -> Result<Response<Body>, Box<Problem>>
where
    B: http_body::Body + Send + 'static,
    B::Data: Send,
{
    let Opened { headers, encodings, mut relay } = open(shared, index, parts, Fault::default(), body).await?;
    let mut response = Response::new(Body::empty());
    *response.headers_mut() = headers;
    encodings.put(response.headers_mut());
    response.headers_mut().insert(CONTENT_TYPE, MEDIA_TYPE);
    match relay.take_only_trailers() {
        // A status without a body stays one.
        Some(trailers) => response.headers_mut().extend(trailers),
        None => *response.body_mut() = Body::stream(relay),
    }
    Ok(response)
}

/// Calls the upstream for a request of gRPC's frames and headers. The body may report to `fault` what is wrong with it.
pub(super) async fn open<B>(
    shared: &Arc<Shared>,
    index: usize,
    parts: &Parts,
    fault: Fault,
    body: B,
) -> Result<Opened, Box<Problem>>
where
    B: http_body::Body + Send + 'static,
    B::Data: Send,
{
    let timeout = client_timeout(&parts.headers)?;
    let admission = upstream::admit(shared, &shared.entries[index], parts, Naming::Plain).await?;
    let deadline = upstream::deadline(timeout, &admission);
    let call = Call { shared, index, parts, admission, deadline, fault };
    let mut encodings = Encodings::of(&parts.headers);
    let compression = Compression::of(encodings.used.as_ref(), shared.settings.codings);
    let form = Form { codec: Codec::Proto, compression };
    let (body, turned) = request_body(&call, form, false, body).await?;
    if turned {
        encodings.used = None;
    }
    call.open(body, encodings).await
}

/// An answer that is nothing but a status.
pub(super) fn refusal(problem: &Problem) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.headers_mut() = status::trailers(problem);
    response.headers_mut().insert(CONTENT_TYPE, MEDIA_TYPE);
    response
}
