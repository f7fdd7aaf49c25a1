//! Nothing is removed at once: dropped and replaced replicas are renamed into `quarantine/` and purged later.
//!
//! The sidecar goes first, durably: a power cut after it leaves a data file without one, which recovery quarantines too.
//! The other way round, a sidecar without its data would be taken for damage. A purge clock starts anew with each
//! process, so a file may stay longer than set, never shorter. Names with `.keep` stay for good.

use alloc::format;
use alloc::vec::Vec;

use super::Chunkserver;
use super::job::{Event, Job, Phase};
use super::journal::{Record, Waiter};
use super::names;
use super::out::Then;
use super::script::Script;
use crate::defect::Defect;
use crate::disk::{DiskError, DiskPath, DiskRequest, DiskResult};
use crate::id::ChunkId;
use crate::machine::Level;
use crate::message::{DropReason, FromServer, ToServer};
use crate::reached;
use crate::time::{Span, Time};

/// Files purged in one step. No fewer than one order of the master can bring: what is dropped must not come faster than it
/// goes, or the quarantine takes the space that was to be freed.
const PURGE_BATCH: usize = 512;
/// A sidecar that is still needed is looked at again after so long.
const PURGE_AGAIN: Span = Span::from_ms(1_000);

impl Chunkserver {
    /// The steps that move a chunk's files on `volume` into the quarantine.
    pub(super) fn quarantine_steps(&mut self, chunk: ChunkId, volume: u16, keep: bool) -> Script {
        let number = self.volume(volume).quarantine_number;
        self.volume_mut(volume).quarantine_number += 1;
        let cluster = self.cluster;
        let data = names::file_name(cluster, chunk);
        let meta = format!("{data}.meta");
        let mut script = Script::default();
        for (from, file) in
            [(names::meta(volume, cluster, chunk), meta), (names::data(volume, cluster, chunk), data)]
        {
            let to = names::quarantined(volume, &file, number, keep);
            script.attempt(DiskRequest::Rename { from, to });
            script.attempt(DiskRequest::SyncDir(names::dir(volume, chunk)));
        }
        script.step(DiskRequest::SyncDir(DiskPath::new(volume, "quarantine")));
        script
    }

    /// A file's time in quarantine runs from the moment at which it is moved there, whatever that had to wait for.
    pub(super) fn schedule_purge(&mut self, request: &DiskRequest) {
        if let DiskRequest::Rename { to, .. } = request
            && names::is_purged(to)
        {
            let due = self.purge_due();
            self.purges.push_back((due, to.clone()));
        }
    }

    /// When what comes into quarantine now is purged.
    pub(super) fn purge_due(&self) -> Time {
        if self.setup.defects.has(Defect::PurgeAtOnce) {
            return self.now;
        }
        self.now + crate::config::ms(self.setup.config.quarantine_ms)
    }

    pub(super) fn start_drop(&mut self, mut job: Job) -> Option<Job> {
        let ToServer::Drop { chunk, version, volume, .. } = job.order else { return None };
        let Some(replica) = self.replicas.get(&chunk) else {
            reached!("drop.absent");
            return self.drop_done(&job, true);
        };
        job.volume = replica.volume;
        // Rule 14: the order was given for a replica that it names; what is here may have advanced since.
        let here = self.volume(job.volume);
        let other = here.identity.volume != volume || replica.version > version;
        if !here.is_ready() || other && !self.setup.defects.has(Defect::DropAnyVersion) {
            reached!("drop.refused");
            return self.drop_done(&job, false);
        }
        job.phase = Phase::Quieting;
        let fence = replica.version;
        if self.stop_for_good(chunk, fence) {
            return self.drop_event(job, Event::Quiet);
        }
        reached!("drop.waits_for_stream");
        Some(job)
    }

