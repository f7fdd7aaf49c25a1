//! Sealing (chunk protocol, rules 8 and 9): an unsealed replica becomes an immutable one.
//!
//! Order under `sync`: bytes synced → sidecar written, synced, renamed into place, directory synced → surplus truncated and synced →
//! journal forgets. The sidecar decides: before its name is durable the replica is the unsealed one that voted, and
//! nothing of it was cut; after that it is the sealed one, and recovery cuts what the sidecar does not cover for as long
//! as the journal has not forgotten. Under `async` the same steps are taken without the syncs, the sidecar is provisional,
//! and `flush` makes both durable later.

use alloc::format;
use alloc::string::ToString;
use bytes::Bytes;

use super::Chunkserver;
use super::flush::Kept;
use super::job::{Event, Job, Phase, data_of};
use super::journal::{Record, Waiter};
use super::names;
use super::replica::Replica;
use super::sidecar::{Sidecar, whole_crc};
use crate::defect::Defect;
use crate::disk::{DiskError, DiskPath, DiskRequest};
use crate::id::{ChunkId, ChunkVersion, Durability};
use crate::machine::Level;
use crate::message::{FromServer, ReplicaReport, ReplicaState, SealedChunk, ToServer};
use crate::payload::BLOCK_BYTES;
use crate::reached;

impl Chunkserver {
    pub(super) fn start_seal(&mut self, mut job: Job) -> Option<Job> {
        let ToServer::Seal { base, sealed } = job.order else { return None };
        let chunk = sealed.chunk;
        let Some(replica) = self.replicas.get(&chunk) else {
            reached!("seal.absent");
            self.tell_gone(chunk, sealed.version, None);
            return None;
        };
        job.volume = replica.volume;
        let fence = replica.unsealed.as_ref().and_then(|u| u.fence);
        let unsealed_at_base = replica.unsealed.is_some() && replica.version == base;
        if !unsealed_at_base
            || fence.is_some_and(|f| f > base)
            || replica.state == ReplicaState::Damaged
            || !self.volume(job.volume).is_ready()
        {
            // Sealed before (the same or not), beyond the order, or beyond hope: the report says which.
            reached!("seal.not_at_base");
            self.tell_changed(chunk);
            return None;
        }
        job.phase = Phase::Quieting;
        if self.stop_for_good(chunk, base) {
            return self.seal_event(job, Event::Quiet);
        }
        reached!("seal.waits_for_stream");
        Some(job)
    }

    pub(super) fn seal_event(&mut self, mut job: Job, event: Event) -> Option<Job> {
        let ToServer::Seal { sealed, .. } = job.order else { return None };
        if job.phase.is_flush() {
            return self.flush_event(job, event);
        }
        let chunk = sealed.chunk;
        if self.replicas.get(&chunk).is_none_or(|r| r.state == ReplicaState::Damaged) {
            return None;
        }
        match (job.phase, event) {
            (Phase::Quieting, _) => {
                job.phase = Phase::Syncing;
                // What was promised under `sync` is durable: another sync could only fail.
                let relaxed = self.is_async(chunk);
                job.lazy =
                    relaxed && (self.is_inherited(chunk) || self.may_flush_later(job.volume, sealed.length));
                if sealed.length == 0 {
                    // It may have been fenced before its file was made.
                    reached!("seal.empty");
                    self.empty_file(&mut job, chunk);
                }
                if self.unsynced_path(chunk).is_some() || (relaxed && !job.lazy) {
                    job.script.step(DiskRequest::Sync(names::data(job.volume, self.cluster, chunk)));
                }
                self.seal_script(job, None)
            }
            (Phase::ReadingCut, Event::Disk { result }) => match data_of(result) {
                Ok(payload) if payload.len() == sealed.length % BLOCK_BYTES => {
                    self.write_sidecar(job, Some(payload.crc()))
                }
                Ok(_) => {
                    reached!("seal.file_cut_short");
                    self.seal_failed(chunk, "its file is shorter than what was promised")
                }
                Err(DiskError::NotFound) => self.seal_file_gone(chunk),
                Err(error) => self.seal_later(chunk, &error.to_string()),
            },
            (_, Event::Disk { result }) => self.seal_script(job, Some(result)),
            _ => Some(job),
        }
    }

