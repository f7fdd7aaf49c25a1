//! One volume: names, cached and durable, and the operations of `cairn_core::disk`.

mod files;
mod fork;
mod names;
mod outside;

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use cairn_core::disk::{DiskError, DiskOk, DiskRequest, DiskResult, Entry};
use cairn_core::payload::Payload;
use cairn_core::rng::Rng;

use self::files::{FileId, Files};
use self::names::{NameChange, NameWhat, Names, Node, parent};
use super::inode::{Inode, SECTOR};
use crate::options::DiskFaults;
use crate::outcome::FaultCounts;

/// A volume's content. The file system's root is always there.
#[derive(Clone, Debug, Default)]
pub(crate) struct Volume {
    files: Files,
    names: Arc<Names>,
    durable: Arc<Names>,
    unsynced: VecDeque<NameChange>,
    /// Directories with names among those, and perhaps some without: most syncs of a directory find nothing to do.
    changed: BTreeSet<Arc<str>>,
    /// Counts completed changes; a sync covers those up to the count at its issue.
    completed: u64,
    used: u64,
    pub(crate) faults: DiskFaults,
}

fn io(text: &str) -> DiskError {
    DiskError::Io(text.into())
}

/// What an execution needs besides the volume.
pub(crate) struct Hands<'a> {
    pub(crate) rng: &'a mut Rng,
    pub(crate) counts: &'a mut FaultCounts,
    /// Set when a failing sync may have lost writes for good.
    pub(crate) sync_lost: bool,
    /// What an operation that was made to fail was about; a list does nothing to what it should have shown.
    pub(crate) failed: Option<Arc<str>>,
}

impl Volume {
    /// An empty volume.
    pub(crate) fn new(faults: DiskFaults) -> Volume {
        Volume { faults, ..Volume::default() }
    }

    /// What a sync issued now will cover.
    pub(crate) fn mark(&self) -> u64 {
        self.completed
    }

    /// Carries an operation out; `mark` was taken at its issue.
    pub(crate) fn execute(&mut self, request: DiskRequest, mark: u64, hands: &mut Hands<'_>) -> DiskResult {
        if let Some(error) = self.draw_error(&request, mark, hands) {
            hands.counts.io_errors += 1;
            let is_list = matches!(request, DiskRequest::List(_));
            hands.failed = request.path().filter(|_| !is_list).map(|path| path.name.clone());
            return Err(error);
        }
        match request {
            DiskRequest::MakeDir(path) => self.make_dir(&path.name),
            DiskRequest::List(path) => self.list(&path.name, hands.rng),
            DiskRequest::Read { path, offset, length } => self.read(&path.name, offset, length),
            DiskRequest::Write { path, offset, data, create } => self.write(&path.name, offset, data, create),
            DiskRequest::Sync(path) => {
                let file = self.file(&path.name)?;
                if self.files.get(file).is_unsynced() {
                    self.files.get_mut(file).sync(mark);
                }
                Ok(DiskOk::Done)
            }
            DiskRequest::Truncate { path, length } => self.truncate(&path.name, length),
            DiskRequest::Rename { from, to } => self.rename(&from.name, &to.name),
            DiskRequest::Remove(path) => self.remove(&path.name),
            DiskRequest::SyncDir(path) => self.sync_dir(&path.name, mark),
            DiskRequest::Space { .. } => Ok(DiskOk::Space {
                total: self.faults.capacity_bytes,
                free: self.faults.capacity_bytes.saturating_sub(self.used),
            }),
        }
    }

    fn draw_error(&mut self, request: &DiskRequest, mark: u64, hands: &mut Hands<'_>) -> Option<DiskError> {
        let chance = match request {
            DiskRequest::Read { .. } | DiskRequest::List(_) => self.faults.read_errors_per_million,
            DiskRequest::Sync(_) | DiskRequest::SyncDir(_) => self.faults.sync_errors_per_million,
            DiskRequest::Space { .. } => 0,
            _ => self.faults.write_errors_per_million,
        };
        let is_below = |directory: &str| {
            let rest = request.path().and_then(|path| path.name.strip_prefix(directory));
            rest.is_some_and(|rest| rest.starts_with('/'))
        };
        let is_struck = chance > 0
            && self.faults.errors_below.is_none_or(is_below)
            && hands.rng.chance(u64::from(chance), 1_000_000);
        if !is_struck {
            return None;
        }
        if let DiskRequest::Sync(path) = request
            && let Ok(file) = self.file(&path.name)
        {
            hands.sync_lost |= self.files.get_mut(file).fail_sync(mark, hands.rng);
        }
        // File systems that allocate late find out then; and names need room, too.
        let may_need_room =
            matches!(request, DiskRequest::Sync(_) | DiskRequest::SyncDir(_) | DiskRequest::Rename { .. });
        if may_need_room && hands.rng.chance(1, 4) {
            return Some(DiskError::NoSpace);
        }
        Some(io("injected"))
    }

