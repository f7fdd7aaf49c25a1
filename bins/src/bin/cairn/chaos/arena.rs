//! Where a storm takes place: a directory of its own, with file systems mounted in it where that is seen by this storm alone.

use std::ffi::CStr;
use std::io::{Error, ErrorKind, Result as IoResult};
use std::path::{Path, PathBuf};

use anyhow::Result;
use bins::exit::Failure;
use cairn_core::config::{ChunkserverConfig, MasterConfig};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use serde_json::json;
use tempfile::TempDir;

use super::volume::Volume;

/// The small file system.
const SMALL: &str = "small";
/// Its size: what the storm stores on one of five chunkservers fits, and filling it takes a moment.
const SMALL_SIZE: &CStr = c"size=384m";
/// Where namespaces have their names.
const NAMES: &str = "namespaces";
/// Where volumes are mounted.
const VOLUMES: &str = "volumes";

/// The directory. Dropped, it is unmounted and removed, unless [`Arena::keep`] was called.
#[derive(Debug)]
pub(super) struct Arena {
    dir: PathBuf,
    temporary: Option<TempDir>,
    /// Whether anything may be mounted.
    mounts: bool,
    mounted: Vec<PathBuf>,
    kept: bool,
}

impl Arena {
    /// `dir` must be empty or missing; without one, a temporary directory. With `mounts`, nobody else sees what this process
    /// mounts.
    pub(super) fn new(dir: Option<&Path>, mounts: bool) -> Result<Arena> {
        let (mounted, kept) = (Vec::new(), false);
        let Some(dir) = dir else {
            let temporary = tempfile::Builder::new().prefix("cairn-chaos-").tempdir()?;
            let dir = temporary.path().to_owned();
            return Ok(Arena { dir, temporary: Some(temporary), mounts, mounted, kept });
        };
        let fault = |error: std::io::Error| Failure::usage(format!("{}: {error}", dir.display()));
        std::fs::create_dir_all(dir).map_err(fault)?;
        if std::fs::read_dir(dir).map_err(fault)?.next().is_some() {
            let what = format!("{}: not empty; chaos starts a cluster of its own", dir.display());
            return Err(Failure::usage(what).into());
        }
        // Whoever enters it later may be elsewhere.
        let dir = dir.canonicalize().map_err(fault)?;
        Ok(Arena { dir, temporary: None, mounts, mounted, kept })
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Mounts the small file system and returns its place, or says why that can't be.
    pub(super) fn mount_small(&mut self) -> IoResult<PathBuf> {
        self.mount(SMALL, SMALL_SIZE)
    }

    /// A place for the names of namespaces, which are mounted there.
    pub(super) fn mount_names(&mut self) -> IoResult<PathBuf> {
        self.mount(NAMES, c"size=64k")
    }

    fn mount(&mut self, name: &str, size: &CStr) -> IoResult<PathBuf> {
        if !self.mounts {
            return Err(Error::new(ErrorKind::PermissionDenied, "namespaces of mounts are not permitted"));
        }
        let place = self.dir.join(name);
        std::fs::create_dir(&place)?;
        mount("cairn-chaos", &place, "tmpfs", MountFlags::NODEV | MountFlags::NOSUID, size)?;
        self.mounted.push(place.clone());
        Ok(place)
    }

    /// The volume of the daemon called `name`, on the small file system if that is given.
    pub(super) fn volume(&self, name: &str, small: Option<&Path>) -> Result<Volume> {
        let disk = small.unwrap_or(&self.dir).join(name);
        std::fs::create_dir_all(&disk)?;
        if !self.mounts {
            return Ok(Volume::renamed(disk));
        }
        let place = self.dir.join(VOLUMES).join(name);
        std::fs::create_dir_all(&place)?;
        Ok(Volume::mounted(disk, place)?)
    }

    /// Leaves everything where it is; what is on the small file system is copied to `small.kept`.
    pub(super) fn keep(&mut self) {
        self.kept = true;
    }

    /// Writes the configurations of a master and of a chunkserver. Time-outs are shorter than in production, so that a
    /// minute holds many deaths and repairs.
    pub(super) fn configure(&self, undelete_ms: u64) -> Result<(PathBuf, PathBuf)> {
        let master = MasterConfig {
            heartbeat_ms: 400,
            dead_after_ms: 3_000,
            block_report_ms: 5_000,
            lease_ms: 2_000,
            seal_timeout_ms: 3_000,
            upload_expiry_ms: 10_000,
            undelete_ms,
            startup_grace_ms: 4_000,
            repair_delay_ms: 1_000,
            repair_timeout_ms: 10_000,
            log_segment_bytes: 256 * 1024,
            chunk_bytes: 2 * 1024 * 1024,
            min_free_bytes: 32 * 1024 * 1024,
            ..MasterConfig::default()
        };
        let server = ChunkserverConfig {
            reserve_bytes: 16 * 1024 * 1024,
            quarantine_ms: QUARANTINE_MS,
            // Damage must be found within the time in which a cluster has to become whole.
            scrub_bytes_per_second: 32 * 1024 * 1024,
            journal_bytes: 2 * 1024 * 1024,
            reconnect_ms: 300,
            copy_timeout_ms: 2_000,
            ..ChunkserverConfig::default()
        };
        let paths = (self.dir.join("master.yaml"), self.dir.join("chunkserver.yaml"));
        // JSON is YAML.
        std::fs::write(&paths.0, json!({ "tuning": master }).to_string())?;
        std::fs::write(&paths.1, json!({ "tuning": server }).to_string())?;
        Ok(paths)
    }
}

/// How long dropped replicas stay in quarantine.
const QUARANTINE_MS: u64 = 5_000;

impl Drop for Arena {
    fn drop(&mut self) {
        // What can't be undone is left to whoever finds it: there is nobody to tell.
        for place in std::mem::take(&mut self.mounted) {
            if self.kept && place.ends_with(SMALL) {
                let _ = copy(&place, &self.dir.join("small.kept"));
            }
            let _ = unmount(&place, UnmountFlags::DETACH);
        }
        if self.kept {
            if let Some(temporary) = &mut self.temporary {
                temporary.disable_cleanup(true);
            }
        } else if self.temporary.is_none() {
            let _ = clear(&self.dir);
        }
    }
}

/// Removes everything in a directory.
pub(super) fn clear(dir: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() { std::fs::remove_dir_all(&path)? } else { std::fs::remove_file(&path)? }
    }
    Ok(())
}

fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() { copy(&path, &target)? } else { std::fs::copy(&path, &target).map(|_| ())? }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_given_directory_must_be_empty_and_is_empty_afterwards() {
        let outside = tempfile::tempdir().unwrap();
        let dir = outside.path().join("storm");
        let arena = Arena::new(Some(&dir), false).unwrap();
        arena.configure(1).unwrap();
        let refused = Arena::new(Some(&dir), false).unwrap_err().to_string();
        assert!(refused.contains("not empty"), "{refused}");
        drop(arena);
        let mut kept = Arena::new(Some(&dir), false).unwrap();
        kept.configure(1).unwrap();
        kept.keep();
        drop(kept);
        assert!(dir.join("master.yaml").exists());
    }
}
