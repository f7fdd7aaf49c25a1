//! The daemons' command lines: a configuration file, flags that override it, a process that ends on a signal.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use runtime_real::config::{ChunkserverOptions, CommonOptions, ConfigError, MasterOptions};
use runtime_real::daemon::{ChunkserverDaemon, Handle, MasterDaemon, StartError};
use runtime_real::log::{self, LogFormat};
use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};
use tokio::signal::unix::{SignalKind, signal};

use crate::exit::{Exit, Failure};

/// What both daemons take.
#[derive(Debug, Args)]
struct Common {
    /// Configuration file (YAML); flags override it.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Refuse a blank data directory instead of formatting it: its disk may not be mounted.
    #[arg(long)]
    require_formatted: bool,
    /// Where `/health` and `/metrics` are served; empty: nowhere.
    #[arg(long, value_name = "ADDR")]
    http_listen: Option<String>,
    /// Allow listening on other interfaces than loopback. There is no authentication yet: whoever reaches the port can do everything.
    #[arg(long)]
    insecure_any_interface: bool,
    /// How log lines look.
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<Format>,
    /// Which log lines appear, such as `info` or `warn,cairn_core=debug`.
    #[arg(long, value_name = "FILTER")]
    log_filter: Option<String>,
    /// Write the bound addresses to this file once they are bound: `listen=ADDR` and `http=ADDR`, a line each.
    #[arg(long, value_name = "FILE", hide = true)]
    ports_file: Option<PathBuf>,
    /// End at once when the process that started this one, of this id, ends, however it ends.
    #[arg(long, value_name = "PID", hide = true)]
    end_with_parent: Option<i32>,
}

impl Common {
    /// Overrides settings and sets the process up. Returns where the bound addresses are to be written.
    fn apply(self, options: CommonOptions<'_>) -> Result<Option<PathBuf>> {
        *options.require_formatted |= self.require_formatted;
        set(options.http_listen, self.http_listen);
        *options.insecure_any_interface |= self.insecure_any_interface;
        set(options.log_format, self.log_format.map(Into::into));
        set(options.log_filter, self.log_filter);
        log::init(*options.log_format, options.log_filter)
            .map_err(|error| Failure::usage(error.to_string()))?;
        if let Some(parent) = self.end_with_parent {
            set_parent_process_death_signal(Some(Signal::KILL)).context("asking to end with the parent")?;
            // It may have ended before the kernel was asked.
            if getppid().map(Pid::as_raw_pid) != Some(parent) {
                return Err(
                    Failure::usage(format!("process {parent}, which started this one, has ended")).into()
                );
            }
        }
        Ok(self.ports_file)
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    Text,
    Json,
}

impl From<Format> for LogFormat {
    fn from(format: Format) -> LogFormat {
        match format {
            Format::Text => LogFormat::Text,
            Format::Json => LogFormat::Json,
        }
    }
}

/// The command line of `cairn-master`.
#[derive(Debug, Args)]
pub struct MasterArgs {
    /// Directory of the log; it must exist. A blank one becomes a new cluster.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Where clients and chunkservers connect [default: 127.0.0.1:7400].
    #[arg(long, value_name = "ADDR")]
    listen: Option<String>,
    #[command(flatten)]
    common: Common,
}

/// The command line of `cairn-chunkserver`.
#[derive(Debug, Args)]
pub struct ChunkserverArgs {
    /// Directory of a volume, one for each disk; it must exist.
    #[arg(long, value_name = "DIR")]
    data: Vec<PathBuf>,
    /// Where clients and other chunkservers connect [default: 127.0.0.1:7410].
    #[arg(long, value_name = "ADDR")]
    listen: Option<String>,
    /// The masters [default: 127.0.0.1:7400].
    #[arg(long, value_name = "ADDR[,ADDR…]", value_delimiter = ',')]
    master: Vec<String>,
    /// Servers of one rack fail together; replicas are spread over racks.
    #[arg(long, value_name = "NAME")]
    rack: Option<String>,
    /// Where others can reach this server [default: the address listened on].
    #[arg(long, value_name = "ADDR")]
    advertise: Option<String>,
    #[command(flatten)]
    common: Common,
}

/// Runs a master until SIGINT or SIGTERM.
///
/// # Errors
/// One sentence that says what to do, with exit code 2 when it could not start.
pub fn run_master(args: MasterArgs) -> Result<()> {
    let mut options = load(args.common.config.as_deref(), MasterOptions::load)?;
    set(&mut options.data, args.data);
    set(&mut options.listen, args.listen);
    let ports = args.common.apply(options.common())?;
    serve(async move { MasterDaemon::start(options).await }, ports)
}

/// Runs a chunkserver until SIGINT or SIGTERM.
///
/// # Errors
/// One sentence that says what to do, with exit code 2 when it could not start.
pub fn run_chunkserver(args: ChunkserverArgs) -> Result<()> {
    let mut options = load(args.common.config.as_deref(), ChunkserverOptions::load)?;
    set(&mut options.data, Some(args.data).filter(|data| !data.is_empty()));
    set(&mut options.listen, args.listen);
    set(&mut options.masters, Some(args.master).filter(|masters| !masters.is_empty()));
    set(&mut options.rack, args.rack);
    set(&mut options.advertise, args.advertise);
    let ports = args.common.apply(options.common())?;
    serve(async move { ChunkserverDaemon::start(options).await }, ports)
}

fn load<T: Default>(file: Option<&Path>, load: fn(&Path) -> Result<T, ConfigError>) -> Result<T> {
    match file {
        Some(file) => load(file).map_err(|error| Failure::usage(error.to_string()).into()),
        None => Ok(T::default()),
    }
}

fn set<T>(option: &mut T, given: Option<T>) {
    if let Some(given) = given {
        *option = given;
    }
}

fn serve(start: impl Future<Output = Result<Handle, StartError>>, ports: Option<PathBuf>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let handle = start.await.map_err(|error| Failure::usage(error.to_string()))?;
        if let Some(file) = ports {
            write_ports(&handle, &file)?;
        }
        until_signal(handle).await
    })
}

/// Written to a neighbour and renamed, so that whoever waits for it reads all of it.
fn write_ports(handle: &Handle, file: &Path) -> Result<()> {
    let http = handle.http_address().map_or_else(String::new, |address| format!("http={address}\n"));
    let temporary = file.with_extension("new");
    std::fs::write(&temporary, format!("listen={}\n{http}", handle.address()))
        .and_then(|()| std::fs::rename(&temporary, file))
        .with_context(|| format!("writing {}", file.display()))
}

async fn until_signal(handle: Handle) -> Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let failed = tokio::select! {
        biased;
        reason = handle.failed() => Some(reason),
        _ = interrupt.recv() => {
            tracing::info!("SIGINT: ending in good order");
            None
        }
        _ = terminate.recv() => {
            tracing::info!("SIGTERM: ending in good order");
            None
        }
    };
    match failed {
        // What a daemon finds on its disks (a damaged log, a foreign directory) is for an operator to settle.
        Some(reason) => Err(Failure::new(Exit::Usage, reason).into()),
        None if handle.shutdown().await => Ok(()),
        None => {
            Err(Failure::new(Exit::Failed, "did not end in good order in time; nothing acknowledged is lost")
                .into())
        }
    }
}
