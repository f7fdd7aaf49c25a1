//! The tree of names: directories and files with owner, group and mode, checked on every component of a path.
//!
//! A node that is in no directory has the parent [`NOWHERE`]: the root, and what lies in the trash.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Bound;

use super::files::File;
use super::intern::{NameId, Names};
use super::path::Path;
use super::permission::{self, EXECUTE, ROOT_USER, STICKY, WRITE};
use crate::defect::{Defect, Defects};
use crate::error::MasterError;
use crate::id::FileId;
use crate::message::{FileStatus, Identity};
use crate::time::UnixMs;

/// The root directory.
pub(super) const ROOT: FileId = FileId(1);
/// The parent of what is in no directory.
pub(super) const NOWHERE: FileId = FileId(0);

/// A file or directory.
#[derive(Clone, Debug, Hash)]
pub(super) struct Node {
    pub(super) parent: FileId,
    pub(super) name: Arc<str>,
    pub(super) modified: UnixMs,
    pub(super) owner: NameId,
    pub(super) group: NameId,
    pub(super) mode: u16,
    pub(super) kind: Kind,
}

/// What a node is.
#[derive(Clone, Debug, Hash)]
pub(super) enum Kind {
    Directory(Box<Directory>),
    File(Box<File>),
}

/// A directory's entries, and how much lies below it in all.
#[derive(Clone, Debug, Default, Hash)]
pub(super) struct Directory {
    pub(super) children: BTreeMap<Arc<str>, FileId>,
    pub(super) files: u64,
    pub(super) directories: u64,
}

/// The attributes of a node to be.
#[derive(Clone, Copy, Debug, Hash)]
pub(super) struct Attributes {
    pub(super) owner: NameId,
    pub(super) group: NameId,
    pub(super) mode: u16,
}

/// A place in a directory: taken, or free.
#[derive(Clone, Debug, Hash)]
pub(super) struct Place {
    pub(super) parent: FileId,
    pub(super) name: Arc<str>,
    pub(super) existing: Option<FileId>,
}

/// All nodes, those in the trash too.
#[derive(Clone, Debug, Hash)]
pub(super) struct Namespace {
    nodes: BTreeMap<FileId, Node>,
    pub(super) names: Names,
    next: FileId,
    defects: Defects,
}

impl Node {
    pub(super) fn directory(&self) -> Option<&Directory> {
        match &self.kind {
            Kind::Directory(directory) => Some(directory),
            Kind::File(_) => None,
        }
    }

    pub(super) fn file(&self) -> Option<&File> {
        match &self.kind {
            Kind::File(file) => Some(file),
            Kind::Directory(_) => None,
        }
    }

    /// Files and directories that it stands for, itself included.
    fn weight(&self) -> (u64, u64) {
        self.directory().map_or((1, 0), |d| (d.files, d.directories + 1))
    }
}

impl Namespace {
    /// A root directory in which everyone may create, and remove what is their own.
    pub(super) fn new(defects: Defects) -> Namespace {
        let mut names = Names::default();
        let owner = names.intern(ROOT_USER);
        let root = Node {
            parent: NOWHERE,
            name: Arc::from(""),
            modified: UnixMs(0),
            owner,
            group: owner,
            mode: 0o1777,
            kind: Kind::Directory(Box::default()),
        };
        Namespace { nodes: BTreeMap::from([(ROOT, root)]), names, next: FileId(2), defects }
    }

    pub(super) fn node(&self, id: FileId) -> Option<&Node> {
        self.nodes.get(&id)
    }

    /// A node that is known to exist, because a plan has found it in this state.
    pub(super) fn node_mut(&mut self, id: FileId) -> &mut Node {
        self.nodes.get_mut(&id).expect("a plan names only nodes that exist")
    }

    /// Files and directories below the root.
    pub(super) fn totals(&self) -> (u64, u64) {
        self.node(ROOT).and_then(Node::directory).map_or((0, 0), |root| (root.files, root.directories))
    }

    /// Whether `identity` has the `needs` bits on `node`, which is at `path`.
    pub(super) fn require(
        &self,
        identity: &Identity,
        node: &Node,
        needs: u16,
        path: &str,
    ) -> Result<(), MasterError> {
        let (owner, group) = (self.names.text(node.owner), self.names.text(node.group));
        if permission::allows(identity, owner, group, node.mode, needs) {
            return Ok(());
        }
        Err(permission::lacks(path, needs))
    }

    /// Whether `identity` owns `node`, or is root.
    pub(super) fn owns(&self, identity: &Identity, node: &Node) -> bool {
        permission::is_root(identity) || self.names.text(node.owner) == identity.user
    }

