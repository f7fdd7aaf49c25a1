//! Changes of the namespace: what each one requires, and what it does.

use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::Catalog;
use super::apply::Plan;
use super::namespace::{Attributes, Kind, Node, Place};
use super::path::Path;
use super::permission::{self, EXECUTE, WRITE};
use super::trash::Deleted;
use crate::defect::Defect;
use crate::error::MasterError;
use crate::id::{FileId, TrashId};
use crate::message::{Identity, MasterReply};
use crate::time::UnixMs;

/// What the owner of a directory needs to make further ones in it.
const OWNER_WRITES: u16 = 0o300;

/// Directories to make, each in the one before.
pub(super) struct Mkdir<'a> {
    identity: &'a Identity,
    parent: FileId,
    names: Vec<&'a str>,
    mode: u16,
}

/// Attributes to set.
pub(super) struct NewAttributes<'a> {
    node: FileId,
    mode: Option<u16>,
    owner: Option<&'a str>,
    group: Option<&'a str>,
}

/// A node to move to a place; the file there, if any, is discarded.
pub(super) struct Rename<'a> {
    node: FileId,
    to: Place,
    replaced: Option<Discard<'a>>,
}

/// A node to put into the trash.
pub(super) struct Discard<'a> {
    pub(super) node: FileId,
    pub(super) path: String,
    pub(super) by: &'a Identity,
    pub(super) undelete_ms: u64,
}

/// A node to bring back from the trash.
pub(super) struct Restore {
    entry: TrashId,
    to: Place,
    path: String,
}

