//! From a descriptor set and upstreams to a [`Transcoder`].

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{Request, Response};
use prost_reflect::DescriptorPool;
use tower::{Service, ServiceExt as _};

use crate::body::BoxError;
use crate::gate::{Gate, Method, Open};
use crate::json::DEPTH_MAX_DEFAULT;
use crate::json::encode::EncodeOptions;
use crate::metadata::{Allowed, Policy};
use crate::openapi::OpenApi;
use crate::route::matcher::Matcher;
use crate::route::rule::{self, BodyRule, Route};
use crate::service::{Entry, Shared, Transcoder};
use crate::table::Tables;

/// A service upstream, whatever its type: what begins a call.
pub(crate) type Upstream = Arc<dyn Fn(Request<tonic::body::Body>) -> Called + Send + Sync>;

/// An upstream's answer, still to come.
type Called = BoxFuture<'static, Result<Response<tonic::body::Body>, BoxError>>;

/// What is wrong with a descriptor set or with what is asked of it.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The bytes are not a complete `FileDescriptorSet`.
    #[error("invalid descriptor set")]
    DescriptorSet(#[from] prost_reflect::DescriptorError),
    /// An upstream was given for a service that the set does not have.
    #[error("no service `{0}` in the descriptor set")]
    UnknownService(String),
    /// A `google.api.http` rule that cannot be served.
    #[error("method `{method}`: {why}")]
    Rule {
        /// The full name of the method.
        method: String,
        /// What is wrong.
        why: String,
    },
    /// A header cannot be forwarded.
    #[error("metadata `{name}` {why}")]
    Metadata {
        /// The name that was given.
        name: String,
        /// What is wrong.
        why: &'static str,
    },
    /// Two rules answer to the same requests.
    #[error("methods `{first}` and `{second}` have the same HTTP method and path")]
    Ambiguous {
        /// The full name of the method that was met first.
        first: String,
        /// The full name of the other.
        second: String,
    },
}

/// Collects what a [`Transcoder`] is made of.
pub struct Builder {
    descriptor_set: Vec<u8>,
    upstreams: Vec<(String, Upstream)>,
    gate: Arc<dyn Gate>,
    settings: Settings,
    metadata_from_clients: Vec<String>,
    metadata_to_clients: Vec<String>,
    all_metadata: bool,
    error_domain: String,
    openapi: OpenApi,
}

/// How the transcoder reads and prints.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    pub(crate) encode: EncodeOptions,
    pub(crate) proto_names: bool,
    pub(crate) ignore_unknown_fields: bool,
    pub(crate) ignore_unknown_query_parameters: bool,
    pub(crate) depth_max: usize,
    pub(crate) reply_bytes_max: usize,
    pub(crate) codings: Codings,
    /// The slowest pace of a request body; 0 for none.
    pub(crate) body_bytes_per_second_min: u32,
}

/// Which way bodies may be compressed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Codings {
    /// Those of requests.
    pub(crate) requests: bool,
    /// Those of answers, for clients that ask for it.
    pub(crate) answers: bool,
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let services: Vec<&str> = self.upstreams.iter().map(|(service, _)| service.as_str()).collect();
        f.debug_struct("Builder")
            .field("services", &services)
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

impl Builder {
    pub(crate) fn new(descriptor_set: &[u8]) -> Self {
        Self {
            descriptor_set: descriptor_set.to_vec(),
            upstreams: Vec::new(),
            gate: Arc::new(Open),
            settings: Settings {
                encode: EncodeOptions::default(),
                proto_names: false,
                ignore_unknown_fields: false,
                ignore_unknown_query_parameters: false,
                depth_max: DEPTH_MAX_DEFAULT,
                reply_bytes_max: 64 << 20,
                codings: Codings { requests: true, answers: true },
                body_bytes_per_second_min: 240,
            },
            metadata_from_clients: Vec::new(),
            metadata_to_clients: Vec::new(),
            all_metadata: false,
            error_domain: "transcoder".to_owned(),
            openapi: OpenApi::new("API", "v1"),
        }
    }

