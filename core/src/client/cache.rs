//! Where extents of files are: bounded, the least recently used go first.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::id::FileId;
use crate::message::{ExtentPlan, FilePlan};

/// A file's identity and the offset in it where an extent begins. Contents under one identity never change, so an entry can
/// be out of date in its replicas only.
type Key = (FileId, u64);

/// The cache.
#[derive(Debug)]
pub(super) struct LocationCache {
    capacity: usize,
    entries: BTreeMap<Key, (Arc<ExtentPlan>, u64)>,
    /// Entries by last use.
    used: BTreeMap<u64, Key>,
    clock: u64,
}

impl LocationCache {
    pub(super) fn new(capacity: u32) -> LocationCache {
        let capacity = (capacity as usize).max(1);
        LocationCache { capacity, entries: BTreeMap::new(), used: BTreeMap::new(), clock: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The extent that holds byte `offset` of `file`.
    pub(super) fn lookup(&mut self, file: FileId, offset: u64) -> Option<Arc<ExtentPlan>> {
        let (key, (extent, used)) = self.entries.range_mut((file, 0)..=(file, offset)).next_back()?;
        if offset >= extent.file_offset + extent.length {
            return None;
        }
        self.used.remove(used);
        self.clock += 1;
        *used = self.clock;
        self.used.insert(self.clock, *key);
        Some(extent.clone())
    }

    /// Takes over a plan; of one with more extents than fit, the first ones, since these were asked for.
    pub(super) fn insert(&mut self, plan: FilePlan) {
        let wanted: Vec<ExtentPlan> =
            plan.extents.into_iter().filter(|e| e.length > 0).take(self.capacity).collect();
        for extent in wanted.into_iter().rev() {
            let key = (plan.file, extent.file_offset);
            self.clock += 1;
            if let Some((_, used)) = self.entries.insert(key, (Arc::new(extent), self.clock)) {
                self.used.remove(&used);
            }
            self.used.insert(self.clock, key);
        }
        while self.entries.len() > self.capacity {
            let Some((_, oldest)) = self.used.pop_first() else { break };
            self.entries.remove(&oldest);
        }
    }

    /// Forgets the extent that begins at `file_offset`: its replicas could not be read.
    pub(super) fn forget(&mut self, file: FileId, file_offset: u64) {
        if let Some((_, used)) = self.entries.remove(&(file, file_offset)) {
            self.used.remove(&used);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{ChunkId, ChunkVersion};
    use crate::message::SealedChunk;
    use proptest::prelude::*;

    fn plan(file: u64, first: u32, count: u32) -> FilePlan {
        let extents = (first..first + count)
            .map(|index| ExtentPlan {
                index,
                file_offset: u64::from(index) * 10,
                chunk_offset: 0,
                length: 10,
                chunk: SealedChunk {
                    chunk: ChunkId(u64::from(index)),
                    version: ChunkVersion(2),
                    length: 10,
                    crc: 0,
                },
                replicas: Vec::new(),
            })
            .collect();
        FilePlan { file: FileId(file), length: 1_000, extents }
    }

    proptest! {
        #[test]
        fn behaves_like_a_list_in_order_of_use(
            capacity in 1_u32..6,
            steps in proptest::collection::vec((0_u8..3, 0_u64..2, 0_u32..8, 1_u32..4), 1..100),
        ) {
            let mut cache = LocationCache::new(capacity);
            let mut model: Vec<(u64, u32)> = Vec::new();
            for (step, file, index, count) in steps {
                match step {
                    0 => {
                        cache.insert(plan(file, index, count));
                        for i in (index..index + count.min(capacity)).rev() {
                            model.retain(|e| *e != (file, i));
                            model.push((file, i));
                        }
                        while model.len() > capacity as usize {
                            model.remove(0);
                        }
                    }
                    1 => {
                        let offset = u64::from(index) * 10 + u64::from(count);
                        let found = cache.lookup(FileId(file), offset).map(|e| e.index);
                        let expected = model.iter().position(|e| *e == (file, index));
                        prop_assert_eq!(found, expected.map(|_| index));
                        if let Some(at) = expected {
                            let entry = model.remove(at);
                            model.push(entry);
                        }
                    }
                    _ => {
                        cache.forget(FileId(file), u64::from(index) * 10);
                        model.retain(|e| *e != (file, index));
                    }
                }
                prop_assert_eq!(cache.len(), model.len());
            }
        }
    }
}
