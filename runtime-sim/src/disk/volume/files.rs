//! A volume's files, apart from their names: a file may have several, cached and durable, or none any more.

use std::sync::Arc;

use super::Inode;

/// Which file. A number is used again when nothing stands for its file any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileId(u32);

/// The files. Clones share them, each until one side changes it.
#[derive(Clone, Debug, Default)]
pub(super) struct Files {
    inodes: Vec<Option<Arc<Inode>>>,
    free: Vec<FileId>,
    /// With so many files it is worth looking for those that nothing stands for.
    sweep_at: usize,
}

/// Files beyond those in use that are kept before anybody looks.
const SLACK: usize = 32;

impl Files {
    pub(super) fn get(&self, file: FileId) -> &Inode {
        self.inodes[file.0 as usize].as_ref().expect("a name stands for a file")
    }

    pub(super) fn get_mut(&mut self, file: FileId) -> &mut Inode {
        Arc::make_mut(self.inodes[file.0 as usize].as_mut().expect("a name stands for a file"))
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.inodes.len() - self.free.len()
    }

    /// Another file. When there have come many, those are let go that are not among the `used`.
    pub(super) fn add(&mut self, inode: Inode, used: impl Iterator<Item = FileId>) -> FileId {
        if self.count() >= self.sweep_at {
            self.keep(used);
            self.sweep_at = self.count() + self.count() / 4 + SLACK;
        }
        if let Some(file) = self.free.pop() {
            self.inodes[file.0 as usize] = Some(Arc::new(inode));
            return file;
        }
        let file = FileId(u32::try_from(self.inodes.len()).expect("a disk of memory has fewer files"));
        self.inodes.push(Some(Arc::new(inode)));
        file
    }

    /// Lets all files go but those.
    fn keep(&mut self, used: impl Iterator<Item = FileId>) {
        let mut is_used = vec![false; self.inodes.len()];
        used.for_each(|file| is_used[file.0 as usize] = true);
        for (number, (inode, is_used)) in (0..).zip(self.inodes.iter_mut().zip(is_used)) {
            if !is_used && inode.take().is_some() {
                self.free.push(FileId(number));
            }
        }
    }
}
