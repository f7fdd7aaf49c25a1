//! Simpler values in what is left: a smaller cluster, shorter times, smaller files, plainer faults.

use super::{Search, edit};
use crate::nemesis::Target;
use crate::plan::Plan;
use crate::workload::operation::{Operation, Storage};

/// Worlds in which simpler values are tried: a plan that needs a value is as short with it.
const WORLDS: u64 = 2;

/// A change that makes a plan simpler; `None` if there is nothing to change.
type Edit = fn(&Plan) -> Option<Plan>;

/// All of them, those that make runs cheaper first.
const EDITS: [(&str, Edit); 15] = [
    ("shorter chaos", |p| edited(p, shorten_chaos)),
    ("half the chaos", |p| edited(p, |p| p.chaos_ms /= 2)),
    ("half of all times", |p| edited(p, hurry)),
    ("one client", |p| edited(p, |p| p.shape.clients = 1)),
    ("one volume each", |p| edited(p, |p| p.shape.servers.iter_mut().for_each(|s| s.volumes = 1))),
    ("one rack", |p| edited(p, |p| p.shape.servers.iter_mut().for_each(|s| s.rack = "rack0".into()))),
    ("one way of storing", |p| edited(p, |p| store_alike(p, |first| *first))),
    ("three replicas", |p| {
        edited(p, |p| store_alike(p, |first| Storage { replication: 3, quorum: 2, ..*first }))
    }),
    ("synced files", |p| edited(p, |p| store_alike(p, |first| Storage { relaxed: false, ..*first }))),
    ("true clocks", |p| edited(p, |p| p.shape.drift_ppm = 0)),
    ("an even network", |p| edited(p, |p| (p.shape.latency_us, p.shape.jitter_us) = (100, 0))),
    ("fast disks", |p| edited(p, |p| p.shape.disk_slow_factor = 1)),
    ("flat directories", |p| edited(p, |p| paths(p, flat))),
    ("half of all lengths", |p| edited(p, |p| lengths(p, |n| n / 2))),
    ("whole writes", |p| edited(p, pieces)),
];

fn edited(plan: &Plan, edit: impl Fn(&mut Plan)) -> Option<Plan> {
    let mut changed = plan.clone();
    edit(&mut changed);
    (changed != *plan).then_some(changed)
}

impl Search<'_> {
    pub(super) fn simplify(&mut self) {
        for (trying, edit) in EDITS {
            // Each as long as it goes on.
            while let Some(plan) = edit(&self.best)
                && self.take_first(WORLDS, trying, &[plan]).is_some()
            {}
        }
        while self.shape_once().is_some() {}
        for i in 0..self.best.strikes.len() {
            while self.plainer_strike(i).is_some() {}
        }
        for i in 0..edit::operations(&self.best) {
            while self.plainer_step(i).is_some() {}
        }
    }

    /// A server less, or a user's place taken by another.
    fn shape_once(&mut self) -> Option<usize> {
        let plan = &self.best;
        let mut candidates: Vec<Plan> =
            (0..plan.shape.servers.len()).rev().map(|i| without_server(plan, i)).collect();
        if let Some(user) = plan.users.iter().position(Vec::is_empty) {
            candidates.push(moved_up(plan, user));
        }
        self.take_first(WORLDS, "a smaller cluster", &candidates)
    }

    fn plainer_strike(&mut self, i: usize) -> Option<usize> {
        let plan = &self.best;
        let mut candidates = Vec::new();
        let mut with = |edit: &dyn Fn(&mut crate::plan::Strike)| {
            let mut changed = plan.clone();
            edit(&mut changed.strikes[i]);
            if changed != *plan {
                candidates.push(changed);
            }
        };
        with(&|s| s.cue = None);
        with(&|s| s.for_ms = 20);
        with(&|s| s.for_ms /= 2);
        self.take_first(WORLDS, "plainer faults", &candidates)
    }

    fn plainer_step(&mut self, i: usize) -> Option<usize> {
        let plan = &self.best;
        let mut candidates = Vec::new();
        for edit in [
            (|s: &mut crate::workload::generate::Step| s.pause_ms = 0) as fn(&mut _),
            |s| s.pause_ms /= 2,
            |s| length_of(&mut s.operation, |_| 9),
            |s| length_of(&mut s.operation, |n| n / 2),
        ] {
            let mut changed = plan.clone();
            if let Some(step) = changed.users.iter_mut().flatten().nth(i) {
                edit(step);
            }
            if changed != *plan {
                candidates.push(changed);
            }
        }
        self.take_first(WORLDS, "plainer operations", &candidates)
    }
}

/// Chaos ends with the last strike.
fn shorten_chaos(plan: &mut Plan) {
    let end = plan.strikes.iter().map(|s| s.at_ms + s.for_ms + 1).max().unwrap_or(0);
    plan.chaos_ms = plan.chaos_ms.min(end);
}

