//! What each kind of trouble is drawn as: one strike, or a few that belong together.

use cairn_core::rng::Rng;

use crate::nemesis::{Cue, Fault, Target};
use crate::plan::{Moment, Strike};
use crate::shape::Shape;

/// A kind of trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Kill,
    KillClient,
    CrashPoint,
    CrashLoop,
    RollingRestart,
    Pause,
    PowerCut,
    PowerPoint,
    Outage,
    Split,
    Isolate,
    OneWay,
    Reset,
    BadLink,
    Garble,
    Swizzle,
    Stall,
    Zombie,
    LateOpen,
    Replay,
    RepeatCall,
    Backlog,
    Repeats,
    Flip,
    BadSector,
    Wipe,
    DiskErrors,
    FullDisk,
    SlowDisk,
    StuckSync,
    StuckList,
    Misdirect,
    Remove,
    BlankMember,
    LostVote,
    FailedFence,
    PassingReads,
    VolumeAway,
    HungDrop,
    MasterDisk,
    MasterPower,
    Return,
    TwoCrashes,
    JournalRot,
    StaleCopy,
    Outrun,
    LastWords,
    LogRot,
    Cut,
    SlowNode,
    Jump,
    Drift,
    AddServer,
}

impl Kind {
    /// What a storm of everything is made of. A rotten log is not in it: the master is rightly gone until it is mended.
    pub(super) const EACH: [Kind; 52] = [
        Kind::Kill,
        Kind::KillClient,
        Kind::CrashPoint,
        Kind::CrashLoop,
        Kind::RollingRestart,
        Kind::Pause,
        Kind::PowerCut,
        Kind::PowerPoint,
        Kind::Outage,
        Kind::Split,
        Kind::Isolate,
        Kind::OneWay,
        Kind::Reset,
        Kind::BadLink,
        Kind::Garble,
        Kind::Swizzle,
        Kind::Stall,
        Kind::Zombie,
        Kind::LateOpen,
        Kind::Replay,
        Kind::RepeatCall,
        Kind::Backlog,
        Kind::Repeats,
        Kind::Flip,
        Kind::BadSector,
        Kind::Wipe,
        Kind::DiskErrors,
        Kind::FullDisk,
        Kind::SlowDisk,
        Kind::StuckSync,
        Kind::StuckList,
        Kind::Misdirect,
        Kind::Remove,
        Kind::BlankMember,
        Kind::LostVote,
        Kind::FailedFence,
        Kind::PassingReads,
        Kind::VolumeAway,
        Kind::HungDrop,
        Kind::MasterDisk,
        Kind::MasterPower,
        Kind::Return,
        Kind::TwoCrashes,
        Kind::JournalRot,
        Kind::StaleCopy,
        Kind::Outrun,
        Kind::LastWords,
        Kind::Cut,
        Kind::SlowNode,
        Kind::Jump,
        Kind::Drift,
        Kind::AddServer,
    ];
}

/// From what strikes are drawn.
pub(super) struct Draw<'a> {
    pub(super) rng: &'a mut Rng,
    pub(super) shape: &'a Shape,
    /// The one server that may lose what it holds.
    pub(super) victim: Option<&'a Target>,
    pub(super) at_ms: u64,
}

