//! The command line of `cairn`.

use std::convert::Infallible;
use std::path::PathBuf;

use bytesize::ByteSize;
use cairn_core::id::Durability;
use clap::{Args, Parser, Subcommand, ValueEnum};
use runtime_real::client::CreateFile;

use crate::chaos::{Kind, NetworkArg, Told};

/// Cairn: a distributed file system that loses nothing it acknowledged.
#[derive(Debug, Parser)]
#[command(name = "cairn", version, propagate_version = true, arg_required_else_help = true)]
#[command(
    after_help = "Exit codes: 0 done; 1 failed, or a check found something; 2 wrong usage, configuration, path or name; \
3 refused (exists, not empty, permission); 4 cluster not reachable or not safe to write now; 5 data unreadable."
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Args)]
pub(crate) struct Global {
    /// Masters to talk to [default: $CAIRN_MASTER, the client configuration, 127.0.0.1:7400].
    #[arg(long, global = true, env = "CAIRN_MASTER", value_name = "ADDR[,ADDR…]", value_delimiter = ',')]
    pub(crate) master: Vec<String>,
    /// User asserted to the master [default: this process's user]. There is no authentication yet.
    #[arg(long, global = true, env = "CAIRN_USER", value_name = "NAME")]
    pub(crate) user: Option<String>,
    /// Groups asserted to the master [default: that user's groups].
    #[arg(long, global = true, env = "CAIRN_GROUPS", value_name = "NAME[,NAME…]", value_delimiter = ',')]
    pub(crate) groups: Vec<String>,
    /// Print JSON (keys: docs/cli.md).
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// No progress, no notes; errors still go to stderr.
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,
    /// Give an operation up after so many seconds without progress.
    #[arg(long, global = true, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) timeout: Option<u64>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a whole cluster in this process, to play with.
    Dev(DevArgs),
    /// Store files; a file appears when it is complete.
    Put(PutArgs),
    /// Fetch files.
    Get(GetArgs),
    /// Write files to standard output.
    Cat(CatArgs),
    /// List a directory.
    Ls(LsArgs),
    /// Make directories.
    Mkdir(MkdirArgs),
    /// Rename a file or tree.
    Mv(MvArgs),
    /// Move files or trees to the trash.
    Rm(RmArgs),
    /// List the trash, or bring something back from it.
    Restore(RestoreArgs),
    /// Change permission bits.
    Chmod(ChmodArgs),
    /// Change owner and group.
    Chown(ChownArgs),
    /// Show attributes, chunks and replicas.
    Stat(Paths),
    /// Print CRC32 checksums of stored files.
    Checksum(ChecksumArgs),
    /// Sum up sizes below a path.
    Du(PathsOrRoot),
    /// Show capacity.
    Df,
    /// Show servers, chunks, repairs and log.
    Status(StatusArgs),
    /// List chunks that are not as they should be; changes nothing.
    Fsck,
    /// Measure throughput beside this machine's own ceiling.
    Bench(BenchArgs),
    /// Let everything go wrong around real daemons under load, and verify all they acknowledged.
    Chaos(ChaosArgs),
    /// Print a completion script for a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Run a daemon in this process: what `chaos` and `bench` start.
    #[command(hide = true, subcommand)]
    Daemon(DaemonCommand),
}

#[derive(Debug, Subcommand)]
pub(crate) enum DaemonCommand {
    /// See `cairn-master`.
    Master(bins::MasterArgs),
    /// See `cairn-chunkserver`.
    Chunkserver(bins::ChunkserverArgs),
}

#[derive(Debug, Args)]
pub(crate) struct DevArgs {
    /// Where to keep the cluster [default: $XDG_DATA_HOME/cairn/dev].
    #[arg(long, value_name = "DIR", conflicts_with = "ephemeral")]
    pub(crate) dir: Option<PathBuf>,
    /// Chunkservers.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=32))]
    pub(crate) chunkservers: u16,
    /// The master's address.
    #[arg(long, default_value = "127.0.0.1:7400", value_name = "ADDR")]
    pub(crate) listen: String,
    /// Keep nothing: a temporary directory, removed at the end.
    #[arg(long)]
    pub(crate) ephemeral: bool,
}

