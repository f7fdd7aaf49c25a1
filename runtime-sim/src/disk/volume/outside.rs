//! What checkers see of a volume, and what outside hands do to it.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard};

use super::{Inode, Node, SECTOR, Volume, inside, parent};

impl Volume {
    /// Paths and lengths, as processes see them.
    pub(crate) fn list_all(&self) -> Vec<(String, u64)> {
        self.files().map(|(name, file)| (name.to_string(), inside(file).cached.len() as u64)).collect()
    }

    /// Looks at a file's bytes as processes see them.
    pub(crate) fn with_cached<R>(&self, name: &str, look: impl FnOnce(&[u8]) -> R) -> Option<R> {
        self.file(name).ok().map(|file| look(&inside(file).cached))
    }

    /// The file of that name after any power cut.
    fn surely(&self, name: &str) -> Option<MutexGuard<'_, Inode>> {
        let mut above = parent(name);
        while !above.is_empty() {
            if !matches!(self.durable.get(above), Some(Node::Directory)) {
                return None;
            }
            above = parent(above);
        }
        match self.durable.get(name) {
            Some(Node::File(file)) => Some(inside(file)),
            _ => None,
        }
    }

    /// Length of what no power cut can take, of a file whose name none can take.
    pub(crate) fn durable_length(&self, name: &str) -> Option<u64> {
        self.surely(name).map(|file| file.durable.len() as u64)
    }

    /// Up to where a file is synced, whose name no power cut can take.
    pub(crate) fn synced_end(&self, name: &str) -> Option<u64> {
        self.surely(name).map(|file| file.synced_end())
    }

    /// Bytes that no power cut can take, of a file whose name none can take.
    pub(crate) fn durable(&self, name: &str, offset: u64, length: usize) -> Option<Vec<u8>> {
        let file = self.surely(name)?;
        let bytes = &file.durable;
        let start = (offset as usize).min(bytes.len());
        Some(bytes[start..start.saturating_add(length).min(bytes.len())].to_vec())
    }

    /// Names of files of which a power cut may leave something else than processes see: another name, or other bytes.
    pub(crate) fn unsynced_names(&self) -> BTreeSet<Arc<str>> {
        let risky = self.files().filter(|(_, file)| inside(file).is_unsynced()).map(|(name, _)| name.clone());
        risky.chain(self.unsynced.iter().map(|change| change.what.name().clone())).collect()
    }

    /// Puts a file there, durable at once.
    pub(crate) fn put_by_hand(&mut self, name: &str, bytes: &[u8]) {
        let mut inode = Inode::default();
        inode.cached = Arc::new(bytes.to_vec());
        inode.settle();
        let file = Arc::new(Mutex::new(inode));
        let mut above = parent(name);
        while !above.is_empty() {
            self.names.insert(Arc::from(above), Node::Directory);
            self.durable.insert(Arc::from(above), Node::Directory);
            above = parent(above);
        }
        self.names.insert(Arc::from(name), Node::File(file.clone()));
        self.durable.insert(Arc::from(name), Node::File(file));
        self.used = self.recount();
    }

    /// Removes a file, durably at once: whatever gave it its name comes to nothing.
    pub(crate) fn remove_by_hand(&mut self, name: &str) -> bool {
        if self.file(name).is_err() {
            return false;
        }
        let Some(gone) = self.names.remove(name) else { return false };
        self.durable.remove(name);
        self.durable.retain(|_, node| !node.is(&gone));
        self.unsynced.retain(|change| !change.what.node().is(&gone));
        self.used = self.recount();
        true
    }

    /// Cuts or extends a file, durably at once.
    pub(crate) fn cut_by_hand(&mut self, name: &str, length: u64) -> bool {
        let Ok(file) = self.file(name) else { return false };
        let mut file = inside(file);
        file.cut(self.completed, length);
        file.settle();
        drop(file);
        self.used = self.recount();
        true
    }

    /// Inverts a bit at rest.
    pub(crate) fn flip(&mut self, name: &str, bit: u64) -> bool {
        self.file(name).is_ok_and(|file| inside(file).flip(bit))
    }

    /// A sector was written to another file's, or to another place of its own; false if one of them is not at rest.
    pub(crate) fn misdirect(&mut self, meant: (&str, u64), struck: (&str, u64)) -> bool {
        let (Ok(from), Ok(to)) = (self.file(meant.0), self.file(struck.0)) else { return false };
        let Some(bytes) = inside(from).sector_at_rest(meant.1) else { return false };
        let same = meant == struck || bytes.iter().all(|byte| *byte == 0);
        if same || inside(to).sector_at_rest(struck.1).is_none() {
            return false;
        }
        inside(to).harm_sector(struck.1, &bytes);
        inside(from).harm_sector(meant.1, &[0; SECTOR as usize]);
        true
    }

    /// Gives all flipped bytes their right values back.
    pub(crate) fn mend(&mut self) {
        for (_, file) in self.files() {
            inside(file).mend();
        }
    }

    /// Makes the sector of a byte unreadable.
    pub(crate) fn spoil(&mut self, name: &str, offset: u64) -> bool {
        self.file(name).is_ok_and(|file| inside(file).spoil(offset))
    }

    /// Files with flips or unreadable sectors: name, offset, whether flipped.
    pub(crate) fn harm(&self) -> Vec<(String, u64, bool)> {
        let mut all = Vec::new();
        for (name, file) in self.files() {
            let file = inside(file);
            all.extend(file.flipped().map(|at| (name.to_string(), at, true)));
            all.extend(file.unreadable().map(|at| (name.to_string(), at, false)));
        }
        all
    }
}
