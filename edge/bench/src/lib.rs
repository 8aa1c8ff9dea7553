//! What the benches share: the measured service, its types and its messages.

pub mod samples;

/// The descriptor set of the measured service, imports included.
pub const DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/bench.binpb"));

/// The generated types, with `serde` by `pbjson`.
#[expect(
    missing_docs,
    clippy::pedantic,
    clippy::as_conversions,
    clippy::allow_attributes_without_reason,
    clippy::disallowed_methods,
    unused_qualifications,
    reason = "generated"
)]
pub mod pb {
    tonic::include_proto!("bench.v1");
    include!(concat!(env!("OUT_DIR"), "/bench.v1.serde.rs"));
}
