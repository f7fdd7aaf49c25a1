//! The sidecar of a sealed chunk: what it must be, and a checksum for each block of it.
//!
//! A final sidecar takes its name only when the bytes that it describes are durable, so "it is there" means "the chunk is
//! sealed". A provisional one names the boot whose page cache holds what it describes (see `flush`). Format:
//! `magic (8) | version (4) | bincode body | boot (8), if provisional | crc32 (4)`, see `docs/on-disk.md`.

use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

use crate::codec;
use crate::id::{BootId, ClusterId};
use crate::message::SealedChunk;
use crate::payload::{BLOCK_BYTES, combine};

const MAGIC: &[u8; 8] = b"CAIRNSUM";
const VERSION: u32 = 1;
/// The version of a provisional sidecar.
const PROVISIONAL: u32 = 2;
/// Enough for the largest chunk: 16,384 blocks.
const LIMIT: usize = 256 * 1024;

/// A sidecar's contents.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Sidecar {
    /// Whose chunk it is.
    pub cluster: ClusterId,
    /// What the chunk must be.
    pub sealed: SealedChunk,
    /// CRC32 of each 64 KiB block, the last one of what there is.
    pub blocks: Vec<u32>,
    /// Provisional: the boot under which chunk and sidecar were written and not yet synced.
    #[serde(skip)]
    pub unsynced: Option<BootId>,
}

/// Why bytes are not a sidecar.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum SidecarError {
    /// They don't begin as one.
    #[error("not a sidecar (wrong magic)")]
    Magic,
    /// A newer release wrote it.
    #[error("sidecar format version {0} is not known to this release")]
    Version(u32),
    /// A checksum does not fit.
    #[error("sidecar is damaged")]
    Damaged,
}

impl Sidecar {
    /// Its file.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        let version = if self.unsynced.is_some() { PROVISIONAL } else { VERSION };
        bytes.extend_from_slice(&version.to_le_bytes());
        bytes.extend_from_slice(&codec::encode(self));
        bytes.extend(self.unsynced.iter().flat_map(|boot| boot.0.to_le_bytes()));
        let crc = crc32fast::hash(&bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads a sidecar's file.
    pub fn decode(bytes: &[u8]) -> Result<Sidecar, SidecarError> {
        if bytes.len() < 16 {
            return Err(SidecarError::Damaged);
        }
        if &bytes[..8] != MAGIC {
            return Err(SidecarError::Magic);
        }
        let (rest, crc) = bytes.split_at(bytes.len() - 4);
        if crc != crc32fast::hash(rest).to_le_bytes() {
            return Err(SidecarError::Damaged);
        }
        let version = u32::from_le_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]);
        let (body, unsynced) = match (version, rest[12..].split_last_chunk()) {
            (VERSION, _) => (&rest[12..], None),
            (PROVISIONAL, Some((body, boot))) => (body, Some(BootId(u64::from_le_bytes(*boot)))),
            (PROVISIONAL, None) => return Err(SidecarError::Damaged),
            _ => return Err(SidecarError::Version(version)),
        };
        let sidecar = codec::decode::<Sidecar, LIMIT>(body).map_err(|_| SidecarError::Damaged)?;
        let sidecar = Sidecar { unsynced, ..sidecar };
        let whole = whole_crc(&sidecar.blocks, sidecar.sealed.length);
        (whole == Some(sidecar.sealed.crc)).then_some(sidecar).ok_or(SidecarError::Damaged)
    }
}

/// CRC32 of `length` bytes, joined from their blocks'; `None` if there are not as many blocks as that length has.
pub(super) fn whole_crc(blocks: &[u32], length: u64) -> Option<u32> {
    if blocks.len() as u64 != length.div_ceil(BLOCK_BYTES) {
        return None;
    }
    let mut left = length;
    Some(blocks.iter().fold(0, |crc, block| {
        let size = left.min(BLOCK_BYTES);
        left -= size;
        combine(crc, *block, size)
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{ChunkId, ChunkVersion};
    use alloc::vec;

    fn sample() -> Sidecar {
        let bytes = vec![7_u8; 70_000];
        let blocks = vec![crc32fast::hash(&bytes[..65_536]), crc32fast::hash(&bytes[65_536..])];
        let crc = crc32fast::hash(&bytes);
        let sealed = SealedChunk { chunk: ChunkId(3), version: ChunkVersion(2), length: 70_000, crc };
        Sidecar { cluster: ClusterId(9), sealed, blocks, unsynced: None }
    }

    #[test]
    fn a_sidecar_comes_back_and_every_flipped_bit_is_noticed() {
        for sidecar in [sample(), Sidecar { unsynced: Some(BootId(0x0d0c_0b0a)), ..sample() }] {
            let bytes = sidecar.encode();
            assert_eq!(Sidecar::decode(&bytes), Ok(sidecar));
            for bit in 0..bytes.len() * 8 {
                let mut damaged = bytes.clone();
                damaged[bit / 8] ^= 1 << (bit % 8);
                assert!(Sidecar::decode(&damaged).is_err(), "bit {bit}");
            }
            for cut in 0..bytes.len() {
                assert!(Sidecar::decode(&bytes[..cut]).is_err(), "cut at {cut}");
            }
        }
    }

    #[test]
    fn the_largest_chunk_has_a_sidecar() {
        let length = crate::config::MAX_CHUNK_BYTES;
        let blocks = vec![0x0102_0304; (length / BLOCK_BYTES) as usize];
        let crc = whole_crc(&blocks, length).unwrap();
        let sealed = SealedChunk { length, crc, ..sample().sealed };
        let sidecar = Sidecar { sealed, blocks, unsynced: Some(BootId(7)), ..sample() };
        assert_eq!(Sidecar::decode(&sidecar.encode()), Ok(sidecar));
    }

    #[test]
    fn a_sidecar_is_the_documented_bytes() {
        let sealed = SealedChunk { chunk: ChunkId(0x0102), version: ChunkVersion(2), length: 0, crc: 0 };
        let sidecar = Sidecar { cluster: ClusterId(0x0a0b), sealed, blocks: Vec::new(), unsynced: None };
        let hex = |sidecar: &Sidecar| -> alloc::string::String {
            sidecar.encode().iter().map(|b| alloc::format!("{b:02x}")).collect()
        };
        insta::assert_snapshot!(hex(&sidecar));
        let provisional = Sidecar { unsynced: Some(BootId(0x0d0c_0b0a)), ..sidecar };
        let (first, second) = (hex(&provisional), hex(&Sidecar { unsynced: None, ..provisional }));
        let body = &second[24..second.len() - 8];
        assert_eq!(
            first[..first.len() - 8],
            alloc::format!("434149524e53554d02000000{body}0a0b0c0d00000000")
        );
    }
}
