//! Everything about names: directories, attributes, the trash, and what operators ask.

use cairn_core::id::{ChunkId, TrashId};
use cairn_core::message::{ClusterStatus, FileStatus, Finding, MasterReply, MasterRequest, TrashEntry};

use super::{Cluster, Result};

/// Entries of one page.
const PAGE: u32 = 1000;
/// Chunks looked at for one page of a check.
const FSCK_PAGE: u32 = 10_000;

impl Cluster {
    /// Makes a directory; with `parents` also the missing ones above it, and none of them needs to be new.
    pub async fn mkdir(&self, path: impl Into<String>, parents: bool, mode: u16) -> Result<()> {
        self.done(MasterRequest::Mkdir { path: path.into(), parents, mode }).await
    }

    /// Lists a directory (or one file), page by page in name order.
    pub fn list(&self, path: impl Into<String>) -> Listing {
        Listing { cluster: self.clone(), path: path.into(), after: None, ended: false }
    }

    /// Attributes of a file or directory.
    pub async fn stat(&self, path: impl Into<String>) -> Result<FileStatus> {
        match self.master(MasterRequest::Stat { path: path.into() }).await? {
            MasterReply::Status(status) => Ok(status),
            other => unreachable!("{other:?} in answer to Stat"),
        }
    }

    /// Renames a file or a tree, atomically; `replace` allows to replace a file.
    pub async fn rename(&self, from: impl Into<String>, to: impl Into<String>, replace: bool) -> Result<()> {
        self.done(MasterRequest::Rename { from: from.into(), to: to.into(), replace }).await
    }

    /// Moves a file, or with `recursive` a whole tree, to the trash.
    pub async fn delete(&self, path: impl Into<String>, recursive: bool) -> Result<TrashId> {
        match self.master(MasterRequest::Delete { path: path.into(), recursive }).await? {
            MasterReply::Trashed(entry) => Ok(entry),
            other => unreachable!("{other:?} in answer to Delete"),
        }
    }

    /// Lists what was deleted and can still be restored, page by page, oldest first.
    pub fn trash(&self) -> TrashListing {
        TrashListing { cluster: self.clone(), after: None, ended: false }
    }

    /// Brings back what was deleted: a certain entry, or else the latest that was deleted from `path`. Returns its path.
    pub async fn restore(
        &self,
        path: impl Into<String>,
        entry: Option<TrashId>,
        to: Option<String>,
    ) -> Result<String> {
        match self.master(MasterRequest::Restore { entry, path: path.into(), to }).await? {
            MasterReply::Restored(path) => Ok(path),
            other => unreachable!("{other:?} in answer to Restore"),
        }
    }

    /// Changes permission bits.
    pub async fn chmod(&self, path: impl Into<String>, mode: u16) -> Result<()> {
        self.done(MasterRequest::Chmod { path: path.into(), mode }).await
    }

    /// Changes owner, group, or both.
    pub async fn chown(
        &self,
        path: impl Into<String>,
        owner: Option<String>,
        group: Option<String>,
    ) -> Result<()> {
        self.done(MasterRequest::Chown { path: path.into(), owner, group }).await
    }

    /// The cluster's state.
    pub async fn status(&self) -> Result<ClusterStatus> {
        match self.master(MasterRequest::ClusterStatus).await? {
            MasterReply::Cluster(status) => Ok(status),
            other => unreachable!("{other:?} in answer to ClusterStatus"),
        }
    }

    /// Goes through all chunks and tells which are not as they should be.
    pub fn fsck(&self) -> FsckScan {
        FsckScan { cluster: self.clone(), after: None, ended: false }
    }

    async fn done(&self, request: MasterRequest) -> Result<()> {
        self.master(request).await.map(|_| ())
    }
}

/// Pages of a directory. From [`Cluster::list`].
#[derive(Debug)]
pub struct Listing {
    cluster: Cluster,
    path: String,
    after: Option<String>,
    ended: bool,
}

impl Listing {
    /// The next page, `None` after the last. The first page of an empty directory is empty.
    pub async fn next_page(&mut self) -> Result<Option<Vec<FileStatus>>> {
        if self.ended {
            return Ok(None);
        }
        let request = MasterRequest::List { path: self.path.clone(), after: self.after.clone(), limit: PAGE };
        match self.cluster.master(request).await? {
            MasterReply::Entries { entries, more } => {
                self.ended = !more || entries.is_empty();
                self.after = entries.last().map(|entry| entry.path.clone());
                Ok(Some(entries))
            }
            other => unreachable!("{other:?} in answer to List"),
        }
    }

    /// All that is left, in one list.
    pub async fn all(mut self) -> Result<Vec<FileStatus>> {
        let mut all = Vec::new();
        while let Some(page) = self.next_page().await? {
            all.extend(page);
        }
        Ok(all)
    }
}

/// Pages of the trash. From [`Cluster::trash`].
#[derive(Debug)]
pub struct TrashListing {
    cluster: Cluster,
    after: Option<TrashId>,
    ended: bool,
}

impl TrashListing {
    /// The next page, `None` after the last.
    pub async fn next_page(&mut self) -> Result<Option<Vec<TrashEntry>>> {
        if self.ended {
            return Ok(None);
        }
        match self.cluster.master(MasterRequest::ListTrash { after: self.after, limit: PAGE }).await? {
            MasterReply::Trash { entries, more } => {
                self.ended = !more || entries.is_empty();
                self.after = entries.last().map(|entry| entry.id);
                Ok(Some(entries))
            }
            other => unreachable!("{other:?} in answer to ListTrash"),
        }
    }

    /// All that is left, in one list.
    pub async fn all(mut self) -> Result<Vec<TrashEntry>> {
        let mut all = Vec::new();
        while let Some(page) = self.next_page().await? {
            all.extend(page);
        }
        Ok(all)
    }
}

/// Pages of a check of all chunks. From [`Cluster::fsck`].
#[derive(Debug)]
pub struct FsckScan {
    cluster: Cluster,
    after: Option<ChunkId>,
    ended: bool,
}

impl FsckScan {
    /// Findings among the next 10,000 chunks, possibly none; `None` when all were looked at.
    pub async fn next_page(&mut self) -> Result<Option<Vec<Finding>>> {
        if self.ended {
            return Ok(None);
        }
        match self.cluster.master(MasterRequest::Fsck { after: self.after, limit: FSCK_PAGE }).await? {
            MasterReply::Findings { findings, next } => {
                self.ended = next.is_none();
                self.after = next;
                Ok(Some(findings))
            }
            other => unreachable!("{other:?} in answer to Fsck"),
        }
    }

    /// All that is left, in one list.
    pub async fn all(mut self) -> Result<Vec<Finding>> {
        let mut all = Vec::new();
        while let Some(page) = self.next_page().await? {
            all.extend(page);
        }
        Ok(all)
    }
}
