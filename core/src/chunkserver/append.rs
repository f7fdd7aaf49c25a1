//! The way down: a chunk is opened, records arrive, are passed on and written.
//!
//! Order under `sync`: the file's name durable and the bytes written → file synced → journal record written → journal
//! synced → READY. A crash before the last step promised nothing; after it, the journal has the length and the checksums
//! and the bytes were durable before them. Under `async` the syncs are left out: the page cache holds both.
//! Records are staged in order, so what is READY is always a whole number of records.

use alloc::format;
use alloc::string::ToString;

use super::Chunkserver;
use super::journal::Waiter;
use super::names;
use super::out::Then;
use super::replica::{Replica, Stream};
use crate::config::MAX_CHUNK_BYTES;
use crate::defect::Defect;
use crate::disk::{DiskError, DiskPath, DiskRequest, DiskResult};
use crate::error::ChunkError;
use crate::id::{ChunkId, ChunkVersion, Durability, Peer, WriterId};
use crate::machine::Level;
use crate::message::{AppendMessage, Grant, ReplicaState};
use crate::payload::{MAX_PAYLOAD, Payload, pieces};
use crate::reached;

/// Records of one chunk under way: tiny ones would take far more memory than the window's bytes.
const STAGED_MAX: usize = 16 * 1024;

impl Chunkserver {
    pub(super) fn on_open(&mut self, from: Peer, grant: Grant, position: u8, writer: WriterId) {
        let (chunk, version) = (grant.chunk, grant.version);
        match self.check_open(&grant, position) {
            Ok(volume) => self.open_replica(from, grant, position, writer, volume),
            Err(error) => self.send_failed(from, chunk, version, error),
        }
    }

    /// Whether this incarnation of the server is the one that was granted, and can take the chunk.
    fn check_open(&self, grant: &Grant, position: u8) -> Result<u16, ChunkError> {
        let (chunk, asked) = (grant.chunk, grant.version);
        let Some(session) = self.session.id().filter(|_| !self.stopping) else {
            return Err(ChunkError::NotReady("not registered with a master".into()));
        };
        let members = grant.members.len();
        let sane = members == grant.addresses.len()
            && (1..=members).contains(&usize::from(grant.quorum))
            && members <= usize::from(crate::config::MAX_REPLICATION)
            && grant.capacity <= MAX_CHUNK_BYTES
            && chunk.0 < 1 << 62
            && asked.0 < u32::MAX;
        let Some(member) = grant.members.get(usize::from(position)).filter(|_| sane) else {
            return Err(ChunkError::OutOfBounds(chunk));
        };
        let resumes = self.resumes(grant);
        let this_session = member.session == session || resumes;
        if member.server != self.server || grant.cluster != self.cluster || !this_session {
            reached!("append.open_of_another_session");
            return Err(ChunkError::WrongIncarnation(chunk));
        }
        let volume = self.volume_index(member.volume).ok_or(ChunkError::WrongIncarnation(chunk))?;
        if !member.incarnation().stands(grant.durability, self.incarnation(volume)) {
            return Err(ChunkError::WrongIncarnation(chunk));
        }
        if self.tombstones.get(&chunk).is_some_and(|t| t.version >= asked) {
            reached!("append.tombstone_refused");
            return Err(ChunkError::Fenced { chunk, version: asked });
        }
        if let Some(replica) = self.replicas.get(&chunk).filter(|_| !resumes) {
            reached!("append.opened_twice");
            return Err(ChunkError::WrongVersion { chunk, asked, have: replica.version });
        }
        if self.jobs.is_running(chunk) {
            return Err(ChunkError::Busy(format!("{chunk} is being changed")));
        }
        if !self.volume(volume).accepts() {
            return Err(ChunkError::NotReady("volume is not ready".into()));
        }
        if self.room(volume) < grant.capacity {
            return Err(ChunkError::NoSpace);
        }
        Ok(volume)
    }

    /// Planted defect: a replica of an open chunk goes on after a restart as if nothing had happened (rule 4).
    fn resumes(&self, grant: &Grant) -> bool {
        self.setup.defects.has(Defect::ResumeAfterRestart)
            && self.replicas.get(&grant.chunk).is_some_and(|r| {
                let unsealed = r.unsealed.as_ref().filter(|u| u.stream.is_none() && u.fence.is_none());
                r.version == grant.version && r.state == ReplicaState::Fenced && unsealed.is_some()
            })
    }

