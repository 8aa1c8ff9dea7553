//! The gateway in front of a scripted `bookings`, over real sockets and mTLS.

mod cors;
mod errors;
mod gate;
mod harness;
mod hygiene;
mod security_headers;
mod session;
