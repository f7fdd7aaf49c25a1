//! A chunkserver's directory, which can go away under its running daemon as an unmounted disk does, and come back.

use std::io::Result;
use std::path::{Path, PathBuf};

use rustix::mount::{UnmountFlags, mount_bind, unmount};

/// The directory, mounted at its place; or at its place by itself, where mounting is not permitted.
#[derive(Debug)]
pub(super) struct Volume {
    /// Where its bytes are while all is well.
    disk: PathBuf,
    /// Where its daemon finds it.
    place: PathBuf,
    is_mounted: bool,
    is_away: bool,
}

impl Volume {
    /// Mounts `disk` at `place`.
    pub(super) fn mounted(disk: PathBuf, place: PathBuf) -> Result<Volume> {
        mount_bind(&disk, &place)?;
        Ok(Volume { disk, place, is_mounted: true, is_away: false })
    }

    /// `disk` itself is where the daemon finds it, and will be renamed.
    pub(super) fn renamed(disk: PathBuf) -> Volume {
        Volume { place: disk.clone(), disk, is_mounted: false, is_away: false }
    }

    /// What a daemon is told.
    pub(super) fn place(&self) -> &Path {
        &self.place
    }

    /// Where its bytes are just now.
    pub(super) fn disk(&self) -> PathBuf {
        if self.is_away && !self.is_mounted { self.aside() } else { self.disk.clone() }
    }

    fn aside(&self) -> PathBuf {
        self.disk.with_extension("away")
    }

    /// Leaves an empty directory in its place.
    pub(super) fn take_away(&mut self) -> Result<()> {
        if self.is_mounted {
            unmount(&self.place, UnmountFlags::DETACH)?;
        } else {
            std::fs::rename(&self.disk, self.aside())?;
            std::fs::create_dir(&self.disk)?;
        }
        self.is_away = true;
        Ok(())
    }

    /// Ends [`Volume::take_away`]; returns what was written in its place meanwhile.
    pub(super) fn put_back(&mut self) -> Result<Vec<PathBuf>> {
        let strange = std::fs::read_dir(&self.place)?.map(|entry| entry.map(|entry| entry.path()));
        let strange = strange.collect::<Result<Vec<PathBuf>>>()?;
        super::arena::clear(&self.place)?;
        if self.is_mounted {
            mount_bind(&self.disk, &self.place)?;
        } else {
            std::fs::remove_dir(&self.place)?;
            std::fs::rename(self.aside(), &self.disk)?;
        }
        self.is_away = false;
        Ok(strange)
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        // What can't be undone is left to whoever finds it: there is nobody to tell.
        if self.is_mounted && !self.is_away {
            let _ = unmount(&self.place, UnmountFlags::DETACH);
        } else if self.is_away && !self.is_mounted {
            let _ = self.put_back();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chaos::enclosure::tests::in_namespaces;

    /// Takes it away and puts it back; something is written to the disk and to the place meanwhile.
    fn away_and_back(volume: &mut Volume) {
        let place = volume.place().to_owned();
        std::fs::write(place.join("kept"), "before").unwrap();
        volume.take_away().unwrap();
        assert!(std::fs::read_dir(&place).unwrap().next().is_none());
        assert_eq!(std::fs::read(volume.disk().join("kept")).unwrap(), b"before");
        std::fs::write(volume.disk().join("kept"), "meanwhile").unwrap();
        assert!(volume.put_back().unwrap().is_empty());
        assert_eq!(std::fs::read(place.join("kept")).unwrap(), b"meanwhile");
        volume.take_away().unwrap();
        std::fs::write(place.join("stray"), "").unwrap();
        assert_eq!(volume.put_back().unwrap(), [place.join("stray")]);
        assert!(!place.join("stray").exists() && place.join("kept").exists());
    }

    #[test]
    fn a_renamed_volume_comes_back_and_strangers_in_its_place_are_told() {
        let dir = tempfile::tempdir().unwrap();
        let disk = dir.path().join("cs1");
        std::fs::create_dir(&disk).unwrap();
        let mut volume = Volume::renamed(disk.clone());
        away_and_back(&mut volume);
        volume.take_away().unwrap();
        drop(volume);
        assert!(disk.join("kept").exists(), "back when it is dropped");
    }

    #[test]
    fn a_mounted_volume_comes_back_and_is_unmounted_in_the_end() {
        if !in_namespaces("chaos::volume::tests::a_mounted_volume_comes_back_and_is_unmounted_in_the_end") {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let (disk, place) = (dir.path().join("disk"), dir.path().join("place"));
        std::fs::create_dir(&disk).unwrap();
        std::fs::create_dir(&place).unwrap();
        let mut volume = Volume::mounted(disk, place.clone()).unwrap();
        away_and_back(&mut volume);
        drop(volume);
        assert!(std::fs::read_dir(&place).unwrap().next().is_none());
    }
}
