//! Completing a fenced, shorter member (chunk protocol, rules 7 and 9): the missing bytes come from a longer one.
//!
//! The bytes are written beyond the promised prefix, so a crash during the pull leaves the old, shorter vote standing;
//! the longer length enters the journal only after the whole prefix matched its checksum and was synced.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;

use super::Chunkserver;
use super::flush::Kept;
use super::job::{Event, Job, Phase};
use super::journal::{Record, Waiter};
use super::names;
use super::pull::Pull;
use super::replica::{Replica, Unsealed};
use super::sidecar::whole_crc;
use crate::defect::Defect;
use crate::disk::{DiskError, DiskPath, DiskRequest};
use crate::id::{ChunkId, ChunkVersion, Durability, WriterId};
use crate::message::{Grant, Member, ReplicaState, ToServer, Vote};
use crate::reached;

impl Chunkserver {
    pub(super) fn start_complete(&mut self, mut job: Job) -> Option<Job> {
        let ToServer::Complete { chunk, version, incarnation, length, .. } = job.order else { return None };
        let Some(volume) = self.volume_index(incarnation.volume) else {
            return self.vote(chunk, version, incarnation, Vote::OtherIncarnation);
        };
        job.volume = volume;
        if !self.replicas.contains_key(&chunk) {
            let fenced = self.tombstones.get(&chunk).is_some_and(|t| t.version == version && t.kept);
            if !fenced || length > crate::config::MAX_CHUNK_BYTES {
                return self.vote(chunk, version, incarnation, Vote::OtherIncarnation);
            }
            reached!("complete.absent_member");
            self.adopt_absent(chunk, version, volume, length);
        }
        if let Some(vote) = self.foregone_vote(chunk, version, volume) {
            return self.vote(chunk, version, incarnation, vote);
        }
        let replica = self.replicas.get(&chunk)?;
        let unsealed = replica.unsealed.as_ref()?;
        if !unsealed.grant.members.iter().all(|m| m.server != self.server)
            && !incarnation.stands(unsealed.grant.durability, self.incarnation(volume))
        {
            return self.vote(chunk, version, incarnation, Vote::OtherIncarnation);
        }
        // Only a fenced replica is completed: one that still accepts appends would mix two sources.
        if replica.state != ReplicaState::Fenced
            || unsealed.fence != Some(version)
            || unsealed.stream.is_some()
        {
            return None;
        }
        if replica.length >= length {
            return self.vote_as_it_is(job);
        }
        if replica.length == 0 {
            job.script.step(DiskRequest::MakeDir(names::dir(volume, chunk)));
            job.script.step(DiskRequest::SyncDir(DiskPath::new(volume, "chunks")));
            let path = names::data(volume, self.cluster, chunk);
            job.script.step(DiskRequest::Write { path, offset: 0, data: Vec::new(), create: true });
            job.script.step(DiskRequest::SyncDir(names::dir(volume, chunk)));
        }
        job.phase = Phase::Preparing;
        self.complete_step(job, None)
    }

    /// A member that voted "absent" becomes an empty, fenced replica, so that it can hold what the others have.
    fn adopt_absent(&mut self, chunk: ChunkId, version: ChunkVersion, volume: u16, capacity: u64) {
        let now = self.incarnation(volume);
        let member = Member {
            server: self.server,
            session: self.session.id().unwrap_or_default(),
            volume: now.volume,
            boot: now.boot,
            process: now.process,
        };
        let grant = Grant {
            cluster: self.cluster,
            chunk,
            version,
            members: vec![member],
            addresses: vec![self.setup.address.clone()],
            replication: 1,
            quorum: 1,
            durability: Durability::Sync,
            capacity,
        };
        let unsealed = Unsealed {
            grant,
            position: 0,
            writer: WriterId::default(),
            fence: Some(version),
            fence_kept: false,
            opened_kept: false,
            crcs: Vec::new(),
            record: 0,
            stream: None,
        };
        let generation = self.next_generation();
        let state = ReplicaState::Fenced;
        let unsealed = Some(Box::new(unsealed));
        let kept = Kept::Durable;
        self.replicas.insert(
            chunk,
            Replica { volume, version, state, length: 0, crc: 0, kept, generation, unread: false, unsealed },
        );
        self.touch(chunk);
    }

