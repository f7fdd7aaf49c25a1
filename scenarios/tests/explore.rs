//! Small scopes explored to the end, and rules of the protocol switched off: a shortest counterexample must appear.

use cairn_core::defect::{Defect, Defects};
use scenarios::explore::{Outcome, Scope, explore};

fn run(scope: &str, defects: Defects) -> Outcome {
    let scope = Scope::by_name(scope).expect("a scope");
    explore(scope, defects, 2_000_000, |_| {})
}

#[test]
fn small_scopes_are_exhausted_and_keep_every_promise() {
    let scopes = [
        ("alone-kill", 500),
        ("spare", 50),
        ("alone-gap", 100),
        ("pair-calm", 5_000),
        ("pair-resend", 10_000),
        ("trio-calm", 20_000),
    ];
    for (scope, at_least) in scopes {
        let outcome = run(scope, Defects::none());
        assert!(outcome.counterexample.is_none(), "{scope}: {:#?}", outcome.counterexample);
        assert!(outcome.exhausted && outcome.states > at_least, "{scope}: {} states", outcome.states);
        let again = run(scope, Defects::none());
        assert_eq!((outcome.states, outcome.transitions), (again.states, again.transitions), "{scope}");
    }
}

/// Each rule that the protocol can express so far, its defect, and where it shows.
const RULES: &[(&str, Defect, &str)] = &[
    ("1", Defect::SealOneVoteShort, "pair-one"),
    ("1", Defect::NonMembersVote, "spare"),
    ("2", Defect::AnyIncarnationVotes, "pair-disk"),
    ("3", Defect::NoTombstone, "pair-calm"),
    ("4", Defect::ResumeAfterRestart, "pair-reopen"),
    ("5", Defect::FenceNotPersisted, "pair-calm"),
    ("5", Defect::AckBeforeDataSync, "pair-calm"),
    ("5", Defect::AckBeforeJournalSync, "pair-calm"),
    ("5", Defect::VoteBeforeSync, "pair-calm"),
    ("6", Defect::DamagedVotes, "pair-disk"),
    ("6", Defect::TruncateDamage, "pair-disk"),
    ("7", Defect::SealSingleHolder, "pair-calm"),
    ("7", Defect::SealShortest, "pair-one"),
    ("8", Defect::SealAgain, "pair-calm"),
    ("10", Defect::AckDuplicateEarly, "pair-resend"),
    ("10", Defect::CommitBelowQuorum, "pair-calm"),
    ("11", Defect::GapAccepted, "alone-gap"),
    ("log", Defect::ReplyBeforeLogSync, "pair-master"),
    ("names", Defect::SkipDirSync, "pair-calm"),
];

#[test]
fn a_rule_switched_off_shows_a_counterexample() {
    for (rule, defect, scope) in RULES {
        let outcome = run(scope, Defects::one(*defect));
        let Some(counterexample) = outcome.counterexample else {
            panic!("rule {rule}: {} got away in {scope}, {} states", defect.name(), outcome.states);
        };
        assert_eq!(counterexample.steps.len() as u32, outcome.depth, "{}", defect.name());
    }
}
