//! Plans written by hand do what they say.

use cairn_core::defect::Defects;
use runtime_sim::TraceMode;
use scenarios::nemesis::{Fault, Target};
use scenarios::plan::{Plan, PlanFile, Strike};
use scenarios::run::run;

/// The tiny plan, with the process of `target` killed while its file is there.
fn killing(target: Target) -> Plan {
    let mut plan = Plan::tiny(1);
    plan.users[0][3].pause_ms = 1_000;
    plan.chaos_ms = 3_000;
    plan.strikes = vec![Strike { at_ms: 600, cue: None, for_ms: 100, fault: Fault::Kill { target } }];
    plan
}

fn kills(target: Target) -> (u64, String) {
    let report = run(&killing(target), Defects::none(), TraceMode::Full);
    assert_eq!(report.violations, []);
    (report.faults.list().into_iter().find(|(name, _)| *name == "kills").map_or(0, |(_, n)| n), report.trace)
}

#[test]
fn who_holds_a_file_is_found_when_the_strike_comes() {
    let (none, trace) = kills(Target::Holder { path: "/user0/none".into(), chunk: None, place: 0 });
    assert!(trace.contains("skipped: there is no Holder"), "{trace}");
    for target in [
        Target::PrimaryOf("/user0/f".into()),
        Target::Holder { path: "/user0/f".into(), chunk: None, place: 0 },
        Target::Holder { path: "/user0/f".into(), chunk: Some(0), place: 7 },
    ] {
        let (some, trace) = kills(target.clone());
        assert_eq!(some, none + 1, "{target:?}\n{trace}");
    }
    let (beyond, _) = kills(Target::Holder { path: "/user0/f".into(), chunk: Some(9), place: 0 });
    assert_eq!(beyond, none);
}

#[test]
fn a_plan_in_a_file_is_the_same_run() {
    let plan = killing(Target::PrimaryOf("/user0/f".into()));
    let text = PlanFile::new(plan.clone()).to_json();
    let read = PlanFile::parse(std::path::Path::new("plan.json"), &text).unwrap();
    let (first, second) =
        (run(&plan, Defects::none(), TraceMode::Hash), run(&read.plan, Defects::none(), TraceMode::Hash));
    assert_eq!(first.trace_hash, second.trace_hash);
    assert_ne!(first.trace_hash, 0);
}