    fn complete_step(&mut self, mut job: Job, event: Option<Event>) -> Option<Job> {
        let result = match event {
            Some(Event::Disk { result }) => Some(result),
            _ => None,
        };
        match self.run_script(&mut job, result.as_ref()) {
            Ok(false) => Some(job),
            Ok(true) => {
                let ToServer::Complete { chunk, version, length, ref sources, .. } = job.order else {
                    return None;
                };
                self.volume_mut(job.volume).dirs.insert(chunk.0 as u8);
                let from = self.replicas.get(&chunk)?.length;
                let path = names::data(job.volume, self.cluster, chunk);
                let sources = sources.clone();
                let mut pull = Pull::new(&self.setup.config, path, (chunk, version), (from, length), sources);
                self.drive_pull(&mut pull);
                job.pull = Some(pull);
                job.phase = Phase::Pulling;
                self.complete_pulled(job)
            }
            Err(error) => {
                self.note_job_error(&job, "can't be completed", &error);
                self.vote_as_it_is(job)
            }
        }
    }

    pub(super) fn complete_event(&mut self, mut job: Job, event: Event) -> Option<Job> {
        match (job.phase, event) {
            (Phase::Preparing, event) => self.complete_step(job, Some(event)),
            (Phase::Pulling, Event::Disk { result }) => {
                let pull = job.pull.as_mut()?;
                pull.writing -= 1;
                if let Err(error) = result {
                    pull.give_up();
                    if error == DiskError::NotFound {
                        // A new file would have a hole where the promised prefix was.
                        self.mark_damaged(job.chunk, "its file is gone");
                    } else {
                        // Only bytes beyond the promised prefix were touched: the shorter vote still holds.
                        self.note_job_error(&job, "can't be completed", &error);
                    }
                }
                self.complete_pulled(job)
            }
            (Phase::Pulling, _) => self.complete_pulled(job),
            (Phase::Syncing, Event::Disk { result: Ok(_) }) => self.log_completed(job),
            (Phase::Syncing, Event::Disk { result: Err(error) }) => {
                self.mark_damaged(job.chunk, &alloc::format!("its bytes can't be synced: {error}"));
                self.vote_as_it_is(job)
            }
            (Phase::Logging, _) => self.vote_as_it_is(job),
            _ => Some(job),
        }
    }

    fn complete_pulled(&mut self, mut job: Job) -> Option<Job> {
        let ToServer::Complete { chunk, length, crc, .. } = job.order else { return None };
        let mut pull = job.pull.take()?;
        self.drive_pull(&mut pull);
        if pull.is_over() {
            return self.vote_as_it_is(job);
        }
        if !pull.is_done() {
            job.pull = Some(pull);
            return Some(job);
        }
        let known = self.replicas.get(&chunk)?.unsealed.as_ref()?.crcs.clone();
        job.table = pull.join(known);
        if whole_crc(&job.table, length) != Some(crc) {
            reached!("complete.other_bytes");
            return self.vote_as_it_is(job);
        }
        if self.setup.defects.has(Defect::CompletionNotSynced) {
            return self.log_completed(job);
        }
        job.phase = Phase::Syncing;
        self.job_disk(&job, DiskRequest::Sync(pull.path));
        Some(job)
    }

    fn log_completed(&mut self, mut job: Job) -> Option<Job> {
        let ToServer::Complete { chunk, version, length, .. } = job.order else { return None };
        let table = core::mem::take(&mut job.table);
        // Reads that began before would be measured by the new length.
        self.renew(chunk);
        let replica = self.replicas.get_mut(&chunk)?;
        let volume = replica.volume;
        replica.length = length;
        if let Some(unsealed) = replica.unsealed.as_mut() {
            unsealed.crcs = table;
        }
        let mut records = replica.ready_records(0);
        records.push(Record::Fenced { chunk, fence: version });
        job.phase = Phase::Logging;
        let sync = !self.setup.defects.has(Defect::CompletionJournalUnsynced);
        self.log(volume, records, Waiter::Job { chunk, job: job.id }, sync);
        Some(job)
    }
}
