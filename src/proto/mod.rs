//! The wire: generated code (records as bytes), conversions both ways, the zero-copy record scan,
//! and responses written by hand.

pub mod convert;
pub mod json;
pub mod message;
pub mod place;
pub mod wire;

/// Code generated from `proto/ringfeed/v1`. Every `repeated Record records` is `Vec<Bytes>`.
#[allow(
    clippy::all,
    clippy::allow_attributes_without_reason,
    clippy::clone_on_ref_ptr,
    clippy::large_futures,
    clippy::pedantic,
    missing_debug_implementations,
    unreachable_pub,
    reason = "generated code"
)]
pub mod v1 {
    tonic::include_proto!("ringfeed.v1");
}

/// The proto as written, for reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/ringfeed.bin"));
