//! Client ↔ master: the namespace, uploads, locations, and what operators ask.

use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

use crate::id::{
    Address, BootId, ChunkId, ChunkVersion, ClusterId, Durability, FileId, Incarnation, ProcessId, ServerId,
    SessionId, TrashId, UploadId, VolumeId,
};
use crate::time::UnixMs;

/// As whom a request is made. `root` may do everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Identity {
    /// User name.
    pub user: String,
    /// Names of the user's groups; the first owns what the user creates.
    pub groups: Vec<String>,
}

/// What a client asks of the master. Paths are absolute.
#[derive(Clone, Debug, PartialEq, Hash, Serialize, Deserialize)]
pub enum MasterRequest {
    /// Makes a directory. → [`MasterReply::Done`]
    Mkdir {
        /// The directory.
        path: String,
        /// Also make missing parents, and succeed if it exists.
        parents: bool,
        /// Permission bits.
        mode: u16,
    },
    /// One page of a directory, in name order; of a file, the file itself. → [`MasterReply::Entries`]
    List {
        /// The directory.
        path: String,
        /// Only names after this one.
        after: Option<String>,
        /// At most so many; capped at 1,000.
        limit: u32,
    },
    /// A file's or directory's attributes. → [`MasterReply::Status`]
    Stat {
        /// The path.
        path: String,
    },
    /// Changes permission bits (owner only). → [`MasterReply::Done`]
    Chmod {
        /// The path.
        path: String,
        /// The new bits.
        mode: u16,
    },
    /// Changes owner (root only) or group (owner, to a group of theirs). → [`MasterReply::Done`]
    Chown {
        /// The path.
        path: String,
        /// New owner.
        owner: Option<String>,
        /// New group.
        group: Option<String>,
    },
    /// Renames a file or tree. → [`MasterReply::Done`]
    Rename {
        /// From this path,
        from: String,
        /// to this one.
        to: String,
        /// Replace an existing file (never a directory).
        replace: bool,
    },
    /// Moves a file or tree to the trash. → [`MasterReply::Trashed`]
    Delete {
        /// The path.
        path: String,
        /// Also directories that are not empty.
        recursive: bool,
    },
    /// One page of the trash, oldest first. → [`MasterReply::Trash`]
    ListTrash {
        /// Only entries after this one.
        after: Option<TrashId>,
        /// At most so many; capped at 1,000.
        limit: u32,
    },
    /// Brings back what was deleted. → [`MasterReply::Restored`]
    Restore {
        /// Which entry; `None`: the latest that was deleted from `path`.
        entry: Option<TrashId>,
        /// The original path, when `entry` is `None`.
        path: String,
        /// Where to; `None`: where it was.
        to: Option<String>,
    },
    /// Starts an upload; the file appears at [`MasterRequest::CompleteUpload`]. → [`MasterReply::Upload`]
    BeginUpload {
        /// The file to be.
        path: String,
        /// Replace an existing file at completion.
        replace: bool,
        /// Permission bits.
        mode: u16,
        /// How it is stored.
        options: StorageOptions,
    },
    /// Opens the upload's chunk number `ordinal` for writing; the same grant again while it is open.
    /// → [`MasterReply::Grant`], or [`MasterReply::Sealed`] if that chunk is sealed already
    OpenChunk {
        /// The upload.
        upload: UploadId,
        /// 0, 1, 2, … without gaps, in the file's order.
        ordinal: u32,
        /// Servers the client had trouble with; avoided while others can serve.
        avoid: Vec<ServerId>,
    },
    /// Fences the chunk and settles its length: it contains everything committed. → [`MasterReply::Sealed`]
    SealChunk {
        /// The upload.
        upload: UploadId,
        /// The chunk.
        chunk: ChunkId,
        /// The version that was granted.
        version: ChunkVersion,
    },
    /// Tells that the client is alive. → [`MasterReply::Done`]
    KeepUpload {
        /// The upload.
        upload: UploadId,
    },
    /// Makes the file visible: its chunks in order, all sealed. → [`MasterReply::Status`]
    CompleteUpload {
        /// The upload.
        upload: UploadId,
        /// The file's length in bytes, which must be the sum of its chunks'.
        length: u64,
    },
    /// Gives up. → [`MasterReply::Done`]
    AbortUpload {
        /// The upload.
        upload: UploadId,
    },
    /// Where bytes of a file are. → [`MasterReply::Located`]
    Locate {
        /// The file.
        path: String,
        /// First byte of interest.
        offset: u64,
        /// Bytes of interest; the answer may cover fewer, at the most 1,000 extents.
        length: u64,
    },
    /// A replica could not be read as it should: the master has it checked and repaired. → [`MasterReply::Done`]
    ReportBadReplica {
        /// The chunk.
        chunk: ChunkId,
        /// Its version.
        version: ChunkVersion,
        /// Whose replica.
        server: ServerId,
    },
    /// The cluster's state. → [`MasterReply::Cluster`]
    ClusterStatus,
    /// One page of all chunks that are not as they should be. → [`MasterReply::Findings`]
    Fsck {
        /// Only chunks after this one.
        after: Option<ChunkId>,
        /// Chunks to look at; capped at 10,000.
        limit: u32,
    },
}

