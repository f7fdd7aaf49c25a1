//! Many runs at once, each on a thread of its own, summed up.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use cairn_core::defect::Defects;
use cairn_core::mark;
use runtime_sim::{FaultCounts, TraceMode};
use serde::Serialize;

use crate::plan::Plan;
use crate::profile::Profile;
use crate::run::{Report, run};
use crate::violation::Violation;

/// What to run.
#[derive(Clone, Copy, Debug)]
pub struct Sweep {
    /// The first seed.
    pub first: u64,
    /// How many seeds.
    pub seeds: u64,
    /// How many at once.
    pub jobs: usize,
    /// Which storm.
    pub profile: Profile,
    /// Planted defects.
    pub defects: Defects,
    /// End at the first failure.
    pub stop_at_failure: bool,
}

/// A seed that broke a promise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Failing {
    /// The seed.
    pub seed: u64,
    /// What was broken.
    pub violations: Vec<Violation>,
    /// The command that shows it again.
    pub replay: String,
}

/// What a sweep came to.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Summary {
    /// Seeds that were run.
    pub runs: u64,
    /// Seeds that broke a promise, in order.
    pub failing: Vec<Failing>,
    /// Inputs that machines handled.
    pub inputs: u64,
    /// The seeds with the fewest inputs, and how many they have.
    pub smallest: Vec<(u64, u64)>,
    /// Runs of so many inputs that their speed is no accident of their start.
    pub long_runs: u64,
    /// Median over the long runs of inputs for each second of processor time.
    pub inputs_per_cpu_second: u64,
    /// Users' operations that succeeded.
    pub done: u64,
    /// Users' operations that failed without effect.
    pub failed: u64,
    /// Changes whose fate users were not told.
    pub unknown: u64,
    /// Calls on shared names that were put in order.
    pub ordered: u64,
    /// Histories of shared names that were too large to be judged.
    pub undecided: u64,
    /// Simulated seconds.
    pub simulated_seconds: u64,
    /// Processor time in milliseconds.
    pub cpu_ms: u64,
    /// Hours that clusters lived for each hour of processor time.
    pub cluster_hours_per_cpu_hour: u64,
    /// The seeds that took longest, with their processor time in milliseconds.
    pub slowest: Vec<(u64, u64)>,
    /// The most memory that the process ever held, in MiB.
    pub peak_memory_mib: u64,
    /// Memory that the process held after each tenth of the runs, in MiB: a sweep that remembered its runs would grow.
    pub memory_mib: Vec<u64>,
    /// What was injected, by kind.
    pub faults: BTreeMap<String, u64>,
    /// Rare branches, and how often each was reached in this process.
    pub marks: BTreeMap<String, u64>,
    /// Wall time in milliseconds.
    pub wall_ms: u64,
    /// The source that was run.
    pub commit: String,
}

impl Summary {
    /// Marks that storms must reach and these did not.
    pub fn marks_missed(&self) -> Vec<&str> {
        let missed = self
            .marks
            .iter()
            .filter(|(name, count)| **count == 0 && !mark::DIRECTED.contains(&name.as_str()));
        missed.map(|(name, _)| name.as_str()).collect()
    }
}

/// Runs all seeds; `progress` is told of every report.
pub fn sweep(what: Sweep, progress: impl Fn(&Report) + Sync) -> Summary {
    sweep_traced(what, TraceMode::Off, progress)
}

/// Runs all seeds with their trace hashed or kept; `progress` is told of every report.
pub fn sweep_traced(what: Sweep, trace: TraceMode, progress: impl Fn(&Report) + Sync) -> Summary {
    let started = Instant::now();
    let next = AtomicU64::new(0);
    let stop = AtomicBool::new(false);
    let sum = Mutex::new(Sum { seeds: what.seeds, ..Sum::default() });
    std::thread::scope(|scope| {
        for _ in 0..what.jobs.max(1) {
            scope.spawn(|| {
                loop {
                    let i = next.fetch_add(1, Ordering::Relaxed);
                    if i >= what.seeds || stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let plan = Plan::draw(what.first + i, what.profile);
                    let report = run(&plan, what.defects, trace);
                    if what.stop_at_failure && !report.violations.is_empty() {
                        stop.store(true, Ordering::Relaxed);
                    }
                    progress(&report);
                    sum.lock().unwrap_or_else(PoisonError::into_inner).add(report, what.profile);
                }
            });
        }
    });
    sum.into_inner().unwrap_or_else(PoisonError::into_inner).finish(started.elapsed())
}

