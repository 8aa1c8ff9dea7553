//! One request through the transcoder.

use std::collections::HashMap;
use std::convert::Infallible;
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use futures::future::BoxFuture;
use http::header::{ALLOW, CONNECTION, CONTENT_ENCODING};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body_util::Full;
use prost_types::method_options::IdempotencyLevel;
use tonic::Code;
use tower::Service;

use crate::accept;
use crate::answer::{self, Ask, Form};
use crate::body::{Body, BoxError};
use crate::builder::{Builder, Settings, Upstream};
use crate::client_stream;
use crate::error::Problem;
use crate::events;
use crate::gate::{Gate, Method, Outcome, RequestId};
use crate::grpc;
use crate::leaving;
use crate::metadata::{Naming, Policy};
use crate::openapi::OpenApi;
use crate::protocol;
use crate::read::{self, Limits};
use crate::request;
use crate::route::matcher::{Match, Matcher, split};
use crate::route::rule::{BodyRule, Route};
use crate::stream::Framing;
use crate::table::{self, Label, Tables};
use crate::upstream;

/// A method with everything that serving it needs.
pub(crate) struct Entry {
    pub(crate) method: Method,
    pub(crate) upstream: Upstream,
    /// Table index of the request type.
    pub(crate) input: usize,
    /// Table index of the reply type.
    pub(crate) output: usize,
    pub(crate) client_stream: bool,
    pub(crate) server_stream: bool,
    /// Whether the method may be called with GET.
    pub(crate) no_side_effects: bool,
    /// Index of the field `update_mask` of the request, when it is a `FieldMask`.
    pub(crate) update_mask: Option<usize>,
}

impl Entry {
    pub(crate) fn new(
        tables: &Tables,
        method: Method,
        upstream: Upstream,
        input: usize,
        output: usize,
    ) -> Self {
        let update_mask = tables.messages[input].fields.iter().position(|field| {
            &*field.name == "update_mask"
                && field.label == Label::Explicit
                && tables.form(field) == Some(table::Form::FieldMask)
        });
        Self {
            client_stream: method.descriptor().is_client_streaming(),
            server_stream: method.descriptor().is_server_streaming(),
            no_side_effects: method
                .descriptor()
                .method_descriptor_proto()
                .options
                .as_ref()
                .is_some_and(|options| options.idempotency_level() == IdempotencyLevel::NoSideEffects),
            method,
            upstream,
            input,
            output,
            update_mask,
        }
    }
}

/// What all clones of a transcoder share.
pub(crate) struct Shared {
    pub(crate) tables: Tables,
    pub(crate) matcher: Matcher,
    pub(crate) routes: Vec<Route>,
    /// Every method of every served service, also those without a rule.
    pub(crate) entries: Vec<Entry>,
    /// Index of each entry by its path, `/package.Service/Method`.
    pub(crate) by_path: HashMap<Box<str>, usize>,
    pub(crate) gate: Arc<dyn Gate>,
    pub(crate) settings: Settings,
    pub(crate) metadata: Policy,
    /// `google.rpc.ErrorInfo.domain` of the errors that are made here.
    pub(crate) error_domain: String,
    /// What the OpenAPI document says besides what is served.
    pub(crate) openapi: OpenApi,
    /// The document, once it was asked for.
    pub(crate) document: OnceLock<Bytes>,
}

impl Shared {
    pub(crate) fn observe(
        &self,
        entry: Option<&Entry>,
        code: Code,
        http_status: StatusCode,
        cause: Option<&str>,
    ) {
        let method = entry.map(|entry| &entry.method);
        self.gate.observe(Outcome { method, code, http_status, cause });
    }
}

/// REST/JSON in, gRPC out: a service for any HTTP server. Clones are cheap and share everything.
#[derive(Clone)]
pub struct Transcoder {
    shared: Arc<Shared>,
}

impl fmt::Debug for Transcoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Transcoder({} routes)", self.shared.routes.len())
    }
}

impl Transcoder {
    /// Begins with a serialized `google.protobuf.FileDescriptorSet`, imports included.
    pub fn builder(descriptor_set: &[u8]) -> Builder {
        Builder::new(descriptor_set)
    }

