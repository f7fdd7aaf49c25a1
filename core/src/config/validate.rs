//! What each setting may be. A machine relies on it; runtimes ask before they start one.

use core::fmt;
use core::ops::RangeInclusive;

use super::{ChunkserverConfig, ClientConfig, MAX_CHUNK_BYTES, MAX_REPLICATION, MasterConfig};
use crate::payload::MAX_PAYLOAD;

/// Chunk sizes are multiples of this.
pub const CHUNK_UNIT: u64 = 4096;
/// The longest time that has a limit at all: a day.
const DAY_MS: u64 = 24 * 60 * 60 * 1000;
/// Smaller logs would be changed for the next one after every group.
const LEAST_LOG_BYTES: u64 = 1024;

/// A setting that a machine can't work with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingError {
    /// Out of its range.
    #[error("{setting} is {value}; it must be {}", Permitted(*least, *most))]
    Range {
        /// The setting.
        setting: &'static str,
        /// What it was set to.
        value: u64,
        /// The least that is permitted.
        least: u64,
        /// The most; `u64::MAX` if there is no limit.
        most: u64,
    },
    /// No chunk size.
    #[error("{setting} is {value}; it must be a multiple of {CHUNK_UNIT} up to {MAX_CHUNK_BYTES}")]
    ChunkBytes {
        /// The setting.
        setting: &'static str,
        /// What it was set to.
        value: u64,
    },
    /// Does not fit another setting.
    #[error("{setting} is {value}; it must be {relation} {other}, which is {limit}")]
    Relation {
        /// The setting.
        setting: &'static str,
        /// What it was set to.
        value: u64,
        /// How it must relate to the other one, in words.
        relation: &'static str,
        /// The other setting.
        other: &'static str,
        /// What that is.
        limit: u64,
    },
}

struct Permitted(u64, u64);

impl fmt::Display for Permitted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Permitted(least, u64::MAX) => write!(f, "at least {least}"),
            Permitted(least, most) => write!(f, "between {least} and {most}"),
        }
    }
}

type Checked = Result<(), SettingError>;

fn within(setting: &'static str, value: impl Into<u64>, permitted: RangeInclusive<u64>) -> Checked {
    let value = value.into();
    if permitted.contains(&value) {
        return Ok(());
    }
    Err(SettingError::Range { setting, value, least: *permitted.start(), most: *permitted.end() })
}

