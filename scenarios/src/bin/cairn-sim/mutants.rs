//! `cairn-sim mutants`: planted defects.

use std::io::Write as _;

use anyhow::Context as _;
use cairn_core::defect::Defect;
use scenarios::mutants::{Verdict, hunt};

use crate::shared;

#[derive(clap::Args)]
pub(crate) struct Arguments {
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
}

/// Whether every defect was caught.
pub(crate) fn execute(a: Arguments) -> anyhow::Result<bool> {
    let jobs = shared::jobs(a.jobs);
    let defects = match &a.only {
        Some(name) => vec![shared::defect_called(name)?],
        None => Defect::ALL.to_vec(),
    };
    let mut verdicts: Vec<Verdict> = Vec::new();
    for defect in defects {
        let verdict = hunt(defect, a.first, a.seeds, jobs);
        if !a.json {
            print_verdict(&verdict)?;
        }
        verdicts.push(verdict);
    }
    let caught = verdicts.iter().filter(|v| v.caught.is_some()).count();
    if a.json {
        shared::print_json(&verdicts)?;
    } else {
        writeln!(std::io::stdout(), "{caught} of {} defects caught", verdicts.len())?;
    }
    Ok(caught == verdicts.len())
}

fn print_verdict(verdict: &Verdict) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    let text = match &verdict.caught {
        Some(catch) => {
            let mut violation = format!("{}: {}", catch.violation.checker, catch.violation.text);
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
