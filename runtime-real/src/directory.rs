//! Data directories: there, writable, this process's own, of its own kind, and the same one for as long as it is used.

use std::fs::{File, TryLockError};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::daemon::StartError;

/// Whose directory it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A master's.
    Master,
    /// A chunkserver's.
    Volume,
}

impl Kind {
    /// The file that makes a directory one of this kind.
    fn identity(self) -> &'static str {
        match self {
            Kind::Master => "cairn-master",
            Kind::Volume => "cairn-volume",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Kind::Master => "a master's directory",
            Kind::Volume => "a chunkserver's volume",
        }
    }

    fn owner(self) -> &'static str {
        match self {
            Kind::Master => "the master",
            Kind::Volume => "the chunkserver",
        }
    }

    /// What may lie in a directory without identity: the beginnings of one, and what mkfs leaves in an empty file system.
    fn may_precede(self, name: &str) -> bool {
        let own: &[&str] = match self {
            Kind::Master => &["cairn-master", "master-"],
            Kind::Volume => &["cairn-volume", "journal-", "chunks", "staging", "quarantine"],
        };
        name == "lost+found" || own.iter().any(|own| name.starts_with(own))
    }
}

/// Refuses a directory of the other kind, and one of something else: nobody wants a cluster among their photographs.
fn check_kind(path: &Path, kind: Kind) -> Result<(), String> {
    let mut stranger = None;
    for entry in std::fs::read_dir(path).map_err(|error| format!("can't be listed ({error})"))? {
        let name = entry.map_err(|error| format!("can't be listed ({error})"))?.file_name();
        let name = name.to_string_lossy();
        if name == kind.identity() {
            return Ok(());
        }
        if let Some(other) = [Kind::Master, Kind::Volume].iter().find(|other| name == other.identity()) {
            return Err(format!("is {}; give {} a directory of its own", other.name(), kind.owner()));
        }
        if !kind.may_precede(&name) {
            stranger = Some(name.into_owned());
        }
    }
    match stranger {
        Some(name) => Err(format!("has {name:?} in it, which is not Cairn's; name an empty directory")),
        None => Ok(()),
    }
}

/// A data directory, locked until this is dropped. The directory itself is locked: no file is left behind, and the lock ends
/// with the process.
///
/// Whatever is done in it starts from its descriptor, never from its path: when its file system is unmounted, the path leads to
/// a directory of another one, which would take all that is written and acknowledge it.
#[derive(Debug)]
pub(crate) struct DataDir {
    path: PathBuf,
    kind: Kind,
    opened: File,
}

impl DataDir {
    #[cfg(test)]
    pub(crate) fn unlocked(path: &Path) -> Arc<DataDir> {
        Arc::new(DataDir { path: path.to_owned(), kind: Kind::Volume, opened: File::open(path).unwrap() })
    }

    /// What names in the directory are relative to.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.opened.as_fd()
    }

    /// Refuses a directory without identity, which would be formatted.
    pub(crate) fn require_formatted(&self) -> Result<(), StartError> {
        let identity = self.kind.identity();
        rustix::fs::statat(self.fd(), identity, rustix::fs::AtFlags::empty()).map(drop).map_err(|error| {
            let what = format!(
                "has no {identity} in it ({error}), and require_formatted is set; mount what belongs there, or start once \
                 without require_formatted to make it {}",
                self.kind.name()
            );
            StartError::Directory { path: self.path.clone(), what }
        })
    }

    /// An error if the path leads elsewhere by now: the next start would not find what is written.
    pub(crate) fn check(&self) -> io::Result<()> {
        let opened = self.opened.metadata()?;
        let same = |named: std::fs::Metadata| (named.dev(), named.ino()) == (opened.dev(), opened.ino());
        match std::fs::metadata(&self.path).map(same) {
            Ok(true) => Ok(()),
            Ok(false) => Err(self.gone("another directory is in its place")),
            Err(error) => Err(self.gone(&error.to_string())),
        }
    }

    fn gone(&self, what: &str) -> io::Error {
        let path = self.path.display();
        io::Error::other(format!(
            "{path} was unmounted or replaced ({what}); bring back the directory that was there"
        ))
    }
}

/// Locks `path`.
pub(crate) fn lock(path: &Path, kind: Kind) -> Result<Arc<DataDir>, StartError> {
    let fault = |what: String| StartError::Directory { path: path.to_owned(), what };
    let about = std::fs::metadata(path)
        .map_err(|error| fault(format!("{error}; create it, or name another with `data`")))?;
    if !about.is_dir() {
        return Err(fault("is not a directory".into()));
    }
    rustix::fs::access(path, rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK).map_err(
        |error| fault(format!("can't be written ({error}); check its owner, its mode and how it is mounted")),
    )?;
    check_kind(path, kind).map_err(fault)?;
    let opened = File::open(path).map_err(|error| fault(error.to_string()))?;
    match opened.try_lock() {
        Ok(()) => Ok(Arc::new(DataDir { path: path.to_owned(), kind, opened })),
        Err(TryLockError::WouldBlock) => Err(StartError::Locked { path: path.to_owned() }),
        Err(TryLockError::Error(error)) => Err(fault(format!("can't be locked: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_has_one_user() {
        let directory = tempfile::tempdir().unwrap();
        let held = lock(directory.path(), Kind::Volume).unwrap();
        let second = lock(directory.path(), Kind::Volume).unwrap_err().to_string();
        assert!(second.contains("in use by another process"), "{second}");
        drop(held);
        lock(directory.path(), Kind::Volume).unwrap();
    }

    #[test]
    fn a_directory_that_was_replaced_is_told_from_the_one_that_was_locked() {
        let home = tempfile::tempdir().unwrap();
        let (path, away) = (home.path().join("volume"), home.path().join("away"));
        std::fs::create_dir(&path).unwrap();
        let held = lock(&path, Kind::Volume).unwrap();
        held.check().unwrap();
        std::fs::rename(&path, &away).unwrap();
        let missing = held.check().unwrap_err().to_string();
        assert!(missing.contains("unmounted or replaced"), "{missing}");
        std::fs::create_dir(&path).unwrap();
        let replaced = held.check().unwrap_err().to_string();
        assert!(replaced.contains("unmounted or replaced"), "{replaced}");
        std::fs::remove_dir(&path).unwrap();
        std::fs::rename(&away, &path).unwrap();
        held.check().unwrap();
    }

    #[test]
    fn what_is_not_there_or_no_directory_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let missing = lock(&directory.path().join("gone"), Kind::Volume).unwrap_err().to_string();
        assert!(missing.contains("gone") && missing.contains("create it"), "{missing}");
        std::fs::write(directory.path().join("file"), "").unwrap();
        let file = lock(&directory.path().join("file"), Kind::Master).unwrap_err().to_string();
        assert!(file.contains("is not a directory"), "{file}");
    }

    #[test]
    fn directories_of_another_kind_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let refused = |kind| lock(directory.path(), kind).unwrap_err().to_string();
        std::fs::create_dir(directory.path().join("lost+found")).unwrap();
        std::fs::create_dir(directory.path().join("chunks")).unwrap();
        drop(lock(directory.path(), Kind::Volume).unwrap());
        assert!(refused(Kind::Master).contains("\"chunks\""), "{}", refused(Kind::Master));
        std::fs::write(directory.path().join("cairn-volume"), "").unwrap();
        assert!(refused(Kind::Master).contains("a chunkserver's volume"), "{}", refused(Kind::Master));
        std::fs::write(directory.path().join("photograph"), "").unwrap();
        drop(lock(directory.path(), Kind::Volume).unwrap());
    }
}
