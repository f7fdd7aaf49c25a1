//! Names to open files: paths confined to the data directory, and the descriptors used last kept open.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::path::{Component, Path};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{Mode, OFlags, openat};

use crate::directory::DataDir;

/// Open files kept for each data directory.
const KEPT: usize = 512;

/// The files of one data directory.
pub(crate) struct Files {
    directory: Arc<DataDir>,
    cache: Mutex<Cache>,
}

#[derive(Default)]
struct Cache {
    open: HashMap<Arc<str>, Kept>,
    clock: u64,
    /// Grows with every rename and removal: a file opened before one is not kept after it.
    changes: u64,
}

struct Kept {
    file: Arc<File>,
    used: u64,
}

impl Files {
    pub(crate) fn new(directory: Arc<DataDir>) -> Files {
        Files { directory, cache: Mutex::default() }
    }

    /// What every name is relative to.
    pub(crate) fn directory(&self) -> &DataDir {
        &self.directory
    }

    /// The directory called `name`.
    pub(crate) fn open_directory(&self, name: &str) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(openat(self.directory.fd(), within(name)?, flags, Mode::empty())?.into())
    }

    /// The file called `name`, open for reading and writing; `create` makes a missing one.
    pub(crate) fn open(&self, name: &Arc<str>, create: bool) -> io::Result<Arc<File>> {
        let before = {
            let mut cache = self.lock();
            cache.clock += 1;
            let clock = cache.clock;
            if let Some(kept) = cache.open.get_mut(name) {
                kept.used = clock;
                return Ok(kept.file.clone());
            }
            cache.changes
        };
        let flags = OFlags::RDWR | OFlags::CLOEXEC;
        let flags = if create { flags | OFlags::CREATE } else { flags };
        let file = openat(self.directory.fd(), within(name)?, flags, Mode::from_raw_mode(0o666))?;
        let file = Arc::new(File::from(file));
        let mut cache = self.lock();
        if cache.changes == before {
            if cache.open.len() >= KEPT {
                cache.make_room();
            }
            let used = cache.clock;
            cache.open.insert(name.clone(), Kept { file: file.clone(), used });
        }
        Ok(file)
    }

    /// Runs `change`, which makes `names` mean other files than before.
    pub(crate) fn changing<T>(&self, names: &[&Arc<str>], change: impl FnOnce() -> T) -> T {
        let forget = || {
            let mut cache = self.lock();
            cache.changes += 1;
            let gone: Vec<_> = names.iter().filter_map(|name| cache.open.remove(*name)).collect();
            drop(cache);
            drop(gone); // closing the last descriptor of a removed file frees its blocks: not under the lock
        };
        forget();
        let changed = change();
        forget();
        changed
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The path of `name` from the data directory; an error if it would lie outside.
pub(crate) fn within(name: &str) -> io::Result<&Path> {
    let relative = Path::new(name);
    if name.contains('\0') || !relative.components().all(|part| matches!(part, Component::Normal(_))) {
        let text = format!("{name:?} is no path within a data directory");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    Ok(if name.is_empty() { Path::new(".") } else { relative })
}

impl Cache {
    /// Forgets the quarter that was used longest ago.
    fn make_room(&mut self) {
        let mut used: Vec<u64> = self.open.values().map(|kept| kept.used).collect();
        let quarter = used.len() / 4;
        let (_, oldest, _) = used.select_nth_unstable(quarter);
        let oldest = *oldest;
        self.open.retain(|_, kept| kept.used > oldest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_within_the_directory() {
        assert_eq!(within("chunks/00/chunk-1").unwrap(), Path::new("chunks/00/chunk-1"));
        assert_eq!(within("").unwrap(), Path::new("."));
        for outside in ["..", "a/../b", "/etc/passwd", "./a", "a\0b", "a/.."] {
            assert!(within(outside).is_err(), "{outside}");
        }
    }

    #[test]
    fn the_cache_stays_bounded_and_keeps_what_was_used_last() {
        let directory = tempfile::tempdir().unwrap();
        let files = Files::new(DataDir::unlocked(directory.path()));
        for number in 0..KEPT + 10 {
            files.open(&Arc::from(format!("f{number}")), true).unwrap();
        }
        let cache = files.lock();
        assert!(cache.open.len() <= KEPT);
        assert!(cache.open.contains_key(format!("f{}", KEPT + 9).as_str()));
        assert!(!cache.open.contains_key("f0"));
    }
}
