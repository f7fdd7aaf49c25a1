//! Copying a sealed chunk from other servers (chunk protocol, rule 16).
//!
//! The copy is made in `staging/`: pulled, compared with the sealed checksum, synced, read back. Only then is an old
//! replica moved to the quarantine, and only when that is durable does the journal forget it; both before the new data
//! file takes its name, which is durable before the sidecar takes its own. So neither a sidecar nor the journal's note of
//! damage ever stands beside bytes that it does not describe: after a crash there is the old replica, or none (a data
//! file without sidecar promised nothing), or the whole new one.

use alloc::format;
use alloc::string::{String, ToString};
use bytes::Bytes;

use super::Chunkserver;
use super::flush::Kept;
use super::job::{Event, Job, Phase, data_of};
use super::names;
use super::pull::{Pull, read_step};
use super::script::Script;
use super::sidecar::{Sidecar, whole_crc};
use crate::defect::Defect;
use crate::disk::{DiskPath, DiskRequest, DiskResult};
use crate::id::VolumeId;
use crate::machine::Level;
use crate::message::{FromServer, ReplicaState, SealedChunk, ToServer};
use crate::payload::BLOCK_BYTES;
use crate::reached;

impl Chunkserver {
    pub(super) fn start_copy(&mut self, mut job: Job) -> Option<Job> {
        let ToServer::Copy { sealed, volume, .. } = job.order else { return None };
        if self.has_good(&sealed) {
            // On which volume, the master may not know.
            reached!("copy.here_already");
            self.tell_changed(sealed.chunk);
            self.copy_done(&sealed, None);
            return None;
        }
        if self.is_losing(sealed.chunk) {
            // It may be where the copy is to go, and must not be moved away with it.
            self.copy_done(&sealed, Some("another replica that was here is still being put aside".into()));
            return None;
        }
        if sealed.length > crate::config::MAX_CHUNK_BYTES {
            self.copy_done(&sealed, Some("the chunk is longer than any may be".into()));
            return None;
        }
        let newer = self.replicas.get(&sealed.chunk).is_some_and(|r| {
            r.version > sealed.version || (self.is_open(sealed.chunk) && r.version.next() > sealed.version)
        });
        if newer {
            self.copy_done(&sealed, Some("the replica here has advanced".into()));
            return None;
        }
        let Some(index) = self.volume_for_copy(volume, sealed.length) else {
            self.copy_done(&sealed, Some("no volume has room".into()));
            return None;
        };
        job.volume = index;
        let chunk = sealed.chunk;
        let path = names::staged_data(index, self.cluster, chunk);
        job.script.attempt(DiskRequest::Remove(path.clone()));
        job.script.step(DiskRequest::Write { path, offset: 0, data: alloc::vec::Vec::new(), create: true });
        job.phase = Phase::Preparing;
        self.copy_script(job, None)
    }

    fn has_good(&self, sealed: &SealedChunk) -> bool {
        let any = self.setup.defects.has(Defect::CopyClaimed);
        self.replicas.get(&sealed.chunk).is_some_and(|r| {
            any || r.state == ReplicaState::Sealed
                && r.version == sealed.version
                && r.length == sealed.length
                && r.crc == sealed.crc
        })
    }

    fn volume_for_copy(&self, wanted: VolumeId, length: u64) -> Option<u16> {
        let fits = |index: &u16| self.volume(*index).accepts() && self.room(*index) > length;
        let wanted = self.volume_index(wanted).filter(fits);
        wanted.or_else(|| (0..self.setup.volumes).filter(fits).max_by_key(|index| self.room(*index)))
    }

    pub(super) fn copy_event(&mut self, mut job: Job, event: Event) -> Option<Job> {
        match (job.phase, event) {
            (Phase::Pulling, Event::Disk { result }) => {
                let pull = job.pull.as_mut()?;
                pull.writing -= 1;
                if let Err(error) = result {
                    pull.give_up();
                    self.note_job_error(&job, "can't be copied", &error);
                }
                self.copy_pulled(job)
            }
            (Phase::Pulling, _) => self.copy_pulled(job),
            (Phase::ReadingBack { offset }, Event::Disk { result }) => self.read_back(job, offset, result),
            (Phase::Quieting, _) => self.adopt_copy(job),
            (Phase::Releasing, Event::Journalled) => self.clear_names(job),
            (Phase::Forgetting, Event::Journalled) => self.name_copy(job),
            (Phase::Cleaning, _) => self.copy_script(job, None),
            (_, Event::Disk { result }) => self.copy_script(job, Some(result)),
            _ => Some(job),
        }
    }

