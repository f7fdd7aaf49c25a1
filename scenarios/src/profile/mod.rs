//! Kinds of storms: which faults are drawn, and how often.

mod kind;
mod sequence;

use std::fmt;
use std::str::FromStr;

use cairn_core::rng::Rng;
use serde::{Deserialize, Serialize};

use self::kind::{Draw, Kind};
use crate::nemesis::{Fault, Target};
use crate::plan::Strike;
use crate::shape::Shape;

/// A kind of storm.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Profile {
    /// Nothing goes wrong.
    Calm,
    /// Processes die and freeze.
    Crashes,
    /// Machines lose power.
    Power,
    /// The network splits, resets, slows and garbles.
    Partitions,
    /// Messages come late, from connections given up long since, and come again.
    Late,
    /// Bits rot and volumes vanish.
    Flips,
    /// Disks fail, fill up and crawl.
    Disk,
    /// Operators remove files, replace disks, restart servers and add new ones.
    Operators,
    /// Everything, in a mixture of its own for each seed.
    #[default]
    All,
}

/// So few kinds of trouble are left among themselves.
const FEW: usize = 8;

/// Servers that join in one run.
const JOINING_MAX: usize = 2;

impl Profile {
    /// All kinds.
    pub const EACH: [Profile; 9] = [
        Profile::Calm,
        Profile::Crashes,
        Profile::Power,
        Profile::Partitions,
        Profile::Late,
        Profile::Flips,
        Profile::Disk,
        Profile::Operators,
        Profile::All,
    ];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Profile::Calm => "calm",
            Profile::Crashes => "crashes",
            Profile::Power => "power",
            Profile::Partitions => "partitions",
            Profile::Late => "late",
            Profile::Flips => "flips",
            Profile::Disk => "disk",
            Profile::Operators => "operators",
            Profile::All => "all",
        }
    }

    /// Draws what goes wrong within `chaos_ms`, in order of time.
    pub fn strikes(self, rng: &mut Rng, shape: &Shape, chaos_ms: u64) -> Vec<Strike> {
        let victim =
            (shape.victims_max() > 0).then(|| Target::Server(rng.below(shape.servers.len() as u64) as usize));
        let kinds = self.kinds(rng);
        let mean_ms = 400 + rng.below(2_000);
        let mut strikes = Vec::new();
        let mut at_ms = rng.below(2_000);
        while at_ms < chaos_ms && !kinds.is_empty() {
            let kind = *rng.pick(&kinds).unwrap_or(&Kind::Kill);
            let drawn = Draw { rng, shape, victim: victim.as_ref(), at_ms }.strikes(kind);
            at_ms += 1 + rng.below(mean_ms * 2);
            if kind == Kind::Outage {
                // While everybody is down there is nothing to strike.
                at_ms += drawn.iter().map(|strike| strike.for_ms).sum::<u64>();
            }
            strikes.extend(drawn);
        }
        strikes.retain(|strike| strike.at_ms < chaos_ms);
        if let Some(target) = victim.filter(|_| kinds.contains(&Kind::Remove) && rng.chance(1, 2)) {
            // What is lost last no restart finds.
            let (at_ms, fault) = (chaos_ms - 1, Fault::Remove { target });
            strikes.push(Strike { at_ms, cue: None, for_ms: 1, fault });
        }
        let mut joining = 0;
        strikes.retain(|strike| {
            joining += usize::from(matches!(strike.fault, Fault::AddServer { .. }));
            joining <= JOINING_MAX || !matches!(strike.fault, Fault::AddServer { .. })
        });
        strikes.sort_by_key(|strike| strike.at_ms);
        strikes
    }

    fn kinds(self, rng: &mut Rng) -> Vec<Kind> {
        match self {
            Profile::Calm => Vec::new(),
            Profile::Crashes => vec![
                Kind::Kill,
                Kind::Kill,
                Kind::CrashPoint,
                Kind::Pause,
                Kind::KillClient,
                Kind::CrashLoop,
                Kind::StaleCopy,
                Kind::StaleCopy,
                Kind::RollingRestart,
                Kind::SlowNode,
                Kind::Jump,
                Kind::AddServer,
            ],
            Profile::Power => {
                vec![
                    Kind::PowerCut,
                    Kind::PowerCut,
                    Kind::PowerPoint,
                    Kind::MasterPower,
                    Kind::TwoCrashes,
                    Kind::Outrun,
                    Kind::Outage,
                ]
            }
            Profile::Partitions => vec![
                Kind::Split,
                Kind::Isolate,
                Kind::OneWay,
                Kind::Reset,
                Kind::BadLink,
                Kind::Garble,
                Kind::Swizzle,
                Kind::Cut,
            ],
            Profile::Late => vec![
                Kind::Stall,
                Kind::Zombie,
                Kind::LateOpen,
                Kind::Replay,
                Kind::RepeatCall,
                Kind::Backlog,
                Kind::Repeats,
                Kind::LastWords,
                Kind::Kill,
            ],
            Profile::Flips => {
                vec![
                    Kind::Flip,
                    Kind::Flip,
                    Kind::BadSector,
                    Kind::Wipe,
                    Kind::Misdirect,
                    Kind::Remove,
                    Kind::BlankMember,
                    Kind::LostVote,
                    Kind::LogRot,
                    Kind::JournalRot,
                    Kind::Kill,
                ]
            }
            Profile::Disk => {
                vec![
                    Kind::DiskErrors,
                    Kind::FailedFence,
                    Kind::PassingReads,
                    Kind::VolumeAway,
                    Kind::HungDrop,
                    Kind::HungDrop,
                    Kind::FullDisk,
                    Kind::SlowDisk,
                    Kind::StuckSync,
                    Kind::StuckList,
                    Kind::MasterDisk,
                    Kind::Kill,
                ]
            }
            Profile::Operators => vec![
                Kind::Remove,
                Kind::Remove,
                Kind::Wipe,
                Kind::RollingRestart,
                Kind::AddServer,
                Kind::Kill,
                Kind::FullDisk,
                Kind::Return,
                Kind::Return,
            ],
            Profile::All => {
                // Many kinds at once hide each other's traces; a few, again and again, reach what is deep.
                let (some, of) = [(2, 3), (2, 3), (1, 4), (1, 12)][rng.below(4) as usize];
                let mut kinds: Vec<Kind> = Kind::EACH.into_iter().filter(|_| rng.chance(some, of)).collect();
                if kinds.len() > FEW || kinds.is_empty() {
                    kinds.push(Kind::Kill);
                }
                kinds
            }
        }
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Profile {
    type Err = String;

    fn from_str(text: &str) -> Result<Profile, String> {
        Profile::EACH.into_iter().find(|p| p.name() == text).ok_or_else(|| {
            let names: Vec<_> = Profile::EACH.iter().map(|p| p.name()).collect();
            format!("no such profile; there are {}", names.join(", "))
        })
    }
}
