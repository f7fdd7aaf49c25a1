//! One file's bytes: cached, durable, and what lies between.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use cairn_core::rng::Rng;

use crate::outcome::FaultCounts;

/// What a disk writes as a whole or not at all.
pub(crate) const SECTOR: u64 = 512;

/// Bytes that are shared with a reader rather than copied, at the least.
const SHARED_MIN: usize = 4096;

/// A change that is in the cache and not yet durable.
#[derive(Clone, Debug)]
struct Change {
    /// Its place in the volume's order of completions.
    order: u64,
    what: What,
    /// A failed sync marked it clean: no later sync writes it.
    forgotten: bool,
}

#[derive(Clone, Debug)]
enum What {
    Write { offset: u64, data: Vec<Bytes> },
    Cut { length: u64 },
}

/// A file's content. Clones share their bytes until one of them is written.
#[derive(Clone, Debug, Default)]
pub(crate) struct Inode {
    pub(crate) cached: Arc<Vec<u8>>,
    pub(crate) durable: Arc<Vec<u8>>,
    unsynced: VecDeque<Change>,
    /// A change is in the cache, and no sync will ever write it.
    lost: bool,
    /// Flipped bytes: the byte that should be there.
    pristine: BTreeMap<u64, u8>,
    bad_sectors: BTreeSet<u64>,
}

