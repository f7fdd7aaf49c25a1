//! Messages as bytes: Protobuf for the control plane, frames for the data plane. The only place where either is converted.

pub mod frame;
