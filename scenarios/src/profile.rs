//! Kinds of storms: which faults are drawn, and how often.

use std::fmt;
use std::str::FromStr;

use cairn_core::rng::Rng;
use serde::{Deserialize, Serialize};

use crate::nemesis::{Cue, Fault, Target};
use crate::plan::{Moment, Strike};
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
    /// Bits rot and volumes vanish.
    Flips,
    /// Disks fail, fill up and crawl.
    Disk,
    /// Everything, in a mixture of its own for each seed.
    #[default]
    All,
}

impl Profile {
    /// All kinds.
    pub const EACH: [Profile; 7] = [
        Profile::Calm,
        Profile::Crashes,
        Profile::Power,
        Profile::Partitions,
        Profile::Flips,
        Profile::Disk,
        Profile::All,
    ];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Profile::Calm => "calm",
            Profile::Crashes => "crashes",
            Profile::Power => "power",
            Profile::Partitions => "partitions",
            Profile::Flips => "flips",
            Profile::Disk => "disk",
            Profile::All => "all",
        }
    }

    /// Draws what goes wrong within `chaos_ms`.
    pub fn strikes(self, rng: &mut Rng, shape: &Shape, chaos_ms: u64) -> Vec<Strike> {
        let victim =
            (shape.victims_max() > 0).then(|| Target::Server(rng.below(shape.servers.len() as u64) as usize));
        let kinds = self.kinds(rng);
        let mean_ms = 400 + rng.below(2_000);
        let mut strikes = Vec::new();
        let mut at_ms = rng.below(2_000);
        while at_ms < chaos_ms && !kinds.is_empty() {
            let kind = *rng.pick(&kinds).unwrap_or(&Kind::Kill);
            let cued = cued(rng, kind, shape);
            let (cue, fault) = match cued {
                Some((cue, fault)) => (Some(cue), Some(fault)),
                None => (None, kind.draw(rng, shape, victim.as_ref())),
            };
            if let Some(fault) = fault {
                let longest = if rng.chance(1, 5) { 6_000 } else { 1_200 };
                strikes.push(Strike { at_ms, cue, for_ms: 20 + rng.below(longest), fault });
            }
            at_ms += 1 + rng.below(mean_ms * 2);
        }
        strikes
    }

    fn kinds(self, rng: &mut Rng) -> Vec<Kind> {
        match self {
            Profile::Calm => Vec::new(),
            Profile::Crashes => vec![Kind::Kill, Kind::Kill, Kind::Pause, Kind::KillClient],
            Profile::Power => vec![Kind::PowerCut],
            Profile::Partitions => {
                vec![Kind::Split, Kind::Isolate, Kind::OneWay, Kind::Reset, Kind::BadLink, Kind::Garble]
            }
            Profile::Flips => vec![Kind::Flip, Kind::Flip, Kind::BadSector, Kind::Wipe],
            Profile::Disk => vec![Kind::DiskErrors, Kind::FullDisk, Kind::SlowDisk],
            Profile::All => {
                let mut kinds: Vec<Kind> = Kind::EACH.into_iter().filter(|_| rng.chance(2, 3)).collect();
                kinds.push(Kind::Kill);
                kinds
            }
        }
    }
}

/// A third of what ends a process, or cuts it off, waits for a moment at which that hurts.
fn cued(rng: &mut Rng, kind: Kind, shape: &Shape) -> Option<(Moment, Fault)> {
    let target = Target::Cued;
    let fault = match kind {
        Kind::Kill => Fault::Kill { target },
        Kind::PowerCut if !shape.is_relaxed() => Fault::PowerCut { target },
        Kind::Isolate => Fault::Isolate { target },
        _ => return None,
    };
    if !rng.chance(1, 3) {
        return None;
    }
    let what = *rng.pick(&Cue::EACH)?;
    let after_us = rng.below(400) * u64::from(shape.disk_slow_factor);
    Some((Moment { what, after_us }, fault))
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Kill,
    KillClient,
    Pause,
    PowerCut,
    Split,
    Isolate,
    OneWay,
    Reset,
    BadLink,
    Garble,
    Flip,
    BadSector,
    Wipe,
    DiskErrors,
    FullDisk,
    SlowDisk,
    Drift,
}

