//! Reads: whole blocks are read, compared with their checksums, and only then cut to what was asked for.
//!
//! A mismatch is never served: the reader gets `DataCorrupt`, the replica is damaged, the master is told.

use alloc::string::ToString;
use alloc::sync::Arc;
use alloc::vec::Vec;
use bytes::{Bytes, BytesMut};

use super::Chunkserver;
use super::job::data_of;
use super::names;
use super::out::Then;
use super::sidecar::Sidecar;
use crate::defect::Defect;
use crate::disk::{DiskError, DiskRequest, DiskResult};
use crate::error::ChunkError;
use crate::id::{ChunkId, ChunkVersion, Peer};
use crate::limits::FILE_PIECE;
use crate::message::{ReadMessage, ReplicaState};
use crate::payload::{BLOCK_BYTES, MAX_PAYLOAD, Payload};
use crate::reached;

/// A read under way.
#[derive(Clone, Debug, Hash)]
pub(super) struct Read {
    peer: Peer,
    read: u64,
    chunk: ChunkId,
    generation: u64,
    offset: u64,
    length: u64,
    table: Arc<Vec<u32>>,
    parts: Vec<Option<Payload>>,
}

impl Chunkserver {
    /// [`ReadMessage::Request`].
    pub(super) fn on_read(
        &mut self,
        from: Peer,
        read: u64,
        chunk: ChunkId,
        version: ChunkVersion,
        offset: u64,
        length: u32,
    ) {
        let under_way = self.reads_of.get(&from).copied().unwrap_or(0);
        let checked = if under_way >= self.setup.config.reads_per_connection {
            reached!("read.busy");
            Err(ChunkError::Busy("too many reads on this connection".into()))
        } else {
            self.check_read(chunk, version, offset, length)
        };
        let generation = match checked {
            Ok(generation) => generation,
            Err(error) => return self.out.send(from, ReadMessage::Reply { read, result: Err(error) }),
        };
        if length == 0 {
            let result = Ok(Payload::new(offset, Bytes::new()));
            return self.out.send(from, ReadMessage::Reply { read, result });
        }
        *self.reads_of.entry(from.clone()).or_default() += 1;
        self.next_key += 1;
        let key = self.next_key;
        let (length, table, parts) = (u64::from(length), Arc::default(), Vec::new());
        self.reads.insert(key, Read { peer: from, read, chunk, generation, offset, length, table, parts });
        match self.table_of(chunk) {
            Some(table) => self.start_parts(key, table),
            None => self.read_sidecar(chunk, Then::ReadTable { key }),
        }
    }

    /// Whether a replica can serve the range under that version. Yields its generation.
    fn check_read(
        &self,
        chunk: ChunkId,
        asked: ChunkVersion,
        offset: u64,
        length: u32,
    ) -> Result<u64, ChunkError> {
        let replica = self.replicas.get(&chunk).ok_or(ChunkError::UnknownChunk(chunk))?;
        let have = replica.version;
        let serves = match replica.state {
            ReplicaState::Sealed => have == asked,
            ReplicaState::Fenced => have == asked || have.next() == asked,
            ReplicaState::Damaged => return Err(ChunkError::DataCorrupt { chunk, offset }),
            ReplicaState::Open | ReplicaState::Gone => false,
        };
        if !serves {
            return Err(ChunkError::WrongVersion { chunk, asked, have });
        }
        let length = u64::from(length);
        if length > u64::from(MAX_PAYLOAD) || offset > replica.length || length > replica.length - offset {
            return Err(ChunkError::BeyondEnd { chunk, length: replica.length });
        }
        if !self.volume(replica.volume).is_ready() {
            return Err(ChunkError::NotReady("volume is out of use".into()));
        }
        Ok(replica.generation)
    }

    /// A replica's block checksums, if they are in memory.
    pub(super) fn table_of(&mut self, chunk: ChunkId) -> Option<Arc<Vec<u32>>> {
        match &self.replicas.get(&chunk)?.unsealed {
            Some(unsealed) => Some(Arc::new(unsealed.crcs.clone())),
            None => self.tables.lookup(chunk),
        }
    }

    pub(super) fn read_sidecar(&mut self, chunk: ChunkId, then: Then) {
        let Some(replica) = self.replicas.get(&chunk) else { return };
        let path = names::meta(replica.volume, self.cluster, chunk);
        self.out.disk(DiskRequest::Read { path, offset: 0, length: MAX_PAYLOAD }, then);
    }

    /// Takes a sidecar's checksums into memory, if it is the one that the replica must have.
    pub(super) fn take_sidecar(
        &mut self,
        chunk: ChunkId,
        result: DiskResult,
    ) -> Result<Arc<Vec<u32>>, DiskError> {
        let payload = data_of(result)?;
        let sidecar = Sidecar::decode(&payload.bytes).map_err(|error| DiskError::Io(error.to_string()))?;
        let fits = |r: &super::replica::Replica| sidecar.sealed.chunk == chunk && r.is_described_by(&sidecar);
        if !self.replicas.get(&chunk).is_some_and(fits) {
            return Err(DiskError::Io("its sidecar is another one's".into()));
        }
        self.tables.put(chunk, sidecar.blocks);
        self.tables.lookup(chunk).ok_or(DiskError::NotFound)
    }

    pub(super) fn on_read_table(&mut self, key: u64, result: DiskResult) {
        let Some(read) = self.reads.get(&key) else { return };
        let chunk = read.chunk;
        if !self.is_same(chunk, read.generation) {
            return self.read_moved(key);
        }
        match self.take_sidecar(chunk, result) {
            Ok(table) => self.start_parts(key, table),
            Err(error) => self.read_failed(key, &error),
        }
    }

