//! Of two replicas that a start found on two volumes one stays; the files of the other go into the quarantine, one chunk after
//! the other and in the order that survives a power cut.

use super::Chunkserver;
use super::out::Then;
use super::script::Script;
use crate::defect::Defect;
use crate::disk::{DiskRequest, DiskResult};
use crate::id::ChunkId;

/// A replica that lost.
#[derive(Clone, Debug, Hash)]
pub(super) struct Loser {
    chunk: ChunkId,
    volume: u16,
    script: Script,
}

impl Chunkserver {
    pub(super) fn quarantine_loser(&mut self, chunk: ChunkId, volume: u16) {
        self.second_replicas += 1;
        let script = self.quarantine_steps(chunk, volume, false);
        self.losers.push_back(Loser { chunk, volume, script });
        if self.losers.len() == 1 {
            self.step_losers();
        }
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

    fn step_losers(&mut self) {
        while let Some(Loser { chunk, volume, script }) = self.losers.front_mut() {
            let (chunk, volume) = (*chunk, *volume);
            // The place may have been taken since.
            let taken = self.replicas.get(&chunk).is_some_and(|replica| replica.volume == volume);
            if let Some(request) = script.next().filter(|_| !taken) {
                self.schedule_purge(&request);
                if self.setup.defects.has(Defect::LoserUnordered) {
                    if matches!(request, DiskRequest::Rename { .. }) {
                        self.out.disk(request, Then::Nothing);
                    }
                    continue;
                }
                return self.out.disk(request, Then::LoserMoved);
            }
            self.losers.pop_front();
            if !taken && self.volume(volume).is_ready() {
                self.forget_in_journal(volume, chunk);
            }
        }
    }
}
