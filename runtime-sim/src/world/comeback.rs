//! What would become of a node if its process died just now, or its power failed: a new process recovers on doubles of its
//! disks. Nothing of the run changes by it, so that a checker can ask again and again where a storm could crash once.

use std::collections::BTreeSet;

use cairn_core::disk::{DiskError, DiskPath, DiskRequest};
use cairn_core::id::{BootId, OpId, ProcessId};
use cairn_core::machine::{Effect, Effects, Input, Level, Machine};
use cairn_core::rng::Rng;
use cairn_core::time::Time;

use super::{World, volume_of};
use crate::disk::{Hands, Volume};
use crate::node::Birth;
use crate::outcome::FaultCounts;

/// How a node goes down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Crash {
    /// The power fails: what is not synced is at risk.
    pub power: bool,
    /// The new process goes down after so many of its disk operations; the next one recovers.
    pub again: Option<Again>,
}

/// How the new process goes down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Again {
    /// After so many of its disk operations,
    pub after: u64,
    /// counted from its start, or when one of them has changed a name or cut a file.
    pub changing: bool,
    /// The power fails.
    pub power: bool,
    /// A file that it can't read: a passing error.
    pub unreadable: Option<DiskPath>,
}

/// A node that came back.
#[derive(Debug)]
pub struct Comeback<M> {
    /// Its process, when its disks have nothing more to do. What it sends goes nowhere.
    pub machine: M,
    /// Why that process ended, if it did.
    pub halted: Option<String>,
    /// What it told of to somebody who can do something about it.
    pub alarms: Vec<String>,
    volumes: Vec<Volume>,
    at_risk: BTreeSet<DiskPath>,
}

impl<M> Comeback<M> {
    /// Whether a file may be another one than it was when its node went down: there was something unsynced or under way.
    pub fn was_at_risk(&self, volume: u16, path: &str) -> bool {
        self.at_risk.contains(&DiskPath::new(volume, path))
    }

    /// Looks at a file's bytes as the process sees them.
    pub fn with_file<R>(&self, volume: u16, path: &str, look: impl FnOnce(&[u8]) -> R) -> Option<R> {
        self.volumes.get(usize::from(volume))?.with_cached(path, look)
    }
}

impl World {
    /// Lets a node go down and come back, apart from the run. `make` makes its processes.
    pub fn comeback<M: Machine>(
        &self,
        name: &str,
        crash: Crash,
        rng: &mut Rng,
        make: impl Fn(&Birth) -> M,
    ) -> Comeback<M> {
        let (mut after, birth, now) = self.double(name);
        let at_risk = after.at_risk();
        let mut boot = birth.boot;
        let mut next = |power: bool, rng: &mut Rng| {
            if power {
                boot = BootId(rng.u64());
            }
            Birth { seed: rng.u64(), process: ProcessId(rng.u64()), boot, ..birth.clone() }
        };
        after.go_down(crash.power, rng);
        let mut last = next(crash.power, rng);
        if let Some(again) = crash.again {
            after.recover(&mut make(&last), now, rng, Some(&again));
            after.go_down(again.power, rng);
            last = next(again.power, rng);
        }
        let mut machine = make(&last);
        after.alarms.clear();
        let halted = after.recover(&mut machine, now, rng, None);
        Comeback { machine, halted, alarms: after.alarms, volumes: after.volumes, at_risk }
    }

    fn double(&self, name: &str) -> (Aftermath, Birth, Time) {
        let now = self.now();
        let mut state = self.lock();
        let node = state.node(name);
        let under_way = node.under_way.values().map(|op| (op.op, op.request.clone(), op.mark)).collect();
        let birth = node.birth(now);
        let volumes = node.volumes.iter().map(Volume::fork).collect();
        let after = Aftermath { volumes, under_way, alarms: Vec::new() };
        (after, birth, node.clock.read(now))
    }
}