    fn open_replica(&mut self, from: Peer, grant: Grant, position: u8, writer: WriterId, volume: u16) {
        let chunk = grant.chunk;
        let downstream = grant.addresses.get(usize::from(position) + 1).cloned().map(Peer::Dial);
        if let Some(next) = &downstream {
            let message = AppendMessage::Open { grant: grant.clone(), position: position + 1, writer };
            self.out.send(next.clone(), message);
        }
        let generation = self.next_generation();
        let stream = Stream::new(from, downstream, grant.members.len());
        if let Some(replica) = self.replicas.get_mut(&chunk) {
            replica.resume(generation, stream);
            self.open.insert(chunk);
            return;
        }
        self.replicas.insert(chunk, Replica::open(volume, generation, grant, position, writer, stream));
        self.open.insert(chunk);
        self.touch(chunk);
        let known = self.volume(volume).dirs.contains(&(chunk.0 as u8));
        self.create_step(chunk, generation, if known { 2 } else { 0 });
    }

    /// Steps of making the file: its directory, that one's name, the file, its name.
    fn create_step(&mut self, chunk: ChunkId, generation: u64, step: u8) {
        let Some(replica) = self.replicas.get(&chunk) else { return };
        let volume = replica.volume;
        let request = match step {
            0 => DiskRequest::MakeDir(names::dir(volume, chunk)),
            1 => DiskRequest::SyncDir(DiskPath::new(volume, "chunks")),
            2 => DiskRequest::Write {
                path: names::data(volume, self.cluster, chunk),
                offset: 0,
                data: alloc::vec::Vec::new(),
                create: true,
            },
            _ => DiskRequest::SyncDir(names::dir(volume, chunk)),
        };
        if let Some(stream) = self.stream(chunk, generation) {
            stream.busy += 1;
            self.out.disk(request, Then::Created { chunk, generation, step });
        }
    }

    pub(super) fn on_created(&mut self, chunk: ChunkId, generation: u64, step: u8, result: DiskResult) {
        if !self.op_ended(chunk, generation, result, matches!(step, 1 | 3)) {
            return;
        }
        let skip = self.setup.defects.has(Defect::SkipDirSync);
        let Some(replica) = self.replicas.get_mut(&chunk) else { return };
        let volume = replica.volume;
        let sync = replica.unsealed.as_ref().is_some_and(|u| u.grant.durability == Durability::Sync);
        match step {
            0 if skip => self.create_step(chunk, generation, 2),
            0 => self.create_step(chunk, generation, 1),
            1 => {
                self.volume_mut(volume).dirs.insert(chunk.0 as u8);
                self.create_step(chunk, generation, 2);
            }
            2 => {
                let Some(stream) = replica.stream() else { return };
                stream.made = true;
                stream.created = !sync || skip;
                if sync && !skip {
                    self.create_step(chunk, generation, 3);
                }
                self.start_writes(chunk, generation);
            }
            _ => {
                if let Some(stream) = replica.stream() {
                    stream.created = true;
                }
                self.advance(chunk, generation);
            }
        }
        self.settle_stream(chunk);
    }

