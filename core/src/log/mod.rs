//! The append-only log that the master's operation log and every volume's journal are made of: records, groups, and a
//! scan that tells a torn tail from damage. Format: `docs/on-disk.md`.

mod scan;
mod write;

pub use scan::{LogDamage, Scan, ScanEnd, group_header};
pub use write::GroupWriter;

use serde::{Deserialize, Serialize};

use crate::codec;

/// First bytes of every log file.
pub const MAGIC: [u8; 8] = *b"CAIRNLOG";
/// Format version.
pub const VERSION: u32 = 1;
/// Length of the file header in bytes.
pub const HEADER_BYTES: u64 = 36;
/// The longest payload of one record.
pub const MAX_RECORD: usize = 4 * 1024 * 1024;
/// Bytes around a record's payload.
pub const RECORD_OVERHEAD: usize = 9;
/// The op code of group headers; other op codes belong to the log's owner.
pub const OP_GROUP: u8 = 0;

/// What a log file is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LogKind {
    /// The master's operation log; owned by a cluster.
    Master,
    /// A volume's journal; owned by a volume.
    Journal,
}

/// The header of a log file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileHeader {
    /// What the file is for.
    pub kind: LogKind,
    /// Cluster id or volume id.
    pub owner: u64,
    /// Index of the file's first record.
    pub first_index: u64,
}

/// Why a file is not a log file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// Fewer bytes than a header has.
    #[error("file is shorter than a log header")]
    Short,
    /// Other first bytes.
    #[error("not a Cairn log (wrong magic)")]
    Magic,
    /// Another format version.
    #[error("log format version {0} is not known to this release")]
    Version(u32),
    /// Checksum mismatch or malformed.
    #[error("log header is damaged")]
    Damaged,
}

impl FileHeader {
    /// `magic (8) | version (4) | bincode (kind 4, owner 8, first index 8) | crc32 (4)`.
    pub fn encode(&self) -> [u8; HEADER_BYTES as usize] {
        let mut bytes = [0; HEADER_BYTES as usize];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[12..32].copy_from_slice(&codec::encode(self));
        let crc = crc32fast::hash(&bytes[..32]);
        bytes[32..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads a header from a file's first bytes.
    pub fn decode(bytes: &[u8]) -> Result<FileHeader, HeaderError> {
        let bytes = bytes.get(..HEADER_BYTES as usize).ok_or(HeaderError::Short)?;
        if bytes[..8] != MAGIC {
            return Err(HeaderError::Magic);
        }
        let version = u32::from_le_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]);
        if version != VERSION {
            return Err(HeaderError::Version(version));
        }
        let crc = u32::from_le_bytes([bytes[32], bytes[33], bytes[34], bytes[35]]);
        if crc != crc32fast::hash(&bytes[..32]) {
            return Err(HeaderError::Damaged);
        }
        codec::decode::<FileHeader, 20>(&bytes[12..32]).map_err(|_| HeaderError::Damaged)
    }
}

/// Starts every group commit. It says where the durable part ended when the group was written, so that damage below is
/// never mistaken for a torn tail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupHeader {
    /// Everything below this offset of the file was on stable storage before this group was written.
    pub durable_end: u64,
    /// Index of the group's first record.
    pub first_index: u64,
}

/// CRC32 over offset, op, length and payload: a record is valid only where it was written.
pub(crate) fn record_crc(offset: u64, op: u8, payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&offset.to_le_bytes());
    hasher.update(&[op]);
    hasher.update(&(payload.len() as u32).to_le_bytes());
    hasher.update(payload);
    hasher.finalize()
}

#[cfg(test)]
mod tests;