    fn copy_script(&mut self, mut job: Job, result: Option<DiskResult>) -> Option<Job> {
        match self.run_script(&mut job, result.as_ref()) {
            Ok(false) => Some(job),
            Ok(true) => match job.phase {
                Phase::Preparing => self.pull_copy(job),
                Phase::Syncing => self.next_read_back(job, 0),
                Phase::Logging => self.copy_is_whole(job),
                // Earlier, a crash would bring back a damaged replica as a sound one; later, the note of damage would condemn
                // the new one. A note may be there even if no replica is: a sealed one's drop does not wait for the journal.
                Phase::Clearing if self.setup.defects.has(Defect::CopyKeepsDamage) => self.name_copy(job),
                Phase::Clearing => Some(self.forget_first(job.volume, job, Phase::Forgetting)),
                Phase::Cleaning => None,
                _ => self.finish_copy(&job),
            },
            Err(error) => self.copy_failed(job, error.to_string()),
        }
    }

    fn pull_copy(&mut self, mut job: Job) -> Option<Job> {
        let ToServer::Copy { sealed, ref sources, .. } = job.order else { return None };
        let path = names::staged_data(job.volume, self.cluster, sealed.chunk);
        let what = (sealed.chunk, sealed.version);
        job.pull = Some(Pull::new(&self.setup.config, path, what, (0, sealed.length), sources.clone()));
        job.phase = Phase::Pulling;
        self.copy_pulled(job)
    }

    fn copy_pulled(&mut self, mut job: Job) -> Option<Job> {
        let ToServer::Copy { sealed, .. } = job.order else { return None };
        let mut pull = job.pull.take()?;
        self.drive_pull(&mut pull);
        if pull.is_over() && !pull.is_done() {
            return self.copy_failed(job, "no source could be read".into());
        }
        if !pull.is_done() {
            job.pull = Some(pull);
            return Some(job);
        }
        job.table = pull.join(alloc::vec::Vec::new());
        if whole_crc(&job.table, sealed.length) != Some(sealed.crc) {
            reached!("copy.other_bytes");
            return self.copy_failed(job, "the sources' bytes are not those that were sealed".into());
        }
        if self.setup.defects.has(Defect::CopyUnverified) {
            return self.copy_verified(job);
        }
        job.phase = Phase::Syncing;
        job.script.step(DiskRequest::Sync(pull.path));
        self.copy_script(job, None)
    }

    fn next_read_back(&mut self, mut job: Job, offset: u64) -> Option<Job> {
        let ToServer::Copy { sealed, .. } = job.order else { return None };
        if offset >= sealed.length {
            return self.copy_verified(job);
        }
        job.phase = Phase::ReadingBack { offset };
        let path = names::staged_data(job.volume, self.cluster, sealed.chunk);
        let length = read_step(self.setup.config.copy_read_bytes).min(sealed.length - offset) as u32;
        self.job_disk(&job, DiskRequest::Read { path, offset, length });
        Some(job)
    }

    fn read_back(&mut self, job: Job, offset: u64, result: DiskResult) -> Option<Job> {
        let ToServer::Copy { sealed, .. } = job.order else { return None };
        let expected = read_step(self.setup.config.copy_read_bytes).min(sealed.length - offset);
        let payload = match data_of(result) {
            Ok(payload) => payload,
            Err(error) => return self.copy_failed(job, error.to_string()),
        };
        let first = (offset / BLOCK_BYTES) as usize;
        let same = job.table.get(first..first + payload.crcs.len()) == Some(&payload.crcs[..]);
        if payload.len() != expected || !same {
            reached!("copy.read_back_differs");
            return self.copy_failed(job, "what was written reads back differently".into());
        }
        self.next_read_back(job, offset + expected)
    }

    fn copy_verified(&mut self, mut job: Job) -> Option<Job> {
        let ToServer::Copy { sealed, .. } = job.order else { return None };
        let (volume, cluster) = (job.volume, self.cluster);
        let meta = names::staged_meta(volume, cluster, sealed.chunk);
        let sidecar = Sidecar { cluster, sealed, blocks: job.table.clone(), unsynced: None };
        let data = alloc::vec![Bytes::from(sidecar.encode())];
        job.script.attempt(DiskRequest::Remove(meta.clone()));
        job.script.step(DiskRequest::Write { path: meta.clone(), offset: 0, data, create: true });
        job.script.step(DiskRequest::Sync(meta));
        job.phase = Phase::Logging;
        self.copy_script(job, None)
    }

