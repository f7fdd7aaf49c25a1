//! What can be taken out of a plan.

use std::ops::Range;

use crate::plan::Plan;

/// Users' operations.
pub(super) fn operations(plan: &Plan) -> usize {
    plan.users.iter().map(Vec::len).sum()
}

/// Without some strikes.
pub(super) fn without_strikes(plan: &Plan, range: Range<usize>) -> Plan {
    let mut plan = plan.clone();
    let mut i = 0;
    plan.strikes.retain(|_| {
        i += 1;
        !range.contains(&(i - 1))
    });
    plan
}

/// Without some operations, counted over all users.
pub(super) fn without_operations(plan: &Plan, range: Range<usize>) -> Plan {
    let mut plan = plan.clone();
    let mut i = 0;
    for steps in &mut plan.users {
        let mut owed_ms = 0;
        steps.retain_mut(|step| {
            i += 1;
            let stays = !range.contains(&(i - 1));
            // What stays keeps its time, as far as that hangs on pauses.
            if stays {
                step.pause_ms += std::mem::take(&mut owed_ms);
            } else {
                owed_ms += step.pause_ms;
            }
            stays
        });
    }
    plan
}

/// One user alone.
pub(super) fn only_user(plan: &Plan, user: usize) -> Plan {
    let mut plan = plan.clone();
    for (i, steps) in plan.users.iter_mut().enumerate() {
        if i != user {
            steps.clear();
        }
    }
    plan
}

/// Without one user.
pub(super) fn without_user(plan: &Plan, user: usize) -> Plan {
    let mut plan = plan.clone();
    plan.users[user].clear();
    plan
}

/// The first `1/part` of the time and of each user's steps.
pub(super) fn beginning(plan: &Plan, part: usize) -> Plan {
    let mut plan = plan.clone();
    for steps in &mut plan.users {
        steps.truncate(steps.len().div_ceil(part));
    }
    plan.chaos_ms /= part as u64;
    plan.strikes.retain(|strike| strike.at_ms < plan.chaos_ms);
    plan
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::Profile;

    #[test]
    fn ranges_are_counted_over_all_users() {
        let plan = Plan::draw(1, Profile::All);
        let first = plan.users[0].len();
        let cut = without_operations(&plan, first - 1..first + 1);
        assert_eq!(operations(&cut), operations(&plan) - 2);
        assert_eq!(cut.users[0][..], plan.users[0][..first - 1]);
        assert_eq!(cut.users[1].last(), plan.users[1].last());
        assert_eq!(cut.users[1][0].pause_ms, plan.users[1][0].pause_ms + plan.users[1][1].pause_ms);
        assert_eq!(without_strikes(&plan, 0..usize::MAX).strikes, []);
        assert_eq!(without_strikes(&plan, 1..3).strikes.len(), plan.strikes.len() - 2);
    }

    #[test]
    fn a_beginning_is_a_plan() {
        let plan = beginning(&Plan::draw(1, Profile::All), 4);
        assert_eq!(plan.check(), Ok(()));
        assert!(plan.strikes.iter().all(|s| s.at_ms < plan.chaos_ms));
    }
}
