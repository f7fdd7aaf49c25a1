//! Files: extent lists over sealed chunks.

use alloc::vec::Vec;

use crate::id::ChunkId;
use crate::limits::EXTENT_STRIDE;
use crate::message::StorageOptions;

/// A part of a sealed chunk. Chunks have at most 1 GiB, so 32 bits do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Extent {
    pub(super) chunk: ChunkId,
    pub(super) offset: u32,
    pub(super) length: u32,
}

/// The contents of a file.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct File {
    pub(super) length: u64,
    pub(super) crc: u32,
    pub(super) options: StorageOptions,
    pub(super) extents: Extents,
}

/// Extents in file order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Extents {
    list: Vec<Extent>,
    /// File offset of every [`EXTENT_STRIDE`]th extent: finding one takes a bisection and a short walk.
    starts: Vec<u64>,
}

impl Extents {
    pub(super) fn new(mut list: Vec<Extent>) -> Extents {
        list.shrink_to_fit();
        let mut starts = Vec::with_capacity(list.len().div_ceil(EXTENT_STRIDE));
        let mut offset = 0;
        for (index, extent) in list.iter().enumerate() {
            if index.is_multiple_of(EXTENT_STRIDE) {
                starts.push(offset);
            }
            offset += u64::from(extent.length);
        }
        Extents { list, starts }
    }

    pub(super) fn len(&self) -> usize {
        self.list.len()
    }

    /// The extents from the one that holds byte `offset` on: `(index, file offset, extent)`.
    pub(super) fn from(&self, offset: u64) -> impl Iterator<Item = (u32, u64, Extent)> {
        let block = self.starts.partition_point(|start| *start <= offset).saturating_sub(1);
        let mut at = self.starts.get(block).copied().unwrap_or(0);
        let first = (block * EXTENT_STRIDE).min(self.list.len());
        self.list[first..]
            .iter()
            .enumerate()
            .map(move |(i, extent)| {
                let start = at;
                at += u64::from(extent.length);
                ((first + i) as u32, start, *extent)
            })
            .skip_while(move |(_, start, extent)| start + u64::from(extent.length) <= offset)
    }

    /// Takes off the last extent.
    pub(super) fn pop(&mut self) -> Option<Extent> {
        let extent = self.list.pop()?;
        self.starts.truncate(self.list.len().div_ceil(EXTENT_STRIDE));
        Some(extent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_byte_is_found_in_its_extent(lengths in proptest::collection::vec(1_u32..50, 0..300), keep in 0_usize..300) {
            let list: Vec<Extent> = lengths.iter().enumerate()
                .map(|(i, length)| Extent { chunk: ChunkId(i as u64 + 1), offset: 0, length: *length }).collect();
            let mut extents = Extents::new(list.clone());
            while extents.len() > keep {
                prop_assert_eq!(extents.pop().map(|e| e.chunk.0), Some(extents.len() as u64 + 1));
            }
            let kept = &list[..extents.len()];
            let length: u64 = kept.iter().map(|e| u64::from(e.length)).sum();
            let mut place = 0;
            for (index, extent) in kept.iter().enumerate() {
                for offset in [place, place + u64::from(extent.length) - 1] {
                    prop_assert_eq!(extents.from(offset).next(), Some((index as u32, place, *extent)));
                    prop_assert_eq!(extents.from(offset).count(), kept.len() - index);
                }
                place += u64::from(extent.length);
            }
            prop_assert_eq!(extents.from(length).next(), None);
        }
    }
}
