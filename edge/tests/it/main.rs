//! The gateway in front of a scripted `bookings`, over real sockets and mTLS.

mod cors;
mod errors;
mod gate;
mod greeter;
mod harness;
mod hygiene;
mod limits;
mod openapi;
mod operators;
mod process;
mod security_headers;
mod session;
mod upstreams;