    /// The arguments are the fields of [`AppendMessage::Data`].
    pub(super) fn on_data(
        &mut self,
        from: &Peer,
        chunk: ChunkId,
        version: ChunkVersion,
        writer: WriterId,
        record: u64,
        committed: u64,
        payload: Payload,
    ) {
        let window = self.setup.config.append_window_bytes;
        let Some(replica) = self.replicas.get_mut(&chunk) else {
            return self.send_failed(from.clone(), chunk, version, ChunkError::UnknownChunk(chunk));
        };
        let have = replica.version;
        let ready = replica.length;
        let Some(unsealed) = replica.unsealed.as_mut().filter(|_| have == version) else {
            let error = ChunkError::WrongVersion { chunk, asked: version, have };
            return self.send_failed(from.clone(), chunk, version, error);
        };
        let capacity = unsealed.grant.capacity;
        let same_writer = unsealed.writer == writer;
        let stream = unsealed.stream.as_mut().filter(|s| !s.stopped && s.upstream == *from && same_writer);
        let Some(stream) = stream else {
            let error = ChunkError::Fenced { chunk, version };
            return self.send_failed(from.clone(), chunk, version, error);
        };
        // The primary knows by itself what is committed, whatever a writer claims.
        if unsealed.position > 0 {
            stream.committed = stream.committed.max(committed.min(stream.staged_end));
        }
        if record < stream.next_record {
            reached!("append.duplicate_record");
            return self.acknowledge_again(chunk);
        }
        let expected = stream.next_record;
        let shaped = !payload.is_empty()
            && payload.len() <= u64::from(MAX_PAYLOAD)
            && payload.crcs.len() == pieces(payload.offset, payload.len()).count();
        let gaps = self.setup.defects.has(Defect::GapAccepted);
        let payload = if gaps { Payload { offset: stream.staged_end, ..payload } } else { payload };
        let error = if record > expected && !gaps {
            reached!("append.gap");
            Some(ChunkError::Gap { chunk, expected })
        } else if !shaped || payload.offset != stream.staged_end || payload.len() > capacity - payload.offset
        {
            Some(ChunkError::OutOfBounds(chunk))
        } else if payload.end() - ready > window
            || stream.queue.len().max(stream.uncommitted.len()) >= STAGED_MAX
        {
            reached!("append.window_full");
            Some(ChunkError::Busy(format!("{chunk}: append window is full")))
        } else {
            None
        };
        if let Some(error) = error {
            return self.fail_stream(chunk, error);
        }
        stream.stage(record, &payload);
        if unsealed.position == 0 {
            stream.uncommitted.push_back((record, payload.end()));
        }
        if let Some(next) = stream.downstream.clone().filter(|_| stream.passing) {
            let committed = stream.committed;
            self.out.send(next, AppendMessage::Data { chunk, version, writer, record, committed, payload });
        }
        let generation = replica.generation;
        self.start_writes(chunk, generation);
    }

    /// Starts the writes of all records that wait for the file to be there.
    fn start_writes(&mut self, chunk: ChunkId, generation: u64) {
        let Some(replica) = self.replicas.get_mut(&chunk).filter(|r| r.generation == generation) else {
            return;
        };
        let path = names::data(replica.volume, self.cluster, chunk);
        let Some(stream) = replica.stream().filter(|s| s.made) else { return };
        let mut writes = alloc::vec::Vec::new();
        for staged in &mut stream.queue {
            if let Some(bytes) = staged.bytes.take() {
                writes.push((staged.record, staged.offset, bytes));
            }
        }
        stream.busy += writes.len() as u32;
        for (record, offset, bytes) in writes {
            let data = alloc::vec![bytes];
            let request = DiskRequest::Write { path: path.clone(), offset, data, create: false };
            self.out.disk(request, Then::Appended { chunk, generation, record });
        }
    }

    pub(super) fn on_appended(&mut self, chunk: ChunkId, generation: u64, record: u64, result: DiskResult) {
        if !self.op_ended(chunk, generation, result, false) {
            return;
        }
        if let Some(stream) = self.stream(chunk, generation) {
            for staged in stream.queue.iter_mut().filter(|s| s.record == record) {
                staged.written = true;
            }
            self.advance(chunk, generation);
        }
        self.settle_stream(chunk);
    }

    /// Takes what is written one step nearer to READY.
    pub(super) fn advance(&mut self, chunk: ChunkId, generation: u64) {
        let early = self.setup.defects.has(Defect::AckBeforeDataSync);
        let Some(replica) = self.replicas.get_mut(&chunk).filter(|r| r.generation == generation) else {
            return;
        };
        let (volume, floor) = (replica.volume, replica.length);
        let Some(unsealed) = replica.unsealed.as_mut() else { return };
        let sync = unsealed.grant.durability == Durability::Sync;
        let Some(stream) = unsealed.stream.as_mut().filter(|s| s.created && !s.stopped) else { return };
        let end = stream.written_end(floor);
        if end == floor {
            return;
        }
        if sync && !early {
            if !stream.syncing {
                stream.syncing = true;
                stream.busy += 1;
                let path = names::data(volume, self.cluster, chunk);
                self.out.disk(DiskRequest::Sync(path), Then::AppendSynced { chunk, generation, end });
            }
        } else {
            let records = self.absorb(chunk, end);
            self.note_growth(chunk);
            self.log(volume, records, Waiter::Ready { chunk, generation, end }, sync);
        }
    }

