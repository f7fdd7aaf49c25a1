//! The file that names the cluster which a master's directory belongs to.
//!
//! `magic (8) | version (4) | cluster (8) | crc32 (4)`, little-endian.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use crate::codec;
use crate::id::ClusterId;

const MAGIC: [u8; 8] = *b"CAIRNMST";
const VERSION: u32 = 1;
/// Length of the file in bytes.
pub(crate) const BYTES: usize = 24;

pub(crate) fn encode(cluster: ClusterId) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(BYTES);
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&codec::encode(&cluster));
    let crc = crc32fast::hash(&bytes);
    bytes.extend_from_slice(&crc.to_le_bytes());
    bytes
}

pub(crate) fn decode(bytes: &[u8]) -> Result<ClusterId, String> {
    if bytes.len() < BYTES || bytes[..8] != MAGIC {
        return Err("is not a master's identity file".into());
    }
    let version = u32::from_le_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]);
    if version != VERSION {
        return Err(format!("has format version {version}, which this release does not know"));
    }
    let (content, crc) = bytes.split_at(BYTES - 4);
    if bytes.len() != BYTES || crc32fast::hash(content).to_le_bytes() != *crc {
        return Err("is damaged (wrong checksum)".into());
    }
    codec::decode::<ClusterId, 8>(&content[12..]).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_identity_file_is_the_documented_bytes() {
        let bytes = encode(ClusterId(0x0102_0304_0506_0708));
        let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(&hex[..40], "434149524e4d5354010000000807060504030201");
        assert_eq!(decode(&bytes), Ok(ClusterId(0x0102_0304_0506_0708)));
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 4;
            assert!(decode(&flipped).is_err(), "byte {at}");
        }
    }
}