#[derive(Debug, Args)]
pub(crate) struct PutArgs {
    /// Local files or directories; `-` is standard input.
    #[arg(required = true, value_name = "SOURCE")]
    pub(crate) sources: Vec<String>,
    /// Where to: a path in Cairn; into it, if it is a directory.
    #[arg(value_name = "TARGET")]
    pub(crate) target: String,
    /// Replace existing files (they go to the trash).
    #[arg(short, long)]
    pub(crate) force: bool,
    /// Directories with all their contents.
    #[arg(short, long)]
    pub(crate) recursive: bool,
    /// Make missing parent directories.
    #[arg(short, long)]
    pub(crate) parents: bool,
    #[command(flatten)]
    pub(crate) storage: StorageArgs,
}

#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct StorageArgs {
    /// Replicas [default: the master's].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=8))]
    pub(crate) replication: Option<u8>,
    /// Replicas that must hold a record before it is acknowledged [default: the majority].
    #[arg(long, value_name = "W", value_parser = clap::value_parser!(u8).range(1..=8))]
    pub(crate) quorum: Option<u8>,
    /// Chunk size, such as 128MiB [default: the master's].
    #[arg(long, value_name = "SIZE")]
    pub(crate) chunk_size: Option<ByteSize>,
    /// What an acknowledgement survives: `sync` power loss, `async` the death of every process.
    #[arg(long, value_name = "WORD")]
    pub(crate) durability: Option<DurabilityArg>,
}