    /// Serves the methods of `service`, a full name, through `upstream`: a tonic `Channel`, a tonic `Routes`, or
    /// any service that takes gRPC requests.
    #[must_use]
    pub fn upstream<S, B>(mut self, service: impl Into<String>, upstream: S) -> Self
    where
        S: Service<Request<tonic::body::Body>, Response = Response<B>> + Clone + Send + Sync + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send + 'static,
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let call = move |request| -> Called {
            let answer = upstream.clone().oneshot(request);
            Box::pin(async move {
                let response = answer.await.map_err(Into::into)?;
                Ok(response.map(tonic::body::Body::new))
            })
        };
        self.upstreams.push((service.into(), Arc::new(call)));
        self
    }

    /// Lets `gate` decide about every request. The default, [`Open`], admits all.
    #[must_use]
    pub fn gate(mut self, gate: impl Gate) -> Self {
        self.gate = Arc::new(gate);
        self
    }

    /// Prints fields without presence, lists and maps even when they hold their default. Off by default.
    #[must_use]
    pub fn always_print_primitive_fields(mut self, yes: bool) -> Self {
        self.settings.encode.always_print = yes;
        self
    }

    /// Prints enum values as numbers. Off by default.
    #[must_use]
    pub fn always_print_enums_as_ints(mut self, yes: bool) -> Self {
        self.settings.encode.enums_as_ints = yes;
        self
    }

    /// Prints field names as in the proto instead of in lowerCamelCase. Off by default.
    #[must_use]
    pub fn preserve_proto_field_names(mut self, yes: bool) -> Self {
        self.settings.proto_names = yes;
        self
    }

    /// Discards unknown fields of a JSON body instead of answering 400. Off by default.
    #[must_use]
    pub fn ignore_unknown_fields(mut self, yes: bool) -> Self {
        self.settings.ignore_unknown_fields = yes;
        self
    }

    /// Discards unknown query parameters instead of answering 400. Off by default.
    #[must_use]
    pub fn ignore_unknown_query_parameters(mut self, yes: bool) -> Self {
        self.settings.ignore_unknown_query_parameters = yes;
        self
    }

    /// How many objects and arrays of a JSON text may be open at once, in requests and in replies, over REST and in Connect: a
    /// request that is deeper is answered with 400, a reply with 502. 100 by default. What is not turned into JSON is not looked
    /// into and has no such limit.
    #[must_use]
    pub fn depth_max(mut self, levels: usize) -> Self {
        self.settings.depth_max = levels;
        self.settings.encode.depth_max = levels;
        self
    }

    /// The largest reply message that is taken from an upstream, in bytes. 64 MiB by default.
    #[must_use]
    pub fn reply_bytes_max(mut self, bytes: usize) -> Self {
        self.settings.reply_bytes_max = bytes;
        self
    }

    /// Lets these headers of a request go upstream as metadata, in every protocol; over REST also as `Grpc-Metadata-<name>`.
    /// Values of names that end in `-bin` are base64. By default no header passes, and what the [`Gate`] gives under the
    /// same name always replaces the client's.
    ///
    /// `Host`, `TE`, `Content-*`, the headers of the connection and `grpc-*` cannot be named.
    #[must_use]
    pub fn request_metadata<N: Into<String>>(mut self, names: impl IntoIterator<Item = N>) -> Self {
        self.metadata_from_clients.extend(names.into_iter().map(Into::into));
        self
    }

    /// Shows these metadata of a reply, leading and trailing, to the client: over REST as `Grpc-Metadata-<name>`, in the other
    /// protocols in their own way. By default only what [`Gate::response_headers`] copies is shown.
    #[must_use]
    pub fn response_metadata<N: Into<String>>(mut self, names: impl IntoIterator<Item = N>) -> Self {
        self.metadata_to_clients.extend(names.into_iter().map(Into::into));
        self
    }

    /// Lets all custom metadata pass in both directions, for a gateway in front of services that judge for themselves. Not what
    /// means something to HTTP, a browser or a proxy: `Authorization`, `Cookie`, `User-Agent`, `X-Forwarded-For` and their
    /// like pass only when they are named. Over REST only `Grpc-Metadata-<name>` is custom metadata. Off by default.
    #[must_use]
    pub fn all_metadata(mut self, yes: bool) -> Self {
        self.all_metadata = yes;
        self
    }

    /// Decompresses requests: bodies with `Content-Encoding: gzip` or `zstd`, messages of Connect in gzip, and messages of gRPC
    /// in gzip where the [`Gate`] has to look into them. The body limit is for what they are and for what they decode to. On by
    /// default; when off, they are answered with 415, or `UNIMPLEMENTED` where the protocol has codes. Messages of gRPC that
    /// pass through may be compressed all the same: nobody here decompresses them.
    #[must_use]
    pub fn decompress_requests(mut self, yes: bool) -> Self {
        self.settings.codings.requests = yes;
        self
    }

    /// Compresses answers by `Accept-Encoding` (zstd or gzip): streams, flushed with every message, and whole bodies of 1 KiB
    /// and more, unless their media type is compressed already. On by default.
    #[must_use]
    pub fn compress_answers(mut self, yes: bool) -> Self {
        self.settings.codings.answers = yes;
        self
    }

    /// The slowest pace at which a request body may come, in bytes a second, measured over windows of 5 seconds after the
    /// first 10; a slower one is answered with 408. Only the time counts in which the body is waited for: not the time in
    /// which the upstream does not read, and in a stream not the time between two messages. 0 is no limit. 240 by default.
    #[must_use]
    pub fn body_bytes_per_second_min(mut self, bytes: u32) -> Self {
        self.settings.body_bytes_per_second_min = bytes;
        self
    }

    /// The `domain` of the `google.rpc.ErrorInfo` in the errors that the transcoder makes itself, such as `edge.example.com`.
    /// Errors of the upstream and of the [`Gate`] keep their own. `transcoder` by default.
    #[must_use]
    pub fn error_domain(mut self, domain: impl Into<String>) -> Self {
        self.error_domain = domain.into();
        self
    }

    /// What [`Transcoder::openapi`] says besides what follows from the descriptor set. By default a title and no more.
    #[must_use]
    pub fn openapi(mut self, openapi: OpenApi) -> Self {
        self.openapi = openapi;
        self
    }

    /// Compiles the tables.
    ///
    /// # Errors
    ///
    /// [`BuildError`], which names the method when a rule is at fault.
    pub fn build(self) -> Result<Transcoder, BuildError> {
        let pool = crate::editions::pool(&self.descriptor_set)?;
        let errors = DescriptorPool::decode(tonic_types::pb::FILE_DESCRIPTOR_SET)?;
        let tables = Tables::compile(&[&pool, &errors], self.settings.proto_names);
        let upstreams: HashMap<String, Upstream> = self.upstreams.into_iter().collect();
        for service in upstreams.keys() {
            if pool.get_service_by_name(service).is_none() {
                return Err(BuildError::UnknownService(service.clone()));
            }
        }
        let mut matcher = Matcher::new();
        let mut routes: Vec<Route> = Vec::new();
        let mut entries: Vec<Entry> = Vec::new();
        for service in pool.services() {
            let Some(upstream) = upstreams.get(service.full_name()) else { continue };
            for descriptor in service.methods() {
                let name = descriptor.full_name().to_owned();
                let invalid = |why: String| BuildError::Rule { method: name.clone(), why };
                let type_index = |message: &str| {
                    tables.find(message).ok_or_else(|| invalid(format!("no message `{message}`")))
                };
                let input = type_index(descriptor.input().full_name())?;
                let output = type_index(descriptor.output().full_name())?;
                for http_rule in rule::rules_of(&descriptor)? {
                    let route =
                        rule::compile(&tables, &http_rule, entries.len(), input, output).map_err(invalid)?;
                    matcher.insert(&route.template, &route.http_method, routes.len()).map_err(|other| {
                        let first = routes.get(other).and_then(|route| entries.get(route.method));
                        BuildError::Ambiguous {
                            first: first.map_or_else(|| name.clone(), |entry| full_name(&entry.method)),
                            second: name.clone(),
                        }
                    })?;
                    routes.push(route);
                }
                let method = Method::new(descriptor.clone())
                    .ok_or_else(|| invalid("the name is not a path".to_owned()))?;
                entries.push(Entry::new(&tables, method, upstream.clone(), input, output));
            }
        }
        let allowed = |names: Vec<String>| {
            let mut allowed = Allowed::new(self.all_metadata);
            for name in names {
                allowed.add(&name).map_err(|why| BuildError::Metadata { name, why })?;
            }
            Ok::<Allowed, BuildError>(allowed)
        };
        let metadata = Policy {
            request: allowed(self.metadata_from_clients)?,
            response: allowed(self.metadata_to_clients)?,
        };
        let by_path = entries.iter().enumerate().map(|(index, entry)| (entry.method.path().into(), index));
        Ok(Transcoder::new(Shared {
            tables,
            matcher,
            routes,
            by_path: by_path.collect(),
            entries,
            gate: self.gate,
            settings: self.settings,
            metadata,
            error_domain: self.error_domain,
            openapi: self.openapi,
            document: OnceLock::new(),
        }))
    }
}

fn full_name(method: &Method) -> String {
    method.descriptor().full_name().to_owned()
}

impl Route {
    /// The field that only the body sets.
    pub(crate) fn body_field(&self) -> Option<usize> {
        match self.body {
            BodyRule::Field(field) => Some(field),
            BodyRule::None | BodyRule::Whole => None,
        }
    }
}
