//! One error body for everything: `google.rpc.Status` as JSON.

use base64::Engine as _;
use bytes::Bytes;
use http::header::{
    ACCEPT_ENCODING, ALLOW, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER, VARY, WWW_AUTHENTICATE,
};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, Version};
use prost::Message as _;
use prost_types::Any;
use tonic::Code;
use tonic_types::pb::{self, bad_request::FieldViolation};

use crate::body::Body;
use crate::gate::RequestId;
use crate::json::encode::{self, EncodeOptions};
use crate::json::escape::{put_base64, put_string};
use crate::table::Tables;
use crate::violation::Violation;

/// Why a request gets no answer from its method, in the words of the client.
#[derive(Debug)]
pub(crate) struct Problem {
    pub(crate) code: Code,
    pub(crate) message: String,
    /// Of an error that the transcoder makes itself: the stable word that clients branch on. An error of the upstream or
    /// of the host has its reason, if any, in its details.
    reason: Option<&'static str>,
    details: Vec<Any>,
    /// Where HTTP is more exact than the code: 405, 406, 408, 413, 414, 415, 502.
    http: Option<StatusCode>,
    headers: HeaderMap,
    /// For the host's log, never for the client.
    pub(crate) cause: Option<String>,
}

/// What the path of a method takes that has one request and one reply.
const UNARY_TYPES: &str = "application/json, application/proto, application/grpc, application/grpc-web, \
    application/grpc-web-text";

/// What the path of a method takes that has a stream in one direction at least.
const STREAM_TYPES: &str = "application/connect+json, application/connect+proto, application/grpc, \
    application/grpc-web, application/grpc-web-text";

const TYPE_PREFIX: &str = "type.googleapis.com/";

/// What a client is told to wait before it asks again for an upstream that could not be reached, in seconds.
const UPSTREAM_RETRY_SECONDS: i64 = 1;

impl Problem {
    /// An error of the transcoder's own.
    fn own(code: Code, reason: &'static str, message: impl Into<String>) -> Box<Self> {
        let mut problem = Self::foreign(code, message);
        problem.reason = Some(reason);
        problem
    }

    /// An error that somebody else made.
    fn foreign(code: Code, message: impl Into<String>) -> Box<Self> {
        Box::new(Self {
            code,
            message: message.into(),
            reason: None,
            details: Vec::new(),
            http: None,
            headers: HeaderMap::new(),
            cause: None,
        })
    }

    fn with_http(mut self: Box<Self>, status: StatusCode) -> Box<Self> {
        self.http = Some(status);
        self
    }

    pub(crate) fn with_cause(mut self: Box<Self>, cause: impl Into<String>) -> Box<Self> {
        self.cause = Some(cause.into());
        self
    }

    fn with_detail(mut self: Box<Self>, detail: Any) -> Box<Self> {
        self.details.push(detail);
        self
    }

    /// 400 that names the field and the rule.
    pub(crate) fn violation(violation: &Violation) -> Box<Self> {
        let field = violation.field();
        let message = if field.is_empty() {
            violation.rule().to_owned()
        } else {
            format!("`{field}` {}", violation.rule())
        };
        let detail = pb::BadRequest {
            field_violations: vec![FieldViolation {
                field,
                description: violation.rule().to_owned(),
                ..FieldViolation::default()
            }],
        };
        Self::own(Code::InvalidArgument, "REQUEST_INVALID", message)
            .with_detail(any("google.rpc.BadRequest", &detail))
    }

    pub(crate) fn bad_request(message: &str) -> Box<Self> {
        Self::violation(&Violation::new(message))
    }

    /// 400: the body broke off, or is not framed as HTTP says.
    pub(crate) fn body_unreadable() -> Box<Self> {
        Self::own(Code::InvalidArgument, "BODY_UNREADABLE", "the body cannot be read")
    }

