//! Tests of the platform as a whole.

mod access;
mod architecture;
mod browser;
mod harness;
mod journey;
mod kills;
mod manifests;
mod mesh_of_processes;
mod openapi;
mod outages;
mod readme;
mod revocations;
mod seats;
mod secrets;
mod webhooks;