    /// Resolves the first `count` names of `path`; each directory on the way must grant search.
    fn descend(&self, identity: &Identity, path: &Path<'_>, count: usize) -> Result<FileId, MasterError> {
        let mut at = ROOT;
        for (depth, name) in path.parts()[..count].iter().enumerate() {
            let missing = || MasterError::NotFound(path.prefix(depth + 1).into());
            let (node, directory) = self.directory_at(at, path.prefix(depth))?;
            if !self.defects.has(Defect::SearchUnchecked) {
                self.require(identity, node, EXECUTE, path.prefix(depth))?;
            }
            at = *directory.children.get(*name).ok_or_else(missing)?;
        }
        Ok(at)
    }

    fn directory_at(&self, id: FileId, path: &str) -> Result<(&Node, &Directory), MasterError> {
        let node = self.node(id).ok_or_else(|| MasterError::NotFound(path.into()))?;
        let directory = node.directory().ok_or_else(|| MasterError::NotADirectory(path.into()))?;
        Ok((node, directory))
    }

    /// The node at `path`.
    pub(super) fn find(&self, identity: &Identity, path: &Path<'_>) -> Result<(FileId, &Node), MasterError> {
        let id = self.descend(identity, path, path.parts().len())?;
        let node = self.node(id).ok_or_else(|| MasterError::NotFound(path.text().into()))?;
        Ok((id, node))
    }

    /// The place that `path` names, in a directory that exists.
    pub(super) fn place(&self, identity: &Identity, path: &Path<'_>) -> Result<Place, MasterError> {
        let Some((name, above)) = path.parts().split_last() else {
            return Err(MasterError::InvalidArgument(
                "the root directory can't be moved, replaced or deleted".into(),
            ));
        };
        let parent = self.descend(identity, path, above.len())?;
        let parent_path = path.prefix(above.len());
        let (node, directory) = self.directory_at(parent, parent_path)?;
        self.require(identity, node, EXECUTE, parent_path)?;
        Ok(Place { parent, name: Arc::from(*name), existing: directory.children.get(*name).copied() })
    }

    /// Whether `identity` may add and remove entries of the directory of `place`, which `path` names.
    pub(super) fn require_writable(
        &self,
        identity: &Identity,
        place: &Place,
        path: &Path<'_>,
    ) -> Result<(), MasterError> {
        let above = path.prefix(path.parts().len() - 1);
        match self.node(place.parent) {
            Some(node) => self.require(identity, node, WRITE | EXECUTE, above),
            None => Err(MasterError::NotFound(above.into())),
        }
    }

    /// How much of `path` exists: the deepest node, and the number of names that lead to it. Fails on a file in the
    /// way, or without the right to search.
    pub(super) fn deepest(
        &self,
        identity: &Identity,
        path: &Path<'_>,
    ) -> Result<(FileId, usize), MasterError> {
        let mut at = ROOT;
        for (depth, name) in path.parts().iter().enumerate() {
            let (node, directory) = self.directory_at(at, path.prefix(depth))?;
            self.require(identity, node, EXECUTE, path.prefix(depth))?;
            match directory.children.get(*name) {
                Some(child) => at = *child,
                None => return Ok((at, depth)),
            }
        }
        Ok((at, path.parts().len()))
    }

    /// Whether the entry `id` at `path` may be removed from its directory, which grants writing already: where the
    /// sticky bit is set, only by an owner of the entry or of the directory.
    pub(super) fn require_unsticky(
        &self,
        identity: &Identity,
        id: FileId,
        path: &str,
    ) -> Result<(), MasterError> {
        let node = self.node(id).ok_or_else(|| MasterError::NotFound(path.into()))?;
        let ignored = self.defects.has(Defect::StickyIgnored);
        let sticky = |parent: &Node| parent.mode & STICKY != 0 && !ignored && !self.owns(identity, parent);
        if self.node(node.parent).is_some_and(sticky) && !self.owns(identity, node) {
            return Err(permission::denied(path, "ownership, since its directory is sticky"));
        }
        Ok(())
    }

    /// Whether `identity` may delete one by one all that is below the directory `top`, which is at `path`.
    pub(super) fn require_emptiable(
        &self,
        identity: &Identity,
        top: FileId,
        path: &str,
    ) -> Result<(), MasterError> {
        if permission::is_root(identity) {
            return Ok(());
        }
        let mut path = String::from(path);
        // Nodes to look at, each with the length of the path of its directory.
        let mut due = Vec::from([(path.rfind('/').unwrap_or(0), top)]);
        while let Some((above, id)) = due.pop() {
            let Some(node) = self.node(id) else { continue };
            path.truncate(above);
            path.extend(["/", &*node.name]);
            self.require_unsticky(identity, id, &path)?;
            let Some(directory) = node.directory().filter(|d| !d.children.is_empty()) else { continue };
            self.require(identity, node, WRITE | EXECUTE, &path)?;
            // Files alone need no look, unless the sticky bit may keep them.
            if directory.directories > 0 || node.mode & STICKY != 0 {
                due.extend(directory.children.values().map(|child| (path.len(), *child)));
            }
        }
        Ok(())
    }