    fn empty_file(&mut self, job: &mut Job, chunk: ChunkId) {
        job.script.step(DiskRequest::MakeDir(names::dir(job.volume, chunk)));
        job.script.step(DiskRequest::SyncDir(DiskPath::new(job.volume, "chunks")));
        let path = names::data(job.volume, self.cluster, chunk);
        job.script.step(DiskRequest::Write { path, offset: 0, data: alloc::vec::Vec::new(), create: true });
        if !job.lazy && !self.setup.defects.has(Defect::EmptyNameNotSynced) {
            // A sidecar without its file would be damage.
            job.script.step(DiskRequest::SyncDir(names::dir(job.volume, chunk)));
        }
    }

    fn seal_script(&mut self, mut job: Job, result: Option<crate::disk::DiskResult>) -> Option<Job> {
        match self.run_script(&mut job, result.as_ref()) {
            Ok(false) => Some(job),
            Ok(true) if job.phase == Phase::Syncing => self.seal_synced(job),
            Ok(true) => self.finish_seal(&job),
            // Asked again it would fail again, and keep every report from looking.
            Err(DiskError::NotFound) if job.script.is_about(&self.data_path(&job)) => {
                self.seal_file_gone(job.chunk)
            }
            Err(error) if job.phase == Phase::Syncing && !job.lazy && self.is_async(job.chunk) => {
                reached!("seal.sync_failed");
                self.seal_failed(job.chunk, &format!("its bytes can't be synced: {error}"))
            }
            Err(error) => {
                self.cut_to_sealed(&job);
                self.seal_later(job.chunk, &error.to_string())
            }
        }
    }

    /// The sidecar may be in place and the file cut: what is beyond the sealed length is not there any more.
    fn cut_to_sealed(&mut self, job: &Job) {
        let ToServer::Seal { sealed, .. } = job.order else { return };
        let Some(replica) = self.replicas.get_mut(&job.chunk).filter(|_| job.phase == Phase::Finishing)
        else {
            return;
        };
        replica.length = sealed.length;
        if let Some(unsealed) = replica.unsealed.as_mut() {
            unsealed.crcs.clone_from(&job.table);
        }
    }

    fn data_path(&self, job: &Job) -> DiskPath {
        names::data(job.volume, self.cluster, job.chunk)
    }

    /// Whether a sync of its bytes would prove nothing: they have to be written again.
    fn is_inherited(&self, chunk: ChunkId) -> bool {
        self.replicas.get(&chunk).is_some_and(|r| r.kept == Kept::Inherited)
    }

    fn is_async(&self, chunk: ChunkId) -> bool {
        let unsealed = self.replicas.get(&chunk).and_then(|r| r.unsealed.as_ref());
        unsealed.is_some_and(|u| u.grant.durability == Durability::Async)
    }

    /// Everything written is durable: compares it with what was sealed.
    fn seal_synced(&mut self, mut job: Job) -> Option<Job> {
        let ToServer::Seal { sealed, .. } = job.order else { return None };
        let chunk = sealed.chunk;
        // Nobody waits for the records: the sidecar is about to decide. But it may fail to be written.
        let records = self.end_stream(chunk);
        self.log(job.volume, records, Waiter::Nobody, false);
        let replica = self.replicas.get(&chunk)?;
        if replica.length < sealed.length {
            reached!("seal.short_replica");
            self.mark_behind(chunk, sealed.length);
            return None;
        }
        if replica.length > sealed.length && sealed.length % BLOCK_BYTES != 0 {
            reached!("seal.cut_in_block");
            let path = names::data(job.volume, self.cluster, chunk);
            let offset = sealed.length / BLOCK_BYTES * BLOCK_BYTES;
            let length = (sealed.length - offset) as u32;
            job.phase = Phase::ReadingCut;
            self.job_disk(&job, DiskRequest::Read { path, offset, length });
            return Some(job);
        }
        self.write_sidecar(job, None)
    }

