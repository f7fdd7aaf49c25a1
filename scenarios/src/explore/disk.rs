//! A disk that can be forked: what processes see beside what a power cut leaves.
//!
//! A file and a directory each have a cached and a durable side. A sync makes durable what was there *when it was issued*. A
//! killed process leaves the cached side; a power cut leaves, for each file and each directory on its own, either side. Writes
//! are not torn: those of an explored scope are smaller than a sector.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use bytes::Bytes;
use cairn_core::disk::{DiskError, DiskOk, DiskRequest, DiskResult, Entry};
use cairn_core::payload::Payload;

/// Bytes free on every volume, as far as machines are told.
const FREE: u64 = 1 << 40;

/// What a name stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Name {
    Directory,
    File(u32),
}

type Names = BTreeMap<Arc<str>, Name>;

#[derive(Clone, Debug, Default)]
struct File {
    cached: Arc<Vec<u8>>,
    durable: Arc<Vec<u8>>,
}

/// One node's only data directory.
#[derive(Clone, Debug, Default)]
pub(super) struct Disk {
    files: BTreeMap<u32, File>,
    names: Names,
    durable: Names,
    next: u32,
}

/// What a sync found when it was issued.
#[derive(Clone, Debug)]
pub(super) enum Snapshot {
    Nothing,
    File(u32, Arc<Vec<u8>>),
    Names(Names),
}

impl Hash for Snapshot {
    fn hash<H: Hasher>(&self, state: &mut H) {
        match self {
            Snapshot::Nothing => 0_u8.hash(state),
            Snapshot::File(_, bytes) => bytes.hash(state),
            Snapshot::Names(names) => names.keys().for_each(|name| name.hash(state)),
        }
    }
}

/// What a power cut keeps or loses as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    File(u32),
    Names(Arc<str>),
}

fn parent(name: &str) -> &str {
    name.rsplit_once('/').map_or("", |(parent, _)| parent)
}

fn within(names: &Names, directory: &str) -> Names {
    let inside = names.iter().filter(|(name, _)| !name.is_empty() && parent(name) == directory);
    inside.map(|(name, what)| (name.clone(), what.clone())).collect()
}

impl Disk {
    fn id(&self, name: &str) -> Result<u32, DiskError> {
        match self.names.get(name) {
            Some(Name::File(id)) => Ok(*id),
            _ => Err(DiskError::NotFound),
        }
    }

    fn file(&mut self, name: &str) -> Result<&mut File, DiskError> {
        let id = self.id(name)?;
        self.files.get_mut(&id).ok_or(DiskError::NotFound)
    }

    /// What is in a file, as processes see it.
    pub(super) fn contents(&self, name: &str) -> Option<&[u8]> {
        let id = self.id(name).ok()?;
        self.files.get(&id).map(|file| file.cached.as_slice())
    }

    /// Names of all files whose name begins so.
    pub(super) fn find(&self, prefix: &str) -> Vec<Arc<str>> {
        let files = self
            .names
            .iter()
            .filter(|(name, what)| matches!(what, Name::File(_)) && name.starts_with(prefix));
        files.map(|(name, _)| name.clone()).collect()
    }

    /// What a sync that is issued now will make durable.
    pub(super) fn snapshot(&self, request: &DiskRequest) -> Snapshot {
        match request {
            DiskRequest::Sync(path) => match self.id(&path.name) {
                Ok(id) => Snapshot::File(id, self.files[&id].cached.clone()),
                Err(_) => Snapshot::Nothing,
            },
            DiskRequest::SyncDir(path) => Snapshot::Names(within(&self.names, &path.name)),
            _ => Snapshot::Nothing,
        }
    }

    /// Whether a request shows or changes nothing that the order of operations could matter to.
    pub(super) fn is_plain(&self, request: &DiskRequest) -> bool {
        match request {
            DiskRequest::Read { .. } | DiskRequest::List(_) | DiskRequest::Space { .. } => true,
            DiskRequest::MakeDir(path) => self.names.contains_key(&path.name),
            DiskRequest::Remove(path) => self.id(&path.name).is_err(),
            _ => false,
        }
    }

