//! Generates the gRPC services around the message types that core generates from the same schemas.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=../core/proto/cairn.proto");
    let descriptors = protox::compile(["cairn.proto"], ["../core/proto"])?;
    tonic_prost_build::configure()
        .build_client(false)
        .extern_path(".cairn.v1", "::cairn_core::wire::proto")
        .compile_fds(descriptors)?;
    Ok(())
}
