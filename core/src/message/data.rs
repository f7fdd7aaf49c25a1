//! The data plane: frames over TCP, header in bincode, payload raw.

use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

use super::Grant;
use crate::error::ChunkError;
use crate::id::{ChunkId, ChunkVersion, ServerId, WriterId};
use crate::payload::Payload;

/// Writing a chunk: down the pipeline and back up.
#[derive(Clone, Debug, PartialEq, Hash, Serialize, Deserialize)]
pub enum AppendMessage {
    /// Downstream, once for each chunk: each member stores the grant and passes it on.
    Open {
        /// Who may do what.
        grant: Grant,
        /// The receiver's place in `grant.members`.
        position: u8,
        /// Who writes.
        writer: WriterId,
    },
    /// Downstream: one record. Never larger than [`crate::payload::MAX_PAYLOAD`].
    Data {
        /// The chunk.
        chunk: ChunkId,
        /// The version granted.
        version: ChunkVersion,
        /// Who writes.
        writer: WriterId,
        /// The writer's record number within the chunk: 1, 2, 3, …
        record: u64,
        /// Everything below this offset is committed.
        committed: u64,
        /// The bytes, at the offset where they belong (`payload.offset`).
        payload: Payload,
    },
    /// Upstream: how far each member is READY, the sender first, then those behind it.
    Ready {
        /// The chunk.
        chunk: ChunkId,
        /// The version.
        version: ChunkVersion,
        /// Ends of the READY prefixes in bytes; members not heard of yet have 0.
        ends: Vec<u64>,
    },
    /// Primary to writer: everything up to `end` is committed.
    Committed {
        /// The chunk.
        chunk: ChunkId,
        /// The version.
        version: ChunkVersion,
        /// Committed length in bytes.
        end: u64,
        /// The last committed record.
        record: u64,
        /// Length in bytes that every member is READY for.
        everywhere: u64,
    },
    /// Upstream: the stream is in trouble. Seal the chunk and go on in another.
    Failed {
        /// The chunk.
        chunk: ChunkId,
        /// The version.
        version: ChunkVersion,
        /// The server where it failed.
        server: ServerId,
        /// What happened.
        error: ChunkError,
    },
}

impl AppendMessage {
    /// The chunk concerned.
    pub fn chunk(&self) -> ChunkId {
        match self {
            AppendMessage::Open { grant, .. } => grant.chunk,
            AppendMessage::Data { chunk, .. }
            | AppendMessage::Ready { chunk, .. }
            | AppendMessage::Committed { chunk, .. }
            | AppendMessage::Failed { chunk, .. } => *chunk,
        }
    }
}

/// Reading a chunk.
#[derive(Clone, Debug, PartialEq, Hash, Serialize, Deserialize)]
pub enum ReadMessage {
    /// Asks for a range.
    Request {
        /// Numbered by the asker, unique on its connection; repeated in the answer.
        read: u64,
        /// The chunk.
        chunk: ChunkId,
        /// The version that the asker knows. A sealed replica must have exactly this one; one still fenced at the version
        /// before it serves too, since replicas of one version are prefixes of one sequence.
        version: ChunkVersion,
        /// First byte in the chunk.
        offset: u64,
        /// Bytes wanted, at most [`crate::payload::MAX_PAYLOAD`].
        length: u32,
    },
    /// Answers with exactly the bytes asked for, verified against their stored checksums, or an error.
    Reply {
        /// The request answered.
        read: u64,
        /// The bytes.
        result: Result<Payload, ChunkError>,
    },
}
