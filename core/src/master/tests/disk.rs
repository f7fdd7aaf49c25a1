//! A directory in memory. Everything written is kept; tests cut and flip it themselves.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use bytes::Bytes;

use crate::disk::{DiskError, DiskOk, DiskRequest, DiskResult, Entry};
use crate::payload::Payload;

#[derive(Clone, Debug, Default)]
pub(super) struct Disk {
    pub(super) files: BTreeMap<String, Vec<u8>>,
    /// What was synced of each file, for what a power loss leaves.
    pub(super) synced: BTreeMap<String, usize>,
    /// What a failed sync marked as clean: no later sync saves it.
    pub(super) lost: BTreeMap<String, (usize, usize)>,
}

impl Disk {
    pub(super) fn perform(&mut self, request: &DiskRequest) -> DiskResult {
        match request {
            DiskRequest::MakeDir(_) | DiskRequest::SyncDir(_) => {}
            DiskRequest::List(_) => {
                let entry = |(name, bytes): (&String, &Vec<u8>)| Entry {
                    name: name.clone(),
                    length: bytes.len() as u64,
                    directory: false,
                };
                return Ok(DiskOk::Entries(self.files.iter().map(entry).collect()));
            }
            DiskRequest::Read { path, offset, length } => {
                let file = self.files.get(&*path.name).ok_or(DiskError::NotFound)?;
                let start = (*offset as usize).min(file.len());
                let end = (start + *length as usize).min(file.len());
                let bytes = Bytes::copy_from_slice(&file[start..end]);
                return Ok(DiskOk::Data(Payload::new(*offset, bytes)));
            }
            DiskRequest::Write { path, offset, data, create } => {
                let name: &str = &path.name;
                if !create && !self.files.contains_key(name) {
                    return Err(DiskError::NotFound);
                }
                let file = self.files.entry(name.into()).or_default();
                let data = data.concat();
                let end = *offset as usize + data.len();
                self.lost.retain(|lost, (from, to)| lost != name || *from < *offset as usize || end < *to);
                file.resize(file.len().max(end), 0);
                file[*offset as usize..end].copy_from_slice(&data);
            }
            DiskRequest::Sync(path) => {
                let length = self.files.get(&*path.name).ok_or(DiskError::NotFound)?.len();
                self.synced.insert((*path.name).into(), length);
            }
            DiskRequest::Truncate { path, length } => {
                self.files.get_mut(&*path.name).ok_or(DiskError::NotFound)?.resize(*length as usize, 0);
            }
            DiskRequest::Rename { from, to } => {
                let file = self.files.remove(&*from.name).ok_or(DiskError::NotFound)?;
                if let Some(synced) = self.synced.remove(&*from.name) {
                    self.synced.insert((*to.name).into(), synced);
                }
                self.files.insert((*to.name).into(), file);
            }
            DiskRequest::Remove(path) => {
                self.files.remove(&*path.name).ok_or(DiskError::NotFound)?;
                self.synced.remove(&*path.name);
            }
            DiskRequest::Space { .. } => return Ok(DiskOk::Space { total: 1 << 40, free: 1 << 39 }),
        }
        Ok(DiskOk::Done)
    }

    /// A power loss: of what was not synced, `kept` bytes of each file remain.
    pub(super) fn lose_power(&mut self, kept: usize) {
        for (name, file) in &mut self.files {
            let synced = self.synced.get(name).copied().unwrap_or(0);
            file.truncate(synced.max(file.len().min(synced + kept)));
            if let Some((from, to)) = self.lost.remove(name) {
                let to = to.min(file.len());
                file[from.min(to)..to].fill(0);
            }
        }
    }

    /// A sync fails: what it should have saved is taken for saved from now on.
    pub(super) fn fail_sync(&mut self) {
        for (name, file) in &self.files {
            let synced = self.synced.get(name).copied().unwrap_or(0);
            if synced < file.len() {
                self.lost.insert(name.clone(), (synced, file.len()));
            }
        }
    }

    /// The only segment that begins at record 1.
    pub(super) fn first_segment(&mut self) -> &mut Vec<u8> {
        self.files.get_mut("master-00000000000000000001.log").expect("the first segment")
    }
}