    pub(crate) fn not_found() -> Box<Self> {
        Self::own(Code::NotFound, "ROUTE_NOT_FOUND", "no such path")
    }

    pub(crate) fn method_not_allowed(allow: &str) -> Box<Self> {
        let mut problem =
            Self::own(Code::Unimplemented, "METHOD_NOT_ALLOWED", format!("the path allows {allow}"))
                .with_http(StatusCode::METHOD_NOT_ALLOWED);
        if let Ok(value) = HeaderValue::from_str(allow) {
            problem.headers.insert(ALLOW, value);
        }
        problem
    }

    pub(crate) fn unsupported_media_type() -> Box<Self> {
        let message = "the request must be application/json in UTF-8";
        Self::own(Code::InvalidArgument, "UNSUPPORTED_MEDIA_TYPE", message)
            .with_http(StatusCode::UNSUPPORTED_MEDIA_TYPE)
    }

    /// 415 of a request to the path of a method.
    pub(crate) fn unsupported_protocol(stream: bool) -> Box<Self> {
        let types = if stream { STREAM_TYPES } else { UNARY_TYPES };
        let message = format!("the method takes {types}");
        let mut problem = Self::own(Code::InvalidArgument, "UNSUPPORTED_MEDIA_TYPE", message)
            .with_http(StatusCode::UNSUPPORTED_MEDIA_TYPE);
        problem.headers.insert(HeaderName::from_static("accept-post"), HeaderValue::from_static(types));
        problem
    }

    /// There is no such path. In gRPC it is a code of its own.
    pub(crate) fn method_unknown() -> Box<Self> {
        Self::own(Code::Unimplemented, "METHOD_UNKNOWN", "there is no such method")
            .with_http(StatusCode::NOT_FOUND)
    }

    /// 505.
    pub(crate) fn http2_required() -> Box<Self> {
        Self::own(Code::Unimplemented, "HTTP2_REQUIRED", "gRPC needs HTTP/2; over HTTP/1.1 there is gRPC-Web")
            .with_http(StatusCode::HTTP_VERSION_NOT_SUPPORTED)
    }

    /// A message of a stream, or of a protocol whose code for it is this one.
    pub(crate) fn message_too_large(limit: usize) -> Box<Self> {
        let message = format!("a message of the request is larger than {limit} bytes");
        Self::own(Code::ResourceExhausted, "BODY_TOO_LARGE", message).with_http(StatusCode::PAYLOAD_TOO_LARGE)
    }

    /// A unary request of a protocol that has a code for too much.
    pub(crate) fn in_codes_of_grpc(mut self: Box<Self>) -> Box<Self> {
        if self.http == Some(StatusCode::PAYLOAD_TOO_LARGE) {
            self.code = Code::ResourceExhausted;
        }
        self
    }

    /// The request is compressed in a way that is not known here.
    pub(crate) fn compression_unsupported(known: &str) -> Box<Self> {
        let message = format!("supported compressions are {known}");
        Self::own(Code::Unimplemented, "COMPRESSION_UNSUPPORTED", message)
    }

    /// A method that takes one message was sent none, or several.
    pub(crate) fn not_one_message() -> Box<Self> {
        Self::own(Code::Unimplemented, "NOT_ONE_MESSAGE", "the method takes exactly one message")
    }

    /// 415: a content coding that is not taken; says which are.
    pub(crate) fn unsupported_coding(decodes: bool) -> Box<Self> {
        let taken = if decodes { crate::coding::TAKEN } else { "identity" };
        let message = format!("`Content-Encoding` must be one of {taken}");
        let mut problem = Self::own(Code::InvalidArgument, "UNSUPPORTED_MEDIA_TYPE", message)
            .with_http(StatusCode::UNSUPPORTED_MEDIA_TYPE);
        problem.headers.insert(ACCEPT_ENCODING, HeaderValue::from_static(taken));
        problem
    }

