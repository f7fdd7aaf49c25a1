//! Data directories: there, writable, and this process's own.

use std::fs::{File, TryLockError};
use std::path::Path;

use crate::daemon::StartError;

/// Locks `path` for as long as the returned file is open. The directory itself is locked: no file is left behind, and the
/// lock ends with the process.
pub(crate) fn lock(path: &Path) -> Result<File, StartError> {
    let fault = |what: String| StartError::Directory { path: path.to_owned(), what };
    let about = std::fs::metadata(path)
        .map_err(|error| fault(format!("{error}; create it, or name another with `data`")))?;
    if !about.is_dir() {
        return Err(fault("is not a directory".into()));
    }
    rustix::fs::access(path, rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK).map_err(
        |error| fault(format!("can't be written ({error}); check its owner, its mode and how it is mounted")),
    )?;
    let directory = File::open(path).map_err(|error| fault(error.to_string()))?;
    match directory.try_lock() {
        Ok(()) => Ok(directory),
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
        let held = lock(directory.path()).unwrap();
        let second = lock(directory.path()).unwrap_err().to_string();
        assert!(second.contains("in use by another process"), "{second}");
        drop(held);
        lock(directory.path()).unwrap();
    }

    #[test]
    fn what_is_not_there_or_no_directory_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let missing = lock(&directory.path().join("gone")).unwrap_err().to_string();
        assert!(missing.contains("gone") && missing.contains("create it"), "{missing}");
        std::fs::write(directory.path().join("file"), "").unwrap();
        let file = lock(&directory.path().join("file")).unwrap_err().to_string();
        assert!(file.contains("is not a directory"), "{file}");
    }
}
