//! Errors: one enum for each failure domain. Expected failures are typed and say what to do; they cross the wire as they are.

use alloc::string::String;
use serde::{Deserialize, Serialize};

use crate::id::{ChunkId, ChunkVersion, ServerId, UploadId};

/// Why the master refused a request.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, thiserror::Error)]
pub enum MasterError {
    /// No such file or directory.
    #[error("{0}: no such file or directory")]
    NotFound(String),
    /// The name is taken.
    #[error("{0}: already exists")]
    AlreadyExists(String),
    /// A directory was needed.
    #[error("{0}: not a directory")]
    NotADirectory(String),
    /// A file was needed.
    #[error("{0}: is a directory")]
    IsADirectory(String),
    /// The directory has entries.
    #[error("{0}: directory not empty (use -r to delete it with its contents)")]
    NotEmpty(String),
    /// The asserted identity may not do this.
    #[error("{path}: permission denied (needs {needs})")]
    PermissionDenied {
        /// Where.
        path: String,
        /// Which right is missing.
        needs: String,
    },
    /// The path is not one.
    #[error("{path:?} is not a valid path: {reason}")]
    InvalidPath {
        /// The path as given, cut to a printable length.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A value is out of range.
    #[error("invalid argument: {0}")]
    InvalidArgument(String),
    /// Too few live servers for a safe write.
    #[error(
        "not enough chunkservers: {needed} needed, {live} can take the chunk; start more or free space, then retry"
    )]
    NotEnoughServers {
        /// How many the quorum needs.
        needed: u8,
        /// How many can be used.
        live: u8,
    },
    /// Too few replicas can be reached to settle a chunk's length.
    #[error(
        "{chunk} can't be sealed safely: {needed} of its replicas must answer, {answered} did; bring its chunkservers back"
    )]
    QuorumLost {
        /// The chunk.
        chunk: ChunkId,
        /// Votes needed.
        needed: u8,
        /// Votes that count.
        answered: u8,
    },
    /// The chunk is not what the request says.
    #[error("{0} is not open in this upload")]
    ChunkNotOpen(ChunkId),
    /// The upload is unknown: completed, aborted or expired.
    #[error("{0} is gone: it was completed, aborted or expired; start the upload again")]
    UploadGone(UploadId),
    /// The master can't answer now (starting, shutting down, lost connection); the request may or may not have happened.
    #[error("master unavailable: {0}")]
    Unavailable(String),
    /// The master did not get the request, or refused it before acting: a retry is safe.
    #[error("master busy: {0}; retry")]
    Busy(String),
    /// The request could not be understood.
    #[error("protocol error: {0}")]
    Protocol(String),
}

/// Why a chunkserver refused a request.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, thiserror::Error)]
pub enum ChunkError {
    /// The server has no such chunk.
    #[error("{0} is not here")]
    UnknownChunk(ChunkId),
    /// The replica has another version.
    #[error("{chunk} is at {have}, not {asked}")]
    WrongVersion {
        /// The chunk.
        chunk: ChunkId,
        /// The version asked for.
        asked: ChunkVersion,
        /// The replica's version.
        have: ChunkVersion,
    },
    /// The version was fenced: no more appends.
    #[error("{chunk} {version} is fenced")]
    Fenced {
        /// The chunk.
        chunk: ChunkId,
        /// The fenced version.
        version: ChunkVersion,
    },
    /// The request names another incarnation or session of this server (chunk protocol, rules 2 and 3).
    #[error("{0} was granted to another incarnation of this server")]
    WrongIncarnation(ChunkId),
    /// Records are missing before this one.
    #[error("record {expected} of {chunk} must come first")]
    Gap {
        /// The chunk.
        chunk: ChunkId,
        /// The next record number.
        expected: u64,
    },
    /// The append does not fit in the chunk, or is not at its end.
    #[error("append to {0} does not fit")]
    OutOfBounds(ChunkId),
    /// The primary's lease ran out.
    #[error("lease of {0} ran out")]
    LeaseExpired(ChunkId),
    /// A replica downstream was lost or fell behind: seal and continue elsewhere.
    #[error("replica on {server} of {chunk} was lost")]
    ReplicaLost {
        /// The chunk.
        chunk: ChunkId,
        /// The lost server.
        server: ServerId,
    },
    /// Stored bytes don't match their checksum; the master was told.
    #[error("DataCorrupt: {chunk} at offset {offset}")]
    DataCorrupt {
        /// The chunk.
        chunk: ChunkId,
        /// Offset of the first bad block in bytes.
        offset: u64,
    },
    /// The disk failed.
    #[error("disk of {chunk}: {error}")]
    Disk {
        /// The chunk.
        chunk: ChunkId,
        /// The error.
        error: String,
    },
    /// The volume has only its reserve left.
    #[error("volume is full up to its reserve")]
    NoSpace,
    /// The read goes beyond the end.
    #[error("read of {chunk} beyond its {length} bytes")]
    BeyondEnd {
        /// The chunk.
        chunk: ChunkId,
        /// Its length in bytes.
        length: u64,
    },
    /// Too much is under way on this connection or server.
    #[error("server busy: {0}; retry")]
    Busy(String),
    /// The server is starting or stopping.
    #[error("server not ready: {0}")]
    NotReady(String),
}

/// What a client operation failed with, after all its retries.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, thiserror::Error)]
pub enum ClientError {
    /// The master said no.
    #[error(transparent)]
    Master(#[from] MasterError),
    /// No replica could serve the bytes.
    #[error("{chunk}: none of {tried} replicas could be read, last error: {last}")]
    Unreadable {
        /// The chunk.
        chunk: ChunkId,
        /// Replicas tried.
        tried: u32,
        /// The last failure.
        last: String,
    },
    /// The chunk has no live replica at all.
    #[error("{0} has no live replica; bring its chunkservers back (see `cairn fsck`)")]
    NoReplica(ChunkId),
    /// A deadline passed. For a change, its fate is unknown.
    #[error("timed out: {0}")]
    Timeout(String),
    /// A write could not be made safe and was refused (never acknowledged).
    #[error("write refused: {0}")]
    WriteRefused(String),
    /// The file that was opened is not at its path any more, and what is left of it can't be found.
    #[error("{0} was replaced or removed since it was opened; open it again")]
    Stale(String),
    /// The handle is closed, aborted or was never open.
    #[error("file handle is not open")]
    BadHandle,
    /// The client is shutting down.
    #[error("client is closed")]
    Closed,
}
