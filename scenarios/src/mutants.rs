//! Checks the checkers: every planted defect must be caught.

use std::sync::atomic::{AtomicUsize, Ordering};

use cairn_core::defect::{Defect, Defects};
use runtime_sim::TraceMode;
use serde::Serialize;

use crate::plan::Plan;
use crate::profile::Profile;
use crate::run::run;
use crate::violation::Violation;

/// What became of one defect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// The defect.
    pub defect: String,
    /// The seed that caught it, under which storm, and what was found; `None`: it got away.
    pub caught: Option<Catch>,
    /// Runs that it took.
    pub runs: u64,
    /// The directed story that it breaks, if it has one of its own.
    pub story: Option<&'static str>,
    /// Why storms can't bring it out, if they can't: it then counts as caught by its story.
    pub directed_only: Option<&'static str>,
}

impl Verdict {
    /// Caught by a storm, or, where storms can't, by its story.
    pub fn is_caught(&self) -> bool {
        self.caught.is_some() || self.directed_only.is_some() && self.story.is_some()
    }
}

/// How a defect was caught.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Catch {
    /// The seed.
    pub seed: u64,
    /// The storm.
    pub profile: Profile,
    /// The first thing found.
    pub violation: Violation,
}

/// The storm under which a defect shows soonest.
pub fn profile(defect: Defect) -> Profile {
    match defect {
        Defect::AckBeforeDataSync
        | Defect::AckBeforeJournalSync
        | Defect::ReplyBeforeLogSync
        | Defect::TrustUnsyncedSeal
        | Defect::CutDurableTail
        | Defect::OutcomesLostAtReplay
        | Defect::SidecarNotSynced
        | Defect::SidecarNameNotSynced
        | Defect::SkipDirSync
        | Defect::SealTruncatesFirst
        | Defect::CutBeforeNamed
        | Defect::OrphanMovedFirst => Profile::Power,
        Defect::NoTombstone
        | Defect::AckDuplicateEarly
        | Defect::ResumeAfterRestart
        | Defect::RefusalsForgotten
        | Defect::DedupFloorForgotten
        | Defect::LastWordsProve => Profile::Late,
        Defect::NoReadVerify
        | Defect::LastBlockUnchecked
        | Defect::ScrubBlind
        | Defect::CopyUnverified
        | Defect::TruncateDamage
        | Defect::NoReportVersionCheck
        | Defect::DamagedVotes
        | Defect::ReplayForgetsDamage
        | Defect::JournalRotTrusted
        | Defect::HoleTakenForTear => Profile::Flips,
        Defect::ReportBlind
        | Defect::DropUnchecked
        | Defect::OrderedDropCounts
        | Defect::ReplacedVouches
        | Defect::BusyIsFailure => Profile::Operators,
        Defect::ChangeUnnoticed => Profile::Crashes,
        Defect::FullIdentityFails
        | Defect::FailedVolumeCounts
        | Defect::ListErrorIsAbsence
        | Defect::FlushRetried
        | Defect::UnknownLoses
        | Defect::LoserForgottenLate
        | Defect::LoserGoesEarly
        | Defect::BrokenIsUnread
        | Defect::EmptyNameNotSynced
        | Defect::HalfDropPromises
        | Defect::InheritedTrusted
        | Defect::PurgedWhileMoved => Profile::Disk,
        Defect::RenameKeepsSource
        | Defect::ReadOffByOne
        | Defect::EarlyVisible
        | Defect::ReclaimEarly
        | Defect::ClientIdReused
        | Defect::CollectOpenChunks
        | Defect::LeakChunks
        | Defect::SearchUnchecked
        | Defect::StickyIgnored
        | Defect::RacksIgnored
        | Defect::RestoreByAnyone
        | Defect::LogNotMarked
        | Defect::RestoreLeavesEntry => Profile::Calm,
        _ => Profile::All,
    }
}

/// The story in `tests/directed/counterexamples/` that a defect breaks.
pub const STORIES: &[(Defect, &str)] = &[
    (Defect::NonMembersVote, "rule_1"),
    (Defect::AnyIncarnationVotes, "rule_2"),
    (Defect::NoTombstone, "rule_3"),
    (Defect::ResumeAfterRestart, "rule_4"),
    (Defect::VoteBeforeSync, "rule_5"),
    (Defect::FenceNotPersisted, "rule_5"),
    (Defect::TruncateDamage, "rule_6"),
    (Defect::DamagedVotes, "rule_6"),
    (Defect::SealSingleHolder, "rule_7"),
    (Defect::SealAgain, "rule_8"),
    (Defect::AckDuplicateEarly, "rule_10"),
    (Defect::GapAccepted, "rule_11"),
    (Defect::DropAnyVersion, "rule_14"),
];