impl MasterRequest {
    /// Whether it changes the catalog, so that a retry must be recognised.
    pub fn is_change(&self) -> bool {
        !matches!(
            self,
            MasterRequest::List { .. }
                | MasterRequest::Stat { .. }
                | MasterRequest::ListTrash { .. }
                | MasterRequest::Locate { .. }
                | MasterRequest::ReportBadReplica { .. }
                | MasterRequest::KeepUpload { .. }
                | MasterRequest::ClusterStatus
                | MasterRequest::Fsck { .. }
        )
    }
}

/// How a file's bytes are stored; zeros take the master's defaults.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct StorageOptions {
    /// Replicas (N).
    pub replication: u8,
    /// Replicas that must hold a record before it is acknowledged (W).
    pub quorum: u8,
    /// Chunk size.
    pub chunk_bytes: u64,
    /// What READY promises.
    pub durability: Durability,
}

/// What the master answers.
#[derive(Clone, Debug, PartialEq, Hash, Serialize, Deserialize)]
pub enum MasterReply {
    /// Done, nothing to tell.
    Done,
    /// A page of a directory.
    Entries {
        /// In name order.
        entries: Vec<FileStatus>,
        /// Whether there are more after the last.
        more: bool,
    },
    /// Attributes.
    Status(FileStatus),
    /// Deleted into this entry.
    Trashed(TrashId),
    /// A page of the trash.
    Trash {
        /// Oldest first.
        entries: Vec<TrashEntry>,
        /// Whether there are more after the last.
        more: bool,
    },
    /// Restored to this path.
    Restored(String),
    /// An upload began.
    Upload {
        /// Its id.
        upload: UploadId,
        /// How it is stored, defaults filled in.
        options: StorageOptions,
    },
    /// A chunk may be written.
    Grant(Grant),
    /// A chunk's final length.
    Sealed(SealedChunk),
    /// A file plan.
    Located(FilePlan),
    /// The cluster's state.
    Cluster(ClusterStatus),
    /// Chunks that are not as they should be.
    Findings {
        /// In order of chunk ids.
        findings: Vec<Finding>,
        /// Continue after this chunk; `None` at the end.
        next: Option<ChunkId>,
    },
}

/// Attributes of a file or directory.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FileStatus {
    /// Absolute path from `Stat`; the bare name from `List`.
    pub path: String,
    /// Identity, never reused.
    pub id: FileId,
    /// Whether it is a directory.
    pub directory: bool,
    /// Length in bytes; of a directory, its number of entries.
    pub length: u64,
    /// Permission bits.
    pub mode: u16,
    /// Owner.
    pub owner: String,
    /// Group.
    pub group: String,
    /// Last change of contents.
    pub modified: UnixMs,
    /// Replication factor of a file; 0 of a directory.
    pub replication: u8,
    /// Chunk size of a file; 0 of a directory.
    pub chunk_bytes: u64,
    /// Extents of a file.
    pub extents: u32,
    /// CRC32 of a file's contents, joined from its chunks'; 0 of a directory.
    pub crc: u32,
}

/// Something deleted.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TrashEntry {
    /// Its id.
    pub id: TrashId,
    /// Where it was.
    pub path: String,
    /// When it was deleted.
    pub deleted: UnixMs,
    /// When it will be gone for good.
    pub expires: UnixMs,
    /// Whether it is a directory.
    pub directory: bool,
    /// Who deleted it.
    pub by: String,
}

/// One replica of an open chunk, as logged with its grant (chunk protocol, rule 1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Member {
    /// The server.
    pub server: ServerId,
    /// The registration to which the grant is bound (rule 3).
    pub session: SessionId,
    /// The volume, boot and process that promise.
    pub volume: VolumeId,
    /// See [`Incarnation::boot`].
    pub boot: BootId,
    /// See [`Incarnation::process`].
    pub process: ProcessId,
}

impl Member {
    /// The incarnation that was granted.
    pub fn incarnation(&self) -> Incarnation {
        Incarnation { volume: self.volume, boot: self.boot, process: self.process }
    }
}

/// Leave to write one chunk. The same object goes from the master to the writer and down the pipeline.
#[derive(Clone, Debug, PartialEq, Hash, Serialize, Deserialize)]
pub struct Grant {
    /// Names the chunk's files together with the chunk id.
    pub cluster: ClusterId,
    /// The chunk.
    pub chunk: ChunkId,
    /// The version under which it is open.
    pub version: ChunkVersion,
    /// Its replicas in pipeline order; the first is primary. Votes are counted over exactly these.
    pub members: Vec<Member>,
    /// Where each member can be dialled.
    pub addresses: Vec<Address>,
    /// Replication factor wanted (N); `members` may be fewer.
    pub replication: u8,
    /// Members that must be READY before a commit (W).
    pub quorum: u8,
    /// What READY promises.
    pub durability: Durability,
    /// The chunk's capacity in bytes.
    pub capacity: u64,
}

