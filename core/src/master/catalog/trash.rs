//! The trash: deleted files and trees, detached whole, until they are restored or reclaimed.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Bound;

use super::intern::NameId;
use crate::id::{FileId, TrashId};
use crate::time::UnixMs;

/// Something deleted.
#[derive(Clone, Debug, Hash)]
pub(super) struct Deleted {
    pub(super) node: FileId,
    /// Where it was.
    pub(super) path: Arc<str>,
    pub(super) deleted: UnixMs,
    pub(super) expires: UnixMs,
    pub(super) by: NameId,
    pub(super) owner: NameId,
    /// Set once reclaiming has begun: the node to go on with. From then on it can't be restored.
    pub(super) reclaiming: Option<FileId>,
}

/// All that was deleted, with an index for each way to ask.
#[derive(Clone, Debug, Default, Hash)]
pub(super) struct Trash {
    entries: BTreeMap<TrashId, Deleted>,
    by_expiry: BTreeSet<(UnixMs, TrashId)>,
    by_user: BTreeSet<(NameId, TrashId)>,
    by_path: BTreeSet<(Arc<str>, TrashId)>,
    by_node: BTreeMap<FileId, TrashId>,
    last: TrashId,
}

impl Trash {
    pub(super) fn len(&self) -> u64 {
        self.entries.len() as u64
    }

    pub(super) fn insert(&mut self, deleted: Deleted) -> TrashId {
        let id = TrashId(self.last.0 + 1);
        self.last = id;
        self.by_expiry.insert((deleted.expires, id));
        self.by_user.extend([(deleted.by, id), (deleted.owner, id)]);
        self.by_path.insert((deleted.path.clone(), id));
        self.by_node.insert(deleted.node, id);
        self.entries.insert(id, deleted);
        id
    }

    /// An entry, whether or not reclaiming has begun.
    pub(super) fn entry(&self, id: TrashId) -> Option<&Deleted> {
        self.entries.get(&id)
    }

    /// An entry that can still be restored.
    pub(super) fn restorable(&self, id: TrashId) -> Option<&Deleted> {
        self.entries.get(&id).filter(|deleted| deleted.reclaiming.is_none())
    }

    /// The restorable entries that were deleted from `path`, latest first.
    pub(super) fn deleted_from(&self, path: &str) -> impl Iterator<Item = (TrashId, &Deleted)> {
        let path: Arc<str> = Arc::from(path);
        self.by_path
            .range((path.clone(), TrashId(0))..=(path, TrashId(u64::MAX)))
            .rev()
            .filter_map(|(_, id)| Some((*id, self.restorable(*id)?)))
    }

    /// The restorable entries after `after`, oldest first: all, or those that `user` deleted or owns.
    pub(super) fn page(
        &self,
        user: Option<NameId>,
        after: Option<TrashId>,
        limit: usize,
    ) -> (Vec<(TrashId, &Deleted)>, bool) {
        let after = after.unwrap_or_default();
        let take = |ids: &mut dyn Iterator<Item = TrashId>| -> (Vec<(TrashId, &Deleted)>, bool) {
            let mut found = ids.filter_map(|id| Some((id, self.restorable(id)?)));
            let page = found.by_ref().take(limit).collect();
            (page, found.next().is_some())
        };
        match user {
            Some(user) => {
                let range = (Bound::Excluded((user, after)), Bound::Included((user, TrashId(u64::MAX))));
                take(&mut self.by_user.range(range).map(|(_, id)| *id))
            }
            None => {
                let range = (Bound::Excluded(after), Bound::Unbounded);
                take(&mut self.entries.range(range).map(|(id, _)| *id))
            }
        }
    }

    /// The entry that expires first, and when.
    pub(super) fn next_expiry(&self) -> Option<(UnixMs, TrashId)> {
        self.by_expiry.first().copied()
    }

    /// The entry whose topmost node is `node`.
    pub(super) fn of_node(&self, node: FileId) -> Option<(TrashId, &Deleted)> {
        let id = *self.by_node.get(&node)?;
        Some((id, self.entries.get(&id)?))
    }

    /// From now on only reclaiming touches the entry; it goes on at `node`.
    pub(super) fn reclaim_at(&mut self, id: TrashId, node: FileId) {
        if let Some(deleted) = self.entries.get_mut(&id)
            && deleted.reclaiming.replace(node).is_none()
        {
            let key = (deleted.by, deleted.owner, deleted.path.clone());
            self.unlist(id, key);
        }
    }

    /// Takes an entry out.
    pub(super) fn remove(&mut self, id: TrashId) -> Option<Deleted> {
        let deleted = self.entries.remove(&id)?;
        self.by_expiry.remove(&(deleted.expires, id));
        self.by_node.remove(&deleted.node);
        self.unlist(id, (deleted.by, deleted.owner, deleted.path.clone()));
        Some(deleted)
    }

    fn unlist(&mut self, id: TrashId, (by, owner, path): (NameId, NameId, Arc<str>)) {
        self.by_user.remove(&(by, id));
        self.by_user.remove(&(owner, id));
        self.by_path.remove(&(path, id));
    }
}