/// A node's disks beside the run, and what is under way on them.
struct Aftermath {
    volumes: Vec<Volume>,
    under_way: Vec<(OpId, DiskRequest, u64)>,
    alarms: Vec<String>,
}

impl Aftermath {
    fn at_risk(&self) -> BTreeSet<DiskPath> {
        let unsynced = (0..).zip(&self.volumes).flat_map(|(volume, disk)| {
            disk.unsynced_names().into_iter().map(move |name| DiskPath { volume, name })
        });
        let under_way = self.under_way.iter().filter_map(|(_, request, _)| request.path().cloned());
        unsynced.chain(under_way).collect()
    }

    fn go_down(&mut self, power: bool, rng: &mut Rng) {
        let counts = &mut FaultCounts::default();
        let under_way = self.under_way.drain(..).map(|(_, request, mark)| (request, mark)).collect();
        interrupt(&mut self.volumes, under_way, rng, counts);
        if power {
            self.volumes.iter_mut().for_each(|volume| volume.cut_power(rng, counts));
        }
    }

    /// Runs a new process until its disks are idle, or until it is to go down again. Why it ended, if it did.
    fn recover<M: Machine>(
        &mut self,
        machine: &mut M,
        now: Time,
        rng: &mut Rng,
        again: Option<&Again>,
    ) -> Option<String> {
        let mut left = again.map(|again| again.after);
        let mut from_change = again.is_some_and(|again| again.changing);
        let unreadable = again.and_then(|again| again.unreadable.as_ref());
        let mut effects = Effects::default();
        machine.handle(now, Input::Wake, &mut effects);
        loop {
            for effect in effects.drain() {
                match effect {
                    Effect::Disk { op, request } => {
                        let mark = self.volumes[usize::from(volume_of(&request))].mark();
                        self.under_way.push((op, request, mark));
                    }
                    Effect::Halt { reason, .. } => return Some(reason),
                    Effect::Note { level: Level::Alarm, text } => self.alarms.push(text),
                    _ => {}
                }
            }
            if self.under_way.is_empty() || (left == Some(0) && !from_change) {
                return None;
            }
            let next = rng.below(self.under_way.len() as u64) as usize;
            let (op, request, mark) = self.under_way.swap_remove(next);
            if from_change {
                from_change = !changes(&request);
            } else {
                left = left.map(|left| left - 1);
            }
            let counts = &mut FaultCounts::default();
            let mut hands = Hands { rng, counts, sync_lost: false, failed: None };
            let is_read = matches!(request, DiskRequest::Read { .. });
            let result = if is_read && unreadable.is_some() && request.path() == unreadable {
                Err(DiskError::Io("a passing error".into()))
            } else {
                self.volumes[usize::from(volume_of(&request))].execute(request, mark, &mut hands)
            };
            machine.handle(now, Input::DiskDone { op, result }, &mut effects);
        }
    }
}

/// Whether an operation is one of those in whose order a crash must find them.
fn changes(request: &DiskRequest) -> bool {
    matches!(request, DiskRequest::Rename { .. } | DiskRequest::Remove(_) | DiskRequest::Truncate { .. })
}

/// A process dies while these operations are under way: each happens or not, a write perhaps in part.
pub(super) fn interrupt(
    volumes: &mut [Volume],
    mut under_way: Vec<(DiskRequest, u64)>,
    rng: &mut Rng,
    counts: &mut FaultCounts,
) {
    rng.shuffle(&mut under_way);
    for (request, mark) in under_way {
        let volume = &mut volumes[usize::from(volume_of(&request))];
        let mut hands = Hands { rng, counts, sync_lost: false, failed: None };
        match hands.rng.below(3) {
            0 => {}
            1 => {
                // Nobody is there to be told how it ended.
                let _ = volume.execute(request, mark, &mut hands);
            }
            _ => volume.write_in_part(request, hands.rng),
        }
    }
}
