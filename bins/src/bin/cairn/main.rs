//! `cairn`: the command line, and clusters to try it on.

mod args;
mod bench;
mod ceiling;
mod chaos;
mod dev;
mod health;
mod interrupt;
mod namespace;
mod output;
mod processes;
mod put;
mod transfer;

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use bins::exit::{Failure, finish};
use clap::{CommandFactory, Parser};
use runtime_real::client::Cluster;
use runtime_real::config::ClientOptions;

use crate::args::{Cli, Command, DaemonCommand, Global};
use crate::output::Output;

/// A master may take so long to answer before the user is told.
const PATIENCE: Duration = Duration::from_secs(2);

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.command {
        Command::Daemon(DaemonCommand::Master(args)) => bins::run_master(args),
        Command::Daemon(DaemonCommand::Chunkserver(args)) => bins::run_chunkserver(args),
        command => run(cli.global, command),
    };
    finish("cairn", result)
}

fn run(global: Global, command: Command) -> Result<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    let result = runtime.block_on(perform(global, command));
    // A read of standard input can't be taken back: the end of the process must not wait for it.
    runtime.shutdown_background();
    result
}

async fn perform(global: Global, command: Command) -> Result<()> {
    let out = Output { json: global.json, quiet: global.quiet };
    match command {
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "cairn", &mut script);
            return Ok(std::io::stdout().write_all(&script)?);
        }
        Command::Dev(args) => return dev::run(out, args).await,
        Command::Bench(args) => return interrupt::dropped(bench::run(out, args)).await,
        Command::Chaos(args) => return chaos::run(out, args).await,
        _ => {}
    }
    let cluster = connect(&global)?;
    let work = async {
        match command {
            Command::Put(args) => interrupt::told(|stop| put::put(&cluster, out, args, stop)).await,
            command => interrupt::dropped(client_command(&cluster, out, command, global.timeout)).await,
        }
    };
    tokio::select! {
        biased;
        result = work => result,
        failed = tell_of_silence(&cluster, out) => failed,
    }
}

/// Says once that the master does not answer, and why. Ends only with a failure to say it.
async fn tell_of_silence(cluster: &Cluster, out: Output) -> Result<()> {
    let (master, reason) = loop {
        tokio::time::sleep(Duration::from_millis(100)).await;
        if let Some(silent) = cluster.silent_for(PATIENCE) {
            break silent;
        }
    };
    out.note(&format!("waiting for the master at {master}: {reason}"))?;
    std::future::pending().await
}

async fn client_command(
    cluster: &Cluster,
    out: Output,
    command: Command,
    timeout: Option<u64>,
) -> Result<()> {
    match command {
        Command::Get(args) => transfer::get(cluster, out, args).await,
        Command::Cat(args) => transfer::cat(cluster, args).await,
        Command::Ls(args) => namespace::ls(cluster, out, args).await,
        Command::Mkdir(args) => namespace::mkdir(cluster, args).await,
        Command::Mv(args) => namespace::mv(cluster, args).await,
        Command::Rm(args) => namespace::rm(cluster, out, args).await,
        Command::Restore(args) => namespace::restore(cluster, out, args).await,
        Command::Chmod(args) => namespace::chmod(cluster, args).await,
        Command::Chown(args) => namespace::chown(cluster, args).await,
        Command::Stat(args) => namespace::stat(cluster, out, args).await,
        Command::Checksum(args) => namespace::checksum(cluster, out, args).await,
        Command::Du(args) => namespace::du(cluster, out, args).await,
        Command::Df => health::df(cluster, out).await,
        Command::Status(args) => health::status(cluster, out, args, timeout.map(Duration::from_secs)).await,
        Command::Fsck => health::fsck(cluster, out).await,
        Command::Put(_)
        | Command::Dev(_)
        | Command::Bench(_)
        | Command::Chaos(_)
        | Command::Completions { .. }
        | Command::Daemon(_) => Ok(()),
    }
}

/// Settings from the command line and the environment, else the configuration, else the defaults.
fn connect(global: &Global) -> Result<Cluster> {
    let mut options = ClientOptions::find().map_err(|error| Failure::usage(error.to_string()))?;
    if !global.master.is_empty() {
        options.masters.clone_from(&global.master);
    }
    if let Some(user) = &global.user {
        options.user.clone_from(user);
    }
    if !global.groups.is_empty() {
        options.groups.clone_from(&global.groups);
    }
    if let Some(seconds) = global.timeout {
        options.tuning.operation_deadline_ms = seconds.saturating_mul(1000);
    }
    options.validate().map_err(|error| Failure::usage(error.to_string()))?;
    Ok(Cluster::builder().options(options).connect())
}
