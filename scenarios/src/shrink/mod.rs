//! From a plan that breaks a promise to the smallest one that still does: delta debugging
//! (A. Zeller, R. Hildebrandt, "Simplifying and isolating failure-inducing input", 2002) over a plan's lists, then simpler
//! values in what is left.
//!
//! A run with a step less draws other chances, so that a failure may vanish although nothing that it needs was removed.
//! A candidate that holds is therefore tried in several worlds: the same plan with other seeds.

mod edit;
mod oracle;
mod sample;
mod simplify;

use std::time::{Duration, Instant};

use cairn_core::defect::Defect;
use cairn_core::rng::Rng;
use thiserror::Error;

use crate::plan::{Plan, PlanFile};
use crate::violation::Violation;
use oracle::Oracle;

/// How much may be spent.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Runs. The result depends on them alone, not on jobs.
    pub runs: u64,
    /// Wall time; with it the result depends on the machine's speed.
    pub within: Option<Duration>,
    /// Runs at once.
    pub jobs: usize,
}

/// How far it has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Runs so far.
    pub runs: u64,
    /// Faults left.
    pub strikes: usize,
    /// Users' operations left.
    pub operations: usize,
    /// Chunkservers left.
    pub servers: usize,
    /// What is being tried.
    pub trying: &'static str,
}

/// What is left.
#[derive(Clone, Debug)]
pub struct Shrunk {
    /// The smallest plan, with its defect and the checker that notices.
    pub file: PlanFile,
    /// What that checker says of it.
    pub violation: Violation,
    /// Runs that it took.
    pub runs: u64,
    /// In how many of [`WORLDS`] worlds it fails.
    pub fails_in: u64,
    /// Whether nothing more could be removed, rather than the budget having run out.
    pub is_minimal: bool,
    /// Candidates that broke a promise without the defect, too, as they were and what they broke: none of them was taken.
    pub suspects: Vec<(Plan, Violation)>,
}

/// Small plans tried at random, and the part of all runs that they may take: what fails in every world needs none of them.
const SAMPLES: u64 = 300;
const SAMPLES_PART: u64 = 4;

/// Steps beyond which a plan can hardly be minimal.
const SMALL: usize = 10;

/// Worlds in which the result is tried.
pub const WORLDS: u64 = 20;

/// Nothing to shrink.
#[derive(Debug, Error)]
pub enum ShrinkError {
    /// The plan breaks nothing.
    #[error("all promises hold in this run; find a seed that breaks one with `cairn-sim sweep` or `mutants`")]
    Holds,
    /// It breaks a promise without the defect, too.
    #[error("this run breaks a promise without the defect, too ({0}); shrink it without --defect")]
    FailsWithoutDefect(Violation),
}

/// Shrinks `plan`, which must break a promise with `defect` planted and hold without it.
///
/// # Errors
/// It does not.
pub fn shrink(
    plan: &Plan,
    defect: Option<Defect>,
    limits: Limits,
    progress: impl Fn(Progress),
) -> Result<Shrunk, ShrinkError> {
    let oracle = Oracle::of(plan, defect, limits.jobs)?;
    let mut search = Search {
        best: plan.clone(),
        deadline: limits.within.map(|span| Instant::now() + span),
        limits,
        oracle,
        progress: &progress,
    };
    let mut rng = Rng::stream(plan.seed, "samples");
    if !search.jump(plan, &mut rng) {
        search.cut_boldly();
    }
    let mut is_minimal = false;
    while !search.is_spent() && !is_minimal {
        let before = search.best.clone();
        search.thin("fewer faults", |plan| plan.strikes.len(), edit::without_strikes);
        search.thin("fewer operations", edit::operations, edit::without_operations);
        if search.best.steps() > SMALL {
            // Stuck on the way down: a smaller plan may be beside it.
            search.jump(plan, &mut rng);
        }
        search.simplify();
        is_minimal = search.best == before && !search.is_spent();
    }
    Ok(search.finish(defect, is_minimal))
}

struct Search<'a> {
    best: Plan,
    oracle: Oracle,
    limits: Limits,
    deadline: Option<Instant>,
    progress: &'a dyn Fn(Progress),
}

