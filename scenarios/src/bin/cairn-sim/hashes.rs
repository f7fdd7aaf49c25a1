//! `cairn-sim hashes`: what two builds, or two machines, can be compared by.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::{Mutex, PoisonError};

use cairn_core::defect::Defects;
use runtime_sim::TraceMode;
use scenarios::profile::Profile;
use scenarios::sweep::{Sweep, sweep_traced};

use crate::shared;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// How many seeds.
    #[arg(long, default_value_t = 20)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    first: u64,
    /// Runs at once [default: one for each processor].
    #[arg(long)]
    jobs: Option<usize>,
    /// Which storm.
    #[arg(long, default_value_t)]
    profile: Profile,
}

/// Always true: what the hashes are compared with is elsewhere.
pub(crate) fn execute(a: Arguments) -> anyhow::Result<bool> {
    let what = Sweep {
        first: a.first,
        seeds: a.seeds,
        jobs: shared::jobs(a.jobs),
        profile: a.profile,
        defects: Defects::none(),
        stop_at_failure: false,
    };
    let hashes = Mutex::new(BTreeMap::new());
    sweep_traced(what, TraceMode::Hash, |report| {
        hashes.lock().unwrap_or_else(PoisonError::into_inner).insert(report.seed, report.trace_hash);
    });
    let mut out = std::io::stdout().lock();
    for (seed, hash) in hashes.into_inner().unwrap_or_else(PoisonError::into_inner) {
        writeln!(out, "{seed} {hash:016x}")?;
    }
    Ok(true)
}