/// Defects that need what no storm does, and why.
pub const DIRECTED_ONLY: &[(Defect, &str)] =
    &[(Defect::GapAccepted, "a connection keeps its order, and no writer leaves a number out")];

fn told(list: &[(Defect, &'static str)], defect: Defect) -> Option<&'static str> {
    list.iter().find(|(d, _)| *d == defect).map(|(_, text)| *text)
}

/// Hunts one defect with at most `seeds` seeds, one after the other. A run that breaks a promise without it, too, does not count.
pub fn hunt(defect: Defect, first: u64, seeds: u64) -> Verdict {
    let own = profile(defect);
    let mut verdict = Verdict {
        defect: defect.name().into(),
        caught: None,
        runs: 0,
        story: told(STORIES, defect),
        directed_only: told(DIRECTED_ONLY, defect),
    };
    if verdict.directed_only.is_some() {
        return verdict;
    }
    // Half of the seeds are for its own storm, the rest for the general one.
    let own_seeds = if own == Profile::All { seeds } else { seeds.div_ceil(2) };
    let storms = (first..first + own_seeds)
        .map(|seed| (own, seed))
        .chain((first..first + seeds - own_seeds).map(|seed| (Profile::All, seed)));
    for (profile, seed) in storms {
        let plan = Plan::draw(seed, profile);
        let report = run(&plan, Defects::one(defect), TraceMode::Off);
        verdict.runs += 1;
        if let Some(violation) = report.violations.into_iter().next()
            && run(&plan, Defects::none(), TraceMode::Off).violations.is_empty()
        {
            verdict.caught = Some(Catch { seed, profile, violation });
            break;
        }
    }
    verdict
}

/// Hunts `defects`, `jobs` of them at once; `progress` is told of each verdict as it comes. The verdicts are in the
/// order of the defects, and depend neither on the number of jobs nor on each other.
pub fn hunt_all(
    defects: &[Defect],
    first: u64,
    seeds: u64,
    jobs: usize,
    progress: impl Fn(&Verdict) + Sync,
) -> Vec<Verdict> {
    let next = AtomicUsize::new(0);
    let (next, progress) = (&next, &progress);
    let mut found: Vec<(usize, Verdict)> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..jobs.max(1))
            .map(|_| {
                scope.spawn(move || {
                    let mut own = Vec::new();
                    while let Some((i, defect)) = {
                        let i = next.fetch_add(1, Ordering::Relaxed);
                        defects.get(i).map(|defect| (i, *defect))
                    } {
                        let verdict = hunt(defect, first, seeds);
                        progress(&verdict);
                        own.push((i, verdict));
                    }
                    own
                })
            })
            .collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("hunts do not panic")).collect()
    });
    found.sort_by_key(|(i, _)| *i);
    found.into_iter().map(|(_, verdict)| verdict).collect()
}

/// The median number of runs that it took to catch what storms caught; 0 if they caught nothing.
pub fn median_runs(verdicts: &[Verdict]) -> u64 {
    let mut runs: Vec<u64> = verdicts.iter().filter(|v| v.caught.is_some()).map(|v| v.runs).collect();
    runs.sort_unstable();
    runs.get(runs.len() / 2).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_defect_has_a_name_of_its_own_and_every_excuse_a_story() {
        for defect in Defect::ALL {
            assert_eq!(Defect::by_name(defect.name()), Some(*defect));
        }
        for (defect, _) in DIRECTED_ONLY {
            assert!(told(STORIES, *defect).is_some(), "{} has no story", defect.name());
        }
    }

    #[test]
    fn verdicts_do_not_depend_on_the_number_of_jobs() {
        let defects = [Defect::ReadOffByOne, Defect::RenameKeepsSource];
        let alone = hunt_all(&defects, 1, 4, 1, |_| {});
        assert_eq!(alone, hunt_all(&defects, 1, 4, 2, |_| {}));
        assert!(alone.iter().all(Verdict::is_caught), "{alone:?}");
    }
}