    /// 415 of a method that takes a stream.
    pub(crate) fn not_a_stream() -> Box<Self> {
        let message = "the request must be application/x-ndjson or application/json (an array), in UTF-8";
        Self::own(Code::InvalidArgument, "UNSUPPORTED_MEDIA_TYPE", message)
            .with_http(StatusCode::UNSUPPORTED_MEDIA_TYPE)
    }

    pub(crate) fn not_acceptable(offered: &str) -> Box<Self> {
        let message = format!("the answer is available as {offered}");
        Self::own(Code::InvalidArgument, "NOT_ACCEPTABLE", message).with_http(StatusCode::NOT_ACCEPTABLE)
    }

    pub(crate) fn too_large(limit: usize) -> Box<Self> {
        let message = format!("the request body is larger than {limit} bytes");
        Self::own(Code::InvalidArgument, "BODY_TOO_LARGE", message).with_http(StatusCode::PAYLOAD_TOO_LARGE)
    }

    /// 413: one message of a stream is too long.
    pub(crate) fn item_too_large(index: usize, limit: usize) -> Box<Self> {
        let message = format!("message [{index}] of the request is larger than {limit} bytes");
        Self::own(Code::InvalidArgument, "BODY_TOO_LARGE", message).with_http(StatusCode::PAYLOAD_TOO_LARGE)
    }

    /// 408.
    pub(crate) fn body_too_slow(bytes_per_second_min: u32) -> Box<Self> {
        let message =
            format!("the request body must come with at least {bytes_per_second_min} bytes a second");
        Self::own(Code::DeadlineExceeded, "BODY_TOO_SLOW", message).with_http(StatusCode::REQUEST_TIMEOUT)
    }

    pub(crate) fn uri_too_long(limit: usize) -> Box<Self> {
        let message = format!("path and query must have at most {limit} bytes");
        Self::own(Code::InvalidArgument, "URI_TOO_LONG", message).with_http(StatusCode::URI_TOO_LONG)
    }

    pub(crate) fn deadline_exceeded() -> Box<Self> {
        Self::own(Code::DeadlineExceeded, "DEADLINE_EXCEEDED", "deadline exceeded")
    }

    /// 503: the upstream could not be reached, or was lost.
    pub(crate) fn upstream_unavailable(cause: String) -> Box<Self> {
        let delay = prost_types::Duration { seconds: UPSTREAM_RETRY_SECONDS, nanos: 0 };
        Self::own(Code::Unavailable, "UPSTREAM_UNAVAILABLE", "upstream unavailable")
            .with_detail(any("google.rpc.RetryInfo", &pb::RetryInfo { retry_delay: Some(delay) }))
            .with_cause(cause)
    }

    /// 502: the upstream answered, but not in gRPC, or not with a message of the method's type.
    pub(crate) fn bad_gateway(cause: impl Into<String>) -> Box<Self> {
        Self::own(Code::Internal, "UPSTREAM_INVALID", "invalid answer from upstream")
            .with_http(StatusCode::BAD_GATEWAY)
            .with_cause(cause)
    }

    /// A refusal by the host, with the metadata it put on the status as headers.
    pub(crate) fn from_status(status: &tonic::Status) -> Box<Self> {
        let mut problem = Self::foreign(status.code(), status.message());
        if let Ok(decoded) = pb::Status::decode(status.details()) {
            problem.details = decoded.details;
        }
        problem.headers = status.metadata().clone().into_headers();
        problem
    }

