//! The transcoder against an upstream in the same process that speaks raw gRPC frames.

mod harness;
mod routing;
