//! The gateway in front of a scripted `bookings`, over real sockets and mTLS.

mod gate;
mod harness;
