//! The catalog: namespace, files, chunk table, uploads and trash. Changed only by applying log commands, so that every
//! master that applies the same log has the same catalog. Design: `docs/design/catalog.md`.

mod chunks;

pub use chunks::{Chunk, ChunkState, OpenChunk, Owner};

use alloc::string::String;
use alloc::vec::Vec;

use super::command::{Change, Command};
use crate::config::MasterConfig;
use crate::defect::Defects;
use crate::error::MasterError;
use crate::id::{ChunkId, ClientId, ClusterId, FileId, RequestId, TrashId, UploadId};
use crate::message::{
    FilePlan, FileStatus, Grant, Identity, MasterReply, SealedChunk, StorageOptions, TrashEntry,
};
use crate::time::UnixMs;

/// What applying a command brought.
#[derive(Clone, Debug, PartialEq)]
pub struct Applied {
    /// The answer to whoever asked for it. A refused command changed nothing.
    pub reply: Result<MasterReply, MasterError>,
    /// What the volatile side has to know.
    pub events: Vec<Event>,
}

/// A change that concerns the master's volatile state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A chunk was allotted and is open.
    ChunkGranted(ChunkId),
    /// A chunk's length was settled.
    ChunkSealed(SealedChunk),
    /// Chunks are no longer in the table: their replicas are orphans.
    ChunksRemoved(Vec<ChunkId>),
    /// An upload began.
    UploadBegun(UploadId),
    /// An upload was completed, aborted or expired.
    UploadGone(UploadId),
}

/// How much there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Files, the trash not counted.
    pub files: u64,
    /// Directories, root and trash not counted.
    pub directories: u64,
    /// Entries of the trash.
    pub trash: u64,
    /// Chunks in the table.
    pub chunks: u64,
    /// Open ones among them.
    pub open_chunks: u64,
    /// Uploads under way.
    pub uploads: u64,
}

/// A file being written.
#[derive(Clone, Debug, PartialEq)]
pub struct Upload {
    /// The file to be.
    pub path: String,
    /// Whether an existing file is replaced.
    pub replace: bool,
    /// Permission bits of the file to be.
    pub mode: u16,
    /// How it is stored.
    pub options: StorageOptions,
    /// Who writes it.
    pub identity: Identity,
    /// Its chunks by ordinal.
    pub chunks: Vec<ChunkId>,
}

/// The replicated state of the master.
#[derive(Debug)]
pub struct Catalog {
    defects: Defects,
}

impl Catalog {
    /// An empty catalog: what a new log starts from.
    pub fn new(defects: Defects) -> Catalog {
        Catalog { defects }
    }

    /// Applies one command of the log. Deterministic: depends on the catalog and the command only.
    pub fn apply(&mut self, command: &Command) -> Applied {
        let _ = (self.defects, command);
        Applied { reply: Ok(MasterReply::Done), events: Vec::new() }
    }

    /// Whether `change` could be applied now: for refusing without a log entry what is bound to be refused.
    pub fn check(&self, _change: &Change) -> Result<(), MasterError> {
        Ok(())
    }

    /// The outcome of a request that was applied already. A request too old to be remembered is `Unavailable`: its
    /// fate is not known.
    pub fn recall(&self, _client: ClientId, _request: RequestId) -> Option<Result<MasterReply, MasterError>> {
        None
    }

    /// The cluster, as formatted.
    pub fn cluster(&self) -> ClusterId {
        ClusterId(0)
    }

    /// Starts of masters so far.
    pub fn epoch(&self) -> u32 {
        0
    }

    /// Commands applied so far.
    pub fn applied(&self) -> u64 {
        0
    }

    /// A file's or directory's attributes.
    pub fn stat(&self, _identity: &Identity, path: &str) -> Result<FileStatus, MasterError> {
        Err(MasterError::NotFound(path.into()))
    }

    /// One page of a directory, and whether there is more.
    pub fn list(
        &self,
        _identity: &Identity,
        path: &str,
        _after: Option<&str>,
        _limit: u32,
    ) -> Result<(Vec<FileStatus>, bool), MasterError> {
        Err(MasterError::NotFound(path.into()))
    }

    /// One page of the trash as `identity` may see it, oldest first, and whether there is more.
    pub fn list_trash(
        &self,
        _identity: &Identity,
        _after: Option<TrashId>,
        _limit: u32,
    ) -> (Vec<TrashEntry>, bool) {
        (Vec::new(), false)
    }

    /// An entry of the trash whose time is over, for [`Change::ReclaimTrash`].
    pub fn expired_trash(&self, _now: UnixMs) -> Option<TrashId> {
        None
    }

    /// When the next entry of the trash expires.
    pub fn next_trash_expiry(&self) -> Option<UnixMs> {
        None
    }

    /// Which extents cover a part of a file, at most `max`; `replicas` are left empty for the caller.
    pub fn plan(
        &self,
        _identity: &Identity,
        path: &str,
        _offset: u64,
        _length: u64,
        _max: usize,
    ) -> Result<FilePlan, MasterError> {
        Err(MasterError::NotFound(path.into()))
    }

    /// An entry of the chunk table.
    pub fn chunk(&self, _chunk: ChunkId) -> Option<&Chunk> {
        None
    }

    /// The chunk table from the chunk after `after` on, in order.
    pub fn chunks_after(&self, _after: Option<ChunkId>) -> impl Iterator<Item = (ChunkId, &Chunk)> {
        core::iter::empty()
    }

    /// The id that the next chunk will get: no id from here on was ever given out.
    pub fn next_chunk(&self) -> ChunkId {
        ChunkId(1)
    }

    /// The grant of an open chunk; `addresses` are left empty for the caller.
    pub fn grant(&self, _chunk: ChunkId) -> Option<Grant> {
        None
    }

    /// A sealed chunk.
    pub fn sealed(&self, _chunk: ChunkId) -> Option<SealedChunk> {
        None
    }

    /// The path of the file or upload that a chunk belongs to.
    pub fn chunk_path(&self, _chunk: ChunkId) -> Option<String> {
        None
    }

    /// The path of a file or directory; what is in the trash says so.
    pub fn path_of(&self, _file: FileId) -> Option<String> {
        None
    }

    /// An upload.
    pub fn upload(&self, _upload: UploadId) -> Option<&Upload> {
        None
    }

    /// All uploads, oldest first.
    pub fn uploads(&self) -> impl Iterator<Item = (UploadId, &Upload)> {
        core::iter::empty()
    }

    /// The upload, if it is there and `identity` may write to it.
    pub fn writable_upload(&self, _identity: &Identity, upload: UploadId) -> Result<&Upload, MasterError> {
        Err(MasterError::UploadGone(upload))
    }

    /// How much there is.
    pub fn counts(&self) -> Counts {
        Counts::default()
    }

    /// A hash of the whole state: equal catalogs have equal digests.
    pub fn digest(&self) -> u64 {
        0
    }
}

/// Fills in the defaults of the cluster where `asked` leaves them open. The result is validated by
/// [`Change::BeginUpload`].
pub fn resolve_options(asked: StorageOptions, config: &MasterConfig) -> StorageOptions {
    let replication = if asked.replication == 0 { config.replication } else { asked.replication };
    let majority = replication / 2 + 1;
    let quorum = match (asked.quorum, config.quorum) {
        (0, 0) => majority,
        (0, default) if default > replication => majority,
        (0, default) => default,
        (quorum, _) => quorum,
    };
    let chunk_bytes = if asked.chunk_bytes == 0 { config.chunk_bytes } else { asked.chunk_bytes };
    StorageOptions { replication, quorum, chunk_bytes, durability: asked.durability }
}
