//! `cairn-sim shrink`: from a red seed to a minimal plan.

use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use indicatif::{ProgressBar, ProgressStyle};
use scenarios::shrink::{Limits, Shrunk, WORLDS, shrink};

use crate::shared::{self, Which};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    which: Which,
    /// Runs to spend; the result depends on this number, never on --jobs.
    #[arg(long, default_value_t = 2_000)]
    runs: u64,
    /// Minutes to spend at most; the result then depends on the machine's speed.
    #[arg(long)]
    minutes: Option<f64>,
    /// Runs at once [default: one for each processor].
    #[arg(long)]
    jobs: Option<usize>,
    /// Write the minimal plan here [default: shrunk-SEED.json, with the defect's name if there is one].
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Whether a minimal plan was written.
pub(crate) fn execute(a: Arguments) -> anyhow::Result<bool> {
    let file = a.which.load()?;
    let within = match a.minutes {
        Some(minutes) => {
            Some(Duration::try_from_secs_f64(minutes * 60.0).context("--minutes takes a positive number")?)
        }
        None => None,
    };
    let limits = Limits { runs: a.runs, within, jobs: shared::jobs(a.jobs) };
    let bar = ProgressBar::new(a.runs);
    if let Ok(style) = ProgressStyle::with_template("{bar:20} {pos}/{len} runs  {msg}  {elapsed}") {
        bar.set_style(style);
    }
    let before = (file.plan.strikes.len(), file.plan.steps() - file.plan.strikes.len());
    let mut shrunk = shrink(&file.plan, file.defect(), limits, |at| {
        bar.set_position(at.runs);
        bar.set_message(format!(
            "{} faults, {} operations, {} servers; trying {}",
            at.strikes, at.operations, at.servers, at.trying
        ));
    })?;
    bar.finish_and_clear();
    shrunk.file.about = format!("{} shrunk from {}", shrunk.violation.checker, a.which.to_arguments());
    let path = a.output.unwrap_or_else(|| {
        let defect = file.defect.as_ref().map(|name| format!("-{name}")).unwrap_or_default();
        format!("shrunk-{}{defect}.json", file.plan.seed).into()
    });
    shared::write_file(&path, &shrunk.file.to_json())?;
    print(&shrunk, before, &path)?;
    Ok(true)
}

fn print(shrunk: &Shrunk, before: (usize, usize), path: &std::path::Path) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    let plan = &shrunk.file.plan;
    let operations = plan.steps() - plan.strikes.len();
    writeln!(
        out,
        "{} faults and {} operations became {} and {operations}, {} steps, in {} runs{}",
        before.0,
        before.1,
        plan.strikes.len(),
        plan.steps(),
        shrunk.runs,
        if shrunk.is_minimal {
            "; none of them can go"
        } else {
            "; there may be smaller ones: the runs were spent"
        }
    )?;
    for strike in &plan.strikes {
        let cue = strike.cue.map(|m| format!(", {} µs after {:?}", m.after_us, m.what)).unwrap_or_default();
        writeln!(out, "  at {} ms{cue}: {:?} for {} ms", strike.at_ms, strike.fault, strike.for_ms)?;
    }
    for (user, steps) in plan.users.iter().enumerate() {
        for step in steps {
            writeln!(out, "  user {user}, after {} ms: {:?}", step.pause_ms, step.operation)?;
        }
    }
    writeln!(out, "{}", shrunk.violation)?;
    writeln!(out, "fails in {} of {WORLDS} worlds", shrunk.fails_in)?;
    for (i, (_, violation)) in shrunk.suspects.iter().enumerate() {
        writeln!(out, "note: candidate {i} broke a promise without the defect, too: {violation}")?;
    }
    for (i, (plan, violation)) in shrunk.suspects.iter().enumerate().take(1) {
        let mut suspect = path.to_owned();
        suspect.set_extension(format!("suspect-{i}.json"));
        let mut file = scenarios::plan::PlanFile::new(plan.clone());
        file.checker = Some(violation.checker.clone());
        shared::write_file(&suspect, &file.to_json())?;
        writeln!(out, "      kept as {}: look whether the machines are to blame", suspect.display())?;
    }
    writeln!(out, "replay: cairn-sim replay --plan {}", path.display())?;
    Ok(())
}
