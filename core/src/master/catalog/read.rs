//! What can be asked of the catalog without changing it.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::Catalog;
use super::chunks::{Chunk, Owner};
use super::namespace::{Kind, ROOT};
use super::path::Path;
use super::permission::{self, READ};
use crate::defect::Defect;
use crate::error::MasterError;
use crate::id::{ChunkId, FileId, TrashId};
use crate::message::{ExtentPlan, FilePlan, FileStatus, Grant, Identity, SealedChunk, TrashEntry};
use crate::time::UnixMs;

/// Entries of one page at most.
const PAGE: u32 = 1_000;

impl Catalog {
    /// A file's or directory's attributes.
    pub fn stat(&self, identity: &Identity, path: &str) -> Result<FileStatus, MasterError> {
        let path = Path::parse(path)?;
        let (id, node) = self.namespace.find(identity, &path)?;
        Ok(self.namespace.status(id, node, path.text()))
    }

    /// One page of a directory after the name `after`, at most 1,000 entries, and whether there is more. Of a file,
    /// the file itself.
    pub fn list(
        &self,
        identity: &Identity,
        path: &str,
        after: Option<&str>,
        limit: u32,
    ) -> Result<(Vec<FileStatus>, bool), MasterError> {
        let path = Path::parse(path)?;
        let (id, node) = self.namespace.find(identity, &path)?;
        match &node.kind {
            Kind::Directory(directory) => {
                self.namespace.require(identity, node, READ, path.text())?;
                Ok(self.namespace.page(directory, after, limit.clamp(1, PAGE) as usize))
            }
            Kind::File(_) if after.is_some_and(|after| *node.name <= *after) => Ok((Vec::new(), false)),
            Kind::File(_) => {
                let status = self.namespace.status(id, node, &node.name);
                Ok((Vec::from([status]), false))
            }
        }
    }

    /// One page of the trash after the entry `after`, at most 1,000 entries, oldest first, and whether there is more.
    /// Users see what they deleted or own, root sees all.
    pub fn list_trash(
        &self,
        identity: &Identity,
        after: Option<TrashId>,
        limit: u32,
    ) -> (Vec<TrashEntry>, bool) {
        let names = &self.namespace.names;
        let user = match names.find(&identity.user) {
            _ if permission::is_root(identity) => None,
            Some(user) => Some(user),
            None => return (Vec::new(), false),
        };
        let (page, more) = self.trash.page(user, after, limit.clamp(1, PAGE) as usize);
        let entry = |(id, deleted): (TrashId, &super::trash::Deleted)| TrashEntry {
            id,
            path: String::from(&*deleted.path),
            deleted: deleted.deleted,
            expires: deleted.expires,
            directory: self.namespace.node(deleted.node).is_some_and(|node| node.directory().is_some()),
            by: names.text(deleted.by).into(),
        };
        (page.into_iter().map(entry).collect(), more)
    }

    /// An entry of the trash whose time is over, for
    /// [`Change::ReclaimTrash`](crate::master::command::Change::ReclaimTrash).
    pub fn expired_trash(&self, now: UnixMs) -> Option<TrashId> {
        let early = self.defects.has(Defect::ReclaimEarly);
        self.trash.next_expiry().filter(|(expires, _)| *expires <= now || early).map(|(_, id)| id)
    }

    /// Whether freeing an entry of the trash has begun.
    pub fn is_being_freed(&self, entry: TrashId) -> bool {
        self.trash.entry(entry).is_some_and(|deleted| deleted.reclaiming.is_some())
    }

    /// When the next entry of the trash expires.
    pub fn next_trash_expiry(&self) -> Option<UnixMs> {
        self.trash.next_expiry().map(|(expires, _)| expires)
    }

    /// Which extents cover a part of a file, at most `max`; `replicas` are left empty for the caller.
    pub fn plan(
        &self,
        identity: &Identity,
        path: &str,
        offset: u64,
        length: u64,
        max: usize,
    ) -> Result<FilePlan, MasterError> {
        let path = Path::parse(path)?;
        let (id, node) = self.namespace.find(identity, &path)?;
        let file = node.file().ok_or_else(|| MasterError::IsADirectory(path.text().into()))?;
        self.namespace.require(identity, node, READ, path.text())?;
        let end = offset.saturating_add(length).min(file.length);
        let covering = file.extents.from(offset).take_while(|(_, start, _)| *start < end).take(max);
        let extents = covering.filter_map(|(index, file_offset, extent)| {
            Some(ExtentPlan {
                index,
                file_offset,
                chunk_offset: u64::from(extent.offset),
                length: u64::from(extent.length),
                chunk: self.sealed(extent.chunk)?,
                replicas: Vec::new(),
            })
        });
        Ok(FilePlan { file: id, length: file.length, extents: extents.collect() })
    }

    /// An entry of the chunk table.
    pub fn chunk(&self, chunk: ChunkId) -> Option<&Chunk> {
        self.chunks.chunk(chunk)
    }

    /// The chunk table from the chunk after `after` on, in order.
    pub fn chunks_after(&self, after: Option<ChunkId>) -> impl Iterator<Item = (ChunkId, &Chunk)> {
        self.chunks.after(after)
    }

    /// The id that the next chunk will get: no id from here on was ever given out.
    pub fn next_chunk(&self) -> ChunkId {
        self.chunks.next()
    }

    /// The grant of an open chunk; `addresses` are left empty for the caller.
    pub fn grant(&self, chunk: ChunkId) -> Option<Grant> {
        let entry = self.chunks.chunk(chunk)?;
        let open = entry.open()?;
        Some(Grant {
            cluster: self.cluster,
            chunk,
            version: entry.version,
            members: open.members.clone(),
            addresses: Vec::new(),
            replication: entry.goal,
            quorum: open.quorum,
            durability: open.durability,
            capacity: open.capacity,
        })
    }

    /// A sealed chunk.
    pub fn sealed(&self, chunk: ChunkId) -> Option<SealedChunk> {
        self.chunks.chunk(chunk)?.sealed(chunk)
    }

    /// The path of the file that a chunk belongs to; what is in the trash or an upload says so.
    pub fn chunk_path(&self, chunk: ChunkId) -> Option<String> {
        match self.chunks.chunk(chunk)?.owner {
            Owner::File(file) => self.path_of(file),
            Owner::Upload(id) => self.upload(id).map(|upload| format!("{} ({id})", upload.path)),
        }
    }

    /// The path of a file or directory; what is in the trash says so.
    pub fn path_of(&self, file: FileId) -> Option<String> {
        let (top, path) = self.namespace.path_from_top(file)?;
        if top == ROOT {
            return Some(if path.is_empty() { "/".into() } else { path });
        }
        let (id, deleted) = self.trash.of_node(top)?;
        Some(format!("{}{path} ({id})", deleted.path))
    }
}
