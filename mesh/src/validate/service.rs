//! The layer of the server stack.

use std::collections::HashMap;
use std::future::Future;
use std::io::Read as _;
use std::pin::Pin;
use std::sync::LazyLock;
use std::task::{Context, Poll};

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use flate2::read::GzDecoder;
use http::{HeaderMap, Request, Response};
use http_body_util::BodyExt as _;
use prost_reflect::{DynamicMessage, MessageDescriptor};
use proto::policy::{Method, RequestId};
use tonic::Status;

use super::{Rules, Violation};
use crate::call::Call;
use crate::status::{Refusal, invalid_fields};

/// The largest request that is read, in bytes, compressed or not.
pub const REQUEST_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Compression flag and length before each message of gRPC.
const FRAME_HEADER_BYTES: usize = 5;

/// Value of `ErrorInfo.domain`.
const DOMAIN: &str = "jetway";
/// The rule that a method's policy adds to those of its request, and `ErrorInfo.reason` when it is broken.
const REQUEST_ID_REQUIRED: &str = "REQUEST_ID_REQUIRED";

/// Checks the request of every method that takes exactly one, by the rules of the contract; refuses it with `INVALID_ARGUMENT` and all
/// violations as `google.rpc.BadRequest`. Calls of unknown methods and streams from the client pass untouched.
///
/// It stands directly before the handlers: requests that may not be made at all are refused before they are read.
#[derive(Clone, Debug)]
pub struct Layer {
    contract: &'static Contract,
}

impl Layer {
    /// The layer for the contract of this build. The first call compiles the rules.
    ///
    /// # Panics
    ///
    /// As [`Rules::compile`].
    pub fn new() -> Self {
        static CONTRACT: LazyLock<Contract> = LazyLock::new(Contract::compile);
        Self { contract: &CONTRACT }
    }
}

impl Default for Layer {
    fn default() -> Self {
        Self::new()
    }
}

impl<S> tower::Layer<S> for Layer {
    type Service = Validate<S>;

    fn layer(&self, inner: S) -> Validate<S> {
        Validate { inner, contract: self.contract }
    }
}

/// The service of [`Layer`].
#[derive(Clone, Debug)]
pub struct Validate<S> {
    inner: S,
    contract: &'static Contract,
}

impl<S> tower::Service<Request<Body>> for Validate<S>
where
    S: tower::Service<Request<Body>, Response = Response<Body>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Send,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let Some(unary) = self.contract.methods.get(request.uri().path()) else {
            return Box::pin(self.inner.call(request));
        };
        let rules = &self.contract.rules;
        // The clone has not been polled ready; the one that has is taken.
        let fresh = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, fresh);
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let checked = match in_time(&parts.extensions, collect(body)).await {
                Ok(frame) => unary.check(rules, &parts.headers, &frame).map(|()| frame),
                Err(status) => Err(status),
            };
            match checked {
                Ok(frame) => inner.call(Request::from_parts(parts, Body::from(frame))).await,
                Err(status) => Ok(status.into_http()),
            }
        })
    }
}

/// What is compiled once for all servers of the process.
#[derive(Debug)]
struct Contract {
    rules: Rules,
    /// By path.
    methods: HashMap<&'static str, Unary>,
}

/// A method that takes one request.
#[derive(Debug)]
struct Unary {
    method: &'static Method,
    input: MessageDescriptor,
}

impl Contract {
    fn compile() -> Self {
        let pool = proto::descriptor_pool();
        let mut methods = HashMap::new();
        for method in pool.services().flat_map(|service| service.methods().collect::<Vec<_>>()) {
            let path = format!("/{}/{}", method.parent_service().full_name(), method.name());
            if let Some(policy) = Method::of(&path).filter(|policy| !policy.client_streaming) {
                methods.insert(policy.path, Unary { method: policy, input: method.input() });
            }
        }
        Self { rules: Rules::compile(pool), methods }
    }
}