impl Draw<'_> {
    /// Strikes of this kind that the cluster must survive; none if there are none.
    pub(super) fn strikes(mut self, kind: Kind) -> Vec<Strike> {
        match kind {
            Kind::CrashLoop => self.crash_loop(),
            Kind::RollingRestart => self.rolling_restart(),
            Kind::Swizzle => self.swizzle(),
            Kind::LateOpen => self.late_open(),
            Kind::Replay => self.replay(),
            Kind::BlankMember => self.blank_member(),
            Kind::LostVote => self.lost_vote(),
            Kind::FailedFence => self.failed_fence(),
            Kind::PassingReads => self.passing_reads(),
            Kind::VolumeAway => self.volume_away(),
            Kind::HungDrop => self.hung_drop(),
            Kind::MasterPower => self.master_power(),
            Kind::Return => self.returns(),
            Kind::TwoCrashes => self.two_crashes(),
            Kind::Flip => self.flip(),
            Kind::JournalRot => self.journal_rot(),
            Kind::StaleCopy => self.stale_copy(),
            Kind::Outrun => self.outrun(),
            Kind::LastWords => self.last_words(),
            Kind::FullDisk => self.full_disk(),
            kind => self.single(kind).into_iter().collect(),
        }
    }

    pub(super) fn strike(&self, after_ms: u64, for_ms: u64, fault: Fault) -> Strike {
        Strike { at_ms: self.at_ms + after_ms, cue: None, for_ms, fault }
    }

    pub(super) fn duration(&mut self) -> u64 {
        let longest = if self.rng.chance(1, 5) { 6_000 } else { 1_200 };
        20 + self.rng.below(longest)
    }

    pub(super) fn moment(&mut self, cues: &[Cue]) -> Option<Moment> {
        let what = *self.rng.pick(cues)?;
        let after_us = self.rng.below(400) * u64::from(self.shape.disk_slow_factor);
        Some(Moment { what, at: None, after_us })
    }

    fn single(&mut self, kind: Kind) -> Option<Strike> {
        let cued = if kind == Kind::Remove { self.removed_unsealed() } else { self.cued(kind) };
        let (cue, fault) = match cued {
            Some((cue, fault)) => (Some(cue), fault),
            None => (None, self.fault(kind)?),
        };
        let mut for_ms = self.duration();
        if matches!(cue, Some(Moment { what: Cue::Committed, .. })) && matches!(fault, Fault::Pause { .. }) {
            // Its upload is given up meanwhile.
            for_ms += self.shape.master.upload_expiry_ms;
        }
        Some(Strike { at_ms: self.at_ms, cue, for_ms, fault })
    }

    /// A third of what ends a process, or cuts it off, waits for a moment at which that hurts.
    fn cued(&mut self, kind: Kind) -> Option<(Moment, Fault)> {
        let target = Target::Cued;
        let relaxed = self.shape.is_relaxed();
        let fault = match kind {
            Kind::Kill => Fault::Kill { target },
            Kind::PowerCut if !relaxed => Fault::PowerCut { target },
            Kind::CrashPoint => self.crash_point(target, 12, false),
            Kind::PowerPoint if !relaxed => self.crash_point(target, 12, true),
            Kind::Outage => self.outage(),
            Kind::Isolate => Fault::Isolate { target },
            Kind::SlowDisk => Fault::SlowDisk { target, factor: 2 + self.rng.below(200) as u32 },
            Kind::StuckSync => Fault::StuckSync { target, names: false },
            Kind::Pause => Fault::Pause { target },
            Kind::Reset => Fault::Reset { target: self.client(), other: target },
            _ => return None,
        };
        if !self.rng.chance(1, 3) {
            return None;
        }
        let cues: &[Cue] = match kind {
            // Disks that lag do so while bytes come in: the others go on without them.
            Kind::SlowDisk | Kind::StuckSync => &[Cue::Open, Cue::Data],
            // What is read may be replaced meanwhile; what is written may be given up.
            Kind::Pause => &[Cue::Read, Cue::Committed],
            // The change is made, its answer is lost.
            Kind::Reset => &[Cue::Change],
            _ => &Cue::EACH,
        };
        Some((self.moment(cues)?, fault))
    }

    /// A file goes when its stream is over, and before its seal is carried out.
    fn removed_unsealed(&mut self) -> Option<(Moment, Fault)> {
        let target = self.victim.cloned()?;
        let Target::Server(at) = target else { return None };
        if !self.rng.chance(1, 3) {
            return None;
        }
        let moment = self.moment(&[Cue::Fence, Cue::Seal])?;
        Some((Moment { at: Some(at), ..moment }, Fault::Remove { target }))
    }

    /// Within the next `most` disk operations, or, more rarely, when one of the next names is made.
    pub(super) fn crash_point(&mut self, target: Target, most: u64, power: bool) -> Fault {
        let naming = self.rng.chance(1, 3);
        Fault::CrashPoint {
            target,
            operation: 1 + self.rng.below(if naming { 3 } else { most }),
            power,
            naming,
        }
    }

    /// How long ago what is asked for again was asked first: a third of the time, perhaps before all that the master remembers
    /// of a client.
    fn back(&mut self) -> usize {
        let most = if self.rng.chance(1, 3) { 512 } else { 64 };
        self.rng.below(most) as usize
    }

    /// One of the servers.
    pub(super) fn place(&mut self) -> usize {
        self.rng.below(self.shape.servers.len() as u64) as usize
    }

    pub(super) fn server(&mut self) -> Target {
        Target::Server(self.place())
    }

    pub(super) fn client(&mut self) -> Target {
        Target::Client(self.rng.below(self.shape.clients as u64) as usize)
    }

    /// Those who hold a chunk that is being written deserve more than their share of trouble.
    pub(super) fn holder(&mut self) -> Target {
        match self.rng.below(4) {
            0 => Target::Primary,
            1 => Target::Member(1 + self.rng.below(2) as usize),
            _ => self.server(),
        }
    }

    pub(super) fn member(&mut self) -> Target {
        if self.rng.chance(1, 5) { Target::Master } else { self.holder() }
    }

    pub(super) fn anyone(&mut self) -> Target {
        if self.rng.chance(1, 4) { self.client() } else { self.member() }
    }

    /// Two between whom messages run.
    fn pair(&mut self) -> (Target, Target) {
        match self.rng.below(8) {
            0..=2 => (self.client(), Target::Primary),
            3 => (Target::Primary, Target::Member(1)),
            4 => (Target::Member(1), Target::Member(2)),
            5 => (Target::Member(1), Target::Primary),
            6 => (self.server(), Target::Master),
            _ => (Target::Master, self.holder()),
        }
    }

    fn outage(&mut self) -> Fault {
        let racks: Vec<&String> = self.shape.servers.iter().map(|server| &server.rack).collect();
        let rack =
            if self.rng.chance(1, 2) { self.rng.pick(&racks).map(|rack| (*rack).clone()) } else { None };
        Fault::Outage { rack, power: !self.shape.is_relaxed() && self.rng.chance(2, 3) }
    }

    /// A fault of this kind; `None` if the cluster could not survive one.
    fn fault(&mut self, kind: Kind) -> Option<Fault> {
        let relaxed = self.shape.is_relaxed();
        Some(match kind {
            Kind::Kill => Fault::Kill { target: self.member() },
            Kind::KillClient => Fault::Kill { target: self.client() },
            Kind::CrashPoint => {
                let target = self.member();
                self.crash_point(target, 40, false)
            }
            Kind::Pause => Fault::Pause { target: self.anyone() },
            Kind::PowerCut if self.rng.chance(1, 4) => Fault::PowerCut { target: Target::Master },
            Kind::PowerCut if relaxed => Fault::PowerCut { target: self.victim?.clone() },
            Kind::PowerCut => Fault::PowerCut { target: self.holder() },
            Kind::PowerPoint => {
                let target = match self.rng.below(4) {
                    0 => Target::Master,
                    _ if relaxed => self.victim?.clone(),
                    _ => self.holder(),
                };
                self.crash_point(target, 40, true)
            }
            Kind::Outage => self.outage(),
            Kind::Split => Fault::Split { mask: self.rng.u64(), one_way: false },
            Kind::OneWay => Fault::Split { mask: self.rng.u64(), one_way: true },
            Kind::Isolate => Fault::Isolate { target: self.anyone() },
            Kind::Reset => Fault::Reset { target: self.anyone(), other: self.anyone() },
            Kind::BadLink => Fault::BadLink {
                target: self.anyone(),
                latency_us: self.rng.below(80_000),
                loss_per_million: self.rng.below(100_000) as u32,
            },
            Kind::Garble => {
                Fault::Garble { target: self.anyone(), per_million: self.rng.below(20_000) as u32 }
            }
            Kind::Stall => {
                let (target, other) = self.pair();
                Fault::Stall { target, other }
            }
            Kind::Zombie => {
                let (target, other) = self.pair();
                Fault::Zombie { target, other, after_ms: self.rng.below(400) }
            }
            Kind::RepeatCall => Fault::RepeatCall { back: self.back(), count: 1 },
            Kind::Backlog => {
                let back = self.back();
                Fault::RepeatCall { back, count: 1 + self.rng.below(back as u64 + 1) as usize }
            }
            Kind::Repeats => {
                Fault::Repeats { target: self.anyone(), per_million: self.rng.below(300_000) as u32 }
            }
            Kind::BadSector => Fault::BadSector { target: self.victim?.clone() },
            Kind::Wipe => Fault::Wipe {
                target: self.victim?.clone(),
                volume: self.rng.below(4) as u16,
                power: self.rng.chance(1, 3),
            },
            Kind::DiskErrors => {
                let target = if relaxed { self.victim?.clone() } else { self.server() };
                Fault::DiskErrors {
                    target,
                    read_per_million: self.rng.below(50_000) as u32,
                    write_per_million: self.rng.below(20_000) as u32,
                    sync_per_million: self.rng.below(20_000) as u32,
                    chunks_only: self.rng.chance(1, 3),
                }
            }
            Kind::SlowDisk => {
                Fault::SlowDisk { target: self.member(), factor: 2 + self.rng.below(200) as u32 }
            }
            Kind::StuckSync => Fault::StuckSync { target: self.member(), names: self.rng.chance(1, 3) },
            Kind::StuckList => Fault::StuckList { target: self.member() },
            Kind::Misdirect => Fault::Misdirect { target: self.victim?.clone() },
            Kind::Remove => Fault::Remove { target: self.victim?.clone() },
            Kind::MasterDisk => Fault::DiskErrors {
                target: Target::Master,
                read_per_million: 0,
                write_per_million: self.rng.below(20_000) as u32,
                sync_per_million: self.rng.below(20_000) as u32,
                chunks_only: false,
            },
            Kind::LogRot => Fault::LogRot,
            Kind::Cut => {
                let (target, other) = self.pair();
                Fault::Cut { target, other, one_way: self.rng.chance(1, 2) }
            }
            Kind::SlowNode => Fault::SlowNode { target: self.anyone(), each_us: 20 + self.rng.below(2_000) },
            Kind::Jump => Fault::Jump { target: self.anyone(), ahead_ms: 1 << self.rng.below(15) },
            Kind::AddServer => {
                let racks: Vec<&String> = self.shape.servers.iter().map(|server| &server.rack).collect();
                Fault::AddServer { rack: self.rng.pick(&racks).map(|rack| (*rack).clone())? }
            }
            Kind::Drift => Fault::Drift { target: self.anyone(), ppm: self.rng.below(10_000) as i32 - 5_000 },
            Kind::CrashLoop
            | Kind::RollingRestart
            | Kind::Swizzle
            | Kind::LateOpen
            | Kind::Replay
            | Kind::BlankMember
            | Kind::LostVote
            | Kind::FailedFence
            | Kind::PassingReads
            | Kind::VolumeAway
            | Kind::HungDrop
            | Kind::MasterPower
            | Kind::Return
            | Kind::TwoCrashes
            | Kind::Flip
            | Kind::JournalRot
            | Kind::StaleCopy
            | Kind::Outrun
            | Kind::LastWords
            | Kind::FullDisk => return None,
        })
    }
}
