//! The chunk table: version, state, goal and owner of every chunk (PROTOCOL rules 1, 8 and 19).

use alloc::boxed::Box;
use alloc::vec::Vec;

use crate::id::{ChunkId, ChunkVersion, Durability, FileId, UploadId};
use crate::message::{Member, SealedChunk};

/// An entry of the chunk table.
#[derive(Clone, Debug, PartialEq)]
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
#[derive(Clone, Debug, PartialEq)]
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

/// A grant as logged (PROTOCOL rule 1).
#[derive(Clone, Debug, PartialEq)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
