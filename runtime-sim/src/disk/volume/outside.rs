//! What checkers see of a volume, and what outside hands do to it.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Inode, Node, SECTOR, Volume, parent};

impl Volume {
    /// Paths and lengths, as processes see them.
    pub(crate) fn list_all(&self) -> Vec<(String, u64)> {
        self.names.choose(|file| Some(self.length(file)))
    }

    /// Looks at a file's bytes as processes see them.
    pub(crate) fn with_cached<R>(&self, name: &str, look: impl FnOnce(&[u8]) -> R) -> Option<R> {
        self.inode(name).ok().map(|file| look(&file.cached))
    }

    /// The file of that name after any power cut.
    fn surely(&self, name: &str) -> Option<&Inode> {
        let mut above = parent(name);
        while !above.is_empty() {
            if !matches!(self.durable.get(above), Some(Node::Directory)) {
                return None;
            }
            above = parent(above);
        }
        Some(self.files.get(self.durable.get(name)?.file()?))
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
    pub(crate) fn durable(&self, name: &str) -> Option<&[u8]> {
        self.surely(name).map(|file| file.durable.as_slice())
    }

    /// Names of files of which a power cut may leave something else than processes see: another name, or other bytes.
    pub(crate) fn unsynced_names(&self) -> BTreeSet<Arc<str>> {
        let risky = self.names.choose(|file| self.files.get(file).is_unsynced().then_some(()));
        let risky = risky.into_iter().map(|(name, ())| Arc::from(name));
        risky.chain(self.unsynced.iter().map(|change| change.what.name().clone())).collect()
    }

    /// Puts a file there, durable at once.
    pub(crate) fn put_by_hand(&mut self, name: &str, bytes: &[u8]) {
        let mut inode = Inode::default();
        inode.cached = Arc::new(bytes.to_vec());
        inode.settle();
        let file = Node::File(self.add(inode));
        let (names, durable) = (Arc::make_mut(&mut self.names), Arc::make_mut(&mut self.durable));
        let mut above = parent(name);
        while !above.is_empty() {
            names.insert(above, Node::Directory);
            durable.insert(above, Node::Directory);
            above = parent(above);
        }
        names.insert(name, file);
        durable.insert(name, file);
        self.used = self.recount();
    }

    /// Removes a file, durably at once: whatever gave it its name comes to nothing.
    pub(crate) fn remove_by_hand(&mut self, name: &str) -> bool {
        let Ok(gone) = self.file(name) else { return false };
        Arc::make_mut(&mut self.names).remove(name);
        let durable = Arc::make_mut(&mut self.durable);
        durable.remove(name);
        durable.forget(gone);
        self.unsynced.retain(|change| change.what.node() != Node::File(gone));
        self.used = self.recount();
        true
    }

    /// Cuts or extends a file, durably at once.
    pub(crate) fn cut_by_hand(&mut self, name: &str, length: u64) -> bool {
        let Ok(file) = self.file(name) else { return false };
        let file = self.files.get_mut(file);
        file.cut(self.completed, length);
        file.settle();
        self.used = self.recount();
        true
    }

    /// Inverts a bit at rest.
    pub(crate) fn flip(&mut self, name: &str, bit: u64) -> bool {
        self.file(name).is_ok_and(|file| self.files.get_mut(file).flip(bit))
    }

    /// A sector was written to another file's, or to another place of its own; false if one of them is not at rest.
    pub(crate) fn misdirect(&mut self, meant: (&str, u64), struck: (&str, u64)) -> bool {
        let (Ok(from), Ok(to)) = (self.file(meant.0), self.file(struck.0)) else { return false };
        let Some(bytes) = self.files.get(from).sector_at_rest(meant.1) else { return false };
        let same = meant == struck || bytes.iter().all(|byte| *byte == 0);
        if same || self.files.get(to).sector_at_rest(struck.1).is_none() {
            return false;
        }
        self.files.get_mut(to).harm_sector(struck.1, &bytes);
        self.files.get_mut(from).harm_sector(meant.1, &[0; SECTOR as usize]);
        true
    }

    /// Gives all flipped bytes their right values back.
    pub(crate) fn mend(&mut self) {
        for file in self.names.nodes().filter_map(Node::file) {
            self.files.get_mut(file).mend();
        }
    }

    /// Makes the sector of a byte unreadable.
    pub(crate) fn spoil(&mut self, name: &str, offset: u64) -> bool {
        self.file(name).is_ok_and(|file| self.files.get_mut(file).spoil(offset))
    }

    /// Files with flips or unreadable sectors: name, offset, whether flipped.
    pub(crate) fn harm(&self) -> Vec<(String, u64, bool)> {
        let harmed = self.names.choose(|file| Some(self.files.get(file)).filter(|file| file.is_harmed()));
        let each = harmed.into_iter().flat_map(|(name, file)| {
            let flipped = file.flipped().map(|at| (at, true));
            flipped
                .chain(file.unreadable().map(|at| (at, false)))
                .map(move |(at, is_flipped)| (name.clone(), at, is_flipped))
        });
        each.collect()
    }
}
