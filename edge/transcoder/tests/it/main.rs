//! The transcoder against an upstream in the same process that speaks raw gRPC frames.

mod codec;
mod errors;
mod gate;
mod harness;
mod json_in;
mod json_out;
mod mask;
mod network;
mod query;
mod routing;
mod streams;
