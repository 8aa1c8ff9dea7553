//! The `bookings` crate.
