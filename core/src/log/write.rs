//! Building one group commit.

use alloc::vec::Vec;

use super::{GroupHeader, MAX_RECORD, OP_GROUP, RECORD_OVERHEAD, record_crc};
use crate::codec;

/// Collects the records of one group; they are written with one write and made durable with one sync.
#[derive(Clone, Debug, Hash)]
pub struct GroupWriter {
    start: u64,
    first_index: u64,
    records: u64,
    bytes: Vec<u8>,
}

impl GroupWriter {
    /// A group that begins at file offset `start`, whose first record has `first_index`; everything below `durable_end`
    /// is on stable storage.
    pub fn new(start: u64, durable_end: u64, first_index: u64) -> GroupWriter {
        assert!(durable_end <= start, "durable end {durable_end} beyond the group's start {start}");
        let mut group = GroupWriter { start, first_index, records: 0, bytes: Vec::new() };
        group.put(OP_GROUP, &codec::encode(&GroupHeader { durable_end, first_index }));
        group
    }

    /// Adds a record and returns its index.
    ///
    /// # Panics
    /// If `op` is [`OP_GROUP`] or the payload is longer than [`MAX_RECORD`]: callers bound their records.
    pub fn push(&mut self, op: u8, payload: &[u8]) -> u64 {
        assert!(op != OP_GROUP, "op 0 is the group header's");
        assert!(payload.len() <= MAX_RECORD, "record of {} bytes", payload.len());
        self.put(op, payload);
        self.records += 1;
        self.first_index + self.records - 1
    }

    /// Records so far.
    pub fn records(&self) -> u64 {
        self.records
    }

    /// Bytes so far.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether it has no records.
    pub fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// Where the group begins in the file.
    pub fn start(&self) -> u64 {
        self.start
    }

    /// The bytes to write at [`GroupWriter::start`].
    pub fn finish(self) -> Vec<u8> {
        self.bytes
    }

    fn put(&mut self, op: u8, payload: &[u8]) {
        let offset = self.start + self.bytes.len() as u64;
        self.bytes.reserve(payload.len() + RECORD_OVERHEAD);
        self.bytes.push(op);
        self.bytes.extend_from_slice(&(payload.len() as u32).to_le_bytes());
        self.bytes.extend_from_slice(payload);
        self.bytes.extend_from_slice(&record_crc(offset, op, payload).to_le_bytes());
    }
}
