//! The transcoder against an upstream in the same process that speaks raw gRPC frames.
#![expect(clippy::unwrap_used, reason = "in helpers of tests too, a panic is how a test fails")]
#![expect(
    clippy::disallowed_methods,
    reason = "the upstreams and hosts here stand outside the project: they make statuses and tasks of their own"
)]

mod client_streams;
mod clients;
mod codec;
mod coding;
mod connect;
mod cut;
mod depth;
mod duplex;
mod editions;
mod errors;
#[path = "../../fuzz/src/lib.rs"]
#[expect(unreachable_pub, reason = "a library for the fuzz targets, private here")]
mod fuzz;
mod fuzzing;
mod gate;
mod grpc;
mod grpc_web;
mod harness;
mod json_in;
mod json_out;
mod leaving;
mod mask;
mod metadata;
mod network;
mod openapi;
mod pace;
mod problem;
mod protojson;
mod query;
mod readme;
mod routing;
mod streams;
mod unread;
mod wire_client;
mod written;
