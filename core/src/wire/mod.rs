//! Messages as bytes: Protobuf for the control plane, frames for the data plane. The only place where either is converted.
//!
//! Decoders take hostile bytes: they bound every length before they allocate for it, never panic, and hand out only
//! messages whose parts fit each other (a grant's addresses to its members, a payload's checksums to its bytes).

pub mod control;
pub mod frame;
mod shape;
#[cfg(test)]
mod strategy;
#[cfg(test)]
mod tests;

/// The Protobuf types of `proto/cairn.proto`, generated. The services themselves are the runtime's.
#[allow(missing_docs, unreachable_pub, clippy::all)]
pub mod proto {
    include!(concat!(env!("OUT_DIR"), "/cairn.v1.rs"));

    /// `proto/cairn.proto` as an encoded `FileDescriptorSet`, for gRPC reflection.
    pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/cairn.descriptors"));
}
