//! Flushing: a chunk written under `async` is sealed in the page cache at once and made durable some seconds later, one
//! chunk at a time on each volume.
//!
//! Its first sidecar is provisional: it names the boot whose page cache holds what it describes. Order: chunk file synced →
//! final sidecar written, synced, renamed over the provisional one, directory synced. So a final sidecar never stands
//! beside bytes that a power cut can take. A crash before the rename leaves the provisional one: after the death of the
//! process its boot goes on, the page cache is there and the chunk is flushed again; after a power cut the boot is another
//! one, and recovery reads every byte before the replica counts.
//!
//! A replica that was taken for damaged while it was in the page cache only may be the last good one. A sync of it may have
//! failed, though, after which the kernel calls clean what the disk never got, and another sync would promise nothing. So
//! its bytes are read, verified and written again where they are, which makes them dirty anew, before they are synced. So is
//! whatever an earlier process of this boot left in the page cache: a sync of that may have failed, and the note of it been lost.

use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::ToString;
use bytes::Bytes;

use super::Chunkserver;
use super::job::{Event, Job, Phase, data_of};
use super::names;
use super::read::first_bad_block;
use super::sidecar::Sidecar;
use crate::config::ms;
use crate::defect::Defect;
use crate::disk::{DiskRequest, DiskResult};
use crate::id::{BootId, ChunkId, ChunkVersion};
use crate::limits::FILE_PIECE;
use crate::machine::Level;
use crate::message::{ReplicaState, SealedChunk, ToServer};
use crate::payload::MAX_PAYLOAD;
use crate::reached;
use crate::time::{Span, Time};

/// Each chunk counts at least so much, so that tiny ones don't make the queue long.
const COST_MIN: u64 = 1024 * 1024;
/// When a chunk is looked at again whose flush was put off.
const AGAIN: Span = Span::from_ms(1_000);
const AGAIN_IF_DAMAGED: Span = Span::from_ms(10_000);

/// How the files of a sealed replica are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kept {
    /// On stable storage.
    Durable,
    /// In this boot's page cache: that they can be read proves nothing about the disk.
    Cached,
    /// The same, and an earlier process put them there: what its syncs came to is not known.
    Inherited,
    /// On the disk after a power cut, as far as they can be read; the sidecar is still provisional.
    Recovered,
}

#[derive(Clone, Copy, Debug, Hash)]
struct Waiting {
    due: Time,
    chunk: ChunkId,
    cost: u64,
}

/// One volume's chunks that wait to be made durable.
#[derive(Clone, Debug, Default, Hash)]
pub(super) struct Flusher {
    queue: VecDeque<Waiting>,
    under_way: Option<Waiting>,
    /// Of all that wait or are under way.
    cost: u64,
}

impl Kept {
    /// Whether a power cut may take them.
    pub(super) fn is_at_risk(self) -> bool {
        matches!(self, Kept::Cached | Kept::Inherited)
    }
}

impl Flusher {
    fn push(&mut self, waiting: Waiting) {
        self.cost += waiting.cost;
        self.queue.push_back(waiting);
    }

    /// When the next one may start.
    pub(super) fn wake(&self) -> Option<Time> {
        self.queue.front().filter(|_| self.under_way.is_none()).map(|waiting| waiting.due)
    }

    fn start(&mut self, now: Time) -> Option<ChunkId> {
        if self.wake().is_none_or(|due| due > now) {
            return None;
        }
        self.under_way = self.queue.pop_front();
        self.under_way.map(|waiting| waiting.chunk)
    }

    fn has(&self, chunk: ChunkId) -> bool {
        self.queue.iter().chain(&self.under_way).any(|waiting| waiting.chunk == chunk)
    }

    /// What was under way is done with, or is looked at again at `again`.
    fn end(&mut self, again: Option<Time>) {
        let Some(waiting) = self.under_way.take() else { return };
        match again {
            Some(due) => self.queue.push_back(Waiting { due, ..waiting }),
            None => self.cost -= waiting.cost,
        }
    }

    /// Bytes that wait, tiny chunks counting more than they have.
    pub(super) fn cost(&self) -> u64 {
        self.cost
    }
}

fn cost_of(length: u64) -> u64 {
    length.max(COST_MIN)
}

impl Chunkserver {
    /// Whether a chunk of this length may be sealed in the page cache: what a power cut would leave to be read stays bounded.
    pub(super) fn may_flush_later(&self, volume: u16, length: u64) -> bool {
        let config = &self.setup.config;
        let waits = self.volume(volume).flusher.cost();
        if waits.saturating_add(cost_of(length)) > config.lazy_sync_bytes {
            reached!("flush.full");
            return false;
        }
        config.lazy_sync_ms > 0
    }

