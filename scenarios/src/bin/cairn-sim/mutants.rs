//! `cairn-sim mutants`: planted defects.

use std::io::Write as _;

use cairn_core::defect::Defect;
use scenarios::mutants::{Verdict, hunt_all, median_runs};
use serde::Serialize;

use crate::shared;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Seeds for each defect at the most.
    #[arg(long, default_value_t = 1_000)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    first: u64,
    /// Defects hunted at once [default: one for each processor].
    #[arg(long)]
    jobs: Option<usize>,
    /// Only these defects.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Print the verdicts as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Summary {
    verdicts: Vec<Verdict>,
    caught_by_storms: usize,
    caught_by_stories_only: usize,
    median_runs: u64,
}

/// Whether every defect was caught.
pub(crate) fn execute(a: Arguments) -> anyhow::Result<bool> {
    let mut defects = Vec::new();
    for name in &a.only {
        defects.push(shared::defect_called(name)?);
    }
    if defects.is_empty() {
        defects = Defect::ALL.to_vec();
    }
    if !a.json {
        writeln!(std::io::stdout(), "{:24} {:>5} {:>5} {:11} caught by", "defect", "runs", "seed", "storm")?;
    }
    let verdicts = hunt_all(&defects, a.first, a.seeds, shared::jobs(a.jobs), |verdict| {
        if !a.json {
            // A closed pipe shows when the summary is printed.
            let _ = print_verdict(verdict);
        }
    });
    let all = verdicts.iter().all(Verdict::is_caught);
    let storms = verdicts.iter().filter(|v| v.caught.is_some()).count();
    let summary = Summary {
        caught_by_storms: storms,
        caught_by_stories_only: verdicts.iter().filter(|v| v.caught.is_none() && v.is_caught()).count(),
        median_runs: median_runs(&verdicts),
        verdicts,
    };
    if a.json {
        shared::print_json(&summary)?;
    } else {
        print_summary(&summary)?;
    }
    Ok(all)
}

fn print_verdict(verdict: &Verdict) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    write!(out, "{:24} {:>5} ", verdict.defect, verdict.runs)?;
    match (&verdict.caught, verdict.directed_only, verdict.story) {
        (Some(catch), _, _) => {
            let mut found = format!("{}: {}", catch.violation.checker, catch.violation.text);
            found.truncate(found.floor_char_boundary(100));
            writeln!(out, "{:>5} {:11} {}", catch.seed, catch.profile.name(), found.replace('\n', " "))
        }
        (None, Some(why), Some(story)) => writeln!(out, "{:>5} {:11} story {story} only: {why}", "-", "-"),
        (None, _, _) => writeln!(out, "{:>5} {:11} NOT CAUGHT", "-", "-"),
    }
}

fn print_summary(summary: &Summary) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    let escaped: Vec<_> =
        summary.verdicts.iter().filter(|v| !v.is_caught()).map(|v| v.defect.as_str()).collect();
    writeln!(
        out,
        "{} of {} defects caught by storms (median {} runs), {} by directed stories only",
        summary.caught_by_storms,
        summary.verdicts.len(),
        summary.median_runs,
        summary.caught_by_stories_only
    )?;
    if !escaped.is_empty() {
        writeln!(out, "escaped: {}", escaped.join(", "))?;
    }
    Ok(())
}
