//! Storms over simulated clusters, from the command line. One file for each subcommand.

mod explain;
mod explore;
mod hashes;
mod mutants;
mod plan;
mod replay;
mod shared;
mod shrink;
mod sweep;

use std::io::{Error, ErrorKind, Write as _};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Runs Cairn's real machines in a simulated world in which everything goes wrong, and checks every promise.
#[derive(Parser)]
#[command(name = "cairn-sim", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run many seeds; each is another cluster, workload and storm.
    Sweep(sweep::Arguments),
    /// Run one seed and print its whole trace, then what was broken.
    Replay(replay::Arguments),
    /// Print the plan of a seed as JSON that `replay --plan` takes.
    Plan(plan::Arguments),
    /// Remove faults and operations from a run that breaks a promise until a minimal plan is left.
    Shrink(shrink::Arguments),
    /// Run once and write a page that explains what happened, for a browser.
    Explain(explain::Arguments),
    /// Print the hash of each seed's trace: the same on every machine, in every build, with any number of jobs.
    Hashes(hashes::Arguments),
    /// Explore small scopes to the end: the real machines, in every order of events.
    Explore(explore::Arguments),
    /// Plant each known defect and see whether the checkers catch it.
    Mutants(mutants::Arguments),
}

fn main() -> ExitCode {
    match execute(Arguments::parse().command) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            // A reader that went away has seen enough; but what was not run is no success.
            if !is_broken_pipe(&error) {
                // The terminal may be gone; there is nobody else to tell.
                let _ = writeln!(std::io::stderr(), "cairn-sim: {error:#}");
            }
            ExitCode::from(2)
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().filter_map(|cause| cause.downcast_ref::<Error>()).any(|e| e.kind() == ErrorKind::BrokenPipe)
}

/// Whether all went as it must.
fn execute(command: Command) -> anyhow::Result<bool> {
    match command {
        Command::Sweep(arguments) => sweep::execute(arguments),
        Command::Replay(arguments) => replay::execute(arguments),
        Command::Plan(arguments) => plan::execute(arguments),
        Command::Shrink(arguments) => shrink::execute(arguments),
        Command::Explain(arguments) => explain::execute(arguments),
        Command::Hashes(arguments) => hashes::execute(arguments),
        Command::Explore(arguments) => explore::execute(arguments),
        Command::Mutants(arguments) => mutants::execute(arguments),
    }
}
