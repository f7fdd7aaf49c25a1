//! `cairn-sim sweep`: many seeds.

use std::io::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

use cairn_core::defect::Defects;
use cairn_core::mark::DIRECTED;
use indicatif::{HumanDuration, ProgressBar, ProgressStyle};
use scenarios::profile::Profile;
use scenarios::sweep::{LONG_RUN, Summary, Sweep, sweep};

use crate::shared;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// How many seeds.
    #[arg(long, default_value_t = 100)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    first: u64,
    /// Runs at once [default: one for each processor].
    #[arg(long)]
    jobs: Option<usize>,
    /// Which storm: calm, crashes, power, partitions, late, flips, disk, operators or all.
    #[arg(long, default_value_t)]
    profile: Profile,
    /// Print the summary as JSON.
    #[arg(long)]
    json: bool,
    /// Fail if a mark is not reached; always so for 2,000 seeds of the general storm and more.
    #[arg(long)]
    require_marks: bool,
}

/// So many seeds of the general storm must reach every mark.
const MARKS_AFTER: u64 = 2_000;

/// A sweep of so many seeds says in a log, where there is no bar, after each of so many parts how far it is.
const LONG_SWEEP: u64 = 100;
const PARTS: u64 = 10;

/// Whether every promise held.
pub(crate) fn execute(a: Arguments) -> anyhow::Result<bool> {
    let what = Sweep {
        first: a.first,
        seeds: a.seeds,
        jobs: shared::jobs(a.jobs),
        profile: a.profile,
        defects: Defects::none(),
        stop_at_failure: false,
    };
    let demanding = a.require_marks || a.profile == Profile::All && a.seeds >= MARKS_AFTER;
    let summary = watched(what);
    if a.json {
        shared::print_json(&summary)?
    } else {
        print_summary(&summary, a.profile)?
    }
    let missed = summary.marks_missed();
    if demanding && !missed.is_empty() {
        anyhow::bail!(
            "{} runs never reached {}: make the storms reach them, or tell a directed story and list them in mark::DIRECTED",
            summary.runs,
            missed.join(", ")
        );
    }
    Ok(summary.failing.is_empty())
}

fn watched(what: Sweep) -> Summary {
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} seeds  {msg}  {elapsed}, {eta} to go");
    let bar = ProgressBar::new(what.seeds);
    if let Ok(style) = style {
        bar.set_style(style);
    }
    let seeds = what.seeds;
    let (done, failing) = (AtomicU64::new(0), AtomicU64::new(0));
    let summary = sweep(what, |report| {
        if !report.violations.is_empty() {
            failing.fetch_add(1, Ordering::Relaxed);
            let first = report.violations.first().map_or("a promise", |violation| violation.checker.as_str());
            // A bar without a terminal swallows lines, and whoever reads a log wants them while the sweep goes on.
            bar.suspend(|| drop(writeln!(std::io::stderr(), "seed {} broke {first}", report.seed)));
        }
        let failing = failing.load(Ordering::Relaxed);
        bar.set_message(format!("{failing} failing"));
        bar.inc(1);
        let done = done.fetch_add(1, Ordering::Relaxed) + 1;
        let ends_part = done * PARTS / seeds > (done - 1) * PARTS / seeds;
        if bar.is_hidden() && ends_part && done < seeds && seeds >= LONG_SWEEP {
            let elapsed = HumanDuration(bar.elapsed());
            drop(writeln!(std::io::stderr(), "{done} of {seeds} seeds, {failing} failing, {elapsed}"));
        }
    });
    bar.finish_and_clear();
    summary
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
    let fewest = s.smallest.first().map_or(0, |(_, inputs)| *inputs);
    writeln!(out, "  machine inputs   {} ({fewest} at least in each run)", s.inputs)?;
    writeln!(
        out,
        "  inputs/CPU-s     {} (median of {} runs with at least {LONG_RUN} inputs)",
        s.inputs_per_cpu_second, s.long_runs
    )?;
    writeln!(
        out,
        "  simulated        {:.1} cluster-hours in {:.1} s of processor time: {} times as fast",
        s.simulated_seconds as f64 / 3600.0,
        s.cpu_ms as f64 / 1e3,
        s.cluster_hours_per_cpu_hour
    )?;
    let slowest: Vec<_> = s.slowest.iter().map(|(seed, ms)| format!("{seed} ({ms} ms)")).collect();
    writeln!(out, "  slowest seeds    {}", slowest.join(", "))?;
    let smallest: Vec<_> =
        s.smallest.iter().map(|(seed, inputs)| format!("{seed} ({inputs} inputs)")).collect();
    writeln!(out, "  smallest seeds   {}", smallest.join(", "))?;
    let memory: Vec<_> = s.memory_mib.iter().map(u64::to_string).collect();
    writeln!(
        out,
        "  memory           {} MiB at the most; after each tenth of the runs {}",
        s.peak_memory_mib,
        memory.join(", ")
    )?;
    writeln!(out, "  operations       {} done, {} failed, {} of unknown fate", s.done, s.failed, s.unknown)?;
    writeln!(
        out,
        "  shared names     {} calls put in order, {} histories undecided",
        s.ordered, s.undecided
    )?;
    let faults: Vec<_> = s.faults.iter().map(|(name, n)| format!("{n} {name}")).collect();
    writeln!(out, "  faults           {}", faults.join(", "))?;
    let missed = s.marks_missed();
    let wanted = s.marks.len() - DIRECTED.len();
    writeln!(out, "  marks            {} of {wanted} reached", wanted - missed.len())?;
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