/// A sealed chunk's identity: length and content never change again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SealedChunk {
    /// The chunk.
    pub chunk: ChunkId,
    /// Its version since the seal.
    pub version: ChunkVersion,
    /// Length in bytes.
    pub length: u64,
    /// CRC32 of the whole content.
    pub crc: u32,
}

/// Where a part of a file is.
#[derive(Clone, Debug, PartialEq, Hash, Serialize, Deserialize)]
pub struct FilePlan {
    /// The file.
    pub file: FileId,
    /// Length of the whole file in bytes.
    pub length: u64,
    /// Extents that cover the range asked for, in order.
    pub extents: Vec<ExtentPlan>,
}

/// One extent of a file and who can serve it.
#[derive(Clone, Debug, PartialEq, Hash, Serialize, Deserialize)]
pub struct ExtentPlan {
    /// Its index in the file's extent list.
    pub index: u32,
    /// Where it begins in the file.
    pub file_offset: u64,
    /// Where it begins in the chunk.
    pub chunk_offset: u64,
    /// Its length in bytes.
    pub length: u64,
    /// The sealed chunk.
    pub chunk: SealedChunk,
    /// Live replicas, best first.
    pub replicas: Vec<ReplicaPlace>,
}

/// A replica and how to reach it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ReplicaPlace {
    /// The server.
    pub server: ServerId,
    /// Where it can be dialled.
    pub address: Address,
    /// Its rack.
    pub rack: String,
}

/// The cluster's state, in figures.
#[derive(Clone, Debug, Default, PartialEq, Hash, Serialize, Deserialize)]
pub struct ClusterStatus {
    /// The cluster.
    pub cluster: ClusterId,
    /// Every server heard of since the master's start.
    pub servers: Vec<ServerStatus>,
    /// Files, the trash not counted.
    pub files: u64,
    /// Directories, the trash not counted.
    pub directories: u64,
    /// Entries of the trash.
    pub trash: u64,
    /// Chunks in the table.
    pub chunks: u64,
    /// Open ones among them.
    pub open_chunks: u64,
    /// Sealed chunks with fewer good replicas than their goal.
    pub under_replicated: u64,
    /// Sealed chunks with no good replica.
    pub missing: u64,
    /// Sealed chunks with more good replicas than their goal.
    pub over_replicated: u64,
    /// Copies under way.
    pub repairs: u64,
    /// Uploads under way.
    pub uploads: u64,
    /// Index of the last applied log record.
    pub log_index: u64,
    /// Bytes of the log on disk.
    pub log_bytes: u64,
    /// Whether the operation log found no space: nothing changes until there is some.
    pub log_full: bool,
    /// Whether the master still waits for reports after its start.
    pub starting: bool,
    /// Milliseconds since the master's start.
    pub uptime_ms: u64,
    /// After so many milliseconds of silence a server counts as dead, and its chunks are copied.
    pub dead_after_ms: u64,
}

/// One chunkserver's state.
#[derive(Clone, Debug, PartialEq, Hash, Serialize, Deserialize)]
pub struct ServerStatus {
    /// The server.
    pub server: ServerId,
    /// Where it can be dialled.
    pub address: Address,
    /// Its rack.
    pub rack: String,
    /// Whether it was heard of within the time after which a server is dead.
    pub live: bool,
    /// Milliseconds since its last heartbeat.
    pub last_heartbeat_ms: u64,
    /// Replicas it reported.
    pub replicas: u64,
    /// Capacity of its volumes in bytes.
    pub total_bytes: u64,
    /// Free bytes on its volumes.
    pub free_bytes: u64,
    /// Its volumes.
    pub volumes: Vec<VolumeStatus>,
    /// Whether its session with the master stands. A live server without one is silent: it is on its way back, or dying.
    pub connected: bool,
}

/// One volume's space.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct VolumeStatus {
    /// The volume.
    pub volume: VolumeId,
    /// Capacity in bytes.
    pub total_bytes: u64,
    /// Free bytes, the server's reserve taken off.
    pub free_bytes: u64,
    /// Whether it takes new chunks: writable, sound, above its reserve.
    pub writable: bool,
}

/// A chunk that is not as it should be.
#[derive(Clone, Debug, PartialEq, Hash, Serialize, Deserialize)]
pub struct Finding {
    /// The chunk.
    pub chunk: ChunkId,
    /// The file that it belongs to, if any.
    pub path: Option<String>,
    /// What is wrong.
    pub problem: Problem,
    /// Good replicas.
    pub good: u8,
    /// Replicas wanted.
    pub goal: u8,
}

/// What can be wrong with a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Problem {
    /// No good replica is live.
    Missing,
    /// Fewer good replicas than the goal.
    UnderReplicated,
    /// More than the goal.
    OverReplicated,
    /// Open, and its upload is gone or silent.
    Unsettled,
}