    fn file(&self, name: &str) -> Result<FileId, DiskError> {
        match self.names.get(name) {
            Some(Node::File(file)) => Ok(file),
            Some(Node::Directory) => Err(io("is a directory")),
            None => Err(DiskError::NotFound),
        }
    }

    fn inode(&self, name: &str) -> Result<&Inode, DiskError> {
        Ok(self.files.get(self.file(name)?))
    }

    fn length(&self, file: FileId) -> u64 {
        self.files.get(file).cached.len() as u64
    }

    /// A new file, without a name.
    fn add(&mut self, inode: Inode) -> FileId {
        let named = self.names.nodes().chain(self.durable.nodes());
        let unsynced = self.unsynced.iter().map(|change| change.what.node());
        self.files.add(inode, named.chain(unsynced).filter_map(Node::file))
    }

    fn is_dir(&self, name: &str) -> bool {
        name.is_empty() || matches!(self.names.get(name), Some(Node::Directory))
    }

    /// Changes the cached names.
    fn change(&mut self, what: NameWhat) {
        self.completed += 1;
        what.apply(Arc::make_mut(&mut self.names));
        for directory in what.touched() {
            if !self.changed.contains(directory) {
                self.changed.insert(Arc::from(directory));
            }
        }
        self.unsynced.push_back(NameChange::new(self.completed, what));
    }

    fn make_dir(&mut self, name: &str) -> DiskResult {
        let ends = name.match_indices('/').map(|(at, _)| at).chain((!name.is_empty()).then_some(name.len()));
        for end in ends {
            let part = &name[..end];
            match self.names.get(part) {
                Some(Node::Directory) => {}
                Some(Node::File(_)) => return Err(io("not a directory")),
                None => self.change(NameWhat::Make { name: Arc::from(part), node: Node::Directory }),
            }
        }
        Ok(DiskOk::Done)
    }

    fn list(&self, name: &str, rng: &mut Rng) -> DiskResult {
        if !self.is_dir(name) {
            return Err(DiskError::NotFound);
        }
        let mut entries = self.children(name);
        rng.shuffle(&mut entries);
        Ok(DiskOk::Entries(entries))
    }

    /// The entries of a directory, in order.
    fn children(&self, directory: &str) -> Vec<Entry> {
        let entry = |(own, node): (&str, Node)| Entry {
            name: own.into(),
            length: node.file().map_or(0, |file| self.length(file)),
            directory: node == Node::Directory,
        };
        self.names.entries(directory).map(entry).collect()
    }

    fn read(&self, name: &str, offset: u64, length: u32) -> DiskResult {
        let file = self.inode(name)?;
        let end = file.cached.len() as u64;
        let start = offset.min(end);
        let stop = offset.saturating_add(u64::from(length)).min(end);
        if file.is_unreadable(start, stop - start) {
            return Err(io("bad sector"));
        }
        Ok(DiskOk::Data(Payload::new(offset, file.read(start as usize..stop as usize))))
    }

    fn write(&mut self, name: &str, offset: u64, data: Vec<Bytes>, create: bool) -> DiskResult {
        let file = match self.file(name) {
            Ok(file) => Some(file),
            Err(DiskError::NotFound) if create && self.is_dir(parent(name)) => None,
            Err(error) => return Err(error),
        };
        let old = file.map_or(0, |file| self.length(file));
        let end = offset + data.iter().map(|piece| piece.len() as u64).sum::<u64>();
        let growth = end.saturating_sub(old);
        if growth > 0 && self.used + growth > self.faults.capacity_bytes {
            return Err(DiskError::NoSpace);
        }
        let file = file.unwrap_or_else(|| {
            let file = self.add(Inode::default());
            self.change(NameWhat::Make { name: Arc::from(name), node: Node::File(file) });
            file
        });
        self.completed += 1;
        self.used += growth;
        self.files.get_mut(file).write(self.completed, offset, data);
        Ok(DiskOk::Done)
    }