/// A file's bytes in the hands of a reader.
struct Shared(Arc<Vec<u8>>);

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Inode {
    /// Reads from the cache. While a reader shares the bytes the next write copies all of them: only who reads the most of
    /// a file that is at rest may.
    pub(crate) fn read(&self, range: Range<usize>) -> Bytes {
        if self.is_unsynced() || range.len() < SHARED_MIN.max(self.cached.len() / 2) {
            return Bytes::copy_from_slice(&self.cached[range]);
        }
        Bytes::from_owner(Shared(self.cached.clone())).slice(range)
    }

    /// Writes into the cache.
    pub(crate) fn write(&mut self, order: u64, offset: u64, data: Vec<Bytes>) {
        let end = offset + data.iter().map(|piece| piece.len() as u64).sum::<u64>();
        put(Arc::make_mut(&mut self.cached), offset, &data);
        self.forgive(offset, end);
        self.unsynced.push_back(Change { order, what: What::Write { offset, data }, forgotten: false });
    }

    /// Cuts or extends in the cache.
    pub(crate) fn cut(&mut self, order: u64, length: u64) {
        Arc::make_mut(&mut self.cached).resize(length as usize, 0);
        self.forgive(length, u64::MAX);
        self.unsynced.push_back(Change { order, what: What::Cut { length }, forgotten: false });
    }

    /// Makes durable what completed up to `mark`.
    pub(crate) fn sync(&mut self, mark: u64) {
        while self.unsynced.front().is_some_and(|change| change.order <= mark) {
            let change = self.unsynced.pop_front().expect("there is a front");
            if change.forgotten {
                self.lost = true;
            } else {
                apply(Arc::make_mut(&mut self.durable), &change.what);
            }
        }
    }

    /// A sync up to `mark` fails: any of its changes may be marked clean. Returns whether one was.
    pub(crate) fn fail_sync(&mut self, mark: u64, rng: &mut Rng) -> bool {
        let mut any = false;
        for change in self.unsynced.iter_mut().filter(|change| change.order <= mark) {
            if !change.forgotten && rng.chance(1, 2) {
                change.forgotten = true;
                any = true;
            }
        }
        any
    }

    /// The power goes.
    pub(crate) fn cut_power(&mut self, rng: &mut Rng, counts: &mut FaultCounts) {
        for change in std::mem::take(&mut self.unsynced) {
            if change.forgotten {
                counts.writes_lost += 1;
                continue;
            }
            match (rng.below(3), &change.what) {
                (0, what) => apply(Arc::make_mut(&mut self.durable), what),
                (1, What::Write { offset, data }) => {
                    counts.writes_torn += 1;
                    tear(Arc::make_mut(&mut self.durable), *offset, data, rng);
                }
                _ => counts.writes_lost += 1,
            }
        }
        self.cached = self.durable.clone();
        self.lost = false;
        let length = self.durable.len() as u64;
        let durable = &self.durable;
        self.pristine.retain(|at, byte| *at < length && durable[*at as usize] != *byte);
        self.bad_sectors.retain(|sector| sector * SECTOR < length);
    }

    /// Makes everything durable as it is: an outside hand did it.
    pub(crate) fn settle(&mut self) {
        self.unsynced.clear();
        self.lost = false;
        self.durable = self.cached.clone();
    }

    /// Whether a power cut may take something.
    pub(crate) fn is_unsynced(&self) -> bool {
        self.lost || !self.unsynced.is_empty()
    }

    /// Up to where all bytes are durable: no change that is not begins before.
    pub(crate) fn synced_end(&self) -> u64 {
        let changed = self.unsynced.iter().map(|change| match change.what {
            What::Write { offset, .. } => offset,
            What::Cut { length } => length,
        });
        changed.min().unwrap_or(u64::MAX).min(self.durable.len() as u64)
    }

    /// Whether a read of this range fails.
    pub(crate) fn is_unreadable(&self, offset: u64, length: u64) -> bool {
        length > 0
            && self.bad_sectors.range(offset / SECTOR..=(offset + length - 1) / SECTOR).next().is_some()
    }

    /// Whether the byte is durable and no unsynced write lies over it.
    fn is_at_rest(&self, at: u64) -> bool {
        at < self.durable.len() as u64
            && at < self.cached.len() as u64
            && !self.unsynced.iter().any(|change| match &change.what {
                What::Write { offset, data } => {
                    let length = data.iter().map(|piece| piece.len() as u64).sum::<u64>();
                    (*offset..offset + length).contains(&at)
                }
                What::Cut { length } => at >= *length,
            })
    }

    /// Inverts a bit at rest; false if that byte is not at rest.
    pub(crate) fn flip(&mut self, bit: u64) -> bool {
        let at = bit / 8;
        if !self.is_at_rest(at) {
            return false;
        }
        let was = self.cached[at as usize];
        self.pristine.entry(at).or_insert(was);
        Arc::make_mut(&mut self.cached)[at as usize] ^= 1 << (bit % 8);
        Arc::make_mut(&mut self.durable)[at as usize] ^= 1 << (bit % 8);
        if self.pristine[&at] == self.cached[at as usize] {
            self.pristine.remove(&at);
        }
        true
    }

    /// The bytes of a whole sector, if it is at rest.
    pub(crate) fn sector_at_rest(&self, offset: u64) -> Option<Vec<u8>> {
        let whole = (offset..offset + SECTOR).all(|at| self.is_at_rest(at));
        whole.then(|| self.cached[offset as usize..(offset + SECTOR) as usize].to_vec())
    }

    /// Puts other bytes over a sector at rest.
    pub(crate) fn harm_sector(&mut self, offset: u64, bytes: &[u8]) {
        for (at, byte) in (offset..).zip(bytes) {
            let was = self.cached[at as usize];
            let right = *self.pristine.entry(at).or_insert(was);
            self.put_byte(at, *byte);
            if right == *byte {
                self.pristine.remove(&at);
            }
        }
    }

    /// Gives harmed bytes their right values back.
    pub(crate) fn mend(&mut self) {
        for (at, right) in std::mem::take(&mut self.pristine) {
            self.put_byte(at, right);
        }
    }

    fn put_byte(&mut self, at: u64, byte: u8) {
        Arc::make_mut(&mut self.cached)[at as usize] = byte;
        Arc::make_mut(&mut self.durable)[at as usize] = byte;
    }

    /// Makes a sector unreadable; false beyond the end.
    pub(crate) fn spoil(&mut self, offset: u64) -> bool {
        offset < self.cached.len() as u64 && {
            self.bad_sectors.insert(offset / SECTOR);
            true
        }
    }

    /// Whether a byte is harmed, or a sector can't be read.
    pub(crate) fn is_harmed(&self) -> bool {
        !(self.pristine.is_empty() && self.bad_sectors.is_empty())
    }

    /// Offsets of harmed bytes that still stand; of a row of them, the first.
    pub(crate) fn flipped(&self) -> impl Iterator<Item = u64> + '_ {
        self.pristine.keys().copied().filter(|at| *at == 0 || !self.pristine.contains_key(&(at - 1)))
    }

    /// Offsets of unreadable sectors.
    pub(crate) fn unreadable(&self) -> impl Iterator<Item = u64> + '_ {
        self.bad_sectors.iter().map(|sector| sector * SECTOR)
    }

    /// New bytes lie over old harm.
    fn forgive(&mut self, from: u64, to: u64) {
        if !self.pristine.is_empty() {
            self.pristine.retain(|at, _| !(from..to).contains(at));
        }
        if !self.bad_sectors.is_empty() {
            let sectors = from / SECTOR..to.div_ceil(SECTOR);
            self.bad_sectors.retain(|sector| !sectors.contains(sector));
        }
    }
}

fn apply(bytes: &mut Vec<u8>, what: &What) {
    match what {
        What::Write { offset, data } => put(bytes, *offset, data),
        What::Cut { length } => bytes.resize(*length as usize, 0),
    }
}

fn put(bytes: &mut Vec<u8>, offset: u64, data: &[Bytes]) {
    let mut at = offset as usize;
    if bytes.len() < at {
        bytes.resize(at, 0);
    }
    for piece in data {
        let over = piece.len().min(bytes.len() - at);
        bytes[at..at + over].copy_from_slice(&piece[..over]);
        bytes.extend_from_slice(&piece[over..]);
        at += piece.len();
    }
}

/// Writes some sectors and not others.
fn tear(bytes: &mut Vec<u8>, offset: u64, data: &[Bytes], rng: &mut Rng) {
    let whole = Bytes::from(data.concat());
    let mut at = 0;
    while at < whole.len() {
        let room = SECTOR - (offset + at as u64) % SECTOR;
        let end = whole.len().min(at + room as usize);
        if rng.chance(1, 2) {
            put(bytes, offset + at as u64, &[whole.slice(at..end)]);
        }
        at = end;
    }
}