    /// The methods that can be called, in the order of the descriptor set: all of the services that have an upstream. Those
    /// without a `google.api.http` rule are called by gRPC, gRPC-Web and Connect only.
    pub fn methods(&self) -> impl Iterator<Item = &Method> {
        self.shared.entries.iter().map(|entry| &entry.method)
    }

    /// The OpenAPI 3.1 document of what is served, in JSON: see [`Builder::openapi`]. Made when it is first asked for, and
    /// kept.
    pub fn openapi(&self) -> Bytes {
        let document =
            || Bytes::from(crate::openapi::document(&self.shared, &self.shared.openapi).to_string());
        self.shared.document.get_or_init(document).clone()
    }

    pub(crate) fn new(shared: Shared) -> Self {
        Self { shared: Arc::new(shared) }
    }
}

impl<B> Service<Request<B>> for Transcoder
where
    B: http_body::Body + Send + 'static,
    B::Data: Buf + Send,
    B::Error: Into<BoxError>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let shared = Arc::clone(&self.shared);
        Box::pin(async move { Ok(handle(shared, request).await) })
    }
}

async fn handle<B>(shared: Arc<Shared>, request: Request<B>) -> Response<Body>
where
    B: http_body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    let (parts, body) = request.into_parts();
    if let Some(protocol) = protocol::of(&shared, &parts) {
        // Aside, so that the future of REST calls is no larger than it has to be.
        return Box::pin(protocol::serve(shared, protocol, parts, body)).await;
    }
    let head = parts.method == http::Method::HEAD;
    let request_id = parts.extensions.get::<RequestId>();
    let mut response = match route(&shared, &parts) {
        Err(Routed::Answer(response)) => response,
        Err(Routed::Problem(mut problem)) => {
            problem.name_reason(&shared.error_domain);
            problem.name_request(request_id);
            shared.observe(None, problem.code, problem.http_status(), problem.cause.as_deref());
            problem.into_response_for(&shared.tables, &parts)
        }
        Ok((rule, segments, verb)) => {
            let route = &shared.routes[rule];
            let entry = &shared.entries[route.method];
            let place = Place { rule, route, entry, segments: &segments, verb };
            let mut answered = HeaderMap::with_capacity(ANSWER_HEADERS);
            let work = call(&shared, &place, &parts, body, &mut answered);
            match leaving::watch(&shared, entry, work).await {
                Ok(response) => response,
                Err(mut problem) => {
                    problem.name_reason(&shared.error_domain);
                    problem.name_request(request_id);
                    for (name, value) in &answered {
                        problem.headers_mut().append(name, value.clone());
                    }
                    if problem.ends_connection(parts.version) {
                        problem.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                    }
                    let status = problem.http_status();
                    shared.observe(Some(entry), problem.code, status, problem.cause.as_deref());
                    problem.into_response_for(&shared.tables, &parts)
                }
            }
        }
    };
    if head {
        *response.body_mut() = Body::empty();
    }
    response
}

/// Where a request was routed to.
pub(crate) struct Place<'a> {
    /// Index of `route`.
    pub(crate) rule: usize,
    pub(crate) route: &'a Route,
    pub(crate) entry: &'a Entry,
    /// Ranges of the path.
    pub(crate) segments: &'a [(usize, usize)],
    /// Whether the last segment ends with a verb, which is no part of a variable.
    pub(crate) verb: bool,
}

/// For how many headers of an answer there is room from the start: a few of ours, and those that a gateway around us may add.
const ANSWER_HEADERS: usize = 20;

enum Routed {
    Answer(Response<Body>),
    Problem(Box<Problem>),
}

/// The longest path and query that are looked at, in bytes.
pub(crate) const URI_BYTES_MAX: usize = 8 * 1024;

type Segments = Vec<(usize, usize)>;