impl Catalog {
    pub(super) fn prepare_mkdir<'a>(
        &self,
        identity: &'a Identity,
        path: &'a str,
        parents: bool,
        mode: u16,
    ) -> Result<Plan<'a>, MasterError> {
        permission::check_mode(mode)?;
        let path = Path::parse(path)?;
        let (parent, depth) = self.namespace.deepest(identity, &path)?;
        let directory = self.namespace.node(parent).filter(|node| node.directory().is_some());
        let names = path.parts()[depth..].to_vec();
        match (directory, names.len()) {
            (Some(_), 0) if parents => return Ok(Plan::Settled(MasterReply::Done)),
            (_, 0) => return Err(MasterError::AlreadyExists(path.text().into())),
            (_, 1) => {}
            _ if parents => {}
            _ => return Err(MasterError::NotFound(path.prefix(depth + 1).into())),
        }
        let above = path.prefix(depth);
        let node = directory.ok_or_else(|| MasterError::NotADirectory(above.into()))?;
        self.namespace.require(identity, node, WRITE | EXECUTE, above)?;
        Ok(Plan::Mkdir(Mkdir { identity, parent, names, mode }))
    }

    pub(super) fn commit_mkdir(&mut self, plan: &Mkdir<'_>, at: UnixMs) {
        let attributes = self.attributes(plan.identity, plan.mode);
        let mut parent = plan.parent;
        for (index, name) in plan.names.iter().enumerate() {
            let last = index + 1 == plan.names.len();
            let mode = if last { plan.mode } else { plan.mode | OWNER_WRITES };
            let kind = Kind::Directory(Default::default());
            let attributes = Attributes { mode, ..attributes };
            parent = self.namespace.create(parent, Arc::from(*name), attributes, kind, at);
        }
    }

    /// The attributes of what `identity` creates.
    pub(super) fn attributes(&mut self, identity: &Identity, mode: u16) -> Attributes {
        let names = &mut self.namespace.names;
        let group = names.intern(permission::first_group(identity));
        Attributes { owner: names.intern(&identity.user), group, mode }
    }

    pub(super) fn prepare_chmod<'a>(
        &self,
        identity: &Identity,
        path: &str,
        mode: u16,
    ) -> Result<Plan<'a>, MasterError> {
        permission::check_mode(mode)?;
        let path = Path::parse(path)?;
        let (id, node) = self.namespace.find(identity, &path)?;
        self.require_owner(identity, node, path.text())?;
        Ok(Plan::Attributes(NewAttributes { node: id, mode: Some(mode), owner: None, group: None }))
    }

    pub(super) fn prepare_chown<'a>(
        &self,
        identity: &Identity,
        path: &str,
        owner: Option<&'a str>,
        group: Option<&'a str>,
    ) -> Result<Plan<'a>, MasterError> {
        let path = Path::parse(path)?;
        let (id, node) = self.namespace.find(identity, &path)?;
        self.require_owner(identity, node, path.text())?;
        let new_owner = owner.is_some_and(|owner| owner != self.namespace.names.text(node.owner));
        if new_owner && !permission::is_root(identity) {
            return Err(permission::denied(path.text(), "root, to give it to another user"));
        }
        let own_group = |group| identity.groups.iter().any(|own| own == group);
        if group.is_some_and(|group| !own_group(group)) && !permission::is_root(identity) {
            return Err(permission::denied(path.text(), "membership of the new group"));
        }
        Ok(Plan::Attributes(NewAttributes { node: id, mode: None, owner, group }))
    }

    fn require_owner(&self, identity: &Identity, node: &Node, path: &str) -> Result<(), MasterError> {
        if self.namespace.owns(identity, node) {
            return Ok(());
        }
        Err(permission::denied(path, "ownership"))
    }

    pub(super) fn commit_attributes(&mut self, plan: &NewAttributes<'_>) {
        let owner = plan.owner.map(|owner| self.namespace.names.intern(owner));
        let group = plan.group.map(|group| self.namespace.names.intern(group));
        let node = self.namespace.node_mut(plan.node);
        node.owner = owner.unwrap_or(node.owner);
        node.group = group.unwrap_or(node.group);
        node.mode = plan.mode.unwrap_or(node.mode);
    }

    pub(super) fn prepare_rename<'a>(
        &self,
        identity: &'a Identity,
        from: &str,
        to: &str,
        replace: bool,
        undelete_ms: u64,
    ) -> Result<Plan<'a>, MasterError> {
        let (from, to) = (Path::parse(from)?, Path::parse(to)?);
        let (node, source) = self.removable(identity, &from)?;
        if to.parts() == from.parts() {
            return Ok(Plan::Settled(MasterReply::Done));
        }
        if to.is_within(&from) {
            return Err(MasterError::InvalidArgument("a directory can't be moved into itself".into()));
        }
        let place = self.namespace.place(identity, &to)?;
        self.namespace.require_writable(identity, &place, &to)?;
        let mut replaced = None;
        if let Some(existing) = place.existing {
            if !replace {
                return Err(MasterError::AlreadyExists(to.text().into()));
            }
            if self.namespace.node(existing).is_some_and(|node| node.directory().is_some()) {
                return Err(MasterError::IsADirectory(to.text().into()));
            }
            if source.directory().is_some() {
                return Err(MasterError::NotADirectory(to.text().into()));
            }
            if !self.defects.has(Defect::ReplaceIgnoresSticky) {
                self.namespace.require_unsticky(identity, existing, to.text())?;
            }
            replaced = Some(Discard { node: existing, path: to.text().into(), by: identity, undelete_ms });
        }
        Ok(Plan::Rename(Rename { node, to: place, replaced }))
    }

    pub(super) fn commit_rename(&mut self, plan: Rename<'_>, at: UnixMs) {
        if let Some(replaced) = &plan.replaced {
            self.commit_discard(replaced, at);
        }
        let keep_name = self.defects.has(Defect::RenameKeepsSource);
        self.namespace.detach(plan.node, at, keep_name);
        self.namespace.attach(plan.node, plan.to.parent, plan.to.name, at);
    }

    /// The node at `path`, which `identity` may take out of its directory.
    fn removable(&self, identity: &Identity, path: &Path<'_>) -> Result<(FileId, &Node), MasterError> {
        let missing = || MasterError::NotFound(path.text().into());
        let place = self.namespace.place(identity, path)?;
        let id = place.existing.ok_or_else(missing)?;
        self.namespace.require_writable(identity, &place, path)?;
        self.namespace.require_unsticky(identity, id, path.text())?;
        Ok((id, self.namespace.node(id).ok_or_else(missing)?))
    }

    pub(super) fn prepare_delete<'a>(
        &self,
        identity: &'a Identity,
        path: &str,
        recursive: bool,
        undelete_ms: u64,
    ) -> Result<Plan<'a>, MasterError> {
        let path = Path::parse(path)?;
        let (id, node) = self.removable(identity, &path)?;
        if node.directory().is_some_and(|directory| !directory.children.is_empty()) {
            if !recursive {
                return Err(MasterError::NotEmpty(path.text().into()));
            }
            self.namespace.require_emptiable(identity, id, path.text())?;
        }
        Ok(Plan::Delete(Discard { node: id, path: path.text().into(), by: identity, undelete_ms }))
    }

    /// Detaches a file or a whole tree in one step and lists it in the trash.
    pub(super) fn commit_discard(&mut self, plan: &Discard<'_>, at: UnixMs) -> TrashId {
        self.namespace.detach(plan.node, at, false);
        let owner = self.namespace.node_mut(plan.node).owner;
        self.trash.insert(Deleted {
            node: plan.node,
            path: Arc::from(plan.path.as_str()),
            deleted: at,
            expires: UnixMs(at.0.saturating_add(plan.undelete_ms)),
            by: self.namespace.names.intern(&plan.by.user),
            owner,
            reclaiming: None,
        })
    }

    pub(super) fn prepare_restore<'a>(
        &self,
        identity: &Identity,
        entry: Option<TrashId>,
        path: &str,
        to: Option<&str>,
    ) -> Result<Plan<'a>, MasterError> {
        let (entry, deleted) = match entry {
            Some(id) => {
                let half = self.defects.has(Defect::HalfRestored);
                let deleted = if half { self.trash.entry(id) } else { self.trash.restorable(id) };
                (id, deleted.ok_or_else(|| MasterError::NotFound(id.to_string()))?)
            }
            None => {
                let path = Path::parse(path)?;
                let mut candidates = self.trash.deleted_from(path.text());
                let own = candidates.find(|(_, deleted)| self.may_restore(identity, deleted));
                own.ok_or_else(|| {
                    MasterError::NotFound(alloc::format!("{path} in the trash", path = path.text()))
                })?
            }
        };
        if !self.may_restore(identity, deleted) && !self.defects.has(Defect::RestoreByAnyone) {
            return Err(permission::denied(&deleted.path, "to be who deleted it, or its owner"));
        }
        let to = Path::parse(to.unwrap_or(&deleted.path))?;
        let place = self.namespace.place(identity, &to)?;
        self.namespace.require_writable(identity, &place, &to)?;
        if place.existing.is_some() {
            return Err(MasterError::AlreadyExists(to.text().into()));
        }
        Ok(Plan::Restore(Restore { entry, to: place, path: to.text().into() }))
    }

    fn may_restore(&self, identity: &Identity, deleted: &Deleted) -> bool {
        let names = &self.namespace.names;
        permission::is_root(identity)
            || names.text(deleted.by) == identity.user
            || names.text(deleted.owner) == identity.user
    }

    pub(super) fn commit_restore(&mut self, plan: Restore, at: UnixMs) -> MasterReply {
        let leaves = self.defects.has(Defect::RestoreLeavesEntry);
        let left = self.trash.entry(plan.entry).filter(|_| leaves).cloned();
        if let Some(deleted) = left.or_else(|| self.trash.remove(plan.entry)) {
            self.namespace.attach(deleted.node, plan.to.parent, plan.to.name, at);
        }
        MasterReply::Restored(plan.path)
    }
}