    /// The copy is complete in staging: an old replica's operations have to end before its names are taken.
    fn copy_is_whole(&mut self, mut job: Job) -> Option<Job> {
        let ToServer::Copy { sealed, .. } = job.order else { return None };
        self.spend(job.volume, sealed.length);
        let old = self.replicas.get(&sealed.chunk).map(|r| r.version);
        job.phase = Phase::Quieting;
        match old {
            Some(version) if !self.stop_for_good(sealed.chunk, version) => Some(job),
            _ => self.adopt_copy(job),
        }
    }

    fn adopt_copy(&mut self, job: Job) -> Option<Job> {
        let ToServer::Copy { sealed, .. } = job.order else { return None };
        let chunk = sealed.chunk;
        let old = self.replicas.get_mut(&chunk).map(|replica| {
            // Reads of the old files that are still under way must not be taken for the new ones.
            replica.state = ReplicaState::Damaged;
            (replica.volume, replica.unsealed.is_some())
        });
        let late = self.setup.defects.has(Defect::ReplacedBeforeForgotten);
        if let Some((old, true)) = old
            && self.volume(old).is_ready()
            && !late
        {
            // A promise that came back without its file would be taken for damage. A file without its promise is put aside.
            return Some(self.forget_first(old, job, Phase::Releasing));
        }
        self.clear_names(job)
    }

    fn clear_names(&mut self, mut job: Job) -> Option<Job> {
        let chunk = job.chunk;
        if let Some(old) = self.replicas.get(&chunk).map(|replica| replica.volume) {
            self.renew(chunk);
            if self.volume(old).is_ready() {
                reached!("copy.replaces_replica");
                let quarantine = self.quarantine_steps(chunk, old, false);
                job.script.append(quarantine);
            }
        }
        job.phase = Phase::Clearing;
        self.copy_script(job, None)
    }

    fn name_copy(&mut self, mut job: Job) -> Option<Job> {
        let (volume, cluster, chunk) = (job.volume, self.cluster, job.chunk);
        job.script.step(DiskRequest::MakeDir(names::dir(volume, chunk)));
        job.script.step(DiskRequest::SyncDir(DiskPath::new(volume, "chunks")));
        let (from, to) = (names::staged_data(volume, cluster, chunk), names::data(volume, cluster, chunk));
        job.script.step(DiskRequest::Rename { from, to });
        job.script.step(DiskRequest::SyncDir(names::dir(volume, chunk)));
        let (from, to) = (names::staged_meta(volume, cluster, chunk), names::meta(volume, cluster, chunk));
        job.script.step(DiskRequest::Rename { from, to });
        job.script.step(DiskRequest::SyncDir(names::dir(volume, chunk)));
        job.phase = Phase::Finishing;
        self.copy_script(job, None)
    }

    fn finish_copy(&mut self, job: &Job) -> Option<Job> {
        let ToServer::Copy { sealed, .. } = job.order else { return None };
        if let Some(old) = self.replicas.get(&sealed.chunk).map(|r| r.volume)
            && old != job.volume
            && self.volume(old).is_ready()
        {
            self.forget_in_journal(old, sealed.chunk);
        }
        self.become_sealed(job.volume, &sealed, job.table.clone(), Kept::Durable);
        self.copy_done(&sealed, None);
        None
    }

    /// The job ends only when staging is clean: the chunk's next order may use the same names.
    fn copy_failed(&mut self, mut job: Job, error: String) -> Option<Job> {
        let ToServer::Copy { sealed, .. } = job.order else { return None };
        self.out.note(Level::Warn, format!("{} could not be copied: {error}", sealed.chunk));
        if matches!(job.phase, Phase::Clearing | Phase::Finishing) {
            self.tell_changed(sealed.chunk);
        }
        self.copy_done(&sealed, Some(error));
        job.script = Script::default();
        job.script.attempt(DiskRequest::Remove(names::staged_data(job.volume, self.cluster, sealed.chunk)));
        job.script.attempt(DiskRequest::Remove(names::staged_meta(job.volume, self.cluster, sealed.chunk)));
        job.phase = Phase::Cleaning;
        self.copy_script(job, None)
    }

    fn copy_done(&mut self, target: &SealedChunk, error: Option<String>) {
        self.tell_master(FromServer::CopyDone { target: *target, error });
    }
}
