//! What goes wrong with the bytes on a disk: they flip, or there is no room for more.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use cairn_core::log::{FileHeader, HEADER_BYTES, Scan};
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

/// Flips bits in chunk files and sidecars of a volume; says which, none if there are no files.
pub(super) fn flip(volume: &Path, bits: u64, rng: &mut Rng) -> Result<Vec<String>> {
    let mut flipped = Vec::new();
    for _ in 0..bits {
        let mut files = files_below(&volume.join("chunks"));
        files.sort();
        let Some(file) = rng.pick(&files) else { break };
        let length = match std::fs::metadata(file) {
            Ok(metadata) => metadata.len(),
            // The chunkserver dropped it meanwhile.
            Err(_) => continue,
        };
        flipped.extend(flip_below(file, length, rng)?);
    }
    Ok(flipped)
}

/// Flips a bit of the journal of a volume whose process is down, and says which. The next process must notice it: no bit
/// flips in the last group of records, where a length that grew looks like a write that the kill tore (docs/on-disk.md).
pub(super) fn flip_journal(volume: &Path, rng: &mut Rng) -> Result<Option<String>> {
    // The number in its name is of fixed width; the latest is the one that is read.
    let journals = std::fs::read_dir(volume)?.flatten().map(|entry| entry.path()).filter(|path| {
        path.extension().is_some_and(|end| end == "log")
            && path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("journal-"))
    });
    match journals.max() {
        Some(journal) => flip_below(&journal, durable_end(&std::fs::read(&journal)?), rng),
        None => Ok(None),
    }
}

/// How much of a log a later group of records calls durable.
fn durable_end(log: &[u8]) -> u64 {
    let Ok(header) = FileHeader::decode(log) else { return 0 };
    let mut scan = Scan::new(header.first_index);
    scan.feed(&log[HEADER_BYTES as usize..]);
    scan.finish().map_or(0, |end| end.durable_end)
}

/// Flips one of the first `length` bytes' bits.
fn flip_below(path: &Path, length: u64, rng: &mut Rng) -> Result<Option<String>> {
    if length == 0 {
        return Ok(None);
    }
    let (at, bit) = (rng.below(length), rng.below(8));
    let flip = || {
        let file = File::options().read(true).write(true).open(path)?;
        let mut byte = [0];
        file.read_exact_at(&mut byte, at)?;
        byte[0] ^= 1 << bit;
        file.write_all_at(&byte, at)
    };
    match flip() {
        Ok(()) => Ok(Some(format!("bit {bit} of byte {at} of {}", path.display()))),
        // The chunkserver dropped or cut it meanwhile.
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::UnexpectedEof) => Ok(None),
        Err(error) => Err(error).with_context(|| format!("flipping a bit of {}", path.display())),
    }
}

/// The id of a volume as it is formatted now (docs/on-disk.md).
pub(super) fn volume_id(volume: &Path) -> Option<u64> {
    let identity = std::fs::read(volume.join("cairn-volume")).ok()?;
    Some(u64::from_le_bytes(identity.get(28..36)?.try_into().ok()?))
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
    use cairn_core::log::{GroupWriter, LogKind};

    use super::*;

    /// A journal of so many groups of one record.
    fn journal(groups: u8) -> Vec<u8> {
        let header = FileHeader { kind: LogKind::Journal, owner: 1, first_index: 1 };
        let mut bytes = header.encode().to_vec();
        for group in 0..groups {
            let end = bytes.len() as u64;
            let mut writer = GroupWriter::new(end, end, 1 + u64::from(group));
            writer.push(5, &[group; 20]);
            bytes.extend(writer.finish());
        }
        bytes
    }

    #[test]
    fn what_flips_in_a_journal_is_never_taken_for_a_torn_write() {
        let volume = tempfile::tempdir().unwrap();
        let path = volume.path().join("journal-00000000000000000002.log");
        assert!(flip_journal(volume.path(), &mut Rng::new(1)).unwrap().is_none());
        std::fs::write(volume.path().join("journal-00000000000000000001.log"), journal(9)).unwrap();
        for seed in 0..300 {
            std::fs::write(&path, journal(3)).unwrap();
            let flipped = flip_journal(volume.path(), &mut Rng::new(seed)).unwrap().unwrap();
            assert!(flipped.contains("journal-00000000000000000002"), "{flipped}");
            assert_eq!(durable_end(&std::fs::read(&path).unwrap()), 0, "{flipped}");
        }
    }

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