    pub(super) fn drop_event(&mut self, mut job: Job, event: Event) -> Option<Job> {
        let ToServer::Drop { chunk, reason, .. } = job.order else { return None };
        let result = match (job.phase, event) {
            (Phase::Quieting, _) => {
                let keep = reason == DropReason::Unknown;
                if keep {
                    reached!("drop.kept_for_good");
                    let text =
                        format!("{chunk} is not known to this cluster's log: kept in quarantine for good");
                    self.out.note(Level::Alarm, text);
                } else {
                    self.out.note(Level::Info, format!("{chunk} is dropped: {reason:?}"));
                }
                self.renew(chunk);
                job.script = self.quarantine_steps(chunk, job.volume, keep);
                let late = self.setup.defects.has(Defect::DropBeforeForgotten);
                if self.replicas.get(&chunk).is_some_and(|replica| replica.unsealed.is_some()) && !late {
                    // A promise that came back without its file would be taken for damage.
                    return Some(self.forget_first(job.volume, job, Phase::Forgetting));
                }
                job.phase = Phase::Finishing;
                None
            }
            (Phase::Forgetting, Event::Journalled) => {
                job.phase = Phase::Finishing;
                None
            }
            (_, Event::Disk { result }) => Some(result),
            _ => return Some(job),
        };
        match self.run_script(&mut job, result.as_ref()) {
            Ok(false) => Some(job),
            Ok(true) => {
                self.replicas.remove(&chunk);
                self.open.remove(&chunk);
                self.tables.forget(chunk);
                self.touch(chunk);
                self.forget_in_journal(job.volume, chunk);
                self.drop_done(&job, true)
            }
            Err(error) => {
                reached!("drop.failed");
                self.mark_damaged(chunk, &format!("it could not be moved to the quarantine: {error}"));
                self.drop_done(&job, false)
            }
        }
    }

    /// The job goes on, in `phase`, when a volume's journal has durably forgotten its chunk.
    pub(super) fn forget_first(&mut self, volume: u16, mut job: Job, phase: Phase) -> Job {
        job.phase = phase;
        let (chunk, waiter) = (job.chunk, Waiter::Job { chunk: job.chunk, job: job.id });
        self.log(volume, alloc::vec![Record::Forget { chunk }], waiter, true);
        job
    }

    /// Durably, in its own time.
    pub(super) fn forget_in_journal(&mut self, volume: u16, chunk: ChunkId) {
        self.log(volume, alloc::vec![Record::Forget { chunk }], Waiter::Nobody, true);
    }

    fn drop_done(&mut self, job: &Job, dropped: bool) -> Option<Job> {
        let ToServer::Drop { chunk, version, .. } = job.order else { return None };
        self.tell_master(FromServer::DropDone { chunk, version, dropped });
        None
    }

    /// Removes what was long enough in quarantine, a bounded number of files at a time.
    pub(super) fn purge(&mut self) {
        let now = self.now;
        let mut due = Vec::new();
        while due.len() < PURGE_BATCH {
            let Some((_, path)) = self.purges.pop_front_if(|(at, _)| *at <= now) else { break };
            due.push(path);
        }
        for path in due {
            let volume = self.volume(path.volume);
            if volume.is_starting() && !self.setup.defects.has(Defect::PurgeWhileStarting) {
                self.purges.push_back((now + PURGE_AGAIN, path));
                continue;
            }
            // Until the journal has durably forgotten the chunk, its sidecar shows that there is nothing to forget. A replica
            // that came since has a sidecar of its own, and may have a note of damage that must stay; one that is still being
            // moved has not.
            let is_moving = |chunk: ChunkId| {
                self.jobs.is_running(chunk) && !self.setup.defects.has(Defect::PurgedWhileMoved)
            };
            let needed = |chunk: ChunkId| {
                !volume.journal.is_durable() && (is_moving(chunk) || !self.replicas.contains_key(&chunk))
            };
            let sidecar = names::quarantined_chunk(&path).filter(|(chunk, meta)| *meta && needed(*chunk));
            if let Some((chunk, _)) = sidecar {
                if volume.journal.is_idle() && !volume.journal.has_pending() && !is_moving(chunk) {
                    self.forget_in_journal(path.volume, chunk);
                }
                self.purges.push_back((now + PURGE_AGAIN, path));
            } else if volume.is_ready() {
                reached!("quarantine.purged");
                self.out.disk(DiskRequest::Remove(path.clone()), Then::Purged(path));
            }
        }
    }

    /// What could not be removed is tried again, as long as its volume is in use.
    pub(super) fn on_purged(&mut self, path: DiskPath, result: &DiskResult) {
        // After a leap of the clock it may be due before it has been moved.
        let is_moving =
            || names::quarantined_chunk(&path).is_some_and(|(chunk, _)| self.jobs.is_running(chunk));
        let is_left = result.as_ref().is_err_and(|error| *error != DiskError::NotFound || is_moving());
        if is_left && self.volume(path.volume).is_ready() {
            reached!("quarantine.not_purged");
            self.purges.push_back((self.now + PURGE_AGAIN, path));
        }
    }
}
