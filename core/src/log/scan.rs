//! Reading a log back: valid records in order, then a verdict on what follows them.
//!
//! The verdict: if no valid group header follows the first invalid record, or those that do were written before the
//! invalid place was durable, the tail is torn and is cut. If a later group says that the place had been durable, it is
//! damage. Damage inside the very last group can't be told from a tear: the documented limit, kept small by the empty
//! group that an idle log adds. Some tears are *holed*: more than the beginning of a write, which is all that a process leaves
//! that dies. Only a loss of power, or damage, makes a hole.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use super::{GroupHeader, HEADER_BYTES, MAX_RECORD, OP_GROUP, RECORD_OVERHEAD, record_crc};
use crate::codec;

const GROUP_PAYLOAD: usize = 16;

/// A log file is damaged below what had been durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[error("damaged at byte {offset}: a later group, at byte {witness}, shows that this was durable")]
pub struct LogDamage {
    /// The first byte of the first invalid record.
    pub offset: u64,
    /// Where the later group begins.
    pub witness: u64,
}

/// How the scanned part ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ScanEnd {
    /// Where the valid records end.
    pub valid_end: u64,
    /// Where the last group header says that the durable part ended when it was written.
    pub durable_end: u64,
    /// Index after the last valid record.
    pub next_index: u64,
    /// Bytes after `valid_end` that are no valid records: a torn tail to cut.
    pub torn: u64,
    /// Whether what is torn is more than the beginning of a write: a record is all there and wrong, or a group follows.
    pub holed: bool,
    /// Whether the last valid record is a group header: nothing that matters follows the previous group.
    pub ends_with_mark: bool,
}

/// An incremental scan. Feed it the file's bytes after the header, in order; take the records out in between. Memory is
/// bounded by one record and one feed.
#[derive(Clone, Debug, Hash)]
pub struct Scan {
    buffer: Vec<u8>,
    /// File offset of `buffer[0]`.
    base: u64,
    records: VecDeque<(u64, u8, Vec<u8>)>,
    bad_at: Option<u64>,
    damage: Option<LogDamage>,
    end: ScanEnd,
}

impl Scan {
    /// A scan of a file whose header says `first_index`.
    pub fn new(first_index: u64) -> Scan {
        Scan {
            buffer: Vec::new(),
            base: HEADER_BYTES,
            records: VecDeque::new(),
            bad_at: None,
            damage: None,
            end: ScanEnd {
                valid_end: HEADER_BYTES,
                durable_end: HEADER_BYTES,
                next_index: first_index,
                torn: 0,
                holed: false,
                ends_with_mark: false,
            },
        }
    }

    /// Takes the next bytes of the file.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
        self.advance(false);
    }

    /// The next valid record: `(index, op, payload)`.
    pub fn next_record(&mut self) -> Option<(u64, u8, Vec<u8>)> {
        self.records.pop_front()
    }

    /// The verdict, once the whole file was fed. Records not yet taken are still there.
    pub fn finish(&mut self) -> Result<ScanEnd, LogDamage> {
        self.advance(true);
        match self.damage {
            Some(damage) => Err(damage),
            None => Ok(self.end),
        }
    }

    fn advance(&mut self, at_end: bool) {
        let mut at = 0;
        while at < self.buffer.len() && self.damage.is_none() {
            let offset = self.base + at as u64;
            match (parse(&self.buffer[at..], offset), self.bad_at) {
                (Parsed::Record { op, payload }, None) => {
                    self.accept(offset, op, payload.to_vec());
                    at = (self.end.valid_end - self.base) as usize;
                }
                (Parsed::Incomplete, None) if !at_end => break,
                (parsed @ (Parsed::Incomplete | Parsed::Invalid), None) => {
                    self.bad_at = Some(offset);
                    self.end.holed = matches!(parsed, Parsed::Invalid);
                    at += 1;
                }
                (Parsed::Record { op: OP_GROUP, payload }, Some(bad)) => {
                    self.end.holed = true;
                    if decode(payload).is_some_and(|header| header.durable_end > bad) {
                        self.damage = Some(LogDamage { offset: bad, witness: offset });
                    }
                    at += 1;
                }
                (Parsed::Incomplete, Some(_)) if !at_end && maybe_group(&self.buffer[at..]) => break,
                (_, Some(_)) => at += 1,
            }
        }
        if at_end && self.bad_at.is_some() {
            self.end.torn = self.base + self.buffer.len() as u64 - self.end.valid_end;
        }
        self.buffer.drain(..at);
        self.base += at as u64;
    }

    fn accept(&mut self, offset: u64, op: u8, payload: Vec<u8>) {
        self.end.valid_end = offset + (payload.len() + RECORD_OVERHEAD) as u64;
        self.end.ends_with_mark = op == OP_GROUP;
        if op == OP_GROUP {
            if let Some(header) = decode(&payload) {
                self.end.durable_end = header.durable_end;
            }
        } else {
            self.records.push_back((self.end.next_index, op, payload));
            self.end.next_index += 1;
        }
    }
}

/// The header of the group that `bytes`, from `offset` of a log on, begin with, if they do.
pub fn group_header(bytes: &[u8], offset: u64) -> Option<GroupHeader> {
    match parse(bytes, offset) {
        Parsed::Record { op: OP_GROUP, payload } => decode(payload),
        _ => None,
    }
}

fn decode(payload: &[u8]) -> Option<GroupHeader> {
    codec::decode::<GroupHeader, GROUP_PAYLOAD>(payload).ok()
}

enum Parsed<'a> {
    Record { op: u8, payload: &'a [u8] },
    Incomplete,
    Invalid,
}

/// Group headers have a fixed length, which makes the search after an invalid record cheap.
fn maybe_group(bytes: &[u8]) -> bool {
    bytes[0] == OP_GROUP
        && bytes.iter().skip(1).zip((GROUP_PAYLOAD as u32).to_le_bytes()).all(|(a, b)| *a == b)
}

fn parse(bytes: &[u8], offset: u64) -> Parsed<'_> {
    let Some(length) = bytes.get(1..5) else { return Parsed::Incomplete };
    let length = u32::from_le_bytes([length[0], length[1], length[2], length[3]]) as usize;
    if length > MAX_RECORD || (bytes[0] == OP_GROUP && length != GROUP_PAYLOAD) {
        return Parsed::Invalid;
    }
    let Some(record) = bytes.get(..length + RECORD_OVERHEAD) else { return Parsed::Incomplete };
    let payload = &record[5..5 + length];
    let crc =
        u32::from_le_bytes([record[5 + length], record[6 + length], record[7 + length], record[8 + length]]);
    if crc != record_crc(offset, bytes[0], payload) {
        return Parsed::Invalid;
    }
    Parsed::Record { op: bytes[0], payload }
}
