//! The gateway in front of a scripted `bookings`, over real sockets and mTLS.

mod attacks;
mod cors;
mod drain;
mod errors;
mod gate;
mod greeter;
mod harness;
mod hygiene;
mod limits;
mod listener;
mod openapi;
mod operators;
mod process;
mod protocols;
mod security_headers;
mod session;
mod upstreams;
