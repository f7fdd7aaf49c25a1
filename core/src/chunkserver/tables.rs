//! Block checksums of sealed chunks in memory: the least recently used go first.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::hash::{Hash, Hasher};

use crate::id::ChunkId;

/// Checksums kept in all: 16 MiB of them, for 256 GiB of chunks.
const BLOCKS_MAX: usize = 4 * 1024 * 1024;

/// A bounded cache.
#[derive(Clone, Debug, Default)]
pub(super) struct Tables {
    entries: BTreeMap<ChunkId, (u64, Arc<Vec<u32>>)>,
    order: BTreeMap<u64, ChunkId>,
    clock: u64,
    blocks: usize,
}

impl Tables {
    pub(super) fn put(&mut self, chunk: ChunkId, table: Vec<u32>) {
        self.forget(chunk);
        self.clock += 1;
        self.blocks += table.len() + 1;
        self.entries.insert(chunk, (self.clock, Arc::new(table)));
        self.order.insert(self.clock, chunk);
        while self.blocks > BLOCKS_MAX {
            let Some((_, oldest)) = self.order.pop_first() else { break };
            if let Some((_, table)) = self.entries.remove(&oldest) {
                self.blocks -= table.len() + 1;
            }
        }
    }

    pub(super) fn lookup(&mut self, chunk: ChunkId) -> Option<Arc<Vec<u32>>> {
        let (stamp, table) = self.entries.get_mut(&chunk)?;
        self.order.remove(stamp);
        self.clock += 1;
        *stamp = self.clock;
        self.order.insert(self.clock, chunk);
        Some(table.clone())
    }

    /// Chunks whose checksums are kept.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn forget(&mut self, chunk: ChunkId) {
        if let Some((stamp, table)) = self.entries.remove(&chunk) {
            self.order.remove(&stamp);
            self.blocks -= table.len() + 1;
        }
    }
}

/// The order of use counts, not when it was.
impl Hash for Tables {
    fn hash<H: Hasher>(&self, state: &mut H) {
        for chunk in self.order.values() {
            (chunk, self.entries.get(chunk).map(|(_, table)| table)).hash(state);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    #[test]
    fn the_least_recently_used_table_goes_first() {
        let mut tables = Tables::default();
        let third = BLOCKS_MAX / 3;
        for chunk in 1..=2 {
            tables.put(ChunkId(chunk), vec![0; third]);
        }
        assert!(tables.lookup(ChunkId(1)).is_some());
        tables.put(ChunkId(3), vec![0; third]);
        tables.put(ChunkId(4), vec![0; 16]);
        assert!(tables.lookup(ChunkId(2)).is_none());
        assert!(tables.lookup(ChunkId(1)).is_some());
        assert!(tables.blocks <= BLOCKS_MAX);
        for chunk in 1..=4 {
            tables.forget(ChunkId(chunk));
        }
        assert_eq!((tables.blocks, tables.order.len()), (0, 0));
    }
}