fn hurry(plan: &mut Plan) {
    plan.chaos_ms = plan.chaos_ms.div_ceil(2);
    plan.strikes.iter_mut().for_each(|s| s.at_ms /= 2);
    plan.users.iter_mut().flatten().for_each(|s| s.pause_ms /= 2);
}

/// All files stored in one way, made from the first.
fn store_alike(plan: &mut Plan, make: impl Fn(&Storage) -> Storage) {
    let Some(one) = plan.shape.storages.first().map(make) else { return };
    plan.shape.storages = vec![one];
    for step in plan.users.iter_mut().flatten() {
        if let Operation::Put { storage, .. } | Operation::Abandon { storage, .. } = &mut step.operation {
            *storage = one;
        }
    }
}

fn without_server(plan: &Plan, gone: usize) -> Plan {
    let mut plan = plan.clone();
    plan.shape.servers.remove(gone);
    let last = plan.shape.servers.len().saturating_sub(1);
    for target in plan.strikes.iter_mut().flat_map(|s| s.fault.targets_mut()) {
        if let Target::Server(i) = target {
            *i = if *i > gone { *i - 1 } else { (*i).min(last) };
        }
    }
    plan
}

/// The last user, in the place of one that does nothing; a last one that does nothing goes.
fn moved_up(plan: &Plan, to: usize) -> Plan {
    let mut plan = plan.clone();
    let last = plan.users.len() - 1;
    if let Some(steps) = plan.users.pop()
        && to < last
    {
        plan.users[to] = steps;
        let (old, new) = (format!("/user{last}"), format!("/user{to}"));
        paths(&mut plan, |path| match path.strip_prefix(old.as_str()) {
            Some(rest) if rest.is_empty() || rest.starts_with('/') => format!("{new}{rest}"),
            _ => path.to_owned(),
        });
    }
    plan.shape.users = plan.users.len();
    plan
}

/// `/user1/d0/f3` becomes `/user1/f3`.
fn flat(path: &str) -> String {
    let mut parts = path.trim_start_matches('/').split('/');
    match (parts.next(), parts.next_back()) {
        (Some(home), Some(name)) => format!("/{home}/{name}"),
        _ => path.to_owned(),
    }
}

fn paths(plan: &mut Plan, change: impl Fn(&str) -> String) {
    for step in plan.users.iter_mut().flatten() {
        for path in step.operation.paths_mut() {
            *path = change(path);
        }
    }
}

fn lengths(plan: &mut Plan, change: fn(u32) -> u32) {
    plan.users.iter_mut().flatten().for_each(|step| length_of(&mut step.operation, change));
}

/// Only ever shorter.
fn length_of(operation: &mut Operation, change: fn(u32) -> u32) {
    if let Operation::Put { content, .. } | Operation::Abandon { content, .. } = operation {
        content.length = content.length.min(change(content.length));
    }
}

fn pieces(plan: &mut Plan) {
    let whole = plan.shape.client.frame_bytes * 2;
    for step in plan.users.iter_mut().flatten() {
        if let Operation::Put { piece, .. } | Operation::Abandon { piece, .. } = &mut step.operation {
            *piece = whole;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::Profile;

    #[test]
    fn every_edit_comes_to_an_end() {
        for seed in 0..5 {
            for (name, edit) in EDITS {
                let mut plan = Plan::draw(seed, Profile::All);
                let mut times = 0;
                while let Some(next) = edit(&plan) {
                    plan = next;
                    times += 1;
                    assert!(times < 100, "{name} goes on for ever");
                }
            }
        }
    }

    #[test]
    fn those_who_stay_are_still_meant_when_a_server_goes() {
        let plan = Plan::draw(2, Profile::All);
        for gone in 0..plan.shape.servers.len() {
            let less = without_server(&plan, gone);
            assert!(
                less.strikes
                    .iter()
                    .flat_map(|s| s.fault.targets())
                    .all(|t| !matches!(t, Target::Server(i) if *i >= less.shape.servers.len()))
            );
        }
    }

    #[test]
    fn an_idle_user_gives_its_place_away() {
        let mut plan = edit::without_user(&Plan::draw(1, Profile::All), 0);
        // Those who meet in the shared directory have no homes.
        plan.users.truncate(plan.shape.users);
        let moved = moved_up(&plan, 0);
        assert_eq!(moved.users.len(), plan.users.len() - 1);
        let Operation::Mkdir { path, .. } = &moved.users[0][0].operation else { panic!("{moved:?}") };
        assert_eq!(path, "/user0");
        assert_eq!(flat("/user1/d0/d1/f3"), "/user1/f3");
        assert_eq!(flat("/user1"), "/user1");
    }
}
