//! Of two replicas that a start found on two volumes one stays; the files of the other go into the quarantine, one chunk after
//! the other and in the order that survives a crash: as with a drop, what the journal promises is forgotten before its file goes.
//! None goes as long as a power cut may take the one that stays.

use super::Chunkserver;
use super::journal::{Record, Waiter};
use super::out::Then;
use super::script::Script;
use crate::defect::Defect;
use crate::disk::{DiskRequest, DiskResult};
use crate::id::ChunkId;
use crate::message::ReplicaState;
use crate::reached;

/// A replica that lost.
#[derive(Clone, Debug, Hash)]
pub(super) struct Loser {
    chunk: ChunkId,
    volume: u16,
    /// Its journal is to forget what it promises before its files go; else it does so when they are gone.
    forgets_first: bool,
    /// A power cut may still take the one that stays.
    is_needed: bool,
    phase: Phase,
    script: Script,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Phase {
    Waiting,
    /// The journal is forgetting what it promises.
    Forgetting,
    Moving,
}

impl Chunkserver {
    /// Nothing is done to it before [`Chunkserver::start_losers`]: the journal may be written anew from the replicas that are in
    /// their places.
    ///
    /// `keep`: it is not to be purged.
    pub(super) fn quarantine_loser(&mut self, chunk: ChunkId, volume: u16, is_unsealed: bool, keep: bool) {
        self.second_replicas += 1;
        let forgets_first = is_unsealed && !self.setup.defects.has(Defect::LoserForgottenLate);
        let script = self.quarantine_steps(chunk, volume, keep);
        let (is_needed, phase) = (false, Phase::Waiting);
        self.losers.push_back(Loser { chunk, volume, forgets_first, is_needed, phase, script });
    }

    /// Whether a chunk's names on some volume are still those of a replica that lost.
    pub(super) fn is_losing(&self, chunk: ChunkId) -> bool {
        self.losers.iter().any(|loser| loser.chunk == chunk)
    }

    /// The first of them goes, unless one is under way.
    pub(super) fn start_losers(&mut self) {
        if self.is_loser_waiting() {
            self.step_losers();
        }
    }

    fn is_loser_waiting(&self) -> bool {
        self.losers.front().is_some_and(|loser| loser.phase == Phase::Waiting)
    }

    pub(super) fn on_loser_moved(&mut self, result: &DiskResult) {
        if let Some(loser) = self.losers.front_mut()
            && loser.script.check(result).is_err()
        {
            // What could not be moved the next start finds again.
            loser.script = Script::default();
        }
        self.step_losers();
    }

    pub(super) fn on_loser_forgotten(&mut self) {
        if let Some(loser) = self.losers.front_mut() {
            loser.phase = Phase::Moving;
        }
        self.step_losers();
    }

    /// A volume is out of use: its journal answers nobody any more. Disk operations that are under way will still be answered.
    pub(super) fn abandon_losers(&mut self, volume: u16) {
        self.losers.retain(|loser| loser.volume != volume || loser.phase == Phase::Moving);
        self.start_losers();
    }

    /// The next one to go comes to the front, unless one is under way; false if there is none, or all that are left are needed. If
    /// the one that stayed turned out to be damaged before it was durable, this one is left where it is: the next start takes it.
    fn choose_loser(&mut self) -> bool {
        if !self.is_loser_waiting() {
            return !self.losers.is_empty();
        }
        let goes_early = self.setup.defects.has(Defect::LoserGoesEarly);
        let replicas = &self.replicas;
        let stays = |loser: &Loser| replicas.get(&loser.chunk).map(|r| (r.state, r.kept.is_at_risk()));
        self.losers
            .retain(|loser| !loser.is_needed || !matches!(stays(loser), Some((ReplicaState::Damaged, _))));
        for loser in &mut self.losers {
            loser.is_needed = stays(loser) == Some((ReplicaState::Sealed, true)) && !goes_early;
            if loser.is_needed {
                reached!("losers.needed");
            }
        }
        let Some(next) = self.losers.iter().position(|loser| !loser.is_needed) else { return false };
        self.losers.swap(0, next);
        true
    }

    fn step_losers(&mut self) {
        while self.choose_loser()
            && let Some(&Loser { chunk, volume, forgets_first, phase, .. }) = self.losers.front()
        {
            let is_in_use = self.volume(volume).is_ready();
            let Some(loser) = self.losers.front_mut().filter(|_| is_in_use) else {
                self.losers.pop_front();
                continue;
            };
            if phase == Phase::Waiting {
                loser.phase = if forgets_first { Phase::Forgetting } else { Phase::Moving };
                if forgets_first {
                    reached!("losers.forgotten_first");
                    return self.log(volume, alloc::vec![Record::Forget { chunk }], Waiter::Loser, true);
                }
            }
            let Some(request) = loser.script.next() else {
                self.losers.pop_front();
                if !forgets_first {
                    self.forget_in_journal(volume, chunk);
                }
                continue;
            };
            self.schedule_purge(&request);
            if self.setup.defects.has(Defect::LoserUnordered) {
                if matches!(request, DiskRequest::Rename { .. }) {
                    self.out.disk(request, Then::Nothing);
                }
                continue;
            }
            return self.out.disk(request, Then::LoserMoved);
        }
    }
}