    /// The error that `grpc-status`, `grpc-message` and `grpc-status-details-bin` tell of; `None` for OK.
    ///
    /// # Errors
    ///
    /// When there is no valid `grpc-status`, which is a 502.
    pub(crate) fn from_trailers(trailers: &HeaderMap) -> Result<Option<Box<Self>>, Box<Self>> {
        let Some(status) = trailers.get("grpc-status") else {
            return Err(Self::bad_gateway("no grpc-status"));
        };
        let code: Option<i32> = status.to_str().ok().and_then(|text| text.parse().ok());
        let Some(code) = code else { return Err(Self::bad_gateway("grpc-status is not a number")) };
        let code = Code::from_i32(code);
        if code == Code::Ok {
            return Ok(None);
        }
        let message = trailers.get("grpc-message").map_or_else(String::new, decode_message);
        let mut problem = Self::foreign(code, message);
        let details = trailers.get("grpc-status-details-bin").map(HeaderValue::as_bytes);
        if let Some(decoded) =
            details.and_then(decode_base64).and_then(|bytes| pb::Status::decode(&*bytes).ok())
        {
            problem.details = decoded.details;
        }
        Ok(Some(problem))
    }

    /// Adds the `google.rpc.ErrorInfo` that says why, first of all details. Not to an error that somebody else made: that
    /// has its own, or none.
    pub(crate) fn name_reason(&mut self, domain: &str) {
        if let Some(reason) = self.reason.take() {
            let info = pb::ErrorInfo {
                reason: reason.to_owned(),
                domain: domain.to_owned(),
                ..pb::ErrorInfo::default()
            };
            self.details.insert(0, any("google.rpc.ErrorInfo", &info));
        }
    }

    /// Adds the `google.rpc.RequestInfo` by which the client can ask about the request.
    pub(crate) fn name_request(&mut self, request_id: Option<&RequestId>) {
        if let Some(RequestId(request_id)) = request_id {
            let info = pb::RequestInfo { request_id: request_id.clone(), serving_data: String::new() };
            self.details.push(any("google.rpc.RequestInfo", &info));
        }
    }

    pub(crate) fn http_status(&self) -> StatusCode {
        self.http.unwrap_or_else(|| http_status(self.code))
    }

    /// Whether the rest of the request is not waited for, so that a connection of HTTP/1.1 cannot be used again. The client
    /// should know.
    ///
    /// Source: RFC 9110, sections 15.5.9 and 15.5.14.
    pub(crate) fn ends_connection(&self, version: Version) -> bool {
        version < Version::HTTP_2
            && matches!(self.http, Some(StatusCode::PAYLOAD_TOO_LARGE | StatusCode::REQUEST_TIMEOUT))
    }

