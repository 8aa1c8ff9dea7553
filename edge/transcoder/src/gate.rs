//! What the host decides: who may call, with which metadata, for how long.

use std::time::Duration;

use futures::future::BoxFuture;
use http::uri::PathAndQuery;
use http::{HeaderMap, StatusCode};
use prost_reflect::{MessageDescriptor, MethodDescriptor};
use tonic::{Code, Status};

/// The size of a request body that is accepted unless the host says otherwise: 1 MiB.
pub const BODY_BYTES_MAX_DEFAULT: usize = 1 << 20;

/// A gRPC method that requests are routed to.
#[derive(Clone, Debug)]
pub struct Method {
    descriptor: MethodDescriptor,
    path: PathAndQuery,
}

impl Method {
    pub(crate) fn new(descriptor: MethodDescriptor) -> Option<Self> {
        let path = format!("/{}/{}", descriptor.parent_service().full_name(), descriptor.name());
        Some(Self { path: path.parse().ok()?, descriptor })
    }

    /// The path of the call: `/package.Service/Method`.
    pub fn path(&self) -> &str {
        self.path.as_str()
    }

    pub(crate) fn uri(&self) -> http::Uri {
        http::Uri::from(self.path.clone())
    }

    /// The full name of the service: `package.Service`.
    pub fn service(&self) -> &str {
        let path = self.path.as_str();
        path[1..].rsplit_once('/').map_or("", |(service, _)| service)
    }

    /// The name of the method within its service.
    pub fn name(&self) -> &str {
        self.descriptor.name()
    }

    /// The type of the request.
    pub fn input(&self) -> MessageDescriptor {
        self.descriptor.input()
    }

    /// The type of the reply.
    pub fn output(&self) -> MessageDescriptor {
        self.descriptor.output()
    }

    /// The descriptor, with every custom option of the descriptor set, so that the host can read its own.
    pub fn descriptor(&self) -> &MethodDescriptor {
        &self.descriptor
    }
}

/// What the host calls a request. In a request's extensions, it is named in the body of every error as `google.rpc.RequestInfo`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestId(pub String);

/// On what terms a request is let through.
#[derive(Clone, Debug)]
pub struct Admission {
    /// What the upstream is told besides the message. Nothing else of the client's headers is ever forwarded.
    pub metadata: HeaderMap,
    /// How long the call may take, reading the body included. A shorter `grpc-timeout` of the client wins. Past it the
    /// answer is 504.
    pub timeout: Option<Duration>,
    /// The largest accepted body, in bytes, both as it is sent and as it is when it is decoded. Past it the answer is 413. Of a
    /// method that takes a stream it is the limit of each message; the stream as a whole is bounded by the timeout only.
    ///
    /// A message that passes through undecoded, of gRPC, gRPC-Web or a binary stream of Connect, counts as it is sent: nothing
    /// of it is kept here, and what a compressed one grows to is for the upstream to bound. With [`Self::fields`] or
    /// [`Self::inspect_message`] it is decoded here, and counts both ways.
    pub max_body_bytes: usize,
    /// Fields of the request message, by their path in proto names, that the host sets from elsewhere, as text. The body
    /// and the query may only repeat the same value. Paths that the request type does not have are skipped.
    pub fields: Vec<(String, String)>,
    /// Whether [`Gate::admit_message`] is to be asked as well.
    pub inspect_message: bool,
}

impl Default for Admission {
    fn default() -> Self {
        Self {
            metadata: HeaderMap::new(),
            timeout: None,
            max_body_bytes: BODY_BYTES_MAX_DEFAULT,
            fields: Vec::new(),
            inspect_message: false,
        }
    }
}

/// How a request ended, for the host's log and metrics.
#[derive(Clone, Copy, Debug)]
pub struct Outcome<'a> {
    /// The method, when the request got that far.
    pub method: Option<&'a Method>,
    /// The gRPC code of the answer.
    pub code: Code,
    /// The HTTP status of the answer. A stream that failed after its first message has 200.
    pub http_status: StatusCode,
    /// The text of a fault that the client was not told of: a transport error, a malformed reply.
    pub cause: Option<&'a str>,
}

/// The host's say in every request.
pub trait Gate: Send + Sync + 'static {
    /// Decides about a request after routing and before its body is read.
    ///
    /// A refusal is answered with the status, its details included; its metadata become headers of the answer.
    fn admit<'a>(
        &'a self,
        method: &'a Method,
        request: &'a http::request::Parts,
    ) -> BoxFuture<'a, Result<Admission, Status>>;

    /// Decides again when the request message is there, as protobuf wire bytes, before the upstream is called. Asked only when
    /// [`Admission::inspect_message`] says so, and only about requests of one message. By default everything is admitted.
    fn admit_message<'a>(
        &'a self,
        _method: &'a Method,
        _request: &'a http::request::Parts,
        _message: &'a [u8],
    ) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(std::future::ready(Ok(())))
    }

    /// Copies what the client may see of the upstream's metadata (headers, then trailers of a unary call) to the answer.
    /// By default nothing.
    fn response_headers(&self, _method: &Method, _upstream: &HeaderMap, _out: &mut HeaderMap) {}

    /// Told how each request ended. A stream is told of at its end; one that its client left, as cancelled.
    fn observe(&self, _outcome: Outcome<'_>) {}
}

/// A gate that lets everything through, for services that check for themselves.
#[derive(Clone, Copy, Debug, Default)]
pub struct Open;

impl Gate for Open {
    fn admit<'a>(
        &'a self,
        _method: &'a Method,
        _request: &'a http::request::Parts,
    ) -> BoxFuture<'a, Result<Admission, Status>> {
        Box::pin(std::future::ready(Ok(Admission::default())))
    }
}