impl Search<'_> {
    fn is_spent(&self) -> bool {
        self.oracle.runs >= self.limits.runs || self.deadline.is_some_and(|at| Instant::now() >= at)
    }

    /// Worlds in which a candidate is tried: the smaller the plan, the cheaper a run and the more a step matters.
    fn worlds(&self) -> u64 {
        match self.best.steps() {
            0..=12 => 6,
            13..=40 => 4,
            _ => 2,
        }
    }

    /// Takes the first candidate that still fails in one of so many worlds; its number.
    fn take_first(&mut self, worlds: u64, trying: &'static str, candidates: &[Plan]) -> Option<usize> {
        let survivable = self.best.is_survivable();
        for world in 0..worlds {
            let tried: Vec<(usize, Plan)> = candidates
                .iter()
                .enumerate()
                .filter(|(_, plan)| plan.check().is_ok() && (plan.is_survivable() || !survivable))
                .map(|(i, plan)| (i, Plan { seed: plan.seed.wrapping_add(world), ..plan.clone() }))
                .collect();
            if self.is_spent() {
                return None;
            }
            (self.progress)(Progress {
                runs: self.oracle.runs,
                strikes: self.best.strikes.len(),
                operations: edit::operations(&self.best),
                servers: self.best.shape.servers.len(),
                trying,
            });
            let left = self.limits.runs - self.oracle.runs;
            if let Some((i, plan)) = self.oracle.first_failing(tried, left, self.deadline) {
                self.best = plan;
                return Some(i);
            }
        }
        None
    }

    /// Tries small plans cut at random out of `whole`; whether one of them fails.
    fn jump(&mut self, whole: &Plan, rng: &mut Rng) -> bool {
        let steps = self.best.steps();
        let count = SAMPLES.min(self.limits.runs / SAMPLES_PART);
        let mut samples: Vec<Plan> = (0..count).map(|_| sample::sample(whole, rng)).collect();
        samples.retain(|plan| plan.steps() < steps);
        self.take_first(1, "small samples", &samples).is_some()
    }

    /// First of all the cuts that leave least, while runs are long.
    fn cut_boldly(&mut self) {
        loop {
            let plan = &self.best;
            let users = 0..plan.users.len();
            let mut cuts: Vec<Plan> = Vec::new();
            cuts.extend(
                users.clone().map(|u| edit::without_strikes(&edit::only_user(plan, u), 0..usize::MAX)),
            );
            cuts.push(edit::without_strikes(plan, 0..usize::MAX));
            cuts.extend([8, 4, 2].map(|part| edit::beginning(plan, part)));
            cuts.extend(users.clone().map(|u| edit::only_user(plan, u)));
            cuts.extend(users.map(|u| edit::without_user(plan, u)));
            cuts.retain(|cut| cut.steps() < plan.steps());
            if self.take_first(self.worlds(), "bold cuts", &cuts).is_none() {
                return;
            }
        }
    }

    /// Removes ever smaller ranges of a list.
    fn thin(
        &mut self,
        trying: &'static str,
        length: impl Fn(&Plan) -> usize,
        without: impl Fn(&Plan, std::ops::Range<usize>) -> Plan,
    ) {
        let mut size = length(&self.best).div_ceil(2);
        while size > 0 && !self.is_spent() {
            let mut from = 0;
            loop {
                let count = length(&self.best);
                let starts: Vec<usize> = (from..count).step_by(size).collect();
                let candidates: Vec<Plan> =
                    starts.iter().map(|&at| without(&self.best, at..(at + size).min(count))).collect();
                match self.take_first(self.worlds(), trying, &candidates) {
                    Some(i) => from = starts[i],
                    None => break,
                }
            }
            size = if size == 1 { 0 } else { size.div_ceil(2) };
        }
    }

    fn finish(mut self, defect: Option<Defect>, is_minimal: bool) -> Shrunk {
        let (violation, fails_in) = self.oracle.judge(&self.best, WORLDS);
        let file = PlanFile {
            defect: defect.map(|d| d.name().to_owned()),
            checker: Some(violation.checker.clone()),
            ..PlanFile::new(self.best)
        };
        let suspects = std::mem::take(&mut self.oracle.suspects);
        Shrunk { file, violation, runs: self.oracle.runs, fails_in, is_minimal, suspects }
    }
}
