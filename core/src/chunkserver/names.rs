//! Where things lie on a volume. The format is described in `docs/on-disk.md`.

use alloc::format;
use alloc::string::String;

use crate::disk::DiskPath;
use crate::id::{ChunkId, ChunkUuid, ClusterId};

/// The identity file.
pub(super) const IDENTITY: &str = "cairn-volume";
/// Where a new identity is written before it takes the name.
pub(super) const IDENTITY_NEW: &str = "cairn-volume.new";

/// The directory of a chunk's files: 256 of them, made when first needed.
pub(super) fn dir_name(chunk: ChunkId) -> String {
    format!("chunks/{:02x}", chunk.0 & 0xff)
}

/// The bare name of a chunk's data file.
pub(super) fn file_name(cluster: ClusterId, chunk: ChunkId) -> String {
    format!("chunk-{}", ChunkUuid::new(cluster, chunk))
}

/// A chunk's directory.
pub(super) fn dir(volume: u16, chunk: ChunkId) -> DiskPath {
    DiskPath::new(volume, &dir_name(chunk))
}

/// A chunk's bytes.
pub(super) fn data(volume: u16, cluster: ClusterId, chunk: ChunkId) -> DiskPath {
    DiskPath::new(volume, &format!("chunks/{:02x}/chunk-{}", chunk.0 & 0xff, ChunkUuid::new(cluster, chunk)))
}

/// A sealed chunk's sidecar.
pub(super) fn meta(volume: u16, cluster: ClusterId, chunk: ChunkId) -> DiskPath {
    DiskPath::new(
        volume,
        &format!("chunks/{:02x}/chunk-{}.meta", chunk.0 & 0xff, ChunkUuid::new(cluster, chunk)),
    )
}

/// Bytes of a copy under way.
pub(super) fn staged_data(volume: u16, cluster: ClusterId, chunk: ChunkId) -> DiskPath {
    DiskPath::new(volume, &format!("staging/{}", file_name(cluster, chunk)))
}

/// A sidecar before it takes its name.
pub(super) fn staged_meta(volume: u16, cluster: ClusterId, chunk: ChunkId) -> DiskPath {
    DiskPath::new(volume, &format!("staging/{}.meta", file_name(cluster, chunk)))
}

/// The chunk that a file in `chunks/` belongs to, and whether it is a sidecar.
pub(super) fn parse(name: &str) -> Option<(ClusterId, ChunkId, bool)> {
    let rest = name.strip_prefix("chunk-")?;
    let (uuid, meta) = match rest.strip_suffix(".meta") {
        Some(uuid) => (uuid, true),
        None => (rest, false),
    };
    let (cluster, chunk) = ChunkUuid::parse(uuid)?.parts()?;
    Some((cluster, chunk, meta))
}

/// A journal.
pub(super) fn journal(volume: u16, number: u64) -> DiskPath {
    DiskPath::new(volume, &format!("journal-{number:020}.log"))
}

/// A journal before its snapshot is complete.
pub(super) fn journal_new(volume: u16) -> DiskPath {
    DiskPath::new(volume, "journal.new")
}

/// The number in a journal's name.
pub(super) fn parse_journal(name: &str) -> Option<u64> {
    let digits = name.strip_prefix("journal-")?.strip_suffix(".log")?;
    (digits.len() == 20).then(|| digits.parse().ok()).flatten()
}

/// A name in the quarantine: numbered, so that nothing is ever replaced there; `keep` is never purged.
pub(super) fn quarantined(volume: u16, file: &str, number: u64, keep: bool) -> DiskPath {
    let suffix = if keep { ".keep" } else { "" };
    DiskPath::new(volume, &format!("quarantine/{file}.{number}{suffix}"))
}

/// Whether a path is in the quarantine and not to be kept for good.
pub(super) fn is_purged(path: &DiskPath) -> bool {
    let name = path.name.strip_prefix("quarantine/");
    name.and_then(parse_quarantined).is_some_and(|(_, _, keep)| !keep)
}

/// The chunk of which there is something at a path in the quarantine, and whether that is its sidecar.
pub(super) fn quarantined_chunk(path: &DiskPath) -> Option<(ChunkId, bool)> {
    let (name, ..) = parse_quarantined(path.name.strip_prefix("quarantine/")?)?;
    parse(name).map(|(_, chunk, meta)| (chunk, meta))
}

/// What a file in the quarantine was called, its number there, and whether it is kept for good.
pub(super) fn parse_quarantined(name: &str) -> Option<(&str, u64, bool)> {
    let (name, keep) = match name.strip_suffix(".keep") {
        Some(name) => (name, true),
        None => (name, false),
    };
    let (name, number) = name.rsplit_once('.')?;
    Some((name, number.parse().ok()?, keep))
}
