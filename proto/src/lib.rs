//! The contract of the platform: every message, service and policy, as written in the `.proto` files beside this crate.
//!
//! `jetway/` holds our packages, `third_party/` the standard ones. Everything here is generated, except [`policy`], which gives the generated policy
//! table its types, and [`descriptor_pool`].

use std::sync::LazyLock;

use prost_reflect::DescriptorPool;

pub mod policy;
pub mod session;

/// `Debug` of the messages with secret fields, which shows none of them.
mod redacted {
    include!(concat!(env!("OUT_DIR"), "/redacted.rs"));
}

/// The descriptors of every message and service, with options and comments, as a serialised `google.protobuf.FileDescriptorSet`.
pub const DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptor_set.binpb"));

/// [`DESCRIPTOR_SET`], decoded once.
pub fn descriptor_pool() -> &'static DescriptorPool {
    static POOL: LazyLock<DescriptorPool> =
        LazyLock::new(|| DescriptorPool::decode(DESCRIPTOR_SET).expect("the build encoded the descriptors"));
    &POOL
}

/// Declares a module of generated code.
macro_rules! package {
    ($(#[$doc:meta])* $package:literal) => {
        $(#[$doc])*
        #[allow(
            missing_docs,
            unreachable_pub,
            unused_qualifications,
            clippy::all,
            clippy::pedantic,
            clippy::allow_attributes_without_reason,
            clippy::as_conversions,
            clippy::str_to_string,
            rustdoc::all,
            reason = "generated code"
        )]
        pub mod v1 {
            tonic::include_proto!($package);
        }
    };
}

/// Types that several packages share.
pub mod r#type {
    tonic::include_proto!("jetway.r#type");
}

/// Options that every method carries.
pub mod mesh {
    package!("jetway.mesh.v1");
}

/// Users, roles, sessions and tokens.
pub mod identity {
    package!("jetway.identity.v1");
}

/// Catalogue, flights, holds, bookings and cancellations.
pub mod bookings {
    package!("jetway.bookings.v1");
}

/// Card vault, payment intents, refunds and the ledger.
pub mod payments {
    package!("jetway.payments.v1");
}

/// The simulated acquirer.
pub mod acquirer {
    package!("jetway.acquirer.v1");
}
