//! Orders of the master that take several disk operations: one at a time for each chunk, the others wait in line.
//!
//! A job is its order, a phase, and a script of disk steps. When the volume fails under it, the order is simply looked at
//! again: it then finds the volume or the replica unusable and answers accordingly.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;

use super::Chunkserver;
use super::out::Then;
use super::pull::Pull;
use super::script::Script;
use crate::disk::{DiskError, DiskOk, DiskRequest, DiskResult};
use crate::id::ChunkId;
use crate::machine::Level;
use crate::message::{FromServer, ToServer};

/// Orders that wait behind one chunk's job; more are dropped, the master repeats what it still wants.
const WAITING_MAX: usize = 16;

/// Where a job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Phase {
    /// Operations of the chunk's stream have to end first.
    Quieting,
    /// The chunk file is being synced.
    Syncing,
    /// A journal record is on its way.
    Logging,
    /// The cut block is being read.
    ReadingCut,
    /// Bytes come from another server.
    Pulling,
    /// What was written is read again.
    ReadingBack { offset: u64 },
    /// Steps before the pull.
    Preparing,
    /// An unsealed replica that a copy replaces is being forgotten by its journal.
    Releasing,
    /// What a copy replaces is being moved to the quarantine,
    Clearing,
    /// forgotten by the journal.
    Forgetting,
    /// Steps after which the order is carried out.
    Finishing,
    /// What a failed copy left in staging is being removed.
    Cleaning,
    /// A flush: the provisional sidecar is being read,
    FlushReading,
    /// a doubtful chunk file read
    FlushReadingAgain { offset: u64 },
    /// and written again, up to here,
    FlushWritingAgain { offset: u64 },
    /// the chunk file synced,
    FlushSyncing,
    /// the final sidecar put in its place.
    FlushFinishing,
}

impl Phase {
    /// Whether this is a phase of a flush, not of an order.
    pub(super) fn is_flush(self) -> bool {
        matches!(
            self,
            Phase::FlushReading
                | Phase::FlushReadingAgain { .. }
                | Phase::FlushWritingAgain { .. }
                | Phase::FlushSyncing
                | Phase::FlushFinishing
        )
    }
}

/// One order under way.
#[derive(Clone, Debug, Hash)]
pub(super) struct Job {
    pub(super) id: u64,
    pub(super) chunk: ChunkId,
    pub(super) order: ToServer,
    /// The volume that it works on.
    pub(super) volume: u16,
    pub(super) phase: Phase,
    pub(super) script: Script,
    pub(super) pull: Option<Pull>,
    /// Block checksums of what is being made.
    pub(super) table: Vec<u32>,
    /// A seal that is made durable later.
    pub(super) lazy: bool,
    /// A flush that has read and written every byte again.
    pub(super) verified: bool,
}

/// What a job waited for.
#[derive(Clone, Debug, Hash)]
pub(super) enum Event {
    Quiet,
    Journalled,
    Disk {
        result: DiskResult,
    },
    /// The pull got on, or a source failed.
    Pull,
}

/// All jobs.
#[derive(Clone, Debug, Default, Hash)]
pub(super) struct Jobs {
    /// `None` while the job's event is being handled.
    running: BTreeMap<ChunkId, Option<Job>>,
    waiting: BTreeMap<ChunkId, VecDeque<ToServer>>,
}

impl Jobs {
    pub(super) fn is_running(&self, chunk: ChunkId) -> bool {
        self.running.contains_key(&chunk)
    }

