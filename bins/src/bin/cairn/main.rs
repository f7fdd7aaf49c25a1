//! `cairn`: the command line, and clusters to try it on.

mod args;
mod bench;
mod ceiling;
mod chaos;
mod dev;
mod health;
mod namespace;
mod output;
mod processes;
mod transfer;

use std::process::ExitCode;

use anyhow::Result;
use bins::exit::{Exit, Failure, finish};
use clap::{CommandFactory, Parser};
use runtime_real::client::Cluster;
use runtime_real::config::ClientOptions;
use tokio::signal::unix::{SignalKind, signal};

use crate::args::{Cli, Command, DaemonCommand, Global};
use crate::output::Output;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.command {
        Command::Daemon(DaemonCommand::Master(args)) => bins::run_master(args),
        Command::Daemon(DaemonCommand::Chunkserver(args)) => bins::run_chunkserver(args),
        command => run(cli.global, command),
    };
    finish("cairn", result)
}

#[tokio::main]
async fn run(global: Global, command: Command) -> Result<()> {
    let out = Output { json: global.json, quiet: global.quiet };
    match command {
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "cairn", &mut std::io::stdout());
            return Ok(());
        }
        Command::Dev(args) => return dev::run(out, args).await,
        Command::Bench(args) => return unless_interrupted(bench::run(out, args)).await,
        Command::Chaos(args) => return chaos::run(out, args).await,
        _ => {}
    }
    let cluster = connect(&global)?;
    client_command(&cluster, out, command).await
}

/// A signal ends `work` by dropping it, so that its processes and temporary directories go too.
async fn unless_interrupted(work: impl Future<Output = Result<()>>) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        biased;
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        result = work => return result,
    }
    Err(Failure::new(Exit::Failed, "interrupted").into())
}

async fn client_command(cluster: &Cluster, out: Output, command: Command) -> Result<()> {
    match command {
        Command::Put(args) => transfer::put(cluster, out, args).await,
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
        Command::Status(args) => health::status(cluster, out, args).await,
        Command::Fsck => health::fsck(cluster, out).await,
        Command::Dev(_)
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
        options.tuning.operation_deadline_ms = seconds.max(1).saturating_mul(1000);
    }
    options.validate().map_err(|error| Failure::usage(error.to_string()))?;
    Ok(Cluster::builder().options(options).connect())
}