    /// How files are kept that a start found, and whose sidecar says this.
    pub(super) fn kept(&self, unsynced: Option<BootId>) -> Kept {
        match unsynced {
            Some(boot) if boot == self.setup.boot => self.inherited(),
            Some(_) if !self.setup.defects.has(Defect::TrustUnsyncedSeal) => Kept::Recovered,
            _ => Kept::Durable,
        }
    }

    /// What an earlier process of this boot left.
    pub(super) fn inherited(&self) -> Kept {
        if self.setup.defects.has(Defect::InheritedTrusted) { Kept::Cached } else { Kept::Inherited }
    }

    /// The replica is sealed in the page cache, or came back from a power cut: its files are made durable later.
    pub(super) fn flush_later(&mut self, chunk: ChunkId) {
        let Some(replica) = self.replicas.get(&chunk).filter(|r| r.kept != Kept::Durable) else { return };
        let due = self.now + ms(self.setup.config.lazy_sync_ms);
        let (volume, cost) = (replica.volume, cost_of(replica.length));
        let flusher = &mut self.volume_mut(volume).flusher;
        if !flusher.has(chunk) {
            flusher.push(Waiting { due, chunk, cost });
        }
    }

    /// Whatever is due.
    pub(super) fn flush_due(&mut self) {
        let now = self.now;
        for index in 0..self.setup.volumes {
            while self.volume(index).is_ready()
                && let Some(chunk) = self.volume_mut(index).flusher.start(now)
            {
                self.start_flush(index, chunk);
            }
        }
    }

    fn start_flush(&mut self, index: u16, chunk: ChunkId) {
        let replica = self.replicas.get(&chunk).filter(|r| r.volume == index && r.kept != Kept::Durable);
        let Some(replica) = replica.filter(|r| r.unsealed.is_none()) else {
            // It was dropped or replaced meanwhile.
            return self.volume_mut(index).flusher.end(None);
        };
        if self.jobs.is_running(chunk) {
            let again = self.now + AGAIN;
            return self.volume_mut(index).flusher.end(Some(again));
        }
        let (version, length, crc) = (replica.version, replica.length, replica.crc);
        let base = ChunkVersion(version.0.saturating_sub(1));
        // The second half of the seal that the master ordered.
        let order = ToServer::Seal { base, sealed: SealedChunk { chunk, version, length, crc } };
        let path = names::meta(index, self.cluster, chunk);
        self.start_job(chunk, order, |server, mut job| {
            job.volume = index;
            job.phase = Phase::FlushReading;
            server.job_disk(&job, DiskRequest::Read { path, offset: 0, length: MAX_PAYLOAD });
            Some(job)
        });
    }

    pub(super) fn flush_event(&mut self, job: Job, event: Event) -> Option<Job> {
        let Event::Disk { result } = event else { return Some(job) };
        match job.phase {
            Phase::FlushReading => self.flush_data(job, result),
            Phase::FlushReadingAgain { offset } => self.flush_write_again(job, offset, result),
            Phase::FlushWritingAgain { offset } => match result {
                Ok(_) => self.flush_read_again(job, offset),
                Err(error) => self.flush_put_off(&job, &error.to_string()),
            },
            Phase::FlushSyncing => match result {
                Ok(_) => self.flush_sidecar(job),
                Err(error) if self.setup.defects.has(Defect::FlushRetried) => {
                    self.flush_put_off(&job, &error.to_string())
                }
                Err(error) => {
                    // The page cache may call clean what the disk never got: no read can tell.
                    reached!("flush.sync_failed");
                    self.mark_damaged(job.chunk, &format!("its bytes can't be synced: {error}"));
                    self.end_flush(&job, false)
                }
            },
            _ => self.flush_script(job, Some(result)),
        }
    }

    /// Takes the checksums from the provisional sidecar, then syncs the bytes.
    fn flush_data(&mut self, mut job: Job, result: DiskResult) -> Option<Job> {
        let payload = match data_of(result) {
            Ok(payload) => payload,
            Err(error) => return self.flush_put_off(&job, &error.to_string()),
        };
        let replica = self.replicas.get(&job.chunk);
        match Sidecar::decode(&payload.bytes) {
            Ok(sidecar) if replica.is_some_and(|r| r.is_described_by(&sidecar)) => job.table = sidecar.blocks,
            _ => {
                self.mark_damaged(job.chunk, "its sidecar is damaged");
                return self.end_flush(&job, false);
            }
        }
        let inherited = replica.is_some_and(|r| r.kept == Kept::Inherited);
        if inherited {
            reached!("flush.inherited");
        }
        if inherited || replica.is_some_and(|r| r.state == ReplicaState::Damaged) {
            return self.flush_read_again(job, 0);
        }
        self.flush_sync(job)
    }

