//! The catalog: namespace, files, chunk table, uploads and trash. Changed only by applying log commands, so that every
//! master that applies the same log has the same catalog. Design: `docs/design/catalog.md`.

mod apply;
mod changes;
mod chunks;
pub(super) mod dedup;
mod digest;
mod files;
mod intern;
mod namespace;
mod path;
mod permission;
mod read;
mod trash;
mod uploads;

pub use chunks::{Chunk, ChunkState, OpenChunk, Owner};
pub use uploads::{Upload, resolve_options};

use alloc::vec::Vec;
use core::hash::{Hash, Hasher};

use self::chunks::ChunkTable;
use self::dedup::Dedup;
use self::digest::Digest;
use self::namespace::Namespace;
use self::trash::Trash;
use self::uploads::Uploads;
use crate::defect::{Defect, Defects};
use crate::error::MasterError;
use crate::id::{ChunkId, ClientId, ClusterId, RequestId, UploadId};
use crate::message::{MasterReply, SealedChunk};

/// What applying a command brought.
#[derive(Clone, Debug, PartialEq, Hash)]
pub struct Applied {
    /// The answer to whoever asked for it. A refused command changed nothing.
    pub reply: Result<MasterReply, MasterError>,
    /// What the volatile side has to know.
    pub events: Vec<Event>,
}

/// A change that concerns the master's volatile state.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
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

/// The replicated state of the master.
#[derive(Clone, Debug, Hash)]
pub struct Catalog {
    defects: Defects,
    cluster: ClusterId,
    epoch: u32,
    applied: u64,
    namespace: Namespace,
    chunks: ChunkTable,
    uploads: Uploads,
    trash: Trash,
    dedup: Dedup,
}

impl Catalog {
    /// An empty catalog: what a new log starts from.
    pub fn new(defects: Defects) -> Catalog {
        Catalog {
            defects,
            cluster: ClusterId(0),
            epoch: 0,
            applied: 0,
            namespace: Namespace::new(defects),
            chunks: ChunkTable::new(),
            uploads: Uploads::default(),
            trash: Trash::default(),
            dedup: Dedup::default(),
        }
    }

    /// The outcome of a request that was applied already. A request too old to be remembered is `Unavailable`: its
    /// fate is not known. A grant comes without addresses.
    pub fn recall(&self, client: ClientId, request: RequestId) -> Option<Result<MasterReply, MasterError>> {
        let forgets = self.defects.has(Defect::DedupFloorForgotten)
            || self.defects.has(Defect::DedupFloorOffByOne) && self.dedup.floor(client) == Some(request);
        let outcome = self.dedup.recall(client, request);
        outcome.filter(|outcome| !forgets || !matches!(outcome, Err(MasterError::Unavailable(_))))
    }

    /// The table of outcomes.
    pub(super) fn outcomes(&self) -> &Dedup {
        &self.dedup
    }

    /// The cluster, as formatted.
    pub fn cluster(&self) -> ClusterId {
        self.cluster
    }

    /// Starts of masters so far.
    pub fn epoch(&self) -> u32 {
        self.epoch
    }

    /// Commands applied so far.
    pub fn applied(&self) -> u64 {
        self.applied
    }

    /// How much there is.
    pub fn counts(&self) -> Counts {
        let (files, directories) = self.namespace.totals();
        Counts {
            files,
            directories,
            trash: self.trash.len(),
            chunks: self.chunks.len(),
            open_chunks: self.chunks.open(),
            uploads: self.uploads.len(),
        }
    }

    /// A hash of the whole state: equal catalogs have equal digests.
    pub fn digest(&self) -> u64 {
        let mut hasher = Digest::default();
        (self.cluster, self.epoch, self.applied).hash(&mut hasher);
        (&self.namespace, &self.chunks, &self.uploads, &self.trash, &self.dedup).hash(&mut hasher);
        hasher.finish()
    }
}

#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod tests;
