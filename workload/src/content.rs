//! File contents that need no copy to be checked: every byte follows from the file's number and the byte's offset.

use std::cell::RefCell;
use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// The contents of one file. The first eight bytes spell number and length, so that whoever reads a file's beginning
/// knows what the rest must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Content {
    /// Unique within a run.
    pub number: u32,
    /// Bytes.
    pub length: u32,
}

thread_local! {
    /// CRCs that were asked for: a model asks for the same one again and again.
    static CRCS: RefCell<BTreeMap<Content, u32>> = const { RefCell::new(BTreeMap::new()) };
}

/// So many are remembered at the most.
const CRCS_MAX: usize = 1024;

impl Content {
    /// The bytes at `offset`, at most `length` of them, fewer at the end.
    pub fn bytes(self, offset: u64, length: u64) -> Bytes {
        let end = offset.saturating_add(length).min(u64::from(self.length));
        if offset >= end {
            return Bytes::new();
        }
        let first = offset / 8;
        let mut out = vec![0; (end.div_ceil(8) - first) as usize * 8];
        for (index, place) in (first..).zip(out.chunks_exact_mut(8)) {
            place.copy_from_slice(&self.word(index).to_le_bytes());
        }
        let skip = (offset - first * 8) as usize;
        Bytes::from(out).slice(skip..skip + (end - offset) as usize)
    }

    /// Where `data`, read at `offset`, first differs from what it must be.
    pub fn first_difference(self, offset: u64, data: &[u8]) -> Option<u64> {
        let expected = self.bytes(offset, data.len() as u64);
        if expected == data {
            return None;
        }
        let at = expected.iter().zip(data).take_while(|(a, b)| a == b).count();
        Some(offset + at as u64)
    }

    /// Which content a file's first eight bytes announce.
    pub fn announced(beginning: &[u8]) -> Option<Content> {
        let word = u64::from_le_bytes(beginning.get(..8)?.try_into().ok()?);
        Some(Content { number: (word >> 32) as u32, length: word as u32 })
    }

    /// In few characters: `#number(length)`.
    pub fn brief(self) -> String {
        format!("#{}({})", self.number, self.length)
    }

    /// CRC32 of the whole content.
    pub fn crc(self) -> u32 {
        if let Some(crc) = CRCS.with_borrow(|crcs| crcs.get(&self).copied()) {
            return crc;
        }
        let mut hasher = crc32fast::Hasher::new();
        let mut at = 0;
        while at < u64::from(self.length) {
            let piece = self.bytes(at, 1 << 20);
            hasher.update(&piece);
            at += piece.len() as u64;
        }
        let crc = hasher.finalize();
        CRCS.with_borrow_mut(|crcs| {
            if crcs.len() >= CRCS_MAX {
                crcs.clear();
            }
            crcs.insert(self, crc);
        });
        crc
    }

    /// SplitMix64 of number and place (Steele, Lea and Flood, "Fast splittable pseudorandom number generators").
    fn word(self, index: u64) -> u64 {
        let id = u64::from(self.number) << 32 | u64::from(self.length);
        if index == 0 {
            return id;
        }
        let mut z = id.wrapping_add(index.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_range_is_a_part_of_the_whole(length in 0_u32..5000, offset in 0_u64..6000, wanted in 0_u64..6000) {
            let content = Content { number: 7, length };
            let whole = content.bytes(0, 1 << 20);
            prop_assert_eq!(whole.len(), length as usize);
            let start = (offset as usize).min(whole.len());
            let end = (offset.saturating_add(wanted) as usize).min(whole.len());
            prop_assert_eq!(&content.bytes(offset, wanted)[..], &whole[start..end.max(start)]);
            prop_assert_eq!(content.crc(), crc32fast::hash(&whole));
            prop_assert_eq!(content.crc(), crc32fast::hash(&whole), "when it is remembered");
        }

        #[test]
        fn one_wrong_byte_is_found_where_it_is(length in 1_u32..9000, from in 0_u64..9000, at in 0_usize..9000) {
            let content = Content { number: 9, length };
            let from = from % u64::from(length);
            let mut bytes = content.bytes(from, 1 << 20).to_vec();
            prop_assert_eq!(content.first_difference(from, &bytes), None);
            let at = at % bytes.len();
            bytes[at] ^= 1;
            prop_assert_eq!(content.first_difference(from, &bytes), Some(from + at as u64));
        }
    }

    #[test]
    fn the_beginning_announces_the_rest() {
        let content = Content { number: 3, length: 100 };
        assert_eq!(Content::announced(&content.bytes(0, 8)), Some(content));
        assert_eq!(Content::announced(&[1, 2, 3]), None);
    }

    #[test]
    fn too_many_bytes_differ_after_the_last() {
        let content = Content { number: 1, length: 4 };
        let mut bytes = content.bytes(0, 4).to_vec();
        bytes.push(0);
        assert_eq!(content.first_difference(0, &bytes), Some(4));
    }
}
