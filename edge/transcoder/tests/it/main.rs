//! The transcoder against an upstream in the same process that speaks raw gRPC frames.

mod codec;
mod harness;
mod json_in;
mod json_out;
mod mask;
mod query;
mod routing;