/// The command that runs one seed again with its whole trace.
pub fn replay_command(seed: u64, profile: Profile) -> String {
    format!("cargo run --release -p scenarios --bin cairn-sim -- replay --seed {seed} --profile {profile}")
}

/// The commit of the source, asked of git; "unknown" outside of a repository.
pub fn commit() -> String {
    let asked = std::process::Command::new("git").args(["rev-parse", "--short=12", "HEAD"]).output();
    match asked {
        Ok(output) if output.status.success() => String::from_utf8_lossy(&output.stdout).trim().to_owned(),
        _ => "unknown".to_owned(),
    }
}

/// Inputs of a long run, at the least.
pub const LONG_RUN: u64 = 30_000;

/// Slowest and smallest seeds kept.
const EXTREMES: usize = 5;

/// How often memory is looked at in one sweep.
const LOOKS: u64 = 10;

/// A figure of this process's memory in MiB (`VmHWM`: the most ever held, `VmRSS`: held now); 0 where the kernel does not tell.
fn memory_mib(figure: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(figure)?.strip_prefix(':'));
    line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) / 1024
}

#[derive(Default)]
struct Sum {
    summary: Summary,
    /// How many runs there will be.
    seeds: u64,
    simulated_ms: u64,
    cpu: Duration,
    faults: FaultCounts,
    speeds: Vec<u64>,
}

impl Sum {
    fn add(&mut self, report: Report, profile: Profile) {
        let summary = &mut self.summary;
        let figures = report.figures;
        summary.smallest.push((report.seed, figures.inputs));
        summary.smallest.sort_by_key(|(seed, inputs)| (*inputs, *seed));
        summary.smallest.truncate(EXTREMES);
        summary.runs += 1;
        if summary.runs * LOOKS / self.seeds > (summary.runs - 1) * LOOKS / self.seeds {
            summary.memory_mib.push(memory_mib("VmRSS"));
        }
        summary.inputs += figures.inputs;
        summary.done += figures.done + figures.refused;
        summary.failed += figures.failed;
        summary.unknown += figures.unknown;
        summary.ordered += figures.ordered;
        summary.undecided += figures.undecided;
        self.faults += report.faults;
        self.simulated_ms += figures.simulated_ms;
        self.cpu += report.cpu;
        summary.slowest.push((report.seed, report.cpu.as_millis() as u64));
        summary.slowest.sort_by_key(|(seed, ms)| (std::cmp::Reverse(*ms), *seed));
        summary.slowest.truncate(EXTREMES);
        if figures.inputs >= LONG_RUN {
            self.speeds.push((figures.inputs as f64 / report.cpu.as_secs_f64().max(1e-6)) as u64);
        }
        if !report.violations.is_empty() {
            summary.failing.push(Failing {
                seed: report.seed,
                violations: report.violations,
                replay: replay_command(report.seed, profile),
            });
        }
    }

    fn finish(mut self, wall: Duration) -> Summary {
        self.speeds.sort_unstable();
        self.summary.long_runs = self.speeds.len() as u64;
        self.summary.inputs_per_cpu_second = self.speeds.get(self.speeds.len() / 2).copied().unwrap_or(0);
        self.summary.failing.sort_by_key(|f| f.seed);
        self.summary.faults = self.faults.list().into_iter().map(|(name, n)| (name.to_owned(), n)).collect();
        self.summary.marks = mark::MARKS
            .iter()
            .zip(&mark::COUNTS)
            .map(|(name, count)| ((*name).to_owned(), count.load(Ordering::Relaxed)))
            .collect();
        self.summary.simulated_seconds = self.simulated_ms / 1000;
        self.summary.cpu_ms = self.cpu.as_millis() as u64;
        self.summary.cluster_hours_per_cpu_hour = self.simulated_ms / self.summary.cpu_ms.max(1);
        self.summary.peak_memory_mib = memory_mib("VmHWM");
        self.summary.wall_ms = wall.as_millis() as u64;
        self.summary.commit = commit();
        self.summary
    }
}