impl Unary {
    fn check(&self, rules: &Rules, headers: &HeaderMap, frame: &[u8]) -> Result<(), Status> {
        let wire = message(headers, frame)?.ok_or_else(|| not_one_message(&self.input))?;
        let Ok(decoded) = DynamicMessage::decode(self.input.clone(), wire) else {
            return Err(not_one_message(&self.input));
        };
        let mut violations = rules.check_message(&decoded, &self.input);
        if self.method.request_id == RequestId::Required
            && decoded.get_field_by_name("request_id").is_some_and(|id| id.as_str() == Some(""))
        {
            let rule = "is required; HTTP clients send it in the header Idempotency-Key".to_owned();
            violations.push(Violation::new("request_id", REQUEST_ID_REQUIRED, rule));
        }
        if violations.is_empty() { Ok(()) } else { Err(refuse(&violations)) }
    }
}

/// The status of a request that breaks rules.
fn refuse(violations: &[Violation]) -> Status {
    let no_id = violations.iter().any(|violation| violation.reason == REQUEST_ID_REQUIRED);
    let reason = if no_id { REQUEST_ID_REQUIRED } else { "FIELD_INVALID" };
    let fields: Vec<_> =
        violations.iter().map(|violation| (violation.field.clone(), violation.description.clone())).collect();
    invalid_fields(DOMAIN, reason, &fields)
}

/// The status of a body that does not hold one message of the method's type.
fn not_one_message(input: &MessageDescriptor) -> Status {
    Refusal::InvalidArgument { field: String::new() }.status(
        DOMAIN,
        "REQUEST_MALFORMED",
        format!("the request is not one encoded {}", input.full_name()),
    )
}

/// The outcome of `reading`, if it comes before the deadline of the call: a peer may begin to send and never end.
async fn in_time(
    extensions: &http::Extensions,
    reading: impl Future<Output = Result<Bytes, Status>>,
) -> Result<Bytes, Status> {
    let Some(call) = extensions.get::<Call>() else { return reading.await };
    tokio::time::timeout_at(call.deadline, reading).await.unwrap_or_else(|_| {
        let message = "the request did not arrive in time";
        Err(Refusal::DeadlineExceeded.status(DOMAIN, "DEADLINE_EXCEEDED", message))
    })
}

/// Reads the whole body.
async fn collect(mut body: Body) -> Result<Bytes, Status> {
    let mut frame = BytesMut::new();
    while let Some(part) = body.frame().await {
        let part = part.map_err(|error| Status::from_error(error.into_inner()))?;
        // A request has no trailers.
        if let Ok(data) = part.into_data() {
            if frame.len() + data.len() > REQUEST_BYTES_MAX + FRAME_HEADER_BYTES {
                return Err(too_large());
            }
            frame.extend_from_slice(&data);
        }
    }
    Ok(frame.freeze())
}

/// The message in the one frame of a body, decompressed; `None` when the body is not exactly one frame.
fn message(headers: &HeaderMap, body: &[u8]) -> Result<Option<Bytes>, Status> {
    let Some((header, payload)) = body.split_first_chunk::<FRAME_HEADER_BYTES>() else {
        return Ok(None);
    };
    let [flag, length @ ..] = *header;
    if usize::try_from(u32::from_be_bytes(length)) != Ok(payload.len()) {
        return Ok(None);
    }
    match flag {
        0 => Ok(Some(Bytes::copy_from_slice(payload))),
        1 if headers.get("grpc-encoding").is_some_and(|encoding| encoding == "gzip") => gunzip(payload),
        1 => Err(Refusal::Unimplemented.status(
            DOMAIN,
            "COMPRESSION_UNSUPPORTED",
            "a compressed request must have the grpc-encoding gzip",
        )),
        _ => Ok(None),
    }
}

/// Decompresses, up to the limit; `None` when it is not gzip.
fn gunzip(payload: &[u8]) -> Result<Option<Bytes>, Status> {
    let limit = u64::try_from(REQUEST_BYTES_MAX).unwrap_or(u64::MAX);
    let mut message = Vec::new();
    if GzDecoder::new(payload).take(limit + 1).read_to_end(&mut message).is_err() {
        return Ok(None);
    }
    if message.len() > REQUEST_BYTES_MAX { Err(too_large()) } else { Ok(Some(message.into())) }
}

fn too_large() -> Status {
    Refusal::InvalidArgument { field: String::new() }.status(
        DOMAIN,
        "REQUEST_TOO_LARGE",
        format!("the request has more than {REQUEST_BYTES_MAX} bytes"),
    )
}
