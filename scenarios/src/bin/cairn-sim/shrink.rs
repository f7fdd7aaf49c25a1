//! `cairn-sim shrink`: from a red seed to a minimal plan.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use cairn_core::defect::Defect;
use indicatif::{ProgressBar, ProgressStyle};
use scenarios::mutants::hunt;
use scenarios::plan::{Plan, PlanFile};
use scenarios::shrink::{Limits, ShrinkError, Shrunk, WORLDS, shrink};

use crate::shared::{self, Which};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    which: Which,
    /// Hunt these defects (`all`: each one there is) with so many --seeds each, and shrink every catch.
    #[arg(long, value_delimiter = ',', value_name = "DEFECTS", conflicts_with_all = ["seed", "plan", "defect"])]
    mutants: Vec<String>,
    /// Seeds for each defect, with --mutants.
    #[arg(long, default_value_t = 40)]
    seeds: u64,
    /// Runs to spend; the result depends on this number, never on --jobs.
    #[arg(long, default_value_t = 2_000)]
    runs: u64,
    /// Minutes to spend at most; the result then depends on the machine's speed.
    #[arg(long)]
    minutes: Option<f64>,
    /// Runs at once [default: one for each processor].
    #[arg(long)]
    jobs: Option<usize>,
    /// Write the minimal plan here [default: shrunk-SEED.json, with the defect's name if there is one]; with --mutants a
    /// directory for all of them.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Whether a minimal plan was written.
pub(crate) fn execute(a: Arguments) -> anyhow::Result<bool> {
    let limits = a.limits()?;
    if !a.mutants.is_empty() {
        return mutants(&a, limits);
    }
    let file = a.which.load()?;
    let before = (file.plan.strikes.len(), file.plan.steps() - file.plan.strikes.len());
    let mut shrunk = watched(&file, limits)?;
    shrunk.file.about = format!("{} shrunk from {}", shrunk.violation.checker, a.which.to_arguments());
    let path = a.output.unwrap_or_else(|| {
        let defect = file.defect.as_ref().map(|name| format!("-{name}")).unwrap_or_default();
        format!("shrunk-{}{defect}.json", file.plan.seed).into()
    });
    shared::write_file(&path, &shrunk.file.to_json())?;
    print(&shrunk, before, &path)?;
    Ok(true)
}

impl Arguments {
    fn limits(&self) -> anyhow::Result<Limits> {
        let within = match self.minutes {
            Some(minutes) => Some(
                Duration::try_from_secs_f64(minutes * 60.0).context("--minutes takes a positive number")?,
            ),
            None => None,
        };
        Ok(Limits { runs: self.runs, within, jobs: shared::jobs(self.jobs) })
    }
}

fn watched(file: &PlanFile, limits: Limits) -> Result<Shrunk, ShrinkError> {
    let bar = ProgressBar::new(limits.runs);
    if let Ok(style) = ProgressStyle::with_template("{bar:20} {pos}/{len} runs  {msg}  {elapsed}") {
        bar.set_style(style);
    }
    let shrunk = shrink(&file.plan, file.defect(), limits, |at| {
        bar.set_position(at.runs);
        bar.set_message(format!(
            "{} faults, {} operations, {} servers; trying {}",
            at.strikes, at.operations, at.servers, at.trying
        ));
    });
    bar.finish_and_clear();
    shrunk
}

/// Whether all were caught and shrunk.
fn mutants(a: &Arguments, limits: Limits) -> anyhow::Result<bool> {
    let directory = a.output.clone().unwrap_or_else(|| "shrunk".into());
    std::fs::create_dir_all(&directory).with_context(|| format!("making {}", directory.display()))?;
    let mut defects = Vec::new();
    for name in &a.mutants {
        if name == "all" {
            defects.extend_from_slice(Defect::ALL);
        } else {
            defects.push(shared::defect_called(name)?);
        }
    }
    let mut out = std::io::stdout();
    let mut all_steps = Vec::new();
    for defect in &defects {
        let name = defect.name();
        let verdict = hunt(*defect, 1, a.seeds);
        let Some(catch) = verdict.caught else {
            writeln!(out, "{name:26} not caught in {} runs", verdict.runs)?;
            continue;
        };
        let plan = Plan::draw(catch.seed, catch.profile);
        let steps = plan.steps();
        let file = PlanFile { defect: Some(name.into()), ..PlanFile::new(plan) };
        match watched(&file, limits) {
            Ok(mut shrunk) => {
                let plan = &shrunk.file.plan;
                writeln!(
                    out,
                    "{name:26} {steps:4} steps -> {:2} ({} faults) in {:4} runs, fails in {:2} of {WORLDS} worlds, {}{}",
                    plan.steps(),
                    plan.strikes.len(),
                    shrunk.runs,
                    shrunk.fails_in,
                    shrunk.violation.checker,
                    if shrunk.suspects.is_empty() { "" } else { "; has suspects" }
                )?;
                all_steps.push(plan.steps());
                shrunk.file.about = format!("shrunk from --seed {} --profile {}", catch.seed, catch.profile);
                shared::write_file(&directory.join(format!("{name}.json")), &shrunk.file.to_json())?;
                keep_suspect(&shrunk, &directory.join(format!("{name}.suspect")))?;
            }
            Err(error) => writeln!(out, "{name:26} seed {} ({}): {error}", catch.seed, catch.profile)?,
        }
    }
    all_steps.sort_unstable();
    if let Some(median) = all_steps.get(all_steps.len() / 2) {
        writeln!(out, "{} of {} shrunk, {median} steps in the median", all_steps.len(), defects.len())?;
    }
    Ok(all_steps.len() == defects.len())
}

/// Keeps a plan that broke a promise without its defect, too.
fn keep_suspect(shrunk: &Shrunk, path: &Path) -> anyhow::Result<()> {
    let Some((plan, violation)) = shrunk.suspects.first() else { return Ok(()) };
    let mut file = PlanFile::new(plan.clone());
    file.checker = Some(violation.checker.clone());
    file.about = format!("a suspect, without any defect: {violation}");
    shared::write_file(path, &file.to_json())
}

fn print(shrunk: &Shrunk, before: (usize, usize), path: &Path) -> anyhow::Result<()> {
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
    if !shrunk.suspects.is_empty() {
        let suspect = path.with_extension("suspect");
        keep_suspect(shrunk, &suspect)?;
        writeln!(
            out,
            "      kept the first as {}: look whether the machines are to blame",
            suspect.display()
        )?;
    }
    writeln!(out, "replay: cairn-sim replay --plan {}", path.display())?;
    Ok(())
}