    pub(super) fn on_append_synced(&mut self, chunk: ChunkId, generation: u64, end: u64, result: DiskResult) {
        if let Some(stream) = self.stream(chunk, generation) {
            stream.syncing = false;
        }
        if !self.op_ended(chunk, generation, result, true) {
            return;
        }
        let Some(volume) = self.replicas.get(&chunk).map(|replica| replica.volume) else { return };
        let records = self.absorb(chunk, end);
        self.note_growth(chunk);
        if !records.is_empty() && self.volume(volume).is_ready() {
            self.log(volume, records, Waiter::Ready { chunk, generation, end }, true);
        }
        self.advance(chunk, generation);
        self.settle_stream(chunk);
    }

    /// A list that was made before the file grew shows less than what is promised from here on.
    pub(super) fn note_growth(&mut self, chunk: ChunkId) {
        if !self.setup.defects.has(Defect::GrowthUnnoticed) {
            self.touch(chunk);
        }
    }

    /// Counts a stream's disk operation as ended. False if the replica is no longer the one it was for, or it failed.
    fn op_ended(&mut self, chunk: ChunkId, generation: u64, result: DiskResult, sync: bool) -> bool {
        let keeps = self.setup.defects.has(Defect::StagedKeptWhenFull);
        let Some(stream) = self.stream(chunk, generation) else { return false };
        stream.busy -= 1;
        let Err(error) = result else { return true };
        if error == DiskError::NoSpace {
            // What was promised is untouched: the replica can still vote. A later sync would not save what this one lost.
            reached!("append.disk_full");
            if sync && !keeps {
                stream.queue.clear();
            }
            self.fail_stream(chunk, ChunkError::NoSpace);
        } else {
            self.fail_stream(chunk, ChunkError::Disk { chunk, error: error.to_string() });
            if error == DiskError::NotFound {
                // Somebody removed the file, and what was promised with it.
                reached!("append.file_gone");
                self.mark_damaged(chunk, "its file is gone");
            } else if sync {
                // Nobody knows what the disk got, of the promised prefix's last block too. It is never tried again.
                reached!("append.sync_error");
                self.mark_damaged(chunk, &error.to_string());
            } else {
                // The write was for bytes beyond the promise, which is as good as before and can be voted.
                reached!("append.disk_error");
            }
        }
        self.settle_stream(chunk);
        false
    }

    /// The stream is in trouble: it accepts nothing more and the writer is told.
    pub(super) fn fail_stream(&mut self, chunk: ChunkId, error: ChunkError) {
        let Some(replica) = self.replicas.get_mut(&chunk) else { return };
        let version = replica.version;
        let Some(stream) = replica.stream().filter(|s| !s.stopped) else { return };
        let upstream = stream.upstream.clone();
        stream.stop();
        self.out.note(Level::Info, format!("{chunk} {version}: stream stopped: {error}"));
        self.send_failed(upstream, chunk, version, error);
    }

    pub(super) fn send_failed(&mut self, to: Peer, chunk: ChunkId, version: ChunkVersion, error: ChunkError) {
        let server = self.server;
        self.out.send(to, AppendMessage::Failed { chunk, version, server, error });
    }

    /// A job that waits for a stopped stream's operations goes on when the last one ended.
    fn settle_stream(&mut self, chunk: ChunkId) {
        let quiet = |s: &mut Stream| s.stopped && s.busy == 0;
        if self.replicas.get_mut(&chunk).and_then(|r| r.stream()).is_none_or(quiet) {
            self.on_quiet(chunk);
        }
    }

    /// The stream of exactly this replica.
    pub(super) fn stream(&mut self, chunk: ChunkId, generation: u64) -> Option<&mut Stream> {
        self.replicas.get_mut(&chunk).filter(|r| r.generation == generation)?.stream()
    }

    /// Whether a replica accepts appends.
    pub(super) fn is_open(&self, chunk: ChunkId) -> bool {
        self.replicas.get(&chunk).is_some_and(|r| r.state == ReplicaState::Open)
    }
}