    fn write_sidecar(&mut self, mut job: Job, last: Option<u32>) -> Option<Job> {
        let ToServer::Seal { sealed, .. } = job.order else { return None };
        let chunk = sealed.chunk;
        let mut blocks = self.replicas.get(&chunk)?.unsealed.as_ref()?.crcs.clone();
        match last {
            Some(crc) => {
                blocks.truncate((sealed.length / BLOCK_BYTES) as usize);
                blocks.push(crc);
            }
            None => blocks.truncate(sealed.length.div_ceil(BLOCK_BYTES) as usize),
        }
        if whole_crc(&blocks, sealed.length) != Some(sealed.crc) {
            reached!("seal.other_bytes");
            return self.seal_failed(chunk, "its bytes are not those that were sealed");
        }
        let (volume, cluster) = (job.volume, self.cluster);
        let unsynced = job.lazy.then_some(self.setup.boot);
        let sidecar = Sidecar { cluster, sealed, blocks, unsynced };
        let new = names::staged_meta(volume, cluster, chunk);
        let data = alloc::vec![Bytes::from(sidecar.encode())];
        if self.setup.defects.has(Defect::SealTruncatesFirst) {
            let path = names::data(volume, cluster, chunk);
            job.script.step(DiskRequest::Truncate { path, length: sealed.length });
        }
        job.script.attempt(DiskRequest::Remove(new.clone()));
        job.script.step(DiskRequest::Write { path: new.clone(), offset: 0, data, create: true });
        if !job.lazy && !self.setup.defects.has(Defect::SidecarNotSynced) {
            job.script.step(DiskRequest::Sync(new.clone()));
        }
        job.script.step(DiskRequest::Rename { from: new, to: names::meta(volume, cluster, chunk) });
        if !job.lazy && !self.setup.defects.has(Defect::SidecarNameNotSynced) {
            job.script.step(DiskRequest::SyncDir(names::dir(volume, chunk)));
        }
        let path = names::data(volume, cluster, chunk);
        job.script.step(DiskRequest::Truncate { path: path.clone(), length: sealed.length });
        if !job.lazy {
            job.script.step(DiskRequest::Sync(path));
        }
        job.table = sidecar.blocks;
        job.phase = Phase::Finishing;
        self.seal_script(job, None)
    }

    fn finish_seal(&mut self, job: &Job) -> Option<Job> {
        let ToServer::Seal { sealed, .. } = job.order else { return None };
        let lazy = job.lazy && !self.setup.defects.has(Defect::LazySealNeverFlushed);
        let kept = match lazy {
            true if self.is_inherited(sealed.chunk) => Kept::Inherited,
            true => Kept::Cached,
            false => Kept::Durable,
        };
        self.become_sealed(job.volume, &sealed, job.table.clone(), kept);
        // The sidecar already overrules what the journal says about the unsealed replica.
        let forget = alloc::vec![Record::Forget { chunk: sealed.chunk }];
        self.log(job.volume, forget, Waiter::Nobody, false);
        None
    }

    /// The chunk's files are in place.
    pub(super) fn become_sealed(
        &mut self,
        volume: u16,
        sealed: &SealedChunk,
        table: alloc::vec::Vec<u32>,
        kept: Kept,
    ) {
        let chunk = sealed.chunk;
        let generation = self.next_generation();
        self.volume_mut(volume).dirs.insert(chunk.0 as u8);
        self.open.remove(&chunk);
        self.replicas.insert(chunk, Replica::sealed(volume, generation, sealed, kept));
        self.flush_later(chunk);
        self.tables.put(chunk, table);
        self.tell_changed(chunk);
    }

    fn seal_failed(&mut self, chunk: ChunkId, why: &str) -> Option<Job> {
        self.mark_damaged(chunk, why);
        None
    }

    /// Somebody removed the file under the running server.
    fn seal_file_gone(&mut self, chunk: ChunkId) -> Option<Job> {
        reached!("seal.file_gone");
        self.seal_failed(chunk, "its file is gone")
    }

    /// The disk refused a step. What was promised is as good as before, so the replica stays fenced and the master asks
    /// again; bytes beyond the promise are in doubt and are let go.
    fn seal_later(&mut self, chunk: ChunkId, why: &str) -> Option<Job> {
        reached!("seal.put_off");
        if let Some(stream) = self.replicas.get_mut(&chunk).and_then(|r| r.stream()) {
            stream.queue.clear();
        }
        self.end_stream(chunk);
        self.out.note(Level::Warn, format!("{chunk} can't be sealed yet: {why}"));
        None
    }

    /// The replica is not here.
    pub(super) fn tell_gone(&mut self, chunk: ChunkId, version: ChunkVersion, volume: Option<u16>) {
        let volume = volume.map_or_else(Default::default, |index| self.volume(index).identity.volume);
        let state = ReplicaState::Gone;
        let report = ReplicaReport { chunk, volume, version, length: 0, crc: 0, state };
        self.tell_master(FromServer::ReplicaChanged(report));
    }
}