    pub(super) fn len(&self) -> usize {
        self.running.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Job> {
        self.running.values().flatten()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Job> {
        self.running.values_mut().flatten()
    }

    /// Bytes of the copies that are on their way to a volume.
    pub(super) fn copying_to(&self, volume: u16) -> u64 {
        let lengths = self.iter().filter(|job| job.volume == volume).map(|job| match job.order {
            ToServer::Copy { sealed, .. } => sealed.length,
            _ => 0,
        });
        lengths.fold(0, u64::saturating_add)
    }

    /// Chunks whose copy is taking its names: the replica before it is gone from the disk and from the journal.
    pub(super) fn replacing(&self) -> BTreeSet<ChunkId> {
        let copies = self.iter().filter(|job| matches!(job.order, ToServer::Copy { .. }));
        copies.filter(|job| job.phase == Phase::Finishing).map(|job| job.chunk).collect()
    }

    /// Whether the unsealed replica of a chunk is being dropped or replaced, and gone from the journal.
    pub(super) fn is_forgotten(&self, chunk: ChunkId) -> bool {
        self.under_way(chunk).is_some_and(|job| match job.order {
            ToServer::Drop { .. } => matches!(job.phase, Phase::Forgetting | Phase::Finishing),
            ToServer::Copy { .. } => {
                matches!(job.phase, Phase::Releasing | Phase::Clearing | Phase::Forgetting)
            }
            _ => false,
        })
    }

    /// Whether the files of a chunk's replica are being replaced or moved away.
    pub(super) fn is_moving(&self, chunk: ChunkId) -> bool {
        let moves = |order: &ToServer| matches!(order, ToServer::Copy { .. } | ToServer::Drop { .. });
        self.under_way(chunk).is_some_and(|job| moves(&job.order))
    }

    /// Whether the replica of a chunk is to be dropped: nobody may count on it any more.
    pub(super) fn is_leaving(&self, chunk: ChunkId) -> bool {
        let drops = |order: &ToServer| matches!(order, ToServer::Drop { .. });
        self.under_way(chunk).is_some_and(|job| drops(&job.order))
            || self.waiting.get(&chunk).is_some_and(|orders| orders.iter().any(drops))
    }

    fn under_way(&self, chunk: ChunkId) -> Option<&Job> {
        self.running.get(&chunk)?.as_ref()
    }

    pub(super) fn job_mut(&mut self, chunk: ChunkId) -> Option<&mut Job> {
        self.running.get_mut(&chunk)?.as_mut()
    }
}

/// The chunk that an order is about.
fn subject(order: &ToServer) -> Option<ChunkId> {
    match order {
        ToServer::Fence { chunk, .. } | ToServer::Complete { chunk, .. } | ToServer::Drop { chunk, .. } => {
            Some(*chunk)
        }
        ToServer::Seal { sealed, .. } | ToServer::Copy { sealed, .. } => Some(sealed.chunk),
        _ => None,
    }
}

impl Chunkserver {
    /// An order about one chunk.
    pub(super) fn on_order(&mut self, order: ToServer) {
        let Some(chunk) = subject(&order) else { return };
        if !self.jobs.is_running(chunk) {
            return self.start_order(chunk, order);
        }
        let same = self.jobs.job_mut(chunk).is_some_and(|job| job.order == order);
        let waiting = self.jobs.waiting.entry(chunk).or_default();
        if same || waiting.contains(&order) {
            return;
        }
        if waiting.len() < WAITING_MAX {
            waiting.push_back(order);
        } else if let ToServer::Drop { chunk, version, .. } = order {
            // The master does not count the replica until it is answered.
            self.tell_master(FromServer::DropDone { chunk, version, dropped: false });
        }
    }

    fn start_order(&mut self, chunk: ChunkId, order: ToServer) {
        self.start_job(chunk, order, |server, job| match job.order {
            ToServer::Fence { .. } => server.start_fence(job),
            ToServer::Complete { .. } => server.start_complete(job),
            ToServer::Seal { .. } => server.start_seal(job),
            ToServer::Copy { .. } => server.start_copy(job),
            _ => server.start_drop(job),
        });
    }

    /// Makes a job of an order; `start` takes its first step.
    pub(super) fn start_job(
        &mut self,
        chunk: ChunkId,
        order: ToServer,
        start: impl FnOnce(&mut Chunkserver, Job) -> Option<Job>,
    ) {
        self.next_job += 1;
        let job = Job {
            id: self.next_job,
            chunk,
            order,
            volume: u16::MAX,
            phase: Phase::Preparing,
            script: Script::default(),
            pull: None,
            table: Vec::new(),
            lazy: false,
            verified: false,
        };
        self.jobs.running.insert(chunk, None);
        let job = start(self, job);
        self.put_back(chunk, job);
    }

    /// Something that the chunk's job waited for has happened. Events of earlier jobs are ignored.
    pub(super) fn on_job_event(&mut self, chunk: ChunkId, id: u64, event: Event) {
        let Some(slot) = self.jobs.running.get_mut(&chunk) else { return };
        if slot.as_ref().is_none_or(|job| job.id != id) {
            return;
        }
        let Some(job) = slot.take() else { return };
        let job = match job.order {
            ToServer::Fence { .. } => self.fence_event(job, event),
            ToServer::Complete { .. } => self.complete_event(job, event),
            ToServer::Seal { .. } => self.seal_event(job, event),
            ToServer::Copy { .. } => self.copy_event(job, event),
            _ => self.drop_event(job, event),
        };
        self.put_back(chunk, job);
    }

    fn put_back(&mut self, chunk: ChunkId, job: Option<Job>) {
        if job.is_some() {
            self.jobs.running.insert(chunk, job);
            return;
        }
        self.jobs.running.remove(&chunk);
        let Some(waiting) = self.jobs.waiting.get_mut(&chunk) else { return };
        let next = waiting.pop_front();
        if waiting.is_empty() {
            self.jobs.waiting.remove(&chunk);
        }
        if let Some(order) = next {
            self.start_order(chunk, order);
        }
    }

    /// The chunk's stream has no operation under way any more.
    pub(super) fn on_quiet(&mut self, chunk: ChunkId) {
        let waits = self.jobs.job_mut(chunk).filter(|job| job.phase == Phase::Quieting).map(|job| job.id);
        if let Some(id) = waits {
            self.on_job_event(chunk, id, Event::Quiet);
        }
    }

    /// The volume failed: the order is looked at again.
    pub(super) fn abort_job_on(&mut self, chunk: ChunkId, volume: u16) {
        let waits = |job: &Job| job.volume == volume || job.phase == Phase::Releasing;
        if self.jobs.job_mut(chunk).is_none_or(|job| !waits(job)) {
            return;
        }
        if let Some(Some(job)) = self.jobs.running.remove(&chunk) {
            self.start_order(chunk, job.order);
        }
    }

    /// The same for jobs whose chunk has no replica there (copies, tombstones).
    pub(super) fn abort_jobs_of_volume(&mut self, volume: u16) {
        let chunks: Vec<ChunkId> =
            self.jobs.iter().filter(|job| job.volume == volume).map(|job| job.chunk).collect();
        for chunk in chunks {
            self.abort_job_on(chunk, volume);
        }
    }

    /// Starts a job's disk operation.
    pub(super) fn job_disk(&mut self, job: &Job, request: DiskRequest) {
        self.out.disk(request, Then::Job { chunk: job.chunk, job: job.id });
    }

    /// Goes on with the script. `Ok(true)` at its end.
    pub(super) fn run_script(
        &mut self,
        job: &mut Job,
        result: Option<&DiskResult>,
    ) -> Result<bool, DiskError> {
        if let Some(result) = result {
            job.script.check(result)?;
        }
        match job.script.next() {
            Some(request) => {
                self.schedule_purge(&request);
                self.job_disk(job, request);
                Ok(false)
            }
            None => Ok(true),
        }
    }

    /// A disk failed a job in a way that has no other answer.
    pub(super) fn note_job_error(&mut self, job: &Job, what: &str, error: &DiskError) {
        self.out.note(Level::Warn, alloc::format!("{}: {what}: {error}", job.chunk));
    }
}

/// The bytes of a read, or why there are none.
pub(super) fn data_of(result: DiskResult) -> Result<crate::payload::Payload, DiskError> {
    match result {
        Ok(DiskOk::Data(payload)) => Ok(payload),
        Ok(_) => Err(DiskError::Io("the read yielded no data".into())),
        Err(error) => Err(error),
    }
}
