//! A disk in memory. What was not synced is lost in a crash: bytes of a file since its last sync, names since the last
//! sync of their directory.

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use bytes::Bytes;

use crate::disk::{DiskError, DiskOk, DiskPath, DiskRequest, DiskResult, Entry};
use crate::payload::Payload;

#[derive(Clone, Debug, Default)]
struct File {
    now: Vec<u8>,
    durable: Vec<u8>,
    /// Ranges that a failed sync marked clean: no later sync saves them.
    lost: Vec<(usize, usize)>,
}

impl File {
    fn sync(&mut self) {
        let mut durable = self.now.clone();
        for (from, to) in &self.lost {
            for at in *from..(*to).min(durable.len()) {
                durable[at] = self.durable.get(at).copied().unwrap_or(0);
            }
        }
        self.durable = durable;
    }
}

/// All volumes of one server.
#[derive(Debug, Default)]
pub(super) struct MemoryDisk {
    files: BTreeMap<u64, File>,
    names: BTreeMap<(u16, String), u64>,
    durable_names: BTreeMap<(u16, String), u64>,
    next: u64,
    /// Operations on paths that contain this fail.
    pub(super) failing: Option<(&'static str, DiskError)>,
    /// Whether nothing may become longer.
    pub(super) full: bool,
    pub(super) free: u64,
    pub(super) syncs: u64,
}

fn parent(name: &str) -> &str {
    name.rsplit_once('/').map_or("", |(parent, _)| parent)
}

impl MemoryDisk {
    pub(super) fn new() -> MemoryDisk {
        MemoryDisk { free: 100 << 30, ..MemoryDisk::default() }
    }

    fn file(&mut self, path: &DiskPath) -> Result<&mut File, DiskError> {
        let id = self.names.get(&(path.volume, path.name.to_string())).ok_or(DiskError::NotFound)?;
        self.files.get_mut(id).ok_or(DiskError::NotFound)
    }

    pub(super) fn perform(&mut self, request: &DiskRequest) -> DiskResult {
        let text = alloc::format!("{request:?}");
        if let Some((part, error)) = &self.failing
            && text.contains(part)
        {
            let error = error.clone();
            if let DiskRequest::Sync(path) = request
                && let Ok(file) = self.file(path)
            {
                file.lost.push((file.durable.len(), file.now.len()));
            }
            return Err(error);
        }
        match request {
            DiskRequest::MakeDir(path) => {
                self.names.entry((path.volume, alloc::format!("{}/", path.name))).or_insert(0);
            }
            DiskRequest::List(path) => return Ok(DiskOk::Entries(self.list(path))),
            DiskRequest::Read { path, offset, length } => {
                let file = self.file(path)?;
                let start = (*offset as usize).min(file.now.len());
                let end = (start + *length as usize).min(file.now.len());
                return Ok(DiskOk::Data(Payload::new(
                    *offset,
                    Bytes::copy_from_slice(&file.now[start..end]),
                )));
            }
            DiskRequest::Write { path, offset, data, create } => {
                let key = (path.volume, path.name.to_string());
                let bytes = data.concat();
                let end = *offset as usize + bytes.len();
                if self.full && self.file(path).map_or(0, |file| file.now.len()) < end {
                    return Err(DiskError::NoSpace);
                }
                if *create && !self.names.contains_key(&key) {
                    self.next += 1;
                    self.names.insert(key, self.next);
                    self.files.insert(self.next, File::default());
                }
                let file = self.file(path)?;
                // What is written is dirty again.
                let start = *offset as usize;
                let left = |(from, to): &(usize, usize)| [(*from, start.min(*to)), (end.max(*from), *to)];
                file.lost = file.lost.iter().flat_map(left).filter(|(from, to)| from < to).collect();
                file.now.resize(file.now.len().max(end), 0);
                file.now[*offset as usize..end].copy_from_slice(&bytes);
            }
            DiskRequest::Sync(path) => {
                self.syncs += 1;
                self.file(path)?.sync();
            }
            DiskRequest::Truncate { path, length } => self.file(path)?.now.resize(*length as usize, 0),
            DiskRequest::Rename { from, to } => {
                let key = (from.volume, from.name.to_string());
                let id = self.names.remove(&key).ok_or(DiskError::NotFound)?;
                self.names.insert((to.volume, to.name.to_string()), id);
            }
            DiskRequest::Remove(path) => {
                let key = (path.volume, path.name.to_string());
                self.names.remove(&key).ok_or(DiskError::NotFound)?;
            }
            DiskRequest::SyncDir(path) => self.sync_dir(path),
            DiskRequest::Space { .. } => return Ok(DiskOk::Space { total: self.free * 2, free: self.free }),
        }
        Ok(DiskOk::Done)
    }

