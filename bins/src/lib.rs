//! What the programs share: the daemons' command lines and exit codes.

mod daemon;
pub mod exit;

pub use daemon::{ChunkserverArgs, MasterArgs, run_chunkserver, run_master};
