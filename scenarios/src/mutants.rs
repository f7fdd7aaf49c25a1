//! Checks the checkers: every planted defect must be caught.

use cairn_core::defect::{Defect, Defects};
use serde::Serialize;

use crate::profile::Profile;
use crate::sweep::{Sweep, sweep};
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
fn profile(defect: Defect) -> Profile {
    match defect {
        Defect::AckBeforeDataSync
        | Defect::AckBeforeJournalSync
        | Defect::ReplyBeforeLogSync
        | Defect::FenceNotPersisted
        | Defect::SkipDirSync
        | Defect::TrustUnsyncedSeal => Profile::Power,
        Defect::NoTombstone | Defect::AckDuplicateEarly | Defect::ResumeAfterRestart => Profile::Late,
        Defect::NoReadVerify | Defect::CopyUnverified | Defect::TruncateDamage | Defect::DamagedVotes => {
            Profile::Flips
        }
        Defect::RenameKeepsSource | Defect::ReadOffByOne | Defect::EarlyVisible | Defect::LeakChunks => {
            Profile::Calm
        }
        _ => Profile::All,
    }
}

/// Hunts one defect with at most `seeds` seeds.
pub fn hunt(defect: Defect, first: u64, seeds: u64, jobs: usize) -> Verdict {
    let mut runs = 0;
    let own = profile(defect);
    for profile in [own, Profile::All] {
        // Half of the seeds are for its own storm, the rest for the general one.
        let half = if own == Profile::All { seeds } else { seeds.div_ceil(2) };
        let what =
            Sweep { first, seeds: half, jobs, profile, defects: Defects::one(defect), stop_at_failure: true };
        let summary = sweep(what, |_| {});
        runs += summary.runs;
        if let Some(failing) = summary.failing.first() {
            let violation = failing
                .violations
                .first()
                .cloned()
                .unwrap_or_else(|| Violation { checker: "unknown".into(), text: String::new() });
            let caught = Some(Catch { seed: failing.seed, profile, violation });
            return Verdict { defect: defect.name().into(), caught, runs };
        }
        if own == Profile::All {
            break;
        }
    }
    Verdict { defect: defect.name().into(), caught: None, runs }
}
