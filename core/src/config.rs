//! What can be set in each machine, with defaults for production. Times are in milliseconds, sizes in bytes.

mod validate;

use serde::{Deserialize, Serialize};

use crate::id::Durability;
use crate::time::Span;

pub use validate::{CHUNK_UNIT, SettingError, is_chunk_size};

/// Chunk size unless a file asks otherwise: 64 MiB.
pub const DEFAULT_CHUNK_BYTES: u64 = 64 * 1024 * 1024;
/// The largest chunk size that can be asked for: 1 GiB.
pub const MAX_CHUNK_BYTES: u64 = 1024 * 1024 * 1024;
/// The highest replication factor.
pub const MAX_REPLICATION: u8 = 8;
/// The longest name of one file or directory in bytes.
pub const MAX_NAME_BYTES: usize = 255;
/// The longest path in bytes.
pub const MAX_PATH_BYTES: usize = 4096;

/// The master's settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MasterConfig {
    /// How often chunkservers send heartbeats.
    pub heartbeat_ms: u64,
    /// A server silent for so long is dead.
    pub dead_after_ms: u64,
    /// How often chunkservers scan their disks and report.
    pub block_report_ms: u64,
    /// How long a primary may commit after a heartbeat was sent.
    pub lease_ms: u64,
    /// How long a seal waits for votes beyond the needed ones.
    pub seal_grace_ms: u64,
    /// When a seal without enough votes is answered with an error.
    pub seal_timeout_ms: u64,
    /// An upload whose client is silent for so long is given up.
    pub upload_expiry_ms: u64,
    /// How long a deleted file can be restored.
    pub undelete_ms: u64,
    /// After a start, how long the master waits for reports before it repairs or collects anything.
    pub startup_grace_ms: u64,
    /// How long a chunk may miss a replica of a server that is not yet dead before repair.
    pub repair_delay_ms: u64,
    /// Copies under way at once, in all.
    pub repair_streams: u32,
    /// Copies under way at once to or from one server.
    pub repair_streams_per_server: u32,
    /// A copy without an answer for so long is given up.
    pub repair_timeout_ms: u64,
    /// A log segment is closed beyond this size.
    pub log_segment_bytes: u64,
    /// Default replication factor (N).
    pub replication: u8,
    /// Default quorum (W); 0 means the majority.
    pub quorum: u8,
    /// Default chunk size.
    pub chunk_bytes: u64,
    /// Free space below which a volume is given no new chunks.
    pub min_free_bytes: u64,
    /// Namespace entries or chunks looked at in one background step.
    pub step_budget: u32,
}

impl Default for MasterConfig {
    fn default() -> Self {
        MasterConfig {
            heartbeat_ms: 3_000,
            dead_after_ms: 15_000,
            block_report_ms: 30_000,
            lease_ms: 10_000,
            seal_grace_ms: 500,
            seal_timeout_ms: 10_000,
            upload_expiry_ms: 60 * 60 * 1000,
            undelete_ms: 24 * 60 * 60 * 1000,
            startup_grace_ms: 20_000,
            repair_delay_ms: 5_000,
            repair_streams: 16,
            repair_streams_per_server: 4,
            repair_timeout_ms: 120_000,
            log_segment_bytes: 256 * 1024 * 1024,
            replication: 3,
            quorum: 0,
            chunk_bytes: DEFAULT_CHUNK_BYTES,
            min_free_bytes: 256 * 1024 * 1024,
            step_budget: 1_000,
        }
    }
}

