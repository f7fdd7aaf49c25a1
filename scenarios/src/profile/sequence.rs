//! Trouble that is made of several strikes, one after the other or waiting for each other.

use super::kind::Draw;
use crate::nemesis::{Cue, Fault, Target};
use crate::plan::{Moment, Strike};

impl Draw<'_> {
    /// A process that dies again and again, soon after each start.
    pub(super) fn crash_loop(&mut self) -> Vec<Strike> {
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
    pub(super) fn rolling_restart(&mut self) -> Vec<Strike> {
        let pause = 100 + self.rng.below(1_000);
        let strike = |i| {
            let target = if i == 0 { Target::Master } else { Target::Server(i - 1) };
            self.strike(pause * i as u64, 50 + pause / 2, Fault::Kill { target })
        };
        (0..=self.shape.servers.len()).map(strike).collect()
    }

    /// Nodes are cut off one after the other in a random order, and come back in another one.
    pub(super) fn swizzle(&mut self) -> Vec<Strike> {
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
    pub(super) fn late_open(&mut self) -> Vec<Strike> {
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
    pub(super) fn replay(&mut self) -> Vec<Strike> {
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
                    let back = Moment::at(server, Cue::Registered, after_us);
                    strikes.push(Strike { cue: Some(back), ..self.strike(down, 1, again) });
                }
                strikes
            }
        }
    }

    /// The master's power goes while a change is on its way into the log.
    pub(super) fn master_power(&mut self) -> Vec<Strike> {
        let cue = self.moment(&[Cue::Change]);
        let down = 10 + self.rng.below(300);
        vec![Strike { cue, ..self.strike(0, down, Fault::PowerCut { target: Target::Master }) }]
    }

    /// A process dies when it has just made a name, or soon after, and its machine loses power when it is back: what the
    /// first one left to the page cache is gone. Half of the time the names are those of what goes into the quarantine.
    pub(super) fn two_crashes(&mut self) -> Vec<Strike> {
        if self.shape.is_relaxed() {
            return Vec::new();
        }
        let place = self.place();
        let target = Target::Server(place);
        let operation = 1 + self.rng.below(3);
        let dies = Fault::CrashPoint { target: target.clone(), operation, power: false, naming: true };
        let cue = self.rng.chance(1, 2).then(|| Moment::at(place, Cue::Reclaim, 0));
        let again = Moment::at(place, Cue::Registered, self.rng.below(20_000));
        let (down, later) = (10 + self.rng.below(50), 10 + self.rng.below(100));
        let lasts = down + self.rng.below(300);
        vec![
            Strike { cue, ..self.strike(0, lasts, dies) },
            Strike { cue: Some(again), ..self.strike(down, later, Fault::PowerCut { target }) },
        ]
    }

    /// Bits rot; half of the time the server dies when it has found out, and must not forget.
    pub(super) fn flip(&mut self) -> Vec<Strike> {
        let Some(target) = self.victim.cloned() else { return Vec::new() };
        let (bits, youngest) = (1 + self.rng.below(3) as u32, self.rng.chance(1, 2));
        let flip = Fault::Flip { target, bits, youngest, journals: false };
        let mut strikes = vec![self.strike(0, 1, flip)];
        if self.rng.chance(1, 2) {
            let after_us = self.rng.below(50_000) * u64::from(self.shape.disk_slow_factor);
            let cue = Some(Moment { what: Cue::Damage, at: None, after_us });
            let down = 10 + self.rng.below(200);
            strikes.push(Strike { cue, ..self.strike(0, down, Fault::Kill { target: Target::Cued }) });
        }
        strikes
    }

    /// A journal rots and is then read; half of the time the start that finds out is cut short, when it has just made a name.
    pub(super) fn journal_rot(&mut self) -> Vec<Strike> {
        let Some(target) = self.victim.cloned() else { return Vec::new() };
        let youngest = self.rng.chance(1, 2);
        let flip = Fault::Flip { target: target.clone(), bits: 1, youngest, journals: true };
        let down = 10 + self.rng.below(100);
        let mut strikes =
            vec![self.strike(0, 1, flip), self.strike(1, down, Fault::Kill { target: target.clone() })];
        if self.rng.chance(1, 2) {
            let (operation, lasts) = (1 + self.rng.below(10), 500 + self.rng.below(2_000));
            let dies = Fault::CrashPoint { target, operation, power: false, naming: true };
            strikes.push(self.strike(2 + down, lasts, dies));
        }
        strikes
    }

    /// A server comes back when its chunks have been copied: there are too many replicas then, and after a while the master
    /// orders some of them to be dropped. Such orders are carried out late, or hang on their way into the log while another
    /// server loses what it has; or another one was just started again when they are to be given, and its lists hang.
    pub(super) fn returns(&mut self) -> Vec<Strike> {
        let away = Fault::Kill { target: self.server() };
        let patience = self.shape.master.dead_after_ms;
        let gone = patience + self.shape.master.repair_delay_ms + 200 + self.rng.below(3_000);
        let mut strikes = vec![self.strike(0, gone, away)];
        if self.rng.chance(1, 3) {
            let target = self.server();
            let (after, down) = (gone + self.rng.below(patience), 5 + self.rng.below(50));
            let (lists, lags) =
                (Fault::StuckList { target: target.clone() }, patience * 2 + self.rng.below(2_000));
            strikes.push(self.strike(after, lags, lists));
            strikes.push(self.strike(after + 1, down, Fault::Kill { target }));
        } else if self.rng.chance(1, 2) {
            let cue = self.moment(&[Cue::Drop]);
            let lasts = self.shape.master.block_report_ms + patience + 500 + self.rng.below(3_000);
            let hangs = Fault::StuckSync { target: Target::Cued, names: false };
            strikes.push(Strike { cue, ..self.strike(gone + patience, lasts, hangs) });
        } else if let Some(victim) = self.victim {
            let (at, lasts) = (gone + patience + self.rng.below(300), 1_500 + self.rng.below(2_500));
            strikes.push(self.strike(at, lasts, Fault::StuckSync { target: Target::Master, names: false }));
            let (volume, after) = (self.rng.below(4) as u16, 300 + self.rng.below(lasts - 800));
            let wipe = Fault::Wipe { target: victim.clone(), volume, power: self.rng.chance(1, 2) };
            let down = 10 + self.rng.below(50);
            strikes.push(self.strike(at + after, down, wipe));
        }
        strikes
    }

    /// Of three members one hears nothing, one has its disks replaced, and one is cut off: the two that are left know
    /// nothing of what was committed.
    pub(super) fn blank_member(&mut self) -> Vec<Strike> {
        let Some(Target::Server(at)) = self.victim.cloned() else { return Vec::new() };
        let lasts = 1_000 + self.rng.below(4_000);
        let away = if self.rng.chance(1, 2) { Target::Primary } else { Target::Member(1) };
        let deaf = Fault::Stall { target: Target::Member(1), other: Target::Member(2) };
        let opened = Moment { what: Cue::Grant, at: None, after_us: 0 };
        let written = || Some(Moment::at(at, Cue::Data, 5_000));
        let volume = self.rng.below(4) as u16;
        let wipe = Fault::Wipe { target: Target::Server(at), volume, power: false };
        let down = 10 + self.rng.below(100);
        vec![
            Strike { cue: Some(opened), ..self.strike(0, lasts, deaf) },
            Strike { cue: written(), ..self.strike(0, lasts, Fault::Isolate { target: away }) },
            Strike { cue: written(), ..self.strike(0, down, wipe) },
        ]
    }

    /// Of three members two can't hear the master; the third has voted when it loses what it had, its journal, or, under
    /// `async`, its power. It comes back as another incarnation before one of the others votes: its vote counts no more.
    pub(super) fn lost_vote(&mut self) -> Vec<Strike> {
        let Some(Target::Server(at)) = self.victim.cloned() else { return Vec::new() };
        let gives_up = self.shape.client.append_timeout_ms;
        // Longer than its time-out no seal waits: the next one begins without votes.
        let lasts = gives_up + 100 + self.rng.below(self.shape.master.seal_timeout_ms);
        let mut others = vec![Target::Primary, Target::Member(1), Target::Member(2)];
        others.remove(self.rng.below(3) as usize);
        let written = || Some(Moment::at(at, Cue::Data, 0));
        let mut strikes: Vec<Strike> = others
            .into_iter()
            .map(|target| {
                let apart = Fault::Cut { target, other: Target::Master, one_way: false };
                Strike { cue: written(), ..self.strike(0, lasts, apart) }
            })
            .collect();
        let target = Target::Server(at);
        let (voted, down) = (1_000 + self.rng.below(40_000), 5 + self.rng.below(40));
        let mut strike = |us, for_ms, fault| {
            let cue = Some(Moment::at(at, Cue::Fence, voted + us));
            strikes.push(Strike { at_ms: self.at_ms + gives_up * 3 / 4, cue, for_ms, fault });
        };
        if self.shape.is_relaxed() && self.rng.chance(1, 2) {
            strike(0, down, Fault::PowerCut { target });
        } else if self.rng.chance(1, 2) {
            // Its disks stay, and what it promised on them is void.
            strike(0, 1, Fault::Flip { target: target.clone(), bits: 1, youngest: false, journals: true });
            strike(500, down, Fault::Kill { target });
        } else {
            let (volume, power) = (self.rng.below(4) as u16, self.rng.chance(1, 3));
            strike(0, down, Fault::Wipe { target, volume, power });
        }
        strikes
    }

    /// A server that is told to fence can't sync what it has.
    pub(super) fn failed_fence(&mut self) -> Vec<Strike> {
        if self.shape.is_relaxed() {
            return self.failed_flush();
        }
        // Half of the time what it has is not synced then: syncs hang since bytes came.
        let place = self.rng.chance(1, 2).then(|| self.place());
        let errors = self.failing_syncs(Target::Cued);
        // Bytes that were written and not yet synced are synced at once.
        let after_us = if self.rng.chance(1, 2) { 0 } else { self.rng.below(100) };
        let cue = Some(Moment { what: Cue::Fence, at: place, after_us });
        let lasts = 5 + self.rng.below(100);
        let Some(place) = place else { return vec![Strike { cue, ..self.strike(0, lasts, errors) }] };
        let gives_up = self.shape.client.append_timeout_ms;
        let hangs = Fault::StuckSync { target: Target::Server(place), names: false };
        let written = Some(Moment::at(place, Cue::Data, 0));
        vec![
            Strike { cue: written, ..self.strike(0, gives_up * 3, hangs) },
            Strike { cue, ..self.strike(gives_up / 2, lasts, errors) },
        ]
    }

    /// Under relaxed durability a failed sync is a loss, so only the victim's may fail: of chunks that wait to be made durable,
    /// at any time, or about when that is due.
    fn failed_flush(&mut self) -> Vec<Strike> {
        let Some(target @ Target::Server(place)) = self.victim.cloned() else { return Vec::new() };
        let errors = self.failing_syncs(target);
        if self.rng.chance(1, 2) {
            let lasts = 50 + self.rng.below(1_000);
            return vec![self.strike(0, lasts, errors)];
        }
        let early_us = self.rng.below(30_000);
        let due_us = (self.shape.chunkserver.lazy_sync_ms * 1_000).saturating_sub(early_us);
        let lasts = 20 + self.rng.below(150);
        vec![Strike { cue: Some(Moment::at(place, Cue::Seal, due_us)), ..self.strike(0, lasts, errors) }]
    }

    /// One sync in five fails, or more; half of the time those of journals don't.
    fn failing_syncs(&mut self, target: Target) -> Fault {
        let sync_per_million = 200_000 + self.rng.below(1_000_000).min(800_000) as u32;
        let chunks_only = self.rng.chance(1, 2);
        Fault::DiskErrors { target, read_per_million: 0, write_per_million: 0, sync_per_million, chunks_only }
    }

    /// A server starts, or goes on, while some of what it reads can't be read; a moment later all of it can.
    pub(super) fn passing_reads(&mut self) -> Vec<Strike> {
        let target = self.server();
        let errors = |read_per_million| Fault::DiskErrors {
            target: target.clone(),
            read_per_million,
            write_per_million: 0,
            sync_per_million: 0,
            chunks_only: false,
        };
        if self.rng.chance(1, 3) {
            let errors = errors(50_000 + self.rng.below(300_000) as u32);
            let lasts = 20 + self.rng.below(500);
            return vec![self.strike(0, lasts, errors)];
        }
        let errors = errors(2_000 + self.rng.below(40_000) as u32);
        let down = 10 + self.rng.below(50);
        let lasts = down + 20 + self.rng.below(300) * u64::from(self.shape.disk_slow_factor).min(4);
        vec![self.strike(0, lasts, errors), self.strike(1, down, Fault::Kill { target })]
    }

    /// A server dies while a chunk is written or sealed, and starts without the volume where it lies. It is given a copy of what was
    /// sealed meanwhile; when it starts with that volume again it has two replicas, the first of which may be unsealed, or in the
    /// page cache only.
    pub(super) fn volume_away(&mut self) -> Vec<Strike> {
        let servers = self.shape.servers.iter().enumerate();
        let places: Vec<usize> = servers.filter(|(_, server)| server.volumes > 1).map(|(i, _)| i).collect();
        let Some(place) = self.rng.pick(&places).copied() else { return Vec::new() };
        let target = Target::Server(place);
        let written = if self.shape.is_relaxed() { Cue::Seal } else { Cue::Data };
        let what = *self.rng.pick(&[written, Cue::Data, Cue::Fence, Cue::Seal]).unwrap_or(&written);
        let struck_us = self.rng.below(10_000);
        let repaired = self.shape.client.append_timeout_ms + self.shape.master.repair_delay_ms;
        let lasts = repaired + 500 + self.rng.below(4_000);
        let (again_us, down) = ((lasts + 1 + self.rng.below(1_500)) * 1_000, 5 + self.rng.below(50));
        let cued = |after_us, for_ms, fault| {
            let cue = Some(Moment::at(place, what, struck_us + after_us));
            Strike { cue, ..self.strike(0, for_ms, fault) }
        };
        vec![
            cued(0, lasts, Fault::VolumeAway { target: target.clone() }),
            cued(again_us, down, Fault::Kill { target }),
        ]
    }

    /// A server is told to drop a chunk, mostly the one that it sealed last, and its syncs hang until what it dropped has been in the
    /// quarantine for long enough: its journal may not be durable when the drop goes on.
    pub(super) fn hung_drop(&mut self) -> Vec<Strike> {
        let cues = [Cue::Drop, Cue::Reclaim, Cue::DropLast, Cue::DropLast, Cue::DropLast, Cue::DropLast];
        let cue = self.moment(&cues);
        let lasts = self.shape.chunkserver.quarantine_ms + 500 + self.rng.below(4_000);
        let hangs = Fault::StuckSync { target: Target::Cued, names: self.rng.chance(1, 4) };
        vec![Strike { cue, ..self.strike(0, lasts, hangs) }]
    }

    /// A disk has no room left; its process may die meanwhile, and start on it.
    pub(super) fn full_disk(&mut self) -> Vec<Strike> {
        let lasts = 200 + self.duration();
        if let Some(Target::Server(place)) = self.victim
            && self.rng.chance(1, 4)
        {
            return self.full_and_blank(*place, lasts);
        }
        let target = if self.rng.chance(1, 4) { Target::Master } else { self.server() };
        let mut strikes = vec![self.strike(0, lasts, Fault::FullDisk { target: target.clone() })];
        if self.rng.chance(1, 2) {
            let (after, down) = (self.rng.below(lasts), 10 + self.rng.below(50));
            strikes.push(self.strike(after, down, Fault::Kill { target }));
        }
        strikes
    }

    /// A blank disk is full when its volume is to become the cluster's.
    fn full_and_blank(&mut self, place: usize, lasts: u64) -> Vec<Strike> {
        let target = Target::Server(place);
        let (volume, down) = (self.rng.below(4) as u16, 10 + self.rng.below(100));
        let wipe = Fault::Wipe { target: target.clone(), volume, power: false };
        let registers = Some(Moment::at(place, Cue::Registered, 0));
        vec![
            self.strike(0, down, wipe),
            Strike { cue: registers, ..self.strike(0, lasts, Fault::FullDisk { target }) },
        ]
    }

    /// A member dies while it is written to, comes back with less than the others, and is told to copy what they have: so
    /// slowly that somebody else is told, too, and what it has is to be dropped. Whatever lists showed meanwhile is old news.
    pub(super) fn stale_copy(&mut self) -> Vec<Strike> {
        let place = self.place();
        let target = Target::Server(place);
        let cued = |what, after_us| Some(Moment::at(place, what, after_us));
        let (dies_us, down) = (self.rng.below(2_000), 50 + self.rng.below(500));
        let dies = Strike {
            cue: cued(Cue::Data, dies_us),
            ..self.strike(0, down, Fault::Kill { target: target.clone() })
        };
        let master = &self.shape.master;
        let lasts = master.repair_timeout_ms + 2_000 + self.rng.below(5_000);
        let hangs = Fault::StuckSync { target: target.clone(), names: self.rng.chance(2, 3) };
        let (lists, lags) = (Fault::StuckList { target }, lasts + 300 + self.rng.below(2_000));
        vec![
            dies,
            Strike { cue: cued(Cue::CopyOver, 0), ..self.strike(0, lasts, hangs) },
            Strike { cue: cued(Cue::CopyOver, 0), ..self.strike(0, lags, lists) },
        ]
    }

    /// A member that the master can't reach has more than the others, or has synced less; it learns late what the chunk was
    /// sealed as, and dies over it.
    pub(super) fn outrun(&mut self) -> Vec<Strike> {
        let place = self.place();
        let target = Target::Server(place);
        let cued = |what, after_us| Some(Moment::at(place, what, after_us));
        let client = &self.shape.client;
        let lasts = client.append_timeout_ms + self.shape.master.seal_grace_ms + 200 + self.rng.below(1_500);
        let written_us = self.rng.below(3_000);
        let apart = Fault::Cut { target: target.clone(), other: Target::Master, one_way: false };
        let mut strikes = vec![Strike { cue: cued(Cue::Data, written_us), ..self.strike(0, lasts, apart) }];
        let unsynced = self.rng.chance(1, 2);
        if unsynced {
            let hangs = Fault::StuckSync { target: target.clone(), names: false };
            let hangs_for = lasts + self.rng.below(600);
            strikes.push(Strike { cue: cued(Cue::Data, written_us), ..self.strike(0, hangs_for, hangs) });
        } else {
            for other in 1..3 {
                let alone = Fault::Stall { target: target.clone(), other: Target::Member(other) };
                strikes.push(Strike { cue: cued(Cue::Data, written_us), ..self.strike(0, lasts, alone) });
            }
        }
        let power = !self.shape.is_relaxed();
        let late = unsynced && power && self.rng.chance(1, 2);
        let dies = if late { Fault::PowerCut { target } } else { self.crash_point(target, 10, power) };
        let dies_us = self.rng.below(if late { 600_000 } else { 500 });
        let down = 10 + self.rng.below(200);
        strikes.push(Strike {
            cue: cued(Cue::Seal, dies_us),
            ..self.strike(lasts.saturating_sub(100), down, dies)
        });
        strikes
    }

    /// A server that could not reach the master dies when it can again: what it had said arrives when its successor is there.
    pub(super) fn last_words(&mut self) -> Vec<Strike> {
        let target = self.server();
        let beat = self.shape.master.heartbeat_ms;
        let patience = self.shape.master.dead_after_ms;
        let lasts = beat * 2 + self.rng.below(patience - beat * 3);
        let apart =
            Fault::Cut { target: target.clone(), other: Target::Master, one_way: self.rng.chance(1, 2) };
        let (after, down) = (lasts + self.rng.below(20), 1 + self.rng.below(30));
        vec![self.strike(0, lasts, apart), self.strike(after, down, Fault::Kill { target })]
    }
}
