//! The disks. The fault model, all of it; what machines may rely on is the contract of `cairn_core::disk`.
//!
//! A file has cached bytes, which processes see, and durable bytes, which a power cut leaves. A name likewise.
//!
//! - **Time.** Each operation takes a drawn latency and is carried out when it ends, so operations under way at once are
//!   carried out in any order, and completions are shuffled. A slow disk takes a multiple.
//! - **Process death.** Cached bytes and names stay. Each operation under way happens or not; a write may happen in part.
//! - **Sync** makes durable what had *completed when it was issued*, and nothing else. Syncing a file does not make its
//!   name durable; syncing a directory does not make contents durable. A rename is durable as soon as one of its two
//!   directories is; a name that it took away no later sync brings back.
//! - **Power cut.** Each unsynced write is kept, dropped, or torn: each sector of 512 bytes is kept or not on its own, in any
//!   order. Unsynced changes of names are kept as a prefix of their order, or as any subset; a rename happens wholly or
//!   not at all, so its target is the old file or the new one. A name in a directory that was lost is lost.
//! - **Failing sync.** The operation fails, and each write that it should have made durable is marked clean at random, as
//!   kernels do: no later sync writes it.
//! - **Bit flips** strike bytes at rest (durable, no unsynced write over them), in cache and on disk alike, until
//!   overwritten. The pristine byte is kept beside, so that the harm still standing is known.
//! - **Bad sectors** make every read of them fail until they are written again.
//! - **Misdirected writes.** A sector at rest is blank, as if it had never been written, and its bytes lie over a sector of
//!   another file or place; in cache and on disk alike, until overwritten.
//! - **Stuck syncs**, all or those of directories, hang until the fault ends; nothing of theirs is durable before.
//! - **Stuck lists** show what a directory held when they were carried out, but every other one of them, by lot, is told
//!   only when the fault ends.
//! - **I/O errors** fail one operation without effect, by probability.
//! - **Full disk.** Writes that would exceed the capacity fail without effect.
//! - **Wipe.** The volume comes back empty: a replaced disk.
//!
//! Not modelled: phantom writes, hard links, bytes changing under a read.

mod inode;
mod volume;

use cairn_core::disk::DiskRequest;
use cairn_core::rng::Rng;
use cairn_core::time::{Span, Time};

pub(crate) use volume::{Hands, Volume};

use crate::options::DiskFaults;

/// Harm done to a disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// When, in true time.
    pub at: Time,
    /// Whose disk.
    pub node: String,
    /// Which volume.
    pub volume: u16,
    /// The file's name at that time; empty for a whole volume.
    pub path: String,
    /// The first byte harmed.
    pub offset: u64,
    /// How.
    pub kind: DamageKind,
}

/// The kinds of harm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DamageKind {
    /// One bit was inverted.
    BitFlip,
    /// A sector can't be read.
    BadSector,
    /// A sector was written to the wrong place.
    Misdirected,
    /// A file was written, cut or removed from outside.
    HandEdit,
    /// A volume was emptied.
    Wipe,
    /// A sync failed, and unsynced writes were marked clean.
    SyncFailed,
}

/// How long an operation takes.
pub(crate) fn latency(request: &DiskRequest, faults: &DiskFaults, rng: &mut Rng) -> Span {
    let (base_us, jitter_us, bytes) = match request {
        DiskRequest::Read { length, .. } => (40, 80, u64::from(*length)),
        DiskRequest::Write { data, .. } => (10, 30, data.iter().map(|piece| piece.len() as u64).sum()),
        DiskRequest::Sync(_) => (300, 1_200, 0),
        DiskRequest::SyncDir(_) => (200, 800, 0),
        DiskRequest::Space { .. } => (5, 10, 0),
        _ => (20, 60, 0),
    };
    let tail = if rng.chance(1, 100) { 10 } else { 1 };
    let nanos = (base_us * 1_000 + rng.below(jitter_us * 1_000)) * tail + bytes / 2;
    Span(nanos * u64::from(faults.slow_factor.max(1)))
}
