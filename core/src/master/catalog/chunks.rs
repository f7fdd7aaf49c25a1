//! The chunk table: version, state, goal and owner of every chunk (chunk protocol, rules 1, 8 and 19).

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::ops::Bound;

use crate::id::{ChunkId, ChunkVersion, Durability, FileId, UploadId};
use crate::message::{Member, SealedChunk};

/// An entry of the chunk table.
#[derive(Clone, Debug, PartialEq, Hash)]
pub struct Chunk {
    /// Open or sealed.
    pub state: ChunkState,
    /// Who refers to it.
    pub owner: Owner,
    /// The version under which it is open, or that its seal gave it.
    pub version: ChunkVersion,
    /// References from extents and uploads.
    pub refs: u32,
    /// Replicas wanted.
    pub goal: u8,
}

/// Whether a chunk can still grow.
#[derive(Clone, Debug, PartialEq, Hash)]
pub enum ChunkState {
    /// Granted to a writer.
    Open(Box<OpenChunk>),
    /// Settled for good.
    Sealed {
        /// Length in bytes.
        length: u64,
        /// CRC32 of the content.
        crc: u32,
    },
}

/// A grant as logged (chunk protocol, rule 1).
#[derive(Clone, Debug, PartialEq, Hash)]
pub struct OpenChunk {
    /// The upload.
    pub upload: UploadId,
    /// The chunk's place in the upload.
    pub ordinal: u32,
    /// Its replicas in pipeline order; only they vote.
    pub members: Vec<Member>,
    /// Replicas that must be READY before a commit (W).
    pub quorum: u8,
    /// What READY promises.
    pub durability: Durability,
    /// Capacity in bytes.
    pub capacity: u64,
}

/// Who refers to a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Owner {
    /// An upload under way.
    Upload(UploadId),
    /// A file, visible or in the trash.
    File(FileId),
}

impl Chunk {
    /// The chunk's identity, if it is sealed.
    pub fn sealed(&self, chunk: ChunkId) -> Option<SealedChunk> {
        match self.state {
            ChunkState::Sealed { length, crc } => {
                Some(SealedChunk { chunk, version: self.version, length, crc })
            }
            ChunkState::Open(_) => None,
        }
    }

    /// The grant, if it is open.
    pub fn open(&self) -> Option<&OpenChunk> {
        match &self.state {
            ChunkState::Open(open) => Some(open),
            ChunkState::Sealed { .. } => None,
        }
    }
}

/// Every chunk that something refers to, and the allocator of ids.
#[derive(Clone, Debug, Hash)]
pub(super) struct ChunkTable {
    chunks: BTreeMap<ChunkId, Chunk>,
    next: ChunkId,
    open: u64,
}

impl ChunkTable {
    pub(super) fn new() -> ChunkTable {
        ChunkTable { chunks: BTreeMap::new(), next: ChunkId(1), open: 0 }
    }

    pub(super) fn chunk(&self, chunk: ChunkId) -> Option<&Chunk> {
        self.chunks.get(&chunk)
    }

    pub(super) fn after(&self, after: Option<ChunkId>) -> impl Iterator<Item = (ChunkId, &Chunk)> {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.chunks.range((start, Bound::Unbounded)).map(|(id, chunk)| (*id, chunk))
    }

    pub(super) fn next(&self) -> ChunkId {
        self.next
    }

    pub(super) fn len(&self) -> u64 {
        self.chunks.len() as u64
    }

    /// How many are open.
    pub(super) fn open(&self) -> u64 {
        self.open
    }

    /// Allots the next id to a chunk that is open at version 1.
    pub(super) fn grant(&mut self, open: OpenChunk, goal: u8) -> ChunkId {
        let id = self.next;
        self.next = ChunkId(id.0 + 1);
        self.open += 1;
        let owner = Owner::Upload(open.upload);
        let state = ChunkState::Open(Box::new(open));
        self.chunks.insert(id, Chunk { state, owner, version: ChunkVersion(1), refs: 1, goal });
        id
    }

    /// Settles an open chunk's length and bumps its version.
    pub(super) fn seal(&mut self, id: ChunkId, length: u64, crc: u32) -> SealedChunk {
        let chunk = self.chunks.get_mut(&id).expect("the seal was checked against the table");
        self.open -= u64::from(chunk.open().is_some());
        chunk.version = chunk.version.next();
        chunk.state = ChunkState::Sealed { length, crc };
        SealedChunk { chunk: id, version: chunk.version, length, crc }
    }

    /// Hands a chunk over from its upload to its file.
    pub(super) fn hand_over(&mut self, id: ChunkId, file: FileId) {
        if let Some(chunk) = self.chunks.get_mut(&id) {
            chunk.owner = Owner::File(file);
        }
    }

    /// Takes one reference away. Whether it was the last one, and the chunk is gone.
    pub(super) fn release(&mut self, id: ChunkId) -> bool {
        let Some(chunk) = self.chunks.get_mut(&id) else { return false };
        chunk.refs -= 1;
        if chunk.refs > 0 {
            return false;
        }
        self.open -= u64::from(chunk.open().is_some());
        self.chunks.remove(&id);
        true
    }
}