    /// Carries a request out.
    pub(super) fn perform(&mut self, request: &DiskRequest, snapshot: &Snapshot) -> DiskResult {
        match request {
            DiskRequest::MakeDir(path) => self.make_directory(&path.name),
            DiskRequest::List(path) => return self.list(&path.name),
            DiskRequest::Read { path, offset, length } => {
                let file = self.file(&path.name)?;
                let start = (*offset as usize).min(file.cached.len());
                let end = (start + *length as usize).min(file.cached.len());
                let bytes = Bytes::copy_from_slice(&file.cached[start..end]);
                return Ok(DiskOk::Data(Payload::new(*offset, bytes)));
            }
            DiskRequest::Write { path, offset, data, create } => {
                if *create && self.id(&path.name).is_err() {
                    self.next += 1;
                    self.names.insert(path.name.clone(), Name::File(self.next));
                    self.files.insert(self.next, File::default());
                }
                let file = Arc::make_mut(&mut self.file(&path.name)?.cached);
                let bytes = data.concat();
                let end = *offset as usize + bytes.len();
                file.resize(file.len().max(end), 0);
                file[*offset as usize..end].copy_from_slice(&bytes);
            }
            DiskRequest::Sync(path) => {
                self.id(&path.name)?;
                if let Snapshot::File(id, bytes) = snapshot
                    && let Some(file) = self.files.get_mut(id)
                {
                    file.durable = bytes.clone();
                }
            }
            DiskRequest::Truncate { path, length } => {
                Arc::make_mut(&mut self.file(&path.name)?.cached).resize(*length as usize, 0);
            }
            DiskRequest::Rename { from, to } => {
                let file = self.names.remove(&from.name).ok_or(DiskError::NotFound)?;
                self.names.insert(to.name.clone(), file);
            }
            DiskRequest::Remove(path) => {
                self.id(&path.name)?;
                self.names.remove(&path.name);
            }
            DiskRequest::SyncDir(path) => {
                if let Snapshot::Names(names) = snapshot {
                    self.durable.retain(|name, _| name.is_empty() || parent(name) != &*path.name);
                    self.durable.extend(names.clone());
                }
            }
            DiskRequest::Space { .. } => return Ok(DiskOk::Space { total: FREE * 2, free: FREE }),
        }
        self.forget_nameless();
        Ok(DiskOk::Done)
    }

    fn make_directory(&mut self, name: &str) {
        let mut end = 0;
        while end < name.len() {
            end = name[end..].find('/').map_or(name.len(), |at| end + at);
            self.names.entry(Arc::from(&name[..end])).or_insert(Name::Directory);
            end += 1;
        }
    }

    fn list(&self, directory: &str) -> DiskResult {
        if !directory.is_empty() && !self.names.contains_key(directory) {
            return Err(DiskError::NotFound);
        }
        let entry = |(name, what): (Arc<str>, Name)| {
            let name = name.rsplit('/').next().unwrap_or_default().to_owned();
            match what {
                Name::Directory => Entry { name, length: 0, directory: true },
                Name::File(id) => {
                    Entry { name, length: self.files[&id].cached.len() as u64, directory: false }
                }
            }
        };
        Ok(DiskOk::Entries(within(&self.names, directory).into_iter().map(entry).collect()))
    }

    fn forget_nameless(&mut self) {
        let named = |names: &Names, id: u32| names.values().any(|what| *what == Name::File(id));
        let (names, durable) = (&self.names, &self.durable);
        self.files.retain(|id, _| named(names, *id) || named(durable, *id));
    }

    /// What a power cut may keep or lose.
    pub(super) fn unsynced(&self) -> Vec<Unit> {
        let files = self.files.iter().filter(|(_, file)| file.cached != file.durable);
        let mut units: Vec<Unit> = files.map(|(id, _)| Unit::File(*id)).collect();
        let mut directories: Vec<&str> =
            self.names.keys().chain(self.durable.keys()).map(|name| parent(name)).collect();
        directories.sort_unstable();
        directories.dedup();
        let differs = |directory: &&str| within(&self.names, directory) != within(&self.durable, directory);
        units.extend(
            directories.into_iter().filter(differs).map(|directory| Unit::Names(Arc::from(directory))),
        );
        units
    }

    /// The power fails: of what was not synced only `kept` is left.
    pub(super) fn cut(&mut self, kept: &[Unit]) {
        for (id, file) in &mut self.files {
            if kept.contains(&Unit::File(*id)) {
                file.durable = file.cached.clone();
            } else {
                file.cached = file.durable.clone();
            }
        }
        for unit in kept {
            if let Unit::Names(directory) = unit {
                let names = within(&self.names, directory);
                self.durable.retain(|name, _| parent(name) != &**directory);
                self.durable.extend(names);
            }
        }
        self.names = self.durable.clone();
        self.forget_nameless();
    }

    /// Everything is synced.
    pub(super) fn settle(&mut self) {
        let all = self.unsynced();
        self.cut(&all);
    }

    /// The first byte of a file rots. Whether there is one.
    pub(super) fn rot(&mut self, name: &str) -> bool {
        let Ok(file) = self.file(name) else { return false };
        for side in [&mut file.cached, &mut file.durable] {
            if let Some(byte) = Arc::make_mut(side).first_mut() {
                *byte ^= 1;
            }
        }
        !file.cached.is_empty()
    }
}

/// Files count by content and names, not by when they were made.
impl Hash for Disk {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let mut labels: BTreeMap<u32, usize> = BTreeMap::new();
        for names in [&self.names, &self.durable] {
            names.len().hash(state);
            for (name, what) in names {
                name.hash(state);
                let Name::File(id) = what else { continue };
                let fresh = labels.len();
                let label = *labels.entry(*id).or_insert(fresh);
                label.hash(state);
                if label == fresh {
                    let file = &self.files[id];
                    (&file.cached, file.cached == file.durable).hash(state);
                    if file.cached != file.durable {
                        file.durable.hash(state);
                    }
                }
            }
        }
    }
}
