//! Work that spans services: durable steps in this service's database, and what undoes them.
//!
//! What follows from what is said in [`crate::domain::saga`]; here it is carried out. No transaction is open while another service is called.

mod calls;
mod finish;
mod runner;

pub use runner::{Runner, Settings};
