//! A volume's identity file: whose it is, and which formatting of it this is.
//!
//! `magic (8) | version (4) | cluster (8) | server (8) | volume (8) | crc32 (4)`, little-endian. It is replaced by
//! write, sync, rename, directory sync, so a crash leaves the old one or the new one.

use alloc::vec::Vec;
use bytes::Bytes;

use super::names;
use super::script::Script;
use crate::disk::{DiskPath, DiskRequest};
use crate::id::{ClusterId, ServerId, VolumeId};

const MAGIC: &[u8; 8] = b"CAIRNVOL";
const VERSION: u32 = 1;
/// Length of the file in bytes.
const BYTES: usize = 40;

/// Whose volume this is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Identity {
    /// 0 until a master has told.
    pub(super) cluster: ClusterId,
    pub(super) server: ServerId,
    pub(super) volume: VolumeId,
}

/// Why bytes are not an identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub(super) enum IdentityError {
    #[error("is not a Cairn volume's identity (wrong magic)")]
    Magic,
    #[error("has format version {0}, which this release does not know")]
    Version(u32),
    #[error("is damaged")]
    Damaged,
}

impl Identity {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        for part in [self.cluster.0, self.server.0, self.volume.0] {
            bytes.extend_from_slice(&part.to_le_bytes());
        }
        let crc = crc32fast::hash(&bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Identity, IdentityError> {
        if bytes.len() != BYTES {
            return Err(IdentityError::Damaged);
        }
        if &bytes[..8] != MAGIC {
            return Err(IdentityError::Magic);
        }
        if bytes[36..] != crc32fast::hash(&bytes[..36]).to_le_bytes() {
            return Err(IdentityError::Damaged);
        }
        let version = u32::from_le_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]);
        if version != VERSION {
            return Err(IdentityError::Version(version));
        }
        let part = |at: usize| bytes[at..at + 8].iter().rev().fold(0_u64, |n, b| n << 8 | u64::from(*b));
        Ok(Identity { cluster: ClusterId(part(12)), server: ServerId(part(20)), volume: VolumeId(part(28)) })
    }

    /// The steps that make this the volume's identity.
    pub(super) fn write(&self, index: u16) -> Script {
        let new = DiskPath::new(index, names::IDENTITY_NEW);
        let data = alloc::vec![Bytes::from(self.encode())];
        let mut script = Script::default();
        script.step(DiskRequest::Write { path: new.clone(), offset: 0, data, create: true });
        script.step(DiskRequest::Sync(new.clone()));
        script.step(DiskRequest::Rename { from: new, to: DiskPath::new(index, names::IDENTITY) });
        script.step(DiskRequest::SyncDir(DiskPath::new(index, "")));
        script
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_is_the_documented_bytes_and_every_flipped_bit_is_noticed() {
        let identity = Identity { cluster: ClusterId(0x0102), server: ServerId(3), volume: VolumeId(4) };
        let bytes = identity.encode();
        let hex: alloc::string::String = bytes.iter().map(|b| alloc::format!("{b:02x}")).collect();
        assert!(hex.starts_with("434149524e564f4c01000000020100000000000003000000000000000400000000000000"));
        assert_eq!(Identity::decode(&bytes), Ok(identity));
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(Identity::decode(&damaged).is_err(), "bit {bit}");
        }
    }
}
