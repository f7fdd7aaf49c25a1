//! Storms over simulated clusters, from the command line.

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context as _;
use cairn_core::defect::{Defect, Defects};
use clap::{Parser, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use runtime_sim::TraceMode;
use scenarios::mutants::{Verdict, hunt};
use scenarios::plan::Plan;
use scenarios::profile::Profile;
use scenarios::run::run;
use scenarios::sweep::{Summary, Sweep, commit, replay_command, sweep};

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
    Sweep {
        /// How many seeds.
        #[arg(long, default_value_t = 100)]
        seeds: u64,
        /// The first seed.
        #[arg(long, default_value_t = 1)]
        first: u64,
        /// Runs at once [default: one for each processor].
        #[arg(long)]
        jobs: Option<usize>,
        /// Which storm: calm, crashes, power, partitions, flips, disk or all.
        #[arg(long, default_value_t)]
        profile: Profile,
        /// Print the summary as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Run one seed and print its whole trace, then what was broken.
    Replay {
        /// The seed.
        #[arg(long)]
        seed: u64,
        /// Which storm.
        #[arg(long, default_value_t)]
        profile: Profile,
        /// Plant this defect.
        #[arg(long)]
        defect: Option<String>,
        /// Print the plan as JSON instead of running it.
        #[arg(long)]
        plan: bool,
    },
    /// Plant each known defect and see whether the checkers catch it.
    Mutants {
        /// Seeds for each defect at the most.
        #[arg(long, default_value_t = 40)]
        seeds: u64,
        /// The first seed.
        #[arg(long, default_value_t = 1)]
        first: u64,
        /// Runs at once [default: one for each processor].
        #[arg(long)]
        jobs: Option<usize>,
        /// Only this defect.
        #[arg(long)]
        only: Option<String>,
        /// Print the verdicts as JSON.
        #[arg(long)]
        json: bool,
    },
}

fn main() -> ExitCode {
    match execute(Arguments::parse().command) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            // The terminal may be gone; there is nobody else to tell.
            let _ = writeln!(std::io::stderr(), "cairn-sim: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Whether all went as it must.
fn execute(command: Command) -> anyhow::Result<bool> {
    match command {
        Command::Sweep { seeds, first, jobs, profile, json } => {
            let what = Sweep {
                first,
                seeds,
                jobs: jobs.unwrap_or_else(processors),
                profile,
                defects: Defects::none(),
                stop_at_failure: false,
            };
            let summary = watched(what);
            if json {
                print_json(&summary)?
            } else {
                print_summary(&summary, profile)?
            }
            Ok(summary.failing.is_empty())
        }
        Command::Replay { seed, profile, defect, plan } => replay(seed, profile, defect.as_deref(), plan),
        Command::Mutants { seeds, first, jobs, only, json } => {
            mutants(seeds, first, jobs.unwrap_or_else(processors), only.as_deref(), json)
        }
    }
}

fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn watched(what: Sweep) -> Summary {
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} seeds  {msg}  {elapsed}, {eta} to go");
    let bar = ProgressBar::new(what.seeds);
    if let Ok(style) = style {
        bar.set_style(style);
    }
    let failing = AtomicU64::new(0);
    let summary = sweep(what, |report| {
        if !report.violations.is_empty() {
            failing.fetch_add(1, Ordering::Relaxed);
            bar.println(format!("seed {} broke a promise", report.seed));
        }
        bar.set_message(format!("{} failing", failing.load(Ordering::Relaxed)));
        bar.inc(1);
    });
    bar.finish_and_clear();
    summary
}

fn print_json<T: serde::Serialize>(value: &T) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    serde_json::to_writer_pretty(&mut out, value).context("writing the result")?;
    writeln!(out).context("writing the result")
}

fn print_summary(s: &Summary, profile: Profile) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "{} runs of profile {profile}, commit {}, {:.1} s",
        s.runs,
        s.commit,
        s.wall_ms as f64 / 1e3
    )?;
    writeln!(out, "  machine inputs   {} ({} at least in each run)", s.inputs, s.inputs_min)?;
    writeln!(out, "  inputs/CPU-s     {} (median)", s.inputs_per_cpu_second)?;
    writeln!(out, "  simulated        {} s", s.simulated_seconds)?;
    writeln!(out, "  operations       {} done, {} failed, {} of unknown fate", s.done, s.failed, s.unknown)?;
    let faults: Vec<_> = s.faults.iter().map(|(name, n)| format!("{n} {name}")).collect();
    writeln!(out, "  faults           {}", faults.join(", "))?;
    let missed: Vec<_> = s.marks.iter().filter(|(_, n)| **n == 0).map(|(name, _)| name.as_str()).collect();
    writeln!(out, "  marks            {} of {} reached", s.marks.len() - missed.len(), s.marks.len())?;
    if !missed.is_empty() {
        writeln!(out, "  marks missed     {}", missed.join(", "))?;
    }
    for failing in &s.failing {
        writeln!(out, "\nseed {} broke a promise (commit {}):", failing.seed, s.commit)?;
        for violation in &failing.violations {
            writeln!(out, "  {violation}")?;
        }
        writeln!(out, "  replay: {}", failing.replay)?;
    }
    if s.failing.is_empty() {
        writeln!(out, "all promises held")?;
    } else {
        writeln!(out, "\n{} of {} seeds broke a promise", s.failing.len(), s.runs)?;
    }
    Ok(())
}