    /// Appends the body: `google.rpc.Status` as JSON.
    pub(crate) fn put_json(&self, tables: &Tables, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"code\":");
        out.extend_from_slice(i32::from(self.code).to_string().as_bytes());
        out.extend_from_slice(b",\"message\":");
        put_string(out, &self.message);
        self.put_details(tables, out);
        out.push(b'}');
    }

    /// Appends the body as a problem, with code and details as extension members. There are no documents about single
    /// problems, so the type is `about:blank`; `ErrorInfo.reason` is what clients branch on.
    ///
    /// Source: RFC 9457, section 3.
    fn put_problem(&self, tables: &Tables, request_id: Option<&RequestId>, out: &mut Vec<u8>) {
        let status = self.http_status();
        out.extend_from_slice(b"{\"type\":\"about:blank\",\"title\":");
        // 499 has no phrase of its own in the registry.
        put_string(out, status.canonical_reason().unwrap_or("Client Closed Request"));
        out.extend_from_slice(b",\"status\":");
        out.extend_from_slice(status.as_str().as_bytes());
        out.extend_from_slice(b",\"detail\":");
        put_string(out, &self.message);
        if let Some(RequestId(id)) = request_id {
            out.extend_from_slice(b",\"instance\":");
            put_string(out, &crate::percent::encode_segment(id));
        }
        out.extend_from_slice(b",\"code\":");
        out.extend_from_slice(i32::from(self.code).to_string().as_bytes());
        self.put_details(tables, out);
        out.push(b'}');
    }

    fn put_details(&self, tables: &Tables, out: &mut Vec<u8>) {
        out.extend_from_slice(b",\"details\":[");
        for (index, detail) in self.details.iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            let start = out.len();
            if encode::any(tables, &detail.type_url, &detail.value, out, EncodeOptions::default()).is_err() {
                // A detail that is not of its type is kept as it came; it must not hide the error itself.
                out.truncate(start);
                out.extend_from_slice(b"{\"@type\":");
                put_string(out, &detail.type_url);
                out.extend_from_slice(b",\"value\":");
                put_base64(out, &detail.value);
                out.push(b'}');
            }
        }
        out.push(b']');
    }

    /// The answer, in the form that the client's `Accept` asks for.
    pub(crate) fn into_response_for(mut self, tables: &Tables, request: &Parts) -> Response<Body> {
        self.headers.append(VARY, HeaderValue::from_static("accept"));
        let mut body = Vec::with_capacity(256);
        if crate::accept::wants_problem(&request.headers) {
            self.put_problem(tables, request.extensions.get::<RequestId>(), &mut body);
            self.respond("application/problem+json", body)
        } else {
            self.put_json(tables, &mut body);
            self.respond("application/json", body)
        }
    }

    fn respond(self, content_type: &'static str, body: Vec<u8>) -> Response<Body> {
        let status = self.http_status();
        let retry_after = self.retry_after();
        let length = body.len();
        let mut response = Response::new(Body::full(Bytes::from(body)));
        *response.status_mut() = status;
        *response.headers_mut() = self.headers;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
        if status == StatusCode::UNAUTHORIZED {
            headers.entry(WWW_AUTHENTICATE).or_insert(HeaderValue::from_static("Bearer"));
        }
        if let Some(seconds) = retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }

    /// Whole seconds of `google.rpc.RetryInfo`, rounded up, for the codes that ask to come back.
    pub(crate) fn retry_after(&self) -> Option<u64> {
        if !matches!(self.code, Code::ResourceExhausted | Code::Unavailable) {
            return None;
        }
        let detail = self.details.iter().find(|detail| detail.type_url.ends_with("/google.rpc.RetryInfo"))?;
        let delay = pb::RetryInfo::decode(&*detail.value).ok()?.retry_delay?;
        let seconds = u64::try_from(delay.seconds).ok()?;
        Some(seconds + u64::from(delay.nanos > 0))
    }

    pub(crate) fn details(&self) -> &[Any] {
        &self.details
    }

    pub(crate) fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    pub(crate) fn headers_mut(&mut self) -> &mut HeaderMap {
        &mut self.headers
    }
}

/// A detail: a message of the type `name`.
fn any(name: &str, message: &impl prost::Message) -> Any {
    Any { type_url: format!("{TYPE_PREFIX}{name}"), value: message.encode_to_vec() }
}

/// The HTTP status of a gRPC code.
///
/// Source: the comments of `google/rpc/code.proto`.
pub(crate) fn http_status(code: Code) -> StatusCode {
    match code {
        Code::Ok => StatusCode::OK,
        Code::Cancelled => StatusCode::from_u16(499).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => StatusCode::BAD_REQUEST,
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::AlreadyExists | Code::Aborted => StatusCode::CONFLICT,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::Unknown | Code::Internal | Code::DataLoss => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// `grpc-message` is percent-encoded UTF-8; what is not decodes as it stands.
fn decode_message(value: &HeaderValue) -> String {
    let mut bytes = Vec::with_capacity(value.len());
    let raw = value.as_bytes();
    let mut at = 0;
    while at < raw.len() {
        if let Some(byte) = crate::percent::byte_at(raw, at) {
            bytes.push(byte);
            at += 3;
        } else {
            bytes.push(raw[at]);
            at += 1;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn decode_base64(bytes: &[u8]) -> Option<Vec<u8>> {
    let unpadded = bytes.split(|byte| *byte == b'=').next().unwrap_or_default();
    base64::engine::general_purpose::STANDARD_NO_PAD.decode(unpadded).ok()
}
