//! REST/JSON to gRPC by descriptors: a [`tower::Service`] that serves the `google.api.http` rules of any set of services.
//!
//! A [`Transcoder`] is built from a serialized `FileDescriptorSet` and an upstream for each service; no code is generated
//! and nothing is known of the services. One request goes like this:
//!
//! 1. [`Transcoder`] finds the rule in a tree of path templates, compiled at load.
//! 2. The host's [`Gate`] admits it, or refuses it with a status, before its body is read.
//! 3. The JSON body is turned into wire bytes in one pass over flat tables of fields, without a message in between; fields
//!    from the path, the query and the host are added as further wire bytes.
//! 4. The upstream is called with a deadline, and only with the metadata that the gate gave.
//! 5. The reply's wire bytes are turned into JSON in one pass, message by message when it is a stream. Whatever fails is
//!    answered with `google.rpc.Status` as JSON.
//!
//! # Streams over REST
//!
//! A method that takes a stream reads its messages from the body as it comes: the lines of `application/x-ndjson`, the
//! elements of one `application/json` array, or, where the message (or the field that is the body) is a
//! `google.api.HttpBody`, the bytes as they come, of any media type. The upstream asks for them; the client is read no
//! faster. What path, query and host bind is part of every message. A rule without a body makes one message of it. A fault
//! names the message by its index (`[3].legs`) and ends the call; no body at all is no message.
//!
//! A method that gives a stream answers as NDJSON, as a JSON array, or as server-sent events, by `Accept`. Its head is sent
//! with the first message, or a second after the upstream's head when there is no message yet. An error before that is an
//! ordinary one. An error after it is the last line `{"error": …}`, the last element `{"error": …}` of an array that stays
//! open, or an event of the type `error`; then the body breaks off. Events are numbered; `Last-Event-ID` goes upstream as
//! the metadata `last-event-id`, and when it is a number, the ids go on from it. The last event of a stream that ends well
//! has the type `end`, the data `{}` and no id: at it a page should close its `EventSource`, which would open a new connection.
//!
//! Both ways at once work over HTTP/2 and over HTTP/1.1. Of a client that reads nothing before it has sent everything, the
//! buffers between it and the upstream must hold the answers; past that, both wait until the deadline.
//!
//! A client that goes away cancels the upstream call. One limit comes from hyper's client, which a tonic `Channel` is made
//! of: while it waits for an upstream that has stopped reading, it can drop only the answer. Such a call ends with the
//! `grpc-timeout` that the upstream was given, so a [`Gate`] should give every streamed call a timeout.
//!
//! Trailers of the upstream that the client may see are HTTP trailers for a request with `TE: trailers`, else headers of a
//! unary answer. HTTP/1.1 sends only trailers whose names were announced: of a stream, those that
//! [`Builder::response_metadata`] names.
//!
//! # Other protocols
//!
//! The same methods, and those without a rule, are served as gRPC, gRPC-Web and Connect under `/package.Service/Method`, told
//! apart by `Content-Type`. The gate is asked alike, and an error has the shape of its protocol. gRPC, gRPC-Web and the
//! binary streams of Connect are passed through message by message as they come, without a look into them; the deadline, the
//! metadata and the limit of each message hold all the same.
//!
//! An upstream that breaks off between two messages ends the answer with the status that says so. When it breaks off inside one,
//! gRPC-Web and Connect have no place left for a status: the body ends with an error, which a server makes a reset or a lost
//! connection of.
//!
//! # Errors
//!
//! An error is a `google.rpc.Status` as JSON, or `application/problem+json` (RFC 9457) when `Accept` names that and does not
//! like `application/json` better.
//!
//! An error that is made here, and not upstream or by the gate, has a `google.rpc.ErrorInfo` with a stable reason to branch
//! on, in the domain of [`Builder::error_domain`]:
//!
//! | reason | HTTP | when |
//! | --- | --- | --- |
//! | `ROUTE_NOT_FOUND` | 404 | no rule has the path |
//! | `METHOD_NOT_ALLOWED` | 405 | the path has other methods, named in `Allow` |
//! | `NOT_ACCEPTABLE` | 406 | `Accept` admits no form that there is |
//! | `REQUEST_INVALID` | 400 | path, query, `grpc-timeout` or JSON are malformed or do not fit the type; with `BadRequest` |
//! | `BODY_UNREADABLE` | 400 | the body broke off, is not what `Content-Encoding` says, or is hardly anything but its coding |
//! | `BODY_TOO_LARGE`, `URI_TOO_LONG` | 413, 414 | over a limit |
//! | `BODY_TOO_SLOW` | 408 | the body comes too slowly |
//! | `UNSUPPORTED_MEDIA_TYPE` | 415 | the body is not JSON (or NDJSON, for a stream), or coded in a way that is not taken |
//! | `METHOD_UNKNOWN` | 404 | gRPC, gRPC-Web, Connect: there is no such method; the code is `UNIMPLEMENTED` |
//! | `NOT_ONE_MESSAGE` | 501 | gRPC, gRPC-Web, Connect: no message, or several, for a method that takes one |
//! | `COMPRESSION_UNSUPPORTED` | 501 | Connect: the message names which compressions there are |
//! | `HTTP2_REQUIRED` | 505 | gRPC over HTTP/1.1 |
//! | `UPSTREAM_INVALID` | 502 | the upstream's answer cannot be read |
//! | `UPSTREAM_UNAVAILABLE` | 503 | the upstream cannot be reached; with `RetryInfo` |
//! | `DEADLINE_EXCEEDED` | 504 | the time is over |
//!
//! ```no_run
//! # fn example(descriptor_set: &[u8], channel: tonic::transport::Channel) -> Result<(), transcoder::BuildError> {
//! let transcoder = transcoder::Transcoder::builder(descriptor_set)
//!     .upstream("library.v1.Books", channel)
//!     .build()?;
//! # let _ = transcoder;
//! # Ok(())
//! # }
//! ```

mod accept;
mod answer;
mod bind;
mod body;
mod builder;
mod client_stream;
#[doc(hidden)]
pub mod codec;
mod coding;
pub mod docs;
mod editions;
mod error;
mod events;
mod flush;
mod gate;
mod grpc;
mod http_body;
mod items;
mod json;
mod leaving;
mod link;
mod mask;
mod metadata;
mod openapi;
mod pace;
mod percent;
mod protocol;
mod query;
mod read;
mod request;
mod route;
mod service;
mod stream;
mod table;
mod timed;
mod upstream;
mod violation;
mod wire;
mod wkt;

pub use body::{Body, BoxError};
pub use builder::{BuildError, Builder};
pub use gate::{Admission, BODY_BYTES_MAX_DEFAULT, Gate, Method, Open, Outcome, RequestId};
pub use openapi::{Notes, OpenApi, RequestHeader, Requirement};
pub use service::Transcoder;
