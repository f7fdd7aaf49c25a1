//! Fencing and voting (chunk protocol, rules 2 to 6).
//!
//! A fence takes effect in memory at once. The vote leaves only after the staged bytes are synced, then length and fence
//! are in the journal, so a crash between any two steps has told nobody anything: the replica comes back fenced by its
//! restart, with at least what it called READY. A chunk that is not here leaves a tombstone in the same way.

use alloc::vec;

use super::Chunkserver;
use super::job::{Event, Job, Phase};
use super::journal::{Record, Waiter};
use super::names;
use crate::defect::Defect;
use crate::disk::DiskRequest;
use crate::id::{ChunkId, ChunkVersion, Durability, Incarnation, SessionId};
use crate::message::{FromServer, ReplicaState, ToServer, Vote};
use crate::reached;

/// A chunk version that is refused although it was never here (rule 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Tombstone {
    pub(super) version: ChunkVersion,
    pub(super) session: SessionId,
    /// Whose journal has it.
    pub(super) volume: u16,
    /// It is in the journal.
    pub(super) kept: bool,
}

impl Chunkserver {
    pub(super) fn start_fence(&mut self, mut job: Job) -> Option<Job> {
        let ToServer::Fence { chunk, version, incarnation, durability } = job.order else { return None };
        let Some(volume) = self.standing_volume(incarnation, durability) else {
            reached!("fence.other_incarnation");
            return self.vote(chunk, version, incarnation, Vote::OtherIncarnation);
        };
        job.volume = volume;
        if !self.replicas.contains_key(&chunk) {
            return self.fence_absent(job, chunk, version, incarnation);
        }
        if let Some(vote) = self.foregone_vote(chunk, version, volume) {
            return self.vote(chunk, version, incarnation, vote);
        }
        if self.stop_for_good(chunk, version) {
            return self.fence_event(job, Event::Quiet);
        }
        reached!("fence.waits_for_stream");
        job.phase = Phase::Quieting;
        Some(job)
    }

    /// The volume on which what was granted to `incarnation` still stands.
    pub(super) fn standing_volume(&self, incarnation: Incarnation, durability: Durability) -> Option<u16> {
        let volume = self.volume_index(incarnation.volume)?;
        incarnation.stands(durability, self.incarnation(volume)).then_some(volume)
    }

    /// A vote that needs no work.
    pub(super) fn foregone_vote(&self, chunk: ChunkId, version: ChunkVersion, volume: u16) -> Option<Vote> {
        let replica = self.replicas.get(&chunk)?;
        if replica.volume != volume {
            reached!("fence.other_volume");
            return Some(Vote::OtherIncarnation);
        }
        let fence = replica.unsealed.as_ref().and_then(|u| u.fence);
        if replica.version > version || replica.unsealed.is_none() {
            reached!("fence.superseded");
            return Some(Vote::Superseded { version: replica.version });
        }
        if let Some(fence) = fence.filter(|f| *f > version) {
            return Some(Vote::Superseded { version: fence });
        }
        if replica.state == ReplicaState::Damaged && self.setup.defects.has(Defect::DamagedVotes) {
            return Some(Vote::Absent);
        }
        if replica.state == ReplicaState::Damaged || replica.version < version {
            reached!("fence.damaged");
            return Some(Vote::Damaged);
        }
        None
    }

    /// Fences in memory. True when nothing of the stream is under way.
    pub(super) fn stop_for_good(&mut self, chunk: ChunkId, version: ChunkVersion) -> bool {
        let Some(replica) = self.replicas.get_mut(&chunk) else { return true };
        if replica.state == ReplicaState::Open {
            replica.state = ReplicaState::Fenced;
        }
        let Some(unsealed) = replica.unsealed.as_mut() else { return true };
        if unsealed.fence < Some(version) {
            unsealed.fence = Some(version);
            unsealed.fence_kept = false;
        }
        unsealed.stream.as_mut().is_none_or(|stream| stream.stop())
    }

    pub(super) fn fence_event(&mut self, mut job: Job, event: Event) -> Option<Job> {
        let ToServer::Fence { chunk, version, incarnation, .. } = job.order else { return None };
        if job.phase == Phase::Logging {
            if let Some(tombstone) = self.tombstones.get_mut(&chunk).filter(|t| t.version == version) {
                tombstone.kept = true;
                return self.vote(chunk, version, incarnation, Vote::Absent);
            }
            return self.vote_as_it_is(job);
        }
        if let Some(vote) = self.foregone_vote(chunk, version, job.volume) {
            return self.vote(chunk, version, incarnation, vote);
        }
        match event {
            Event::Quiet => {
                let early = self.setup.defects.has(Defect::VoteBeforeSync);
                if let Some(path) = self.unsynced_path(chunk).filter(|_| !early) {
                    reached!("fence.syncs_staged");
                    job.phase = Phase::Syncing;
                    self.job_disk(&job, DiskRequest::Sync(path));
                    return Some(job);
                }
                self.log_fence(job)
            }
            Event::Disk { result: Err(error) } => {
                reached!("fence.sync_failed");
                self.mark_damaged(chunk, &alloc::format!("its bytes can't be synced: {error}"));
                self.vote(chunk, version, incarnation, Vote::Damaged)
            }
            _ => self.log_fence(job),
        }
    }