    /// Makes a node at a free place.
    pub(super) fn create(
        &mut self,
        parent: FileId,
        name: Arc<str>,
        attributes: Attributes,
        kind: Kind,
        at: UnixMs,
    ) -> FileId {
        let id = self.next;
        self.next = FileId(id.0 + 1);
        let Attributes { owner, group, mode } = attributes;
        let node = Node { parent: NOWHERE, name: Arc::from(""), modified: at, owner, group, mode, kind };
        self.nodes.insert(id, node);
        self.attach(id, parent, name, at);
        id
    }

    /// Puts a node that is nowhere at a free place.
    pub(super) fn attach(&mut self, id: FileId, parent: FileId, name: Arc<str>, at: UnixMs) {
        let node = self.node_mut(id);
        node.parent = parent;
        node.name = name.clone();
        let weight = node.weight();
        let above = self.node_mut(parent);
        above.modified = at;
        if let Kind::Directory(directory) = &mut above.kind {
            directory.children.insert(name, id);
        }
        self.each_above(id, |directory| {
            directory.files += weight.0;
            directory.directories += weight.1;
        });
    }

    /// Takes a node, with all below it, out of its directory. `keep_name` leaves the name behind.
    pub(super) fn detach(&mut self, id: FileId, at: UnixMs, keep_name: bool) {
        let node = self.node_mut(id);
        let (parent, name, weight) = (node.parent, node.name.clone(), node.weight());
        self.each_above(id, |directory| {
            directory.files -= weight.0;
            directory.directories -= weight.1;
        });
        let above = self.node_mut(parent);
        above.modified = at;
        if let (Kind::Directory(directory), false) = (&mut above.kind, keep_name) {
            directory.children.remove(&name);
        }
        self.node_mut(id).parent = NOWHERE;
    }

    fn each_above(&mut self, id: FileId, mut update: impl FnMut(&mut Directory)) {
        let mut at = self.node(id).map_or(NOWHERE, |node| node.parent);
        while let Some(Node { parent, kind: Kind::Directory(directory), .. }) = self.nodes.get_mut(&at) {
            update(directory);
            at = *parent;
        }
    }

    /// Removes a node in the trash that has nothing below it, and its name from its directory there. Returns that
    /// directory.
    pub(super) fn erase(&mut self, id: FileId) -> FileId {
        let Some(node) = self.nodes.remove(&id) else { return NOWHERE };
        if let Some(Node { kind: Kind::Directory(directory), .. }) = self.nodes.get_mut(&node.parent) {
            directory.children.remove(&node.name);
        }
        node.parent
    }

    /// The path of a node from the topmost directory that it is in; that is [`ROOT`] unless it lies in the trash.
    pub(super) fn path_from_top(&self, id: FileId) -> Option<(FileId, String)> {
        let mut names = Vec::new();
        let (mut top, mut node) = (id, self.node(id)?);
        while let Some(parent) = self.node(node.parent) {
            names.push(&node.name);
            (top, node) = (node.parent, parent);
        }
        let mut path = String::new();
        for name in names.iter().rev() {
            path.push('/');
            path.push_str(name);
        }
        Some((top, path))
    }

    /// A node's attributes, under `path`.
    pub(super) fn status(&self, id: FileId, node: &Node, path: &str) -> FileStatus {
        let mut status = FileStatus {
            path: path.into(),
            id,
            directory: true,
            length: 0,
            mode: node.mode,
            owner: self.names.text(node.owner).into(),
            group: self.names.text(node.group).into(),
            modified: node.modified,
            replication: 0,
            chunk_bytes: 0,
            extents: 0,
            crc: 0,
        };
        match &node.kind {
            Kind::Directory(directory) => status.length = directory.children.len() as u64,
            Kind::File(file) => {
                status.directory = false;
                status.length = file.length;
                status.replication = file.options.replication;
                status.chunk_bytes = file.options.chunk_bytes;
                status.extents = file.extents.len() as u32;
                status.crc = file.crc;
            }
        }
        status
    }

    /// One page of a directory's entries after the name `after`, and whether there are more.
    pub(super) fn page(
        &self,
        directory: &Directory,
        after: Option<&str>,
        limit: usize,
    ) -> (Vec<FileStatus>, bool) {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut rest = directory.children.range::<str, _>((start, Bound::Unbounded));
        let mut page = Vec::new();
        for (name, id) in rest.by_ref().take(limit) {
            page.extend(self.node(*id).map(|node| self.status(*id, node, name)));
        }
        (page, rest.next().is_some())
    }
}