    fn sync_dir(&mut self, path: &DiskPath) {
        let within =
            |key: &(u16, String)| key.0 == path.volume && parent(key.1.trim_end_matches('/')) == &*path.name;
        self.durable_names.retain(|key, _| !within(key));
        let synced = self.names.iter().filter(|(key, _)| within(key)).map(|(key, id)| (key.clone(), *id));
        self.durable_names.extend(synced);
    }

    fn list(&self, path: &DiskPath) -> Vec<Entry> {
        let prefix = if path.name.is_empty() { String::new() } else { alloc::format!("{}/", path.name) };
        let mut entries: BTreeMap<String, Entry> = BTreeMap::new();
        for ((volume, name), id) in &self.names {
            let Some(rest) = name.strip_prefix(&prefix).filter(|r| *volume == path.volume && !r.is_empty())
            else {
                continue;
            };
            let (name, directory) = match rest.split_once('/') {
                Some((dir, _)) => (dir.to_string(), true),
                None => (rest.to_string(), false),
            };
            let length = self.files.get(id).filter(|_| !directory).map_or(0, |f| f.now.len() as u64);
            entries.insert(name.clone(), Entry { name, length, directory });
        }
        entries.into_values().collect()
    }

    /// Power fails: only what was synced is left.
    pub(super) fn crash(&mut self) {
        self.names = self.durable_names.clone();
        for file in self.files.values_mut() {
            file.now = file.durable.clone();
        }
    }

    /// Of what was never synced, the power cut to come spares these files and their names.
    pub(super) fn keep(&mut self, spared: impl Fn(&str) -> bool) {
        for (key, id) in self.names.iter().filter(|(key, _)| spared(&key.1)) {
            self.durable_names.insert(key.clone(), *id);
            if let Some(file) = self.files.get_mut(id) {
                file.sync();
            }
        }
    }

    /// Of names that were taken away and not synced, the power cut to come takes these.
    #[cfg(feature = "defects")]
    pub(super) fn lose(&mut self, gone: impl Fn(&str) -> bool) {
        let names = &self.names;
        self.durable_names.retain(|key, _| names.contains_key(key) || !gone(&key.1));
    }

    /// Bytes that never reached the disk.
    pub(super) fn zero(&mut self, path: &DiskPath, range: core::ops::Range<usize>) {
        let file = self.file(path).unwrap();
        file.durable[range.clone()].fill(0);
        file.now[range].fill(0);
    }

    /// Names of files that contain `part`.
    pub(super) fn find(&self, part: &str) -> Vec<DiskPath> {
        let fits = self.names.keys().filter(|(_, name)| name.contains(part) && !name.ends_with('/'));
        fits.map(|(volume, name)| DiskPath { volume: *volume, name: Arc::from(name.as_str()) }).collect()
    }

    /// A bit flips at rest.
    pub(super) fn flip(&mut self, path: &DiskPath, at: usize) {
        let file = self.file(path).unwrap();
        file.now[at] ^= 1;
        if at < file.durable.len() {
            file.durable[at] ^= 1;
        }
    }

    /// Somebody deletes a file.
    pub(super) fn delete(&mut self, path: &DiskPath) {
        let key = (path.volume, path.name.to_string());
        self.names.remove(&key);
        self.durable_names.remove(&key);
    }

    pub(super) fn contents(&mut self, path: &DiskPath) -> Vec<u8> {
        self.file(path).unwrap().now.clone()
    }
}