impl Kind {
    const EACH: [Kind; 17] = [
        Kind::Kill,
        Kind::KillClient,
        Kind::Pause,
        Kind::PowerCut,
        Kind::Split,
        Kind::Isolate,
        Kind::OneWay,
        Kind::Reset,
        Kind::BadLink,
        Kind::Garble,
        Kind::Flip,
        Kind::BadSector,
        Kind::Wipe,
        Kind::DiskErrors,
        Kind::FullDisk,
        Kind::SlowDisk,
        Kind::Drift,
    ];

    /// A fault of this kind that the cluster must survive; `None` if there is none.
    fn draw(self, rng: &mut Rng, shape: &Shape, victim: Option<&Target>) -> Option<Fault> {
        let server = |rng: &mut Rng| Target::Server(rng.below(shape.servers.len() as u64) as usize);
        // Those who hold a chunk that is being written deserve more than their share of trouble.
        let holder = |rng: &mut Rng| match rng.below(4) {
            0 => Target::Primary,
            1 => Target::Member(1 + rng.below(2) as usize),
            _ => server(rng),
        };
        let member = |rng: &mut Rng| if rng.chance(1, 5) { Target::Master } else { holder(rng) };
        let anyone = |rng: &mut Rng| {
            if rng.chance(1, 4) {
                Target::Client(rng.below(shape.clients as u64) as usize)
            } else {
                member(rng)
            }
        };
        Some(match self {
            Kind::Kill => Fault::Kill { target: member(rng) },
            Kind::KillClient => {
                Fault::Kill { target: Target::Client(rng.below(shape.clients as u64) as usize) }
            }
            Kind::Pause => Fault::Pause { target: anyone(rng) },
            Kind::PowerCut if rng.chance(1, 4) => Fault::PowerCut { target: Target::Master },
            Kind::PowerCut if shape.is_relaxed() => Fault::PowerCut { target: victim?.clone() },
            Kind::PowerCut => Fault::PowerCut { target: holder(rng) },
            Kind::Split => Fault::Split { mask: rng.u64(), one_way: false },
            Kind::OneWay => Fault::Split { mask: rng.u64(), one_way: true },
            Kind::Isolate => Fault::Isolate { target: anyone(rng) },
            Kind::Reset => Fault::Reset { target: anyone(rng), other: anyone(rng) },
            Kind::BadLink => Fault::BadLink {
                target: anyone(rng),
                latency_us: rng.below(80_000),
                loss_per_million: rng.below(100_000) as u32,
            },
            Kind::Garble => Fault::Garble { target: anyone(rng), per_million: rng.below(20_000) as u32 },
            Kind::Flip => Fault::Flip { target: victim?.clone(), bits: 1 + rng.below(3) as u32 },
            Kind::BadSector => Fault::BadSector { target: victim?.clone() },
            Kind::Wipe => Fault::Wipe { target: victim?.clone(), volume: rng.below(4) as u16 },
            Kind::DiskErrors => {
                let target = if shape.is_relaxed() { victim?.clone() } else { server(rng) };
                Fault::DiskErrors {
                    target,
                    read_per_million: rng.below(50_000) as u32,
                    write_per_million: rng.below(20_000) as u32,
                    sync_per_million: rng.below(20_000) as u32,
                }
            }
            Kind::FullDisk => Fault::FullDisk { target: server(rng) },
            Kind::SlowDisk => Fault::SlowDisk { target: member(rng), factor: 2 + rng.below(200) as u32 },
            Kind::Drift => Fault::Drift { target: anyone(rng), ppm: rng.below(10_000) as i32 - 5_000 },
        })
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
