//! `cairn-master`: where everything is. See `cairn-master --help` and `configs/master.yaml`.

use std::process::ExitCode;

use clap::Parser;

/// Cairn's master: keeps the namespace and knows where every chunk is.
#[derive(Debug, Parser)]
#[command(name = "cairn-master", version)]
struct Cli {
    #[command(flatten)]
    args: bins::MasterArgs,
}

fn main() -> ExitCode {
    bins::exit::finish("cairn-master", bins::run_master(Cli::parse().args))
}
