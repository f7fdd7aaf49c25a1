//! `cairn-sim replay`: one seed, in full.

use std::io::Write as _;

use anyhow::Context as _;
use runtime_sim::TraceMode;
use scenarios::plan::Plan;
use scenarios::profile::Profile;
use scenarios::run::run;
use scenarios::sweep::{commit, replay_command};

use crate::shared;

#[derive(clap::Args)]
pub(crate) struct Arguments {
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
}

/// Whether every promise held.
pub(crate) fn execute(a: Arguments) -> anyhow::Result<bool> {
    let Arguments { seed, profile, .. } = a;
    let plan = Plan::draw(seed, profile);
    if a.plan {
        shared::print_json(&plan)?;
        return Ok(true);
    }
    let defects = shared::defects(a.defect.as_deref())?;
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