/// A chunkserver's settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ChunkserverConfig {
    /// Free space on each volume that is never used.
    pub reserve_bytes: u64,
    /// How long dropped replicas are kept in quarantine.
    pub quarantine_ms: u64,
    /// Scrubbing speed of each volume in bytes a second; 0 switches scrubbing off.
    pub scrub_bytes_per_second: u64,
    /// A volume's journal is rewritten beyond this size.
    pub journal_bytes: u64,
    /// Reads under way at once for one connection; more are answered `Busy`.
    pub reads_per_connection: u32,
    /// Bytes staged but not yet READY, for one open chunk. Writers are paced to fill no more than half of it beyond their
    /// own window's size: at least twice [`ClientConfig::write_window_bytes`].
    pub append_window_bytes: u64,
    /// How long to wait before dialling the master again.
    pub reconnect_ms: u64,
    /// Bytes of one read while copying or scrubbing.
    pub copy_read_bytes: u32,
    /// Reads under way at once for one copy.
    pub copy_reads: u32,
    /// A copy read without an answer for so long is tried at another source.
    pub copy_timeout_ms: u64,
    /// A chunk of an `async` file is synced so long after it was sealed; 0 syncs it as it is sealed.
    pub lazy_sync_ms: u64,
    /// Sealed bytes of each volume that may wait to be synced: after a power cut so much is read before the volume is used.
    /// More are synced as they are sealed.
    pub lazy_sync_bytes: u64,
}

impl Default for ChunkserverConfig {
    fn default() -> Self {
        ChunkserverConfig {
            reserve_bytes: 1024 * 1024 * 1024,
            quarantine_ms: 60 * 60 * 1000,
            scrub_bytes_per_second: 8 * 1024 * 1024,
            journal_bytes: 64 * 1024 * 1024,
            reads_per_connection: 64,
            append_window_bytes: 32 * 1024 * 1024,
            reconnect_ms: 1_000,
            copy_read_bytes: 1024 * 1024,
            copy_reads: 4,
            copy_timeout_ms: 10_000,
            lazy_sync_ms: 5_000,
            lazy_sync_bytes: 2 * 1024 * 1024 * 1024,
        }
    }
}

/// A client's settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClientConfig {
    /// A request to the master without an answer for so long is sent again.
    pub request_timeout_ms: u64,
    /// An operation that did not succeed for so long fails.
    pub operation_deadline_ms: u64,
    /// First pause before a retry; doubles up to sixteen times as long, with jitter.
    pub retry_ms: u64,
    /// A read of one replica without an answer for so long is tried at another.
    pub read_timeout_ms: u64,
    /// A writer whose oldest record is unacknowledged for so long seals the chunk and goes on in a new one.
    pub append_timeout_ms: u64,
    /// An upload that no request named for so long is kept alive by one; well below the master's `upload_expiry_ms`.
    pub keep_upload_ms: u64,
    /// How long a chunk that is written waits for its slowest replica before it is sealed without it.
    pub settle_ms: u64,
    /// Bytes sent and not yet acknowledged, for one open file.
    pub write_window_bytes: u64,
    /// Bytes in one append frame.
    pub frame_bytes: u32,
    /// Bytes asked for in one read of a replica.
    pub read_bytes: u32,
    /// Reads of replicas under way at once, for one call.
    pub parallel_reads: u32,
    /// Locations kept, in chunks.
    pub cache_entries: u32,
    /// Replication factor of new files; 0 takes the master's.
    pub replication: u8,
    /// Quorum of new files; 0 takes the master's.
    pub quorum: u8,
    /// Chunk size of new files; 0 takes the master's.
    pub chunk_bytes: u64,
    /// Durability of new files whose creator does not choose: the library passes it with each creation.
    pub durability: Durability,
}

impl Default for ClientConfig {
    fn default() -> Self {
        ClientConfig {
            request_timeout_ms: 5_000,
            operation_deadline_ms: 60_000,
            retry_ms: 100,
            read_timeout_ms: 5_000,
            append_timeout_ms: 10_000,
            settle_ms: 1_000,
            keep_upload_ms: 60_000,
            write_window_bytes: 16 * 1024 * 1024,
            frame_bytes: 1024 * 1024,
            read_bytes: 1024 * 1024,
            parallel_reads: 8,
            cache_entries: 65_536,
            replication: 0,
            quorum: 0,
            chunk_bytes: 0,
            durability: Durability::Sync,
        }
    }
}

/// A configured time as a span.
pub const fn ms(value: u64) -> Span {
    Span::from_ms(value)
}
