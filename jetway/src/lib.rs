//! The platform in one process, and what is only true of it as a whole.
//!
//! [`platform`] starts PostgreSQL, the simulated acquirer, the three services and the edge, each as it would run alone. [`demo`] makes a
//! traveller's journey through them, [`audit`] checks that no seat and no money went astray. The tests of this crate are the tests of the whole.

pub mod audit;
pub mod data_dir;
pub mod databases;
pub mod demo;
pub mod demo_data;
pub mod platform;
pub mod rest;
pub mod schedule;
