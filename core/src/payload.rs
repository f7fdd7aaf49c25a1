//! Bytes with their checksums: CRC32 of each 64 KiB block, computed once where the bytes arrive.

use alloc::vec::Vec;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// Bytes under one checksum. A format constant: changing it changes every sidecar.
pub const BLOCK_BYTES: u64 = 64 * 1024;

/// The largest payload of one frame, one disk read and one disk write, in bytes.
pub const MAX_PAYLOAD: u32 = 1024 * 1024;

/// Bytes at a place in a chunk (or file), and the CRC32 of each piece.
///
/// The bytes are cut into pieces where the chunk's 64 KiB blocks begin, so inner pieces are whole blocks and the CRCs of
/// neighbouring payloads can be joined with [`combine`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Payload {
    /// Where the first byte lies in the chunk.
    pub offset: u64,
    /// The bytes.
    pub bytes: Bytes,
    /// CRC32 (IEEE) of each piece, in order; one for each of [`pieces`].
    pub crcs: Vec<u32>,
}

impl Payload {
    /// Computes the checksums. The one place where bytes are summed; both runtimes and the client call it.
    pub fn new(offset: u64, bytes: Bytes) -> Payload {
        let crcs = pieces(offset, bytes.len() as u64)
            .map(|(start, length)| crc32fast::hash(&bytes[start as usize..(start + length) as usize]))
            .collect();
        Payload { offset, bytes, crcs }
    }

    /// Length in bytes.
    pub fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Where the first byte after it lies in the chunk.
    pub fn end(&self) -> u64 {
        self.offset + self.len()
    }

    /// Whether the checksums are those of the bytes.
    pub fn is_intact(&self) -> bool {
        *self == Payload::new(self.offset, self.bytes.clone())
    }

    /// The part at `offset..offset + length` of the chunk, which must lie within. Only edge pieces are summed again.
    pub fn slice(&self, offset: u64, length: u64) -> Payload {
        assert!(offset >= self.offset && offset + length <= self.end(), "slice outside of the payload");
        let start = (offset - self.offset) as usize;
        let bytes = self.bytes.slice(start..start + length as usize);
        if offset == self.offset && length == self.len() {
            return self.clone();
        }
        let first_piece = offset / BLOCK_BYTES - self.offset / BLOCK_BYTES;
        let crcs = pieces(offset, length)
            .enumerate()
            .map(|(i, (at, piece))| {
                let whole_start = at == 0 && !offset.is_multiple_of(BLOCK_BYTES) && offset != self.offset;
                let end = offset + at + piece;
                let cut_end = !end.is_multiple_of(BLOCK_BYTES) && end != self.end();
                if whole_start || cut_end {
                    crc32fast::hash(&bytes[at as usize..(at + piece) as usize])
                } else {
                    self.crcs[first_piece as usize + i]
                }
            })
            .collect();
        Payload { offset, bytes, crcs }
    }

    /// CRC32 of all its bytes, joined from the pieces'.
    pub fn crc(&self) -> u32 {
        pieces(self.offset, self.len())
            .zip(&self.crcs)
            .fold(0, |crc, ((_, length), piece)| combine(crc, *piece, length))
    }
}

/// The pieces of `length` bytes at `offset`: `(start within the bytes, length)`, cut at multiples of [`BLOCK_BYTES`] of
/// the chunk.
pub fn pieces(offset: u64, length: u64) -> impl Iterator<Item = (u64, u64)> {
    let mut at = 0;
    core::iter::from_fn(move || {
        let start = at;
        let room = BLOCK_BYTES - (offset + start) % BLOCK_BYTES;
        let piece = room.min(length - start);
        at += piece;
        (piece > 0).then_some((start, piece))
    })
}

/// CRC32 of two byte strings joined, from their CRCs and the second one's length.
pub fn combine(first: u32, second: u32, second_length: u64) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial_len(first, 0);
    hasher.combine(&crc32fast::Hasher::new_with_initial_len(second, second_length));
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn a_slice_has_the_checksums_of_its_bytes(
            offset in 0_u64..300_000, length in 1_u64..200_000, cut in 0.0..1.0_f64, keep in 0.0..1.0_f64,
        ) {
            let bytes: Vec<u8> = (0..length).map(|i| (i * 31 % 251) as u8).collect();
            let whole = Payload::new(offset, Bytes::from(bytes));
            let start = (length as f64 * cut) as u64;
            let kept = ((length - start) as f64 * keep) as u64;
            let part = whole.slice(offset + start, kept);
            prop_assert!(part.is_intact());
            prop_assert_eq!(whole.crc(), crc32fast::hash(&whole.bytes));
        }
    }
}
