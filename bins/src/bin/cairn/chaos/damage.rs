//! What goes wrong with the bytes on a disk: they flip, or there is no room for more.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use cairn_core::rng::Rng;

/// Takes the space of a small file system, beside the volume on it.
const FILLER: &str = "filler";

/// Leaves no free byte on the file system of `small`.
pub(super) fn fill(small: &Path) -> Result<()> {
    let mut filler = File::create(small.join(FILLER))?;
    let zeros = vec![0; 1 << 20];
    loop {
        match filler.write_all(&zeros) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::StorageFull => return Ok(()),
            Err(error) => return Err(error).context("filling a disk"),
        }
    }
}

/// Ends [`fill`].
pub(super) fn free(small: &Path) -> Result<()> {
    std::fs::remove_file(small.join(FILLER)).context("freeing a disk")
}

/// Flips bits in chunk files and sidecars of a volume; none if there are none.
pub(super) fn flip(volume: &Path, bits: u64, rng: &mut Rng) -> Result<()> {
    for _ in 0..bits {
        let mut files = files_below(&volume.join("chunks"));
        files.sort();
        let Some(file) = rng.pick(&files) else { return Ok(()) };
        match flip_one(file, rng) {
            // The chunkserver dropped it meanwhile.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            flipped => flipped.with_context(|| format!("flipping a bit of {}", file.display()))?,
        }
    }
    Ok(())
}

fn flip_one(path: &Path, rng: &mut Rng) -> std::io::Result<()> {
    let file = File::options().read(true).write(true).open(path)?;
    let length = file.metadata()?.len();
    if length == 0 {
        return Ok(());
    }
    let (at, bit) = (rng.below(length), rng.below(8));
    let mut byte = [0];
    file.read_exact_at(&mut byte, at)?;
    byte[0] ^= 1 << bit;
    file.write_all_at(&byte, at)
}

/// All files at any depth; what vanishes meanwhile is left out.
pub(super) fn files_below(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() { files.extend(files_below(&path)) } else { files.push(path) }
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_bit_of_a_chunk_file_flips() {
        let volume = tempfile::tempdir().unwrap();
        let file = volume.path().join("chunks/07/chunk-x");
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, [0; 100]).unwrap();
        std::fs::write(volume.path().join("journal"), [0; 100]).unwrap();
        flip(volume.path(), 1, &mut Rng::new(1)).unwrap();
        let ones: u32 = std::fs::read(&file).unwrap().iter().map(|byte| byte.count_ones()).sum();
        assert_eq!(ones, 1);
        assert_eq!(files_below(volume.path()).len(), 2);
        flip(Path::new("/nonexistent"), 3, &mut Rng::new(1)).unwrap();
    }
}