    /// Reads the blocks that the range touches, in as many operations as their size takes.
    fn start_parts(&mut self, key: u64, table: Arc<Vec<u32>>) {
        let Some(read) = self.reads.get_mut(&key) else { return };
        let Some(replica) = self.replicas.get(&read.chunk) else { return };
        let path = names::data(replica.volume, self.cluster, read.chunk);
        let start = read.offset / BLOCK_BYTES * BLOCK_BYTES;
        let end = ((read.offset + read.length).div_ceil(BLOCK_BYTES) * BLOCK_BYTES).min(replica.length);
        let step = u64::from(FILE_PIECE);
        let count = (end - start).div_ceil(step);
        read.table = table;
        read.parts = (0..count).map(|_| None).collect();
        for part in 0..count {
            let offset = start + part * step;
            let request =
                DiskRequest::Read { path: path.clone(), offset, length: step.min(end - offset) as u32 };
            self.out.disk(request, Then::ReadPart { key, part: part as u8 });
        }
    }

    pub(super) fn on_read_part(&mut self, key: u64, part: u8, result: DiskResult) {
        let unverified = self.setup.defects.has(Defect::NoReadVerify);
        let Some(read) = self.reads.get(&key) else { return };
        let (chunk, generation) = (read.chunk, read.generation);
        if !self.is_same(chunk, generation) {
            return self.read_moved(key);
        }
        let payload = match data_of(result) {
            Ok(payload) => payload,
            Err(error) => return self.read_failed(key, &error),
        };
        let Some(replica) = self.replicas.get(&chunk) else { return };
        let Some(read) = self.reads.get_mut(&key) else { return };
        let start = read.offset / BLOCK_BYTES * BLOCK_BYTES + u64::from(part) * u64::from(FILE_PIECE);
        let end = ((read.offset + read.length).div_ceil(BLOCK_BYTES) * BLOCK_BYTES).min(replica.length);
        let expected = (end - start).min(u64::from(FILE_PIECE));
        let unchecked =
            if self.setup.defects.has(Defect::LastBlockUnchecked) { expected % BLOCK_BYTES } else { 0 };
        let bad = first_bad_block(&payload, expected - unchecked, &read.table);
        if let Some(offset) = bad.filter(|_| !unverified || payload.len() != expected) {
            reached!("read.corrupt");
            // A seal or a copy may be cutting or moving the file just now.
            if self.jobs.is_running(chunk) {
                return self.read_moved(key);
            }
            self.answer_read(key, Err(ChunkError::DataCorrupt { chunk, offset }));
            return self.mark_damaged(chunk, &alloc::format!("block at offset {offset} fails its checksum"));
        }
        read.parts[usize::from(part)] = Some(payload);
        if read.parts.iter().all(Option::is_some) {
            let parts: Vec<Payload> = read.parts.drain(..).flatten().collect();
            let (offset, length) = (read.offset, read.length);
            self.answer_read(key, Ok(join(parts).slice(offset, length)));
        }
    }

    fn is_same(&self, chunk: ChunkId, generation: u64) -> bool {
        self.replicas.get(&chunk).is_some_and(|r| r.generation == generation)
    }

    /// The replica changed under the read; asking again finds what it is now.
    fn read_moved(&mut self, key: u64) {
        reached!("read.moved");
        self.answer_read(key, Err(ChunkError::Busy("the replica is being changed".into())));
    }

    fn read_failed(&mut self, key: u64, error: &DiskError) {
        let Some(read) = self.reads.get(&key) else { return };
        let chunk = read.chunk;
        if self.jobs.is_running(chunk) {
            return self.read_moved(key);
        }
        self.answer_read(key, Err(ChunkError::Disk { chunk, error: error.to_string() }));
        // A sealed replica is looked at again by the scrubber, an unsealed one would stay damaged for a passing error.
        if self.replicas.get(&chunk).is_some_and(|r| r.unsealed.is_none()) {
            self.mark_damaged(chunk, &error.to_string());
        }
    }

    fn answer_read(&mut self, key: u64, result: Result<Payload, ChunkError>) {
        let Some(read) = self.reads.remove(&key) else { return };
        if let Some(count) = self.reads_of.get_mut(&read.peer) {
            *count -= 1;
            if *count == 0 {
                self.reads_of.remove(&read.peer);
            }
        }
        self.out.send(read.peer, ReadMessage::Reply { read: read.read, result });
    }

    /// The asker is gone: its answers would go nowhere.
    pub(super) fn on_reader_lost(&mut self, peer: &Peer) {
        if self.reads_of.remove(peer).is_some() {
            self.reads.retain(|_, read| read.peer != *peer);
        }
    }
}

/// The offset of the first block that is missing or fails its checksum.
pub(super) fn first_bad_block(payload: &Payload, expected: u64, table: &[u32]) -> Option<u64> {
    let first = (payload.offset / BLOCK_BYTES) as usize;
    let blocks = expected.div_ceil(BLOCK_BYTES) as usize;
    (0..blocks)
        .find(|i| {
            let cut = payload.len() < expected && (*i as u64 + 1) * BLOCK_BYTES > payload.len();
            cut || payload.crcs.get(*i).is_none() || payload.crcs.get(*i) != table.get(first + i)
        })
        .map(|i| payload.offset + i as u64 * BLOCK_BYTES)
}

/// Neighbouring parts as one payload.
fn join(mut parts: Vec<Payload>) -> Payload {
    if parts.len() == 1 {
        return parts.swap_remove(0);
    }
    let offset = parts.first().map_or(0, |p| p.offset);
    let mut bytes = BytesMut::new();
    let mut crcs = Vec::new();
    for part in parts {
        bytes.extend_from_slice(&part.bytes);
        crcs.extend(part.crcs);
    }
    Payload { offset, bytes: bytes.freeze(), crcs }
}