impl StorageArgs {
    /// Sets what was given; the rest is the client's configuration.
    pub(crate) fn apply(self, mut create: CreateFile) -> CreateFile {
        if let Some(replication) = self.replication {
            create = create.replication(replication);
        }
        if let Some(quorum) = self.quorum {
            create = create.quorum(quorum);
        }
        if let Some(size) = self.chunk_size {
            create = create.chunk_bytes(size.0);
        }
        match self.durability {
            Some(durability) => create.durability(durability.into()),
            None => create,
        }
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum DurabilityArg {
    Sync,
    Async,
}

impl From<DurabilityArg> for Durability {
    fn from(arg: DurabilityArg) -> Durability {
        match arg {
            DurabilityArg::Sync => Durability::Sync,
            DurabilityArg::Async => Durability::Async,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct GetArgs {
    /// Paths in Cairn.
    #[arg(required = true, value_name = "SOURCE", value_parser = remote_path)]
    pub(crate) sources: Vec<String>,
    /// A local file or directory; `-` is standard output.
    #[arg(value_name = "TARGET")]
    pub(crate) target: String,
    /// Overwrite existing local files.
    #[arg(short, long)]
    pub(crate) force: bool,
    /// Directories with all their contents.
    #[arg(short, long)]
    pub(crate) recursive: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Paths {
    /// Paths in Cairn.
    #[arg(required = true, value_name = "PATHS", value_parser = remote_path)]
    pub(crate) all: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct PathsOrRoot {
    /// Paths in Cairn.
    #[arg(default_value = "/", value_name = "PATHS", value_parser = remote_path)]
    pub(crate) all: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct CatArgs {
    #[command(flatten)]
    pub(crate) paths: Paths,
    /// First byte.
    #[arg(long, default_value_t = 0, value_name = "BYTES")]
    pub(crate) offset: u64,
    /// Bytes at the most.
    #[arg(long, value_name = "BYTES")]
    pub(crate) length: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct LsArgs {
    #[command(flatten)]
    pub(crate) paths: PathsOrRoot,
    /// Mode, owner, group, size, replication, time.
    #[arg(short, long)]
    pub(crate) long: bool,
}

#[derive(Debug, Args)]
pub(crate) struct MkdirArgs {
    #[command(flatten)]
    pub(crate) paths: Paths,
    /// Also missing parents; no error if it exists.
    #[arg(short, long)]
    pub(crate) parents: bool,
    /// Permission bits, octal.
    #[arg(short, long, default_value = "755", value_parser = octal_mode)]
    pub(crate) mode: u16,
}

#[derive(Debug, Args)]
pub(crate) struct MvArgs {
    /// From this path,
    #[arg(value_parser = remote_path)]
    pub(crate) from: String,
    /// to this one; into it, if it is a directory.
    pub(crate) to: String,
    /// Replace an existing file (it goes to the trash).
    #[arg(short, long)]
    pub(crate) force: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RmArgs {
    #[command(flatten)]
    pub(crate) paths: Paths,
    /// Directories with all their contents.
    #[arg(short, long)]
    pub(crate) recursive: bool,
    /// No error if it does not exist.
    #[arg(short, long)]
    pub(crate) force: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RestoreArgs {
    /// What was deleted: its path, or its number in the trash. Without it: list the trash.
    #[arg(value_parser = remote_path)]
    pub(crate) what: Option<String>,
    /// Bring it back to another path; into it, if it is a directory.
    #[arg(long, value_name = "PATH", requires = "what")]
    pub(crate) to: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct ChmodArgs {
    /// Permission bits, octal.
    #[arg(value_parser = octal_mode)]
    pub(crate) mode: u16,
    #[command(flatten)]
    pub(crate) paths: Paths,
}

#[derive(Debug, Args)]
pub(crate) struct ChownArgs {
    /// `OWNER`, `OWNER:GROUP` or `:GROUP`.
    pub(crate) owner: String,
    #[command(flatten)]
    pub(crate) paths: Paths,
}

#[derive(Debug, Args)]
pub(crate) struct ChecksumArgs {
    #[command(flatten)]
    pub(crate) paths: Paths,
    /// Read every byte and compare, instead of printing what the master knows.
    #[arg(long)]
    pub(crate) verify: bool,
}

#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// Wait until every chunk is at its replication factor and no chunkserver is silent; at the most `--timeout`.
    #[arg(long)]
    pub(crate) wait: bool,
}

#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    /// Bytes of the large file.
    #[arg(long, default_value = "1GiB")]
    pub(crate) size: ByteSize,
    /// Small files to create.
    #[arg(long, default_value_t = 500)]
    pub(crate) files: u32,
    /// Directory entries to list.
    #[arg(long, default_value_t = 10_000)]
    pub(crate) entries: u32,
    /// Where to keep the temporary cluster.
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) storage: StorageArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ChaosArgs {
    /// How long new faults come; checking what is left adds a minute or two.
    #[arg(long, default_value_t = 3.0)]
    pub(crate) minutes: f64,
    /// Draws the faults, the files, and what users do.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Chunkservers.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(3..=16))]
    pub(crate) chunkservers: u16,
    /// What goes wrong [default: everything].
    #[arg(long, value_name = "KIND[,KIND…]", value_delimiter = ',')]
    pub(crate) faults: Vec<Kind>,
    /// What keeps parties apart.
    #[arg(long, default_value = "auto", value_name = "HOW")]
    pub(crate) network: NetworkArg,
    /// An empty directory for the cluster; kept after a failure, emptied otherwise [default: a temporary one].
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// Keep directories and logs in any case.
    #[arg(long)]
    pub(crate) keep: bool,
    #[command(flatten)]
    pub(crate) told: Told,
}

/// A path without slashes at its end: the master takes a path in one spelling only.
fn remote_path(text: &str) -> Result<String, Infallible> {
    Ok(without_slash(text).to_owned())
}

/// `path` without slashes at its end; `/` stays.
pub(crate) fn without_slash(path: &str) -> &str {
    match path.trim_end_matches('/') {
        "" if path.starts_with('/') => "/",
        trimmed => trimmed,
    }
}

fn octal_mode(text: &str) -> Result<u16, String> {
    u16::from_str_radix(text, 8)
        .ok()
        .filter(|mode| *mode <= 0o7777)
        .ok_or_else(|| format!("{text:?} is not an octal mode such as 644"))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn slashes_at_the_end_are_dropped() {
        assert_eq!(
            ["/", "///", "/a/", "/a/b//", "/a", "a/", ""].map(without_slash),
            ["/", "/", "/a", "/a/b", "/a", "a", ""]
        );
    }
}
