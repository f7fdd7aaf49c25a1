//! Sizes at which work is cut into pieces. The simulator's build has smaller ones: its files, logs and clusters are small, and
//! must meet every edge all the same. What formats and protocols bound does not depend on it.

use crate::payload::{BLOCK_BYTES, MAX_PAYLOAD};

const SIMULATED: bool = crate::defect::Defects::CAN_BE_PLANTED;

/// Bytes in which files are read through: whole blocks, and no more than one disk operation may have.
pub const FILE_PIECE: u32 = if SIMULATED { 2 * BLOCK_BYTES as u32 } else { MAX_PAYLOAD };
/// Bytes in which logs and journals are read, and written where they are.
pub const LOG_PIECE: u32 = if SIMULATED { 8 * 1024 } else { MAX_PAYLOAD };
/// Replicas in one part of a block report.
pub const REPORT_PART: usize = if SIMULATED { 7 } else { 1_000 };
/// Bytes after which a group of a chunkserver's journal takes no more records.
pub const JOURNAL_GROUP: usize = if SIMULATED { 2 * 1024 } else { 512 * 1024 };
/// Bytes that a group of the master's log has at the most, one large record aside.
pub const LOG_GROUP: usize = if SIMULATED { 4 * 1024 } else { 4 * 1024 * 1024 };
/// Extents between two whose file offset is kept.
pub const EXTENT_STRIDE: usize = if SIMULATED { 4 } else { 64 };
/// Clients whose requests' outcomes are remembered. In the simulator's build about as many as ever ask for changes in a run,
/// so that an index that outgrows them shows, and more than do while one request can be repeated late.
pub const DEDUP_CLIENTS: usize = if SIMULATED { 48 } else { 4_096 };

const _: () = assert!((FILE_PIECE as u64).is_multiple_of(BLOCK_BYTES) && FILE_PIECE <= MAX_PAYLOAD);
