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
    Misdirect,
    Remove,
    BlankMember,
    FailedFence,
    PassingReads,
    MasterDisk,
    MasterPower,
    Return,
    TwoCrashes,
    JournalRot,
    LogRot,
    Cut,
    SlowNode,
    Jump,
    Drift,
    AddServer,
}

impl Kind {
    /// What a storm of everything is made of. A rotten log is not in it: the master is rightly gone until it is mended.
    pub(super) const EACH: [Kind; 45] = [
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
        Kind::Misdirect,
        Kind::Remove,
        Kind::BlankMember,
        Kind::FailedFence,
        Kind::PassingReads,
        Kind::MasterDisk,
        Kind::MasterPower,
        Kind::Return,
        Kind::TwoCrashes,
        Kind::JournalRot,
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
            Kind::FailedFence => self.failed_fence(),
            Kind::PassingReads => self.passing_reads(),
            Kind::MasterPower => self.master_power(),
            Kind::Return => self.returns(),
            Kind::TwoCrashes => self.two_crashes(),
            Kind::JournalRot => self.journal_rot(),
            kind => self.single(kind).into_iter().collect(),
        }
    }

    fn strike(&self, after_ms: u64, for_ms: u64, fault: Fault) -> Strike {
        Strike { at_ms: self.at_ms + after_ms, cue: None, for_ms, fault }
    }

    fn duration(&mut self) -> u64 {
        let longest = if self.rng.chance(1, 5) { 6_000 } else { 1_200 };
        20 + self.rng.below(longest)
    }

    fn moment(&mut self, cues: &[Cue]) -> Option<Moment> {
        let what = *self.rng.pick(cues)?;
        let after_us = self.rng.below(400) * u64::from(self.shape.disk_slow_factor);
        Some(Moment { what, at: None, after_us })
    }

    fn single(&mut self, kind: Kind) -> Option<Strike> {
        let cued = self.cued(kind);
        let (cue, fault) = match cued {
            Some((cue, fault)) => (Some(cue), fault),
            None => (None, self.fault(kind)?),
        };
        let for_ms = self.duration();
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
            Kind::StuckSync => Fault::StuckSync { target },
            Kind::Pause => Fault::Pause { target },
            _ => return None,
        };
        if !self.rng.chance(1, 3) {
            return None;
        }
        let cues: &[Cue] = match kind {
            // Disks that lag do so while bytes come in: the others go on without them.
            Kind::SlowDisk | Kind::StuckSync => &[Cue::Open, Cue::Data],
            // What is read may be replaced meanwhile.
            Kind::Pause => &[Cue::Read],
            _ => &Cue::EACH,
        };
        Some((self.moment(cues)?, fault))
    }

    /// Within the next `most` disk operations, or, more rarely, when one of the next names is made.
    fn crash_point(&mut self, target: Target, most: u64, power: bool) -> Fault {
        let naming = self.rng.chance(1, 3);
        Fault::CrashPoint {
            target,
            operation: 1 + self.rng.below(if naming { 3 } else { most }),
            power,
            naming,
        }
    }

    fn server(&mut self) -> Target {
        Target::Server(self.rng.below(self.shape.servers.len() as u64) as usize)
    }

    fn client(&mut self) -> Target {
        Target::Client(self.rng.below(self.shape.clients as u64) as usize)
    }

    /// Those who hold a chunk that is being written deserve more than their share of trouble.
    fn holder(&mut self) -> Target {
        match self.rng.below(4) {
            0 => Target::Primary,
            1 => Target::Member(1 + self.rng.below(2) as usize),
            _ => self.server(),
        }
    }

    fn member(&mut self) -> Target {
        if self.rng.chance(1, 5) { Target::Master } else { self.holder() }
    }

    fn anyone(&mut self) -> Target {
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
            Kind::RepeatCall => Fault::RepeatCall { back: self.rng.below(64) as usize, count: 1 },
            Kind::Backlog => {
                let back = self.rng.below(64) as usize;
                Fault::RepeatCall { back, count: 1 + self.rng.below(back as u64 + 1) as usize }
            }
            Kind::Repeats => {
                Fault::Repeats { target: self.anyone(), per_million: self.rng.below(300_000) as u32 }
            }
            Kind::Flip => Fault::Flip {
                target: self.victim?.clone(),
                bits: 1 + self.rng.below(3) as u32,
                youngest: self.rng.chance(1, 2),
                journals: false,
            },
            Kind::BadSector => Fault::BadSector { target: self.victim?.clone() },
            Kind::Wipe => Fault::Wipe { target: self.victim?.clone(), volume: self.rng.below(4) as u16 },
            Kind::DiskErrors => {
                let target = if relaxed { self.victim?.clone() } else { self.server() };
                Fault::DiskErrors {
                    target,
                    read_per_million: self.rng.below(50_000) as u32,
                    write_per_million: self.rng.below(20_000) as u32,
                    sync_per_million: self.rng.below(20_000) as u32,
                }
            }
            Kind::FullDisk => Fault::FullDisk { target: self.server() },
            Kind::SlowDisk => {
                Fault::SlowDisk { target: self.member(), factor: 2 + self.rng.below(200) as u32 }
            }
            Kind::StuckSync => Fault::StuckSync { target: self.member() },
            Kind::Misdirect => Fault::Misdirect { target: self.victim?.clone() },
            Kind::Remove => Fault::Remove { target: self.victim?.clone() },
            Kind::MasterDisk => Fault::DiskErrors {
                target: Target::Master,
                read_per_million: 0,
                write_per_million: self.rng.below(20_000) as u32,
                sync_per_million: self.rng.below(20_000) as u32,
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
            | Kind::FailedFence
            | Kind::PassingReads
            | Kind::MasterPower
            | Kind::Return
            | Kind::TwoCrashes
            | Kind::JournalRot => return None,
        })
    }

    /// A process that dies again and again, soon after each start.
    fn crash_loop(&mut self) -> Vec<Strike> {
        let target = if self.rng.chance(1, 3) { Target::Master } else { self.server() };
        let mut after = 0;
        (0..3 + self.rng.below(6))
            .map(|_| {
                let down = 10 + self.rng.below(60);
                let strike = self.strike(after, down, Fault::Kill { target: target.clone() });
                after += down + 10 + self.rng.below(250);
                strike
            })
            .collect()
    }

    /// An operator restarts every server, one after the other.
    fn rolling_restart(&mut self) -> Vec<Strike> {
        let pause = 100 + self.rng.below(1_000);
        let strike = |i| {
            let target = if i == 0 { Target::Master } else { Target::Server(i - 1) };
            self.strike(pause * i as u64, 50 + pause / 2, Fault::Kill { target })
        };
        (0..=self.shape.servers.len()).map(strike).collect()
    }

    /// Nodes are cut off one after the other in a random order, and come back in another one.
    fn swizzle(&mut self) -> Vec<Strike> {
        let mut nodes: Vec<Target> = (0..self.shape.servers.len()).map(Target::Server).collect();
        nodes.push(Target::Master);
        nodes.retain(|_| self.rng.chance(3, 4));
        self.rng.shuffle(&mut nodes);
        let mut ends: Vec<u64> = (0..nodes.len()).map(|_| 500 + self.rng.below(2_500)).collect();
        self.rng.shuffle(&mut ends);
        let mut after = 0;
        nodes
            .into_iter()
            .zip(ends)
            .map(|(target, end)| {
                let strike = self.strike(after, end, Fault::Isolate { target });
                after += self.rng.below(200);
                strike
            })
            .collect()
    }

    /// A chunk's opening comes so late that the chunk is fenced before.
    fn late_open(&mut self) -> Vec<Strike> {
        let (cue, target, other) = match self.rng.below(3) {
            0 => (Cue::Open, Target::Cued, Target::Member(1 + self.rng.below(2) as usize)),
            _ => (Cue::Grant, Target::Cued, Target::Primary),
        };
        let fault = if self.rng.chance(1, 2) {
            Fault::Stall { target, other }
        } else {
            Fault::Zombie { target, other, after_ms: self.rng.below(100) }
        };
        let for_ms = self.shape.client.append_timeout_ms / 2 + self.rng.below(2_500);
        vec![Strike {
            cue: Some(Moment { what: cue, at: None, after_us: 0 }),
            ..self.strike(0, for_ms, fault)
        }]
    }

    /// A chunk's opening comes again: at once, after a fence or a seal, or after its server was started again.
    fn replay(&mut self) -> Vec<Strike> {
        let (records, linger_ms) = (self.rng.below(9) as usize, self.rng.below(2_000));
        let back = if self.rng.chance(1, 2) { 0 } else { self.rng.below(3) as usize };
        if self.rng.chance(1, 2) {
            let cue = self.moment(&[Cue::Fence, Cue::Vote, Cue::Seal, Cue::Data, Cue::Complete]);
            let fault = Fault::Replay { target: Target::Cued, back, records, linger_ms };
            return vec![Strike { cue, ..self.strike(0, 1, fault) }];
        }
        let down = 10 + self.rng.below(100);
        match self.rng.below(3) {
            0 => {
                let target = self.holder();
                vec![self.strike(0, 1, Fault::Replay { target, back, records, linger_ms })]
            }
            1 => {
                let target = self.holder();
                let again = Fault::Replay { target: target.clone(), back, records, linger_ms };
                let registered = self.shape.chunkserver.reconnect_ms * 2 + self.rng.below(500);
                vec![self.strike(0, down, Fault::Kill { target }), self.strike(down + registered, 1, again)]
            }
            _ => {
                // Nobody is left who would have the chunks that were being written fenced.
                let all = Fault::Outage { rack: None, power: !self.shape.is_relaxed() };
                let written = Moment { what: Cue::Data, at: None, after_us: self.rng.below(400) };
                let mut strikes = vec![Strike { cue: Some(written), ..self.strike(0, down, all) }];
                for server in 0..self.shape.servers.len() {
                    let again = Fault::Replay { target: Target::Cued, back: 0, records, linger_ms };
                    let after_us = self.rng.below(20_000);
                    let back = Moment { what: Cue::Registered, at: Some(server), after_us };
                    strikes.push(Strike { cue: Some(back), ..self.strike(down, 1, again) });
                }
                strikes
            }
        }
    }

    /// The master's power goes while a change is on its way into the log.
    fn master_power(&mut self) -> Vec<Strike> {
        let cue = self.moment(&[Cue::Change]);
        let down = 10 + self.rng.below(300);
        vec![Strike { cue, ..self.strike(0, down, Fault::PowerCut { target: Target::Master }) }]
    }

    /// A process dies when it has just made a name, or soon after, and its machine loses power when it is back: what the
    /// first one left to the page cache is gone.
    fn two_crashes(&mut self) -> Vec<Strike> {
        if self.shape.is_relaxed() {
            return Vec::new();
        }
        let place = self.rng.below(self.shape.servers.len() as u64) as usize;
        let target = Target::Server(place);
        let operation = 1 + self.rng.below(3);
        let dies = Fault::CrashPoint { target: target.clone(), operation, power: false, naming: true };
        let again = Moment { what: Cue::Registered, at: Some(place), after_us: self.rng.below(20_000) };
        let (down, later) = (10 + self.rng.below(50), 10 + self.rng.below(100));
        let lasts = down + self.rng.below(300);
        vec![
            self.strike(0, lasts, dies),
            Strike { cue: Some(again), ..self.strike(down, later, Fault::PowerCut { target }) },
        ]
    }

    /// A journal rots and is then read.
    fn journal_rot(&mut self) -> Vec<Strike> {
        let Some(target) = self.victim.cloned() else { return Vec::new() };
        let flip = Fault::Flip { target: target.clone(), bits: 1, youngest: false, journals: true };
        let down = 10 + self.rng.below(100);
        vec![self.strike(0, 1, flip), self.strike(1, down, Fault::Kill { target })]
    }

    /// A server comes back when its chunks have been copied: there are too many replicas then, and after a while the master
    /// orders some of them to be dropped. Such orders are carried out late, or hang on their way into the log while another
    /// server loses what it has.
    fn returns(&mut self) -> Vec<Strike> {
        let away = Fault::Kill { target: self.server() };
        let patience = self.shape.master.dead_after_ms;
        let gone = patience + self.shape.master.repair_delay_ms + 200 + self.rng.below(3_000);
        let mut strikes = vec![self.strike(0, gone, away)];
        if self.rng.chance(1, 2) {
            let cue = self.moment(&[Cue::Drop]);
            let lasts = self.shape.master.block_report_ms + patience + 500 + self.rng.below(3_000);
            let hangs = Fault::StuckSync { target: Target::Cued };
            strikes.push(Strike { cue, ..self.strike(gone + patience, lasts, hangs) });
        } else if let Some(victim) = self.victim {
            let (at, lasts) = (gone + patience + self.rng.below(300), 1_500 + self.rng.below(2_500));
            strikes.push(self.strike(at, lasts, Fault::StuckSync { target: Target::Master }));
            let (volume, after) = (self.rng.below(4) as u16, 300 + self.rng.below(lasts - 800));
            let wipe = Fault::Wipe { target: victim.clone(), volume };
            let down = 10 + self.rng.below(50);
            strikes.push(self.strike(at + after, down, wipe));
        }
        strikes
    }

    /// Of three members one hears nothing, one has its disks replaced, and one is cut off: the two that are left know
    /// nothing of what was committed.
    fn blank_member(&mut self) -> Vec<Strike> {
        let Some(Target::Server(at)) = self.victim.cloned() else { return Vec::new() };
        let lasts = 1_000 + self.rng.below(4_000);
        let away = if self.rng.chance(1, 2) { Target::Primary } else { Target::Member(1) };
        let deaf = Fault::Stall { target: Target::Member(1), other: Target::Member(2) };
        let opened = Moment { what: Cue::Grant, at: None, after_us: 0 };
        let written = || Some(Moment { what: Cue::Data, at: Some(at), after_us: 5_000 });
        let wipe = Fault::Wipe { target: Target::Server(at), volume: self.rng.below(4) as u16 };
        let down = 10 + self.rng.below(100);
        vec![
            Strike { cue: Some(opened), ..self.strike(0, lasts, deaf) },
            Strike { cue: written(), ..self.strike(0, lasts, Fault::Isolate { target: away }) },
            Strike { cue: written(), ..self.strike(0, down, wipe) },
        ]
    }

    /// A server that is told to fence can't sync what it has.
    fn failed_fence(&mut self) -> Vec<Strike> {
        // Under relaxed durability a failed sync is a loss.
        if self.shape.is_relaxed() {
            return Vec::new();
        }
        let errors = Fault::DiskErrors {
            target: Target::Cued,
            read_per_million: 0,
            write_per_million: 0,
            sync_per_million: 200_000 + self.rng.below(1_000_000).min(800_000) as u32,
        };
        // Bytes that were written and not yet synced are synced at once.
        let after_us = if self.rng.chance(1, 2) { 0 } else { self.rng.below(100) };
        let cue = Some(Moment { what: Cue::Fence, at: None, after_us });
        let lasts = 5 + self.rng.below(100);
        vec![Strike { cue, ..self.strike(0, lasts, errors) }]
    }

    /// A server starts, or goes on, while some of what it reads can't be read; a moment later all of it can.
    fn passing_reads(&mut self) -> Vec<Strike> {
        let target = self.server();
        if self.rng.chance(1, 3) {
            let read_per_million = 50_000 + self.rng.below(300_000) as u32;
            let errors =
                Fault::DiskErrors { target, read_per_million, write_per_million: 0, sync_per_million: 0 };
            let lasts = 20 + self.rng.below(500);
            return vec![self.strike(0, lasts, errors)];
        }
        let errors = Fault::DiskErrors {
            target: target.clone(),
            read_per_million: 2_000 + self.rng.below(40_000) as u32,
            write_per_million: 0,
            sync_per_million: 0,
        };
        let down = 10 + self.rng.below(50);
        let lasts = down + 20 + self.rng.below(300) * u64::from(self.shape.disk_slow_factor).min(4);
        vec![self.strike(0, lasts, errors), self.strike(1, down, Fault::Kill { target })]
    }
}
