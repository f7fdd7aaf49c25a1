//! The same seed is the same run, to the last byte of the trace. Everything else stands on this.

use cairn_core::defect::Defects;
use runtime_sim::TraceMode;
use scenarios::plan::Plan;
use scenarios::profile::Profile;
use scenarios::run::run;

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
