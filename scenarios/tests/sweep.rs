//! Storms over many seeds: nothing may break. `SEEDS` is how many in all: half are storms of everything, the other half is
//! spread over the kinds.

use cairn_core::defect::Defects;
use runtime_sim::TraceMode;
use scenarios::plan::Plan;
use scenarios::profile::Profile;
use scenarios::run::run;
use scenarios::sweep::{Sweep, commit, sweep};

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

/// A profile's part of all seeds.
fn share(profile: Profile, all: u64) -> u64 {
    let kinds = Profile::EACH.len() as u64 - 1;
    if profile == Profile::All { all.div_ceil(2) } else { (all / 2).div_ceil(kinds) }
}

fn storm(profile: Profile, seeds: u64) {
    if let Some(seed) = number("SEED") {
        let report = run(&Plan::draw(seed, profile), Defects::none(), TraceMode::Full);
        let broken: Vec<String> = report.violations.iter().map(ToString::to_string).collect();
        assert!(
            broken.is_empty(),
            "{}\nseed {seed}, commit {}:\n{}",
            report.trace,
            commit(),
            broken.join("\n")
        );
        return;
    }
    let what = Sweep {
        first: 1,
        seeds: number("SEEDS").map_or(seeds, |all| share(profile, all)),
        jobs: 1,
        profile,
        defects: Defects::none(),
        stop_at_failure: false,
    };
    let summary = sweep(what, |_| {});
    let failing: Vec<String> = summary
        .failing
        .iter()
        .map(|f| {
            let broken: Vec<String> = f.violations.iter().map(ToString::to_string).collect();
            format!("seed {}, commit {}:\n  {}\n  {}", f.seed, summary.commit, broken.join("\n  "), f.replay)
        })
        .collect();
    assert!(failing.is_empty(), "{} of {} seeds failed\n{}", failing.len(), summary.runs, failing.join("\n"));
    assert!(summary.done > 0, "no operation succeeded in {} runs", summary.runs);
}

#[test]
fn calm() {
    storm(Profile::Calm, 2);
}

#[test]
fn crashes() {
    storm(Profile::Crashes, 3);
}

#[test]
fn power() {
    storm(Profile::Power, 3);
}

#[test]
fn partitions() {
    storm(Profile::Partitions, 3);
}

#[test]
fn late() {
    storm(Profile::Late, 3);
}

#[test]
fn flips() {
    storm(Profile::Flips, 3);
}

#[test]
fn disk() {
    storm(Profile::Disk, 3);
}

#[test]
fn operators() {
    storm(Profile::Operators, 3);
}

#[test]
fn everything() {
    storm(Profile::All, 6);
}
