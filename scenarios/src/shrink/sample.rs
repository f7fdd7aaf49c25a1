//! Small plans cut at random out of a large one. Removing steps one by one, a failure that needs luck is lost at every step;
//! a few steps by themselves often need less luck than all together, and a short run can be tried a hundred times in the
//! time of one long one.

use std::collections::BTreeSet;

use cairn_core::rng::Rng;

use crate::plan::Plan;
use crate::workload::generate::Step;
use crate::workload::operation::Operation;

/// A plan of a few of `plan`'s steps, in a world of its own.
pub(super) fn sample(plan: &Plan, rng: &mut Rng) -> Plan {
    let mut small = plan.clone();
    small.seed = rng.u64() >> 16;
    let busy: Vec<usize> = (0..plan.users.len()).filter(|user| !plan.users[*user].is_empty()).collect();
    let mut chosen = BTreeSet::new();
    for _ in 0..if rng.chance(1, 3) { 2 } else { 1 } {
        chosen.extend(rng.pick(&busy).copied());
    }
    let mut longest_ms = 0;
    for (user, steps) in small.users.iter_mut().enumerate() {
        *steps = if chosen.contains(&user) { few(steps, rng) } else { Vec::new() };
        let pauses: u64 = steps.iter().map(|step| step.pause_ms).sum();
        longest_ms = longest_ms.max(pauses + 100 * steps.len() as u64);
    }
    let keep = rng.below(5).min(plan.strikes.len() as u64);
    while small.strikes.len() as u64 > keep {
        small.strikes.remove(rng.below(small.strikes.len() as u64) as usize);
    }
    // What is left of the strikes comes while what is left of the operations goes on.
    let mut times: Vec<u64> = small.strikes.iter().map(|_| rng.below(longest_ms + 200)).collect();
    times.sort_unstable();
    for (strike, at_ms) in small.strikes.iter_mut().zip(times) {
        strike.at_ms = at_ms;
    }
    let end = small.strikes.iter().map(|strike| strike.at_ms + strike.for_ms + 1_100).max().unwrap_or(0);
    small.chaos_ms = end.min(plan.chaos_ms);
    small
}

/// The beginning of a user's steps, which makes directories, and a few more: of one path, or one after the other.
fn few(steps: &[Step], rng: &mut Rng) -> Vec<Step> {
    let making = steps.iter().take_while(|step| matches!(step.operation, Operation::Mkdir { .. })).count();
    let (start, rest) = steps.split_at(making);
    let mut rest = rest.to_vec();
    if rng.chance(1, 2)
        && let Some(step) = rng.pick(&rest).cloned()
    {
        let mut step = step;
        let named: Vec<String> = step.operation.paths_mut().into_iter().map(|path| path.clone()).collect();
        rest.retain_mut(|other| other.operation.paths_mut().into_iter().any(|path| named.contains(path)));
    }
    let count = (1 + rng.below(8) as usize).min(rest.len());
    let from = rng.below((rest.len() - count) as u64 + 1) as usize;
    let mut few = start.to_vec();
    few.extend_from_slice(&rest[from..from + count]);
    few
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::Profile;

    #[test]
    fn samples_are_small_plans() {
        let plan = Plan::draw(1, Profile::All);
        let mut rng = Rng::stream(1, "samples");
        let sizes: Vec<usize> = (0..200)
            .map(|_| {
                let small = sample(&plan, &mut rng);
                assert_eq!(small.check(), Ok(()));
                small.steps()
            })
            .collect();
        assert!(sizes.iter().all(|size| *size <= 28), "{sizes:?}");
        assert!(sizes.iter().collect::<BTreeSet<_>>().len() > 5, "{sizes:?}");
    }

    #[test]
    fn a_plan_without_steps_gives_one_without_steps() {
        let empty = Plan { users: vec![Vec::new()], strikes: Vec::new(), ..Plan::tiny(1) };
        assert_eq!(sample(&empty, &mut Rng::stream(1, "samples")).steps(), 0);
    }
}
