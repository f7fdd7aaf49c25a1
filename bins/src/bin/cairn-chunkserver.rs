//! `cairn-chunkserver`: keeps chunks. See `cairn-chunkserver --help` and `configs/chunkserver.yaml`.

use std::process::ExitCode;

use clap::Parser;

/// Cairn's chunkserver: keeps replicas of chunks on one or more volumes.
#[derive(Debug, Parser)]
#[command(name = "cairn-chunkserver", version)]
struct Cli {
    #[command(flatten)]
    args: bins::ChunkserverArgs,
}

fn main() -> ExitCode {
    bins::exit::finish("cairn-chunkserver", bins::run_chunkserver(Cli::parse().args))
}