fn route(shared: &Shared, parts: &Parts) -> Result<(usize, Segments, bool), Routed> {
    if parts.uri.path_and_query().is_some_and(|target| target.as_str().len() > URI_BYTES_MAX) {
        return Err(Routed::Problem(Problem::uri_too_long(URI_BYTES_MAX)));
    }
    let path = parts.uri.path();
    if !path.starts_with('/') {
        return Err(Routed::Problem(Problem::not_found()));
    }
    if let Err(rule) = crate::percent::decode(path, crate::percent::Keep::Nothing, false) {
        return Err(Routed::Problem(Problem::bad_request(&format!("the path {rule}"))));
    }
    let segments = split(path);
    let find = |method: &str| shared.matcher.find(method, path, &segments);
    let method = parts.method.as_str();
    let mut found = find(method);
    if method == "HEAD" && !matches!(found, Match::Rule { .. }) {
        found = find("GET");
    }
    match found {
        Match::Rule { rule, verb } => Ok((rule, segments, verb)),
        Match::Nothing => Err(Routed::Problem(Problem::not_found())),
        Match::OtherMethods(mut methods) => {
            if methods.iter().any(|method| method == "GET") && !methods.iter().any(|method| method == "HEAD")
            {
                methods.push("HEAD".to_owned());
            }
            if !methods.iter().any(|method| method == "OPTIONS") {
                methods.push("OPTIONS".to_owned());
            }
            methods.sort_unstable();
            let allow = methods.join(", ");
            if method != "OPTIONS" {
                return Err(Routed::Problem(Problem::method_not_allowed(&allow)));
            }
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::NO_CONTENT;
            if let Ok(value) = HeaderValue::from_str(&allow) {
                response.headers_mut().insert(ALLOW, value);
            }
            shared.observe(None, Code::Ok, StatusCode::NO_CONTENT, None);
            Err(Routed::Answer(response))
        }
    }
}

async fn call<B>(
    shared: &Arc<Shared>,
    place: &Place<'_>,
    parts: &Parts,
    body: B,
    answered: &mut HeaderMap,
) -> Result<Response<Body>, Box<Problem>>
where
    B: http_body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    let entry = place.entry;
    let form = Form::of(shared, place, parts)?;
    let client_timeout = grpc::client_timeout(&parts.headers)?;
    let last_event_id = match form {
        Form::Stream(Framing::Events) => events::last_event_id(&parts.headers)?,
        Form::Stream(Framing::Ndjson | Framing::Array | Framing::Raw) | Form::Json | Form::Raw => None,
    };
    let mut admission = upstream::admit(shared, entry, parts, Naming::Prefixed).await?;
    if let Some(id) = last_event_id {
        admission.metadata.insert(events::LAST_EVENT_ID, id.clone());
    }
    let deadline = upstream::deadline(client_timeout, &admission);
    let ask = Ask { shared, place, parts, form, last_event_id, deadline };
    if entry.client_stream {
        return Box::pin(client_stream::call(ask, body, admission, answered)).await;
    }

    let bound =
        request::bind(shared, place, parts, &admission.fields).map_err(|fault| Problem::violation(&fault))?;
    let limits = Limits::of(shared, &admission, deadline);
    let coded = parts.headers.contains_key(CONTENT_ENCODING);
    let body = if let Some(refusal) = refusal_of_body(shared, place.route, &parts.headers) {
        read::nothing(&parts.headers, body, limits, refusal).await?;
        Bytes::new()
    } else if coded {
        Box::pin(read::coded(parts, body, limits, shared.settings.codings.requests)).await?
    } else {
        read::body(&parts.headers, body, limits).await?
    };
    let message = request::frame(shared, place.route, parts, &body, &bound)
        .map_err(|fault| Problem::violation(&fault))?;
    upstream::admit_message(shared, entry, parts, &admission, &message[grpc::PREFIX_LEN..]).await?;
    let message = tonic::body::Body::new(Full::new(Bytes::from(message)));
    let response = upstream::call(entry, admission.metadata, deadline, message).await?;
    answer::give(ask, response, None, answered).await
}

/// Why a body would be refused, were there one; an absent or empty one is fine.
fn refusal_of_body(shared: &Shared, route: &Route, headers: &HeaderMap) -> Option<fn() -> Box<Problem>> {
    match route.body {
        BodyRule::None => Some(|| Problem::bad_request(request::NO_BODY)),
        BodyRule::Whole | BodyRule::Field(_) if accept::is_json(headers) => None,
        BodyRule::Whole | BodyRule::Field(_) if request::takes_raw(shared, route) => None,
        BodyRule::Whole | BodyRule::Field(_) => Some(Problem::unsupported_media_type),
    }
}
