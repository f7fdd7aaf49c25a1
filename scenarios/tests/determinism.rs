//! The same seed is the same run, to the last byte of the trace. Everything else stands on this.

use std::collections::BTreeMap;
use std::sync::Mutex;

use cairn_core::defect::Defects;
use runtime_sim::TraceMode;
use scenarios::plan::Plan;
use scenarios::profile::Profile;
use scenarios::run::run;
use scenarios::sweep::{Sweep, sweep_traced};

/// Enough of a storm to meet every source of chance, short enough to keep whole traces.
fn short(seed: u64) -> Plan {
    let mut plan = Plan::draw(seed, Profile::All);
    plan.users.iter_mut().for_each(|steps| steps.truncate(15));
    plan.chaos_ms = 6_000;
    plan
}

#[test]
fn the_same_seed_is_the_same_run() {
    for seed in [1, 2] {
        let first = run(&short(seed), Defects::none(), TraceMode::Full);
        let second = run(&short(seed), Defects::none(), TraceMode::Full);
        if let Some((i, (a, b))) =
            first.trace.lines().zip(second.trace.lines()).enumerate().find(|(_, (a, b))| a != b)
        {
            panic!("seed {seed}: line {} differs\n  {a}\n  {b}", i + 1);
        }
        assert_eq!(first.trace.len(), second.trace.len());
        assert_eq!(first.trace_hash, second.trace_hash);
        assert!(first.figures.inputs > 1_000, "{:?}", first.figures);
    }
}

#[test]
fn keeping_the_trace_changes_nothing() {
    let hashed = run(&short(3), Defects::none(), TraceMode::Hash);
    let kept = run(&short(3), Defects::none(), TraceMode::Full);
    assert_eq!(hashed.trace_hash, kept.trace_hash);
    assert_eq!(hashed.figures, kept.figures);
}

#[test]
fn neither_other_seeds_nor_jobs_change_a_run() {
    let swept = |first, seeds, jobs| {
        let what = Sweep {
            first,
            seeds,
            jobs,
            profile: Profile::All,
            defects: Defects::none(),
            stop_at_failure: false,
        };
        let hashes = Mutex::new(BTreeMap::new());
        sweep_traced(what, TraceMode::Hash, |report| {
            hashes.lock().unwrap().insert(report.seed, report.trace_hash);
        });
        hashes.into_inner().unwrap()
    };
    let together = swept(4, 3, 1);
    assert_eq!(together, swept(4, 3, 2));
    for (seed, hash) in together {
        let alone = run(&Plan::draw(seed, Profile::All), Defects::none(), TraceMode::Hash);
        assert_eq!(hash, alone.trace_hash, "seed {seed}");
    }
}