    /// The chunk file, if bytes are written that must be synced before a vote.
    pub(super) fn unsynced_path(&self, chunk: ChunkId) -> Option<crate::disk::DiskPath> {
        let replica = self.replicas.get(&chunk)?;
        let unsealed = replica.unsealed.as_ref()?;
        let written = unsealed.stream.as_ref()?.written_end(replica.length);
        (unsealed.grant.durability == Durability::Sync && written > replica.length)
            .then(|| names::data(replica.volume, self.cluster, chunk))
    }

    /// Everything written is synced: takes it into the promised prefix and ends the stream.
    pub(super) fn end_stream(&mut self, chunk: ChunkId) -> alloc::vec::Vec<Record> {
        let records = self.absorb(chunk, u64::MAX);
        if !records.is_empty() {
            self.note_growth(chunk);
        }
        if let Some(unsealed) = self.replicas.get_mut(&chunk).and_then(|replica| replica.unsealed.as_mut()) {
            unsealed.stream = None;
        }
        self.open.remove(&chunk);
        records
    }

    fn log_fence(&mut self, mut job: Job) -> Option<Job> {
        let ToServer::Fence { chunk, version, durability, .. } = job.order else { return None };
        let mut records = self.end_stream(chunk);
        let replica = self.replicas.get_mut(&chunk)?;
        let volume = replica.volume;
        let kept = replica.unsealed.as_ref().is_some_and(|u| u.fence_kept);
        if kept && records.is_empty() {
            reached!("fence.asked_again");
            return self.vote_as_it_is(job);
        }
        records.extend(replica.opened_records());
        records.push(Record::Fenced { chunk, fence: version });
        if self.setup.defects.has(Defect::FenceNotPersisted) {
            return self.vote_as_it_is(job);
        }
        job.phase = Phase::Logging;
        let waiter = Waiter::Job { chunk, job: job.id };
        self.log(volume, records, waiter, durability == Durability::Sync);
        Some(job)
    }

    /// Votes with the promised prefix.
    pub(super) fn vote_as_it_is(&mut self, job: Job) -> Option<Job> {
        let (ToServer::Fence { chunk, version, incarnation, .. }
        | ToServer::Complete { chunk, version, incarnation, .. }) = job.order
        else {
            return None;
        };
        if let Some(vote) = self.foregone_vote(chunk, version, job.volume) {
            return self.vote(chunk, version, incarnation, vote);
        }
        let Some(replica) = self.replicas.get_mut(&chunk) else {
            return self.vote(chunk, version, incarnation, Vote::Damaged);
        };
        if let Some(unsealed) = replica.unsealed.as_mut() {
            unsealed.fence_kept = true;
        }
        let vote = Vote::Prefix { length: replica.length, crc: replica.prefix_crc() };
        self.vote(chunk, version, incarnation, vote)
    }

    fn fence_absent(
        &mut self,
        mut job: Job,
        chunk: ChunkId,
        version: ChunkVersion,
        incarnation: Incarnation,
    ) -> Option<Job> {
        reached!("fence.absent");
        let known = self.tombstones.get(&chunk).is_some_and(|t| t.version >= version && t.kept);
        let session = self.session.id().unwrap_or_default();
        if known {
            reached!("fence.tombstone_known");
        }
        if known || self.setup.defects.has(Defect::NoTombstone) {
            return self.vote(chunk, version, incarnation, Vote::Absent);
        }
        let volume = job.volume;
        self.tombstones.insert(chunk, Tombstone { version, session, volume, kept: false });
        job.phase = Phase::Logging;
        let waiter = Waiter::Job { chunk, job: job.id };
        self.log(volume, vec![Record::Tombstone { chunk, version, session }], waiter, true);
        Some(job)
    }

    /// Sends a vote. Always ends the job.
    pub(super) fn vote(
        &mut self,
        chunk: ChunkId,
        version: ChunkVersion,
        incarnation: Incarnation,
        vote: Vote,
    ) -> Option<Job> {
        self.tell_master(FromServer::Vote { chunk, version, incarnation, vote });
        None
    }
}