    /// Reads the next piece of a doubtful replica; behind the last one everything is synced.
    fn flush_read_again(&mut self, mut job: Job, offset: u64) -> Option<Job> {
        let length = self.replicas.get(&job.chunk)?.length;
        let path = names::data(job.volume, self.cluster, job.chunk);
        if offset < length {
            job.phase = Phase::FlushReadingAgain { offset };
            let length = FILE_PIECE.min((length - offset) as u32);
            self.job_disk(&job, DiskRequest::Read { path, offset, length });
            return Some(job);
        }
        if job.verified {
            return self.flush_sync(job);
        }
        // A cut may be lost like any other change.
        job.verified = true;
        job.phase = Phase::FlushWritingAgain { offset };
        self.job_disk(&job, DiskRequest::Truncate { path, length });
        Some(job)
    }

    fn flush_write_again(&mut self, mut job: Job, offset: u64, result: DiskResult) -> Option<Job> {
        let payload = match data_of(result) {
            Ok(payload) => payload,
            Err(error) => return self.flush_put_off(&job, &error.to_string()),
        };
        let expected = u64::from(FILE_PIECE).min(self.replicas.get(&job.chunk)?.length - offset);
        if first_bad_block(&payload, expected, &job.table).is_some() {
            // It was taken for damaged, and is; or nobody knew.
            self.mark_damaged(job.chunk, &format!("a block after offset {offset} fails its checksum"));
            return self.end_flush(&job, false);
        }
        job.phase = Phase::FlushWritingAgain { offset: offset + expected };
        let path = names::data(job.volume, self.cluster, job.chunk);
        let data = alloc::vec![payload.bytes];
        self.job_disk(&job, DiskRequest::Write { path, offset, data, create: false });
        Some(job)
    }

    fn flush_sync(&mut self, mut job: Job) -> Option<Job> {
        job.phase = Phase::FlushSyncing;
        self.job_disk(&job, DiskRequest::Sync(names::data(job.volume, self.cluster, job.chunk)));
        Some(job)
    }

    fn flush_sidecar(&mut self, mut job: Job) -> Option<Job> {
        let ToServer::Seal { sealed, .. } = job.order else { return None };
        let (volume, cluster, chunk) = (job.volume, self.cluster, job.chunk);
        let blocks = core::mem::take(&mut job.table);
        let data = alloc::vec![Bytes::from(Sidecar { cluster, sealed, blocks, unsynced: None }.encode())];
        let new = names::staged_meta(volume, cluster, chunk);
        job.script.attempt(DiskRequest::Remove(new.clone()));
        job.script.step(DiskRequest::Write { path: new.clone(), offset: 0, data, create: true });
        job.script.step(DiskRequest::Sync(new.clone()));
        job.script.step(DiskRequest::Rename { from: new, to: names::meta(volume, cluster, chunk) });
        job.script.step(DiskRequest::SyncDir(names::dir(volume, chunk)));
        job.phase = Phase::FlushFinishing;
        self.flush_script(job, None)
    }

    fn flush_script(&mut self, mut job: Job, result: Option<DiskResult>) -> Option<Job> {
        match self.run_script(&mut job, result.as_ref()) {
            Ok(false) => Some(job),
            Ok(true) => {
                let mut damaged = false;
                if let Some(replica) = self.replicas.get_mut(&job.chunk) {
                    replica.kept = Kept::Durable;
                    damaged = replica.state == ReplicaState::Damaged;
                }
                self.flushed += 1;
                if job.verified && damaged {
                    reached!("flush.written_again");
                    self.take_back(job.chunk);
                    self.tell_changed(job.chunk);
                }
                self.end_flush(&job, false)
            }
            Err(error) => self.flush_put_off(&job, &error.to_string()),
        }
    }

    /// Bytes that were synced stay so: only the rest is done again.
    fn flush_put_off(&mut self, job: &Job, why: &str) -> Option<Job> {
        reached!("flush.put_off");
        self.out.note(Level::Warn, format!("{} can't be made durable yet: {why}", job.chunk));
        self.end_flush(job, true)
    }

    /// Always ends the job.
    fn end_flush(&mut self, job: &Job, again: bool) -> Option<Job> {
        let sealed = self.replicas.get(&job.chunk).is_some_and(|r| r.state == ReplicaState::Sealed);
        // One that was found damaged can only count again once it is durable.
        let again = again.then_some(self.now + if sealed { AGAIN } else { AGAIN_IF_DAMAGED });
        self.volume_mut(job.volume).flusher.end(again);
        None
    }
}