fn replay(seed: u64, profile: Profile, defect: Option<&str>, plan_only: bool) -> anyhow::Result<bool> {
    let plan = Plan::draw(seed, profile);
    if plan_only {
        print_json(&plan)?;
        return Ok(true);
    }
    let defects = match defect {
        Some(name) => Defects::one(defect_called(name)?),
        None => Defects::none(),
    };
    let report = run(&plan, defects, TraceMode::Full);
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    out.write_all(report.trace.as_bytes()).context("writing the trace")?;
    writeln!(out, "seed {seed}, profile {profile}, commit {}, trace {:016x}", commit(), report.trace_hash)?;
    for violation in &report.violations {
        writeln!(out, "{violation}")?;
    }
    if report.violations.is_empty() {
        writeln!(out, "all promises held")?;
    } else {
        writeln!(out, "replay: {}", replay_command(seed, profile))?;
    }
    out.flush().context("writing the trace")?;
    Ok(report.violations.is_empty())
}

fn defect_called(name: &str) -> anyhow::Result<Defect> {
    Defect::by_name(name).with_context(|| {
        let names: Vec<_> = Defect::ALL.iter().map(|d| d.name()).collect();
        format!("no defect {name}; there are {}", names.join(", "))
    })
}

fn mutants(seeds: u64, first: u64, jobs: usize, only: Option<&str>, json: bool) -> anyhow::Result<bool> {
    let defects = match only {
        Some(name) => vec![defect_called(name)?],
        None => Defect::ALL.to_vec(),
    };
    let mut verdicts: Vec<Verdict> = Vec::new();
    for defect in defects {
        let verdict = hunt(defect, first, seeds, jobs);
        if !json {
            print_verdict(&verdict)?;
        }
        verdicts.push(verdict);
    }
    let caught = verdicts.iter().filter(|v| v.caught.is_some()).count();
    if json {
        print_json(&verdicts)?;
    } else {
        writeln!(std::io::stdout(), "{caught} of {} defects caught", verdicts.len())?;
    }
    Ok(caught == verdicts.len())
}

fn print_verdict(verdict: &Verdict) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    let text = match &verdict.caught {
        Some(catch) => {
            let mut violation = catch.violation.to_string();
            violation.truncate(violation.floor_char_boundary(110));
            format!(
                "caught by seed {} ({}) after {} runs: {violation}",
                catch.seed, catch.profile, verdict.runs
            )
        }
        None => format!("NOT CAUGHT in {} runs", verdict.runs),
    };
    writeln!(out, "{:24} {text}", verdict.defect).context("writing a verdict")
}