fn related(
    (setting, value): (&'static str, u64),
    relation: &'static str,
    (other, limit): (&'static str, u64),
    holds: bool,
) -> Checked {
    if holds { Ok(()) } else { Err(SettingError::Relation { setting, value, relation, other, limit }) }
}

fn chunk_size(setting: &'static str, value: u64) -> Checked {
    if is_chunk_size(value) { Ok(()) } else { Err(SettingError::ChunkBytes { setting, value }) }
}

/// Whether chunks may be so large.
pub fn is_chunk_size(bytes: u64) -> bool {
    (1..=MAX_CHUNK_BYTES).contains(&bytes) && bytes.is_multiple_of(CHUNK_UNIT)
}

fn at_most_replication(quorum: u8, replication: u8) -> Checked {
    let (quorum, replication) = (u64::from(quorum), u64::from(replication));
    related(("quorum", quorum), "at most", ("replication", replication), quorum <= replication)
}

impl MasterConfig {
    /// Refuses settings that a master can't work with.
    ///
    /// # Errors
    /// Names the first such setting.
    pub fn validate(&self) -> Result<(), SettingError> {
        within("heartbeat_ms", self.heartbeat_ms, 1..=DAY_MS)?;
        within("dead_after_ms", self.dead_after_ms, 1..=DAY_MS)?;
        within("lease_ms", self.lease_ms, 1..=DAY_MS)?;
        let heartbeat = ("heartbeat_ms", self.heartbeat_ms);
        let dead_after = ("dead_after_ms", self.dead_after_ms);
        let lease = ("lease_ms", self.lease_ms);
        related(dead_after, "more than", heartbeat, dead_after.1 > heartbeat.1)?;
        // A tenth of a lease is taken off for drift, and it must outlast the next heartbeat.
        related(lease, "at least twice", heartbeat, lease.1 >= heartbeat.1 * 2)?;
        // No promise depends on it, but a primary that is taken for dead should not go on for long.
        related(lease, "at most twice", dead_after, lease.1 <= dead_after.1 * 2)?;
        within("block_report_ms", self.block_report_ms, 1..=DAY_MS)?;
        within("seal_timeout_ms", self.seal_timeout_ms, 1..=DAY_MS)?;
        within("upload_expiry_ms", self.upload_expiry_ms, 1..=u64::MAX)?;
        within("repair_streams", self.repair_streams, 1..=u64::from(u32::MAX))?;
        within("repair_streams_per_server", self.repair_streams_per_server, 1..=u64::from(u32::MAX))?;
        within("repair_timeout_ms", self.repair_timeout_ms, 1..=DAY_MS)?;
        within("log_segment_bytes", self.log_segment_bytes, LEAST_LOG_BYTES..=u64::MAX)?;
        within("replication", self.replication, 1..=u64::from(MAX_REPLICATION))?;
        at_most_replication(self.quorum, self.replication)?;
        chunk_size("chunk_bytes", self.chunk_bytes)?;
        within("step_budget", self.step_budget, 1..=u64::from(u32::MAX))
    }
}

impl ChunkserverConfig {
    /// Refuses settings that a chunkserver can't work with whose clients send frames of up to `frame_bytes`.
    ///
    /// # Errors
    /// Names the first such setting.
    pub fn validate(&self, frame_bytes: u32) -> Result<(), SettingError> {
        within("journal_bytes", self.journal_bytes, LEAST_LOG_BYTES..=u64::MAX)?;
        within("reads_per_connection", self.reads_per_connection, 1..=u64::from(u32::MAX))?;
        // Half of the window is left to the writer when a member lags behind, and a frame must fit into it.
        let window = ("append_window_bytes", self.append_window_bytes);
        let frame = ("the largest frame of a client", u64::from(frame_bytes));
        related(window, "at least twice", frame, window.1 / 2 >= frame.1)?;
        within("reconnect_ms", self.reconnect_ms, 1..=DAY_MS)?;
        within("copy_read_bytes", self.copy_read_bytes, 1..=u64::from(MAX_PAYLOAD))?;
        within("copy_reads", self.copy_reads, 1..=u64::from(u32::MAX))?;
        within("copy_timeout_ms", self.copy_timeout_ms, 1..=DAY_MS)
    }
}

impl ClientConfig {
    /// Refuses settings that a client can't work with.
    ///
    /// # Errors
    /// Names the first such setting.
    pub fn validate(&self) -> Result<(), SettingError> {
        within("request_timeout_ms", self.request_timeout_ms, 1..=DAY_MS)?;
        within("operation_deadline_ms", self.operation_deadline_ms, 1..=u64::MAX)?;
        within("retry_ms", self.retry_ms, 1..=DAY_MS)?;
        within("read_timeout_ms", self.read_timeout_ms, 1..=DAY_MS)?;
        within("append_timeout_ms", self.append_timeout_ms, 1..=DAY_MS)?;
        within("keep_upload_ms", self.keep_upload_ms, 1..=DAY_MS)?;
        within("frame_bytes", self.frame_bytes, 1..=u64::from(MAX_PAYLOAD))?;
        let window = ("write_window_bytes", self.write_window_bytes);
        let frame = ("frame_bytes", u64::from(self.frame_bytes));
        related(window, "at least", frame, window.1 >= frame.1)?;
        within("read_bytes", self.read_bytes, 1..=u64::from(MAX_PAYLOAD))?;
        within("parallel_reads", self.parallel_reads, 1..=u64::from(u32::MAX))?;
        within("cache_entries", self.cache_entries, 1..=u64::from(u32::MAX))?;
        within("replication", self.replication, 0..=u64::from(MAX_REPLICATION))?;
        within("quorum", self.quorum, 0..=u64::from(MAX_REPLICATION))?;
        if self.replication != 0 {
            at_most_replication(self.quorum, self.replication)?;
        }
        if self.chunk_bytes == 0 { Ok(()) } else { chunk_size("chunk_bytes", self.chunk_bytes) }
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    /// Refused, and named with its value.
    macro_rules! refused {
        ($config:ident, $asked:expr, $($setting:ident: $value:expr),+ => $expected:literal) => {
            let config = $config { $($setting: $value,)+ ..$config::default() };
            let said = $asked(&config).map_err(|error| error.to_string());
            assert_eq!(said, Err($expected.to_string()));
        };
    }

    fn of_server(config: &ChunkserverConfig) -> Checked {
        config.validate(MAX_PAYLOAD)
    }

    #[test]
    fn defaults_are_permitted() {
        assert_eq!(MasterConfig::default().validate(), Ok(()));
        assert_eq!(of_server(&ChunkserverConfig::default()), Ok(()));
        assert_eq!(ClientConfig::default().validate(), Ok(()));
    }

    #[test]
    fn what_zero_switches_off_is_permitted() {
        let master = MasterConfig {
            seal_grace_ms: 0,
            undelete_ms: 0,
            startup_grace_ms: 0,
            repair_delay_ms: 0,
            min_free_bytes: 0,
            ..MasterConfig::default()
        };
        assert_eq!(master.validate(), Ok(()));
        let server = ChunkserverConfig {
            reserve_bytes: 0,
            quarantine_ms: 0,
            scrub_bytes_per_second: 0,
            lazy_sync_ms: 0,
            lazy_sync_bytes: 0,
            ..ChunkserverConfig::default()
        };
        assert_eq!(of_server(&server), Ok(()));
        assert_eq!(ClientConfig { settle_ms: 0, ..ClientConfig::default() }.validate(), Ok(()));
    }

    #[test]
    fn what_a_master_refuses() {
        use MasterConfig as M;
        let v = M::validate;
        refused!(M, v, heartbeat_ms: 0 => "heartbeat_ms is 0; it must be between 1 and 86400000");
        refused!(M, v, heartbeat_ms: u64::MAX =>
            "heartbeat_ms is 18446744073709551615; it must be between 1 and 86400000");
        refused!(M, v, dead_after_ms: 0 => "dead_after_ms is 0; it must be between 1 and 86400000");
        refused!(M, v, lease_ms: 0 => "lease_ms is 0; it must be between 1 and 86400000");
        refused!(M, v, heartbeat_ms: 15_000 =>
            "dead_after_ms is 15000; it must be more than heartbeat_ms, which is 15000");
        refused!(M, v, lease_ms: 5_999 => "lease_ms is 5999; it must be at least twice heartbeat_ms, which is 3000");
        refused!(M, v, lease_ms: 30_001 =>
            "lease_ms is 30001; it must be at most twice dead_after_ms, which is 15000");
        refused!(M, v, block_report_ms: 0 => "block_report_ms is 0; it must be between 1 and 86400000");
        refused!(M, v, seal_timeout_ms: 0 => "seal_timeout_ms is 0; it must be between 1 and 86400000");
        refused!(M, v, upload_expiry_ms: 0 => "upload_expiry_ms is 0; it must be at least 1");
        refused!(M, v, repair_streams: 0 => "repair_streams is 0; it must be between 1 and 4294967295");
        refused!(M, v, repair_streams_per_server: 0 =>
            "repair_streams_per_server is 0; it must be between 1 and 4294967295");
        refused!(M, v, repair_timeout_ms: 0 => "repair_timeout_ms is 0; it must be between 1 and 86400000");
        refused!(M, v, log_segment_bytes: 0 => "log_segment_bytes is 0; it must be at least 1024");
        refused!(M, v, replication: 0 => "replication is 0; it must be between 1 and 8");
        refused!(M, v, replication: 9 => "replication is 9; it must be between 1 and 8");
        refused!(M, v, quorum: 4 => "quorum is 4; it must be at most replication, which is 3");
        refused!(M, v, chunk_bytes: 0 => "chunk_bytes is 0; it must be a multiple of 4096 up to 1073741824");
        refused!(M, v, chunk_bytes: 5_000 =>
            "chunk_bytes is 5000; it must be a multiple of 4096 up to 1073741824");
        refused!(M, v, chunk_bytes: 1 << 31 =>
            "chunk_bytes is 2147483648; it must be a multiple of 4096 up to 1073741824");
        refused!(M, v, step_budget: 0 => "step_budget is 0; it must be between 1 and 4294967295");
    }

    #[test]
    fn what_a_chunkserver_refuses() {
        use ChunkserverConfig as S;
        refused!(S, of_server, journal_bytes: 0 => "journal_bytes is 0; it must be at least 1024");
        refused!(S, of_server, reads_per_connection: 0 =>
            "reads_per_connection is 0; it must be between 1 and 4294967295");
        refused!(S, of_server, append_window_bytes: 2_097_151 =>
            "append_window_bytes is 2097151; it must be at least twice the largest frame of a client, which is 1048576");
        refused!(S, of_server, reconnect_ms: 0 => "reconnect_ms is 0; it must be between 1 and 86400000");
        refused!(S, of_server, copy_read_bytes: 0 => "copy_read_bytes is 0; it must be between 1 and 1048576");
        refused!(S, of_server, copy_read_bytes: 1 << 21 =>
            "copy_read_bytes is 2097152; it must be between 1 and 1048576");
        refused!(S, of_server, copy_reads: 0 => "copy_reads is 0; it must be between 1 and 4294967295");
        refused!(S, of_server, copy_timeout_ms: 0 => "copy_timeout_ms is 0; it must be between 1 and 86400000");
    }

    #[test]
    fn what_a_client_refuses() {
        use ClientConfig as C;
        let v = C::validate;
        refused!(C, v, request_timeout_ms: 0 => "request_timeout_ms is 0; it must be between 1 and 86400000");
        refused!(C, v, operation_deadline_ms: 0 => "operation_deadline_ms is 0; it must be at least 1");
        refused!(C, v, retry_ms: 0 => "retry_ms is 0; it must be between 1 and 86400000");
        refused!(C, v, read_timeout_ms: 0 => "read_timeout_ms is 0; it must be between 1 and 86400000");
        refused!(C, v, append_timeout_ms: 0 => "append_timeout_ms is 0; it must be between 1 and 86400000");
        refused!(C, v, keep_upload_ms: 0 => "keep_upload_ms is 0; it must be between 1 and 86400000");
        refused!(C, v, frame_bytes: 0 => "frame_bytes is 0; it must be between 1 and 1048576");
        refused!(C, v, frame_bytes: 1 << 21 => "frame_bytes is 2097152; it must be between 1 and 1048576");
        refused!(C, v, write_window_bytes: 1_000 =>
            "write_window_bytes is 1000; it must be at least frame_bytes, which is 1048576");
        refused!(C, v, read_bytes: 0 => "read_bytes is 0; it must be between 1 and 1048576");
        refused!(C, v, parallel_reads: 0 => "parallel_reads is 0; it must be between 1 and 4294967295");
        refused!(C, v, cache_entries: 0 => "cache_entries is 0; it must be between 1 and 4294967295");
        refused!(C, v, replication: 9 => "replication is 9; it must be between 0 and 8");
        refused!(C, v, quorum: 9 => "quorum is 9; it must be between 0 and 8");
        refused!(C, v, replication: 2, quorum: 3 =>
            "quorum is 3; it must be at most replication, which is 2");
        refused!(C, v, chunk_bytes: 5_000 =>
            "chunk_bytes is 5000; it must be a multiple of 4096 up to 1073741824");
    }
}
