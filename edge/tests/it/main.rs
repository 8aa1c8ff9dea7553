//! The gateway in front of a scripted `bookings`, over real sockets and mTLS.

mod errors;
mod gate;
mod harness;
