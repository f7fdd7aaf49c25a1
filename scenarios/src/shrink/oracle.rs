//! Whether a candidate still fails as the first run did: the same checker complains with the defect, none without it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use cairn_core::defect::{Defect, Defects};
use runtime_sim::TraceMode;

use super::ShrinkError;
use crate::plan::Plan;
use crate::run::run;
use crate::violation::Violation;

/// Suspects kept; one is enough to begin with.
const SUSPECTS: usize = 5;

#[derive(Debug)]
pub(super) struct Oracle {
    defects: Defects,
    wanted: Violation,
    jobs: usize,
    /// So far.
    pub(super) runs: u64,
    /// Candidates that fail without the defect, too.
    pub(super) suspects: Vec<(Plan, Violation)>,
}

/// What one candidate's runs told.
enum Told {
    Holds,
    Fails,
    FailsAnyway(Violation),
}

impl Oracle {
    pub(super) fn of(plan: &Plan, defect: Option<Defect>, jobs: usize) -> Result<Oracle, ShrinkError> {
        let defects = defect.map_or(Defects::none(), Defects::one);
        let wanted = first_violation(plan, defects).ok_or(ShrinkError::Holds)?;
        if defect.is_some()
            && let Some(violation) = first_violation(plan, Defects::none())
        {
            return Err(ShrinkError::FailsWithoutDefect(violation));
        }
        Ok(Oracle { defects, wanted, jobs: jobs.max(1), runs: 2, suspects: Vec::new() })
    }

    /// The first of `candidates` that fails, however many are run at once.
    pub(super) fn first_failing(
        &mut self,
        candidates: Vec<(usize, Plan)>,
        runs_left: u64,
        deadline: Option<Instant>,
    ) -> Option<(usize, Plan)> {
        let candidates = &candidates[..candidates.len().min(runs_left as usize)];
        let next = AtomicUsize::new(0);
        let failing = AtomicUsize::new(usize::MAX);
        let told: Mutex<Vec<Option<Told>>> = Mutex::new(candidates.iter().map(|_| None).collect());
        std::thread::scope(|scope| {
            for _ in 0..self.jobs {
                scope.spawn(|| {
                    loop {
                        let i = next.fetch_add(1, Ordering::SeqCst);
                        let late = deadline.is_some_and(|at| Instant::now() >= at);
                        // Those before the first failure that is known have to be run: one of them may fail as well.
                        if i >= candidates.len() || i > failing.load(Ordering::SeqCst) || late {
                            break;
                        }
                        let answer = self.ask(&candidates[i].1);
                        if matches!(answer, Told::Fails) {
                            failing.fetch_min(i, Ordering::SeqCst);
                        }
                        told.lock().unwrap_or_else(PoisonError::into_inner)[i] = Some(answer);
                    }
                });
            }
        });
        let told = told.into_inner().unwrap_or_else(PoisonError::into_inner);
        // What was run beyond the first failure depends on the jobs, and so does not count.
        for ((_, plan), told) in candidates.iter().zip(told) {
            match told {
                Some(Told::Holds) => self.runs += 1,
                Some(Told::Fails) => {
                    self.runs += 2;
                    let i = failing.into_inner();
                    return candidates.get(i).cloned();
                }
                Some(Told::FailsAnyway(violation)) => {
                    self.runs += 2;
                    if self.suspects.len() < SUSPECTS {
                        self.suspects.push((plan.clone(), violation));
                    }
                }
                None => return None,
            }
        }
        None
    }

    /// What is found in `plan`, and in how many of `worlds` worlds the same checker complains.
    pub(super) fn judge(&mut self, plan: &Plan, worlds: u64) -> (Violation, u64) {
        let found = first_violation(plan, self.defects).unwrap_or_else(|| self.wanted.clone());
        let failing = (0..worlds)
            .filter(|world| {
                let plan = Plan { seed: plan.seed.wrapping_add(*world), ..plan.clone() };
                first_violation(&plan, self.defects).is_some_and(|found| self.is_wanted(&found))
            })
            .count();
        (found, failing as u64)
    }

    fn ask(&self, plan: &Plan) -> Told {
        match first_violation(plan, self.defects) {
            Some(found) if self.is_wanted(&found) => {}
            _ => return Told::Holds,
        }
        #[cfg(feature = "defects")]
        if Defect::ALL.iter().any(|defect| self.defects.has(*defect))
            && let Some(violation) = first_violation(plan, Defects::none())
        {
            return Told::FailsAnyway(violation);
        }
        Told::Fails
    }

    fn is_wanted(&self, found: &Violation) -> bool {
        found.checker == self.wanted.checker
            && (found.checker != "panic" || place(found) == place(&self.wanted))
    }
}

/// `file:line` of a panic.
fn place(violation: &Violation) -> &str {
    violation.text.rsplit_once('(').map_or("", |(_, place)| place)
}

fn first_violation(plan: &Plan, defects: Defects) -> Option<Violation> {
    run(plan, defects, TraceMode::Off).violations.into_iter().next()
}