    fn truncate(&mut self, name: &str, length: u64) -> DiskResult {
        let file = self.file(name)?;
        let old = self.length(file);
        let used = self.used - old + length;
        if length > old && used > self.faults.capacity_bytes {
            return Err(DiskError::NoSpace);
        }
        self.used = used;
        self.completed += 1;
        self.files.get_mut(file).cut(self.completed, length);
        Ok(DiskOk::Done)
    }

    fn rename(&mut self, from: &str, to: &str) -> DiskResult {
        let node = match self.names.get(from) {
            Some(node @ Node::File(_)) => node,
            Some(Node::Directory) => return Err(io("is a directory")),
            None => return Err(DiskError::NotFound),
        };
        match self.names.get(to) {
            Some(Node::Directory) => return Err(io("is a directory")),
            Some(Node::File(_)) if from == to => return Ok(DiskOk::Done),
            Some(Node::File(file)) => self.used -= self.length(file),
            None if self.is_dir(parent(to)) => {}
            None => return Err(DiskError::NotFound),
        }
        self.change(NameWhat::Rename { from: Arc::from(from), to: Arc::from(to), node });
        Ok(DiskOk::Done)
    }

    fn remove(&mut self, name: &str) -> DiskResult {
        let file = self.file(name)?;
        self.used -= self.length(file);
        self.change(NameWhat::Remove { name: Arc::from(name), node: Node::File(file) });
        Ok(DiskOk::Done)
    }

    fn sync_dir(&mut self, name: &str, mark: u64) -> DiskResult {
        if !self.is_dir(name) {
            return Err(DiskError::NotFound);
        }
        if !self.changed.contains(name) {
            return Ok(DiskOk::Done);
        }
        let (durable, mut over, mut left) = (Arc::make_mut(&mut self.durable), Vec::new(), false);
        let bit = names::bit(name);
        self.unsynced.retain(|change| {
            let touched = change.touches(name, bit);
            let covered = touched && change.order <= mark;
            left |= touched && !covered;
            if covered {
                change.what.apply(durable);
                let taken = change.what.taken();
                over.extend(taken.map(|taken| (change.order, taken.clone(), change.what.node())));
            }
            !covered
        });
        if !left {
            self.changed.remove(name);
        }
        // What gave a name that is taken away is perhaps still to become durable, with another directory: it gives it no more.
        for (order, taken, node) in over {
            let is_over =
                |earlier: &&mut NameChange| earlier.order < order && earlier.what.gives(&taken, node);
            self.unsynced.iter_mut().filter(is_over).for_each(|earlier| earlier.what.give_nothing());
        }
        Ok(DiskOk::Done)
    }

    /// The power goes. No operation is under way any more.
    pub(crate) fn cut_power(&mut self, rng: &mut Rng, counts: &mut FaultCounts) {
        let in_order = rng.chance(1, 2);
        let keep = rng.below(self.unsynced.len() as u64 + 1);
        let mut lost_directory = false;
        for (at, change) in std::mem::take(&mut self.unsynced).into_iter().enumerate() {
            let kept = if in_order { (at as u64) < keep } else { rng.chance(1, 2) };
            if kept {
                change.what.apply(Arc::make_mut(&mut self.durable));
            } else {
                counts.names_lost += 1;
                lost_directory |= matches!(change.what, NameWhat::Make { node: Node::Directory, .. });
            }
        }
        self.changed.clear();
        if lost_directory {
            Arc::make_mut(&mut self.durable).drop_unreachable();
        }
        self.names = self.durable.clone();
        for (_, file) in self.names.choose(|file| self.files.get(file).is_unsynced().then_some(file)) {
            self.files.get_mut(file).cut_power(rng, counts);
        }
        self.used = self.recount();
    }

    fn recount(&self) -> u64 {
        self.names.nodes().filter_map(Node::file).map(|file| self.length(file)).sum()
    }

    /// A write was under way when its process died: some prefix of its sectors may be there.
    pub(crate) fn write_in_part(&mut self, request: DiskRequest, rng: &mut Rng) {
        let DiskRequest::Write { path, offset, data, create } = request else { return };
        let whole = data.concat();
        let sectors = rng.below(whole.len() as u64 / SECTOR + 1);
        let first = SECTOR - offset % SECTOR;
        let length = (sectors * SECTOR + first).min(whole.len() as u64) as usize;
        // A full disk is as good a reason for nothing to be there as any.
        let _ = self.write(&path.name, offset, vec![Bytes::from(whole).slice(..length)], create);
    }
}

#[cfg(test)]
mod tests;
