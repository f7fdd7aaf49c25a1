//! A volume's journal: what unsealed replicas have promised, fences, tombstones and known damage.
//!
//! Records are idempotent and only ever raise what a replica is bound to, so replaying a snapshot together with records
//! that it already contains is harmless. Records of many chunks share one group: one write, one sync.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::codec::{self, DecodeError};
use crate::disk::DiskPath;
use crate::id::{BootId, ChunkId, ChunkVersion, SessionId, VolumeId, WriterId};
use crate::limits::JOURNAL_GROUP;
use crate::log::{FileHeader, GroupWriter, HEADER_BYTES, LogKind, MAX_RECORD};
use crate::message::Grant;

/// One fact.
#[derive(Clone, Debug, PartialEq, Hash, Serialize, Deserialize)]
pub(super) enum Record {
    /// A replica came to be. Written with its first READY or fence.
    Opened { grant: Grant, position: u8, writer: WriterId },
    /// The bytes below `length` are there, as durable as the grant demands; the block checksums from `first_block` on
    /// are these.
    Ready {
        chunk: ChunkId,
        version: ChunkVersion,
        length: u64,
        record: u64,
        first_block: u32,
        crcs: Vec<u32>,
    },
    /// `fence` and everything below accepts no more appends.
    Fenced { chunk: ChunkId, fence: ChunkVersion },
    /// The chunk was not here when `version` was fenced: it is refused for as long as the session lasts (rule 3).
    Tombstone { chunk: ChunkId, version: ChunkVersion, session: SessionId },
    /// The replica with this version was found damaged.
    Damaged { chunk: ChunkId, version: ChunkVersion },
    /// The journal has nothing more to say about the replica: it was sealed, dropped, replaced or found sound.
    Forget { chunk: ChunkId },
    /// The boot of the machine under which the file was begun: its first record.
    Begun { boot: BootId },
}

impl Record {
    /// Op code and payload.
    pub(super) fn encode(&self) -> (u8, Vec<u8>) {
        let op = match self {
            Record::Opened { .. } => 1,
            Record::Ready { .. } => 2,
            Record::Fenced { .. } => 3,
            Record::Tombstone { .. } => 4,
            Record::Damaged { .. } => 5,
            Record::Forget { .. } => 6,
            Record::Begun { .. } => 7,
        };
        (op, codec::encode(self))
    }

    pub(super) fn decode(payload: &[u8]) -> Result<Record, DecodeError> {
        codec::decode::<Record, MAX_RECORD>(payload)
    }
}

/// Who waits for records to be down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Waiter {
    /// Nobody.
    Nobody,
    /// A replica may call everything below `end` READY.
    Ready { chunk: ChunkId, generation: u64, end: u64 },
    /// The chunk's job goes on.
    Job { chunk: ChunkId, job: u64 },
    /// The files of the first of the losers may be moved away.
    Loser,
}

#[derive(Clone, Debug, Hash)]
struct Pending {
    record: Record,
    waiter: Waiter,
    sync: bool,
}

/// A group under way.
#[derive(Clone, Debug, Hash)]
struct Flying {
    start: u64,
    end: u64,
    /// Kept to be written again if there was no space.
    bytes: Bytes,
    records: u64,
    waiters: Vec<(Waiter, bool)>,
    sync: bool,
}

/// Where a journal file goes on, everything below being durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct End {
    pub(super) offset: u64,
    pub(super) next_index: u64,
    /// The file's last group says that everything before it is durable.
    pub(super) marked: bool,
}

/// The end of the journal file and what is on its way there. At most one group is under way; the next one collects.
#[derive(Clone, Debug, Hash)]
pub(super) struct Journal {
    pub(super) number: u64,
    /// Where the next group goes.
    pub(super) end: u64,
    durable_end: u64,
    next_index: u64,
    pending: VecDeque<Pending>,
    flying: Option<Flying>,
    /// The group under way found no space.
    blocked: bool,
    /// The file's last group says that everything before it is durable.
    marked: bool,
    /// A new file is being written: groups wait.
    pub(super) rewriting: bool,
    /// A group has landed, and not everyone who waited for it has been told: what is in memory says less than it.
    pub(super) waking: bool,
    /// Rewrite beyond this size.
    pub(super) rewrite_at: u64,
    pub(super) syncs: u64,
}

impl Journal {
    pub(super) fn new(number: u64, end: End, rewrite_at: u64) -> Journal {
        Journal {
            number,
            end: end.offset,
            durable_end: end.offset,
            next_index: end.next_index,
            pending: VecDeque::new(),
            flying: None,
            blocked: false,
            marked: end.marked,
            rewriting: false,
            waking: false,
            rewrite_at,
            syncs: 0,
        }
    }

    /// Queues a record; `sync`: the waiter is told only when it is on stable storage.
    pub(super) fn push(&mut self, record: Record, waiter: Waiter, sync: bool) {
        self.pending.push_back(Pending { record, waiter, sync });
    }

    /// Whether a group, or a rewrite, may start.
    pub(super) fn is_idle(&self) -> bool {
        self.flying.is_none() && !self.rewriting && !self.waking
    }

    /// Whether nothing is on its way.
    pub(super) fn is_quiet(&self) -> bool {
        self.flying.is_none() && self.pending.is_empty()
    }

    /// Whether all that was ever logged is on stable storage.
    pub(super) fn is_durable(&self) -> bool {
        self.is_quiet() && (self.durable_end == self.end || self.marked)
    }

    pub(super) fn wants_rewrite(&self) -> bool {
        self.is_idle() && self.end > self.rewrite_at
    }

    pub(super) fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Bytes of the next group and where they go.
    pub(super) fn next_group(&mut self) -> Option<(u64, Bytes)> {
        if !self.is_idle() || self.pending.is_empty() {
            return None;
        }
        let mut group = GroupWriter::new(self.end, self.durable_end, self.next_index);
        let (mut waiters, mut sync) = (Vec::new(), false);
        while group.len() < JOURNAL_GROUP {
            let Some(pending) = self.pending.pop_front() else { break };
            let (op, payload) = pending.record.encode();
            group.push(op, &payload);
            sync |= pending.sync;
            if pending.waiter != Waiter::Nobody {
                waiters.push((pending.waiter, pending.sync));
            }
        }
        Some(self.launch(group, waiters, sync))
    }

    /// An empty group after an idle time: from then on, damage in the group before it can be told from a tear.
    pub(super) fn mark(&mut self) -> Option<(u64, Bytes)> {
        if self.marked || !self.is_idle() || self.durable_end != self.end {
            return None;
        }
        let group = GroupWriter::new(self.end, self.durable_end, self.next_index);
        let launched = self.launch(group, Vec::new(), false);
        self.marked = true;
        Some(launched)
    }

    fn launch(&mut self, group: GroupWriter, waiters: Vec<(Waiter, bool)>, sync: bool) -> (u64, Bytes) {
        let start = group.start();
        let records = group.records();
        let bytes = Bytes::from(group.finish());
        self.marked = false;
        let end = start + bytes.len() as u64;
        self.flying = Some(Flying { start, end, bytes: bytes.clone(), records, waiters, sync });
        (start, bytes)
    }

    /// There was no space for the group. Writing it again at the same place is safe: nothing of it counts yet.
    pub(super) fn on_no_space(&mut self) {
        self.blocked = true;
    }

    /// The group that found no space, to be tried again.
    pub(super) fn unblock(&mut self) -> Option<(u64, Bytes)> {
        let blocked = core::mem::take(&mut self.blocked);
        self.flying.as_ref().filter(|_| blocked).map(|flying| (flying.start, flying.bytes.clone()))
    }

    /// The group is written: who may go on, and whether a sync must follow.
    pub(super) fn on_written(&mut self, all: bool) -> (Vec<Waiter>, bool) {
        let Some(flying) = self.flying.as_mut() else { return (Vec::new(), false) };
        let mut told = Vec::new();
        flying.waiters.retain(|(waiter, sync)| {
            let tell = all || !sync;
            if tell {
                told.push(*waiter);
            }
            !tell
        });
        let sync = flying.sync;
        if !sync {
            self.land();
        }
        (told, sync)
    }

    /// The group is durable: who may go on.
    pub(super) fn on_synced(&mut self) -> Vec<Waiter> {
        self.syncs += 1;
        let Some(flying) = self.land() else { return Vec::new() };
        self.durable_end = self.end;
        flying.waiters.into_iter().map(|(waiter, _)| waiter).collect()
    }

    fn land(&mut self) -> Option<Flying> {
        let flying = self.flying.take()?;
        self.end = flying.end;
        self.next_index += flying.records;
        Some(flying)
    }

    /// The rewritten file took over.
    pub(super) fn switch(&mut self, number: u64, end: End, journal_bytes: u64) {
        self.number = number;
        self.end = end.offset;
        self.durable_end = end.offset;
        self.next_index = end.next_index;
        self.rewriting = false;
        self.marked = end.marked;
        self.rewrite_at = journal_bytes.max(end.offset * 2);
    }

    /// The rewrite failed before the new file took over: this one goes on, and is rewritten when it has grown further.
    pub(super) fn keep(&mut self, journal_bytes: u64) {
        self.rewriting = false;
        self.rewrite_at = self.end.saturating_add(journal_bytes.max(1));
    }

    pub(super) fn next_index(&self) -> u64 {
        self.next_index
    }
}

/// A whole journal file that holds `records`, in pieces that one disk write each can take.
pub(super) fn whole_file(
    owner: VolumeId,
    boot: BootId,
    first_index: u64,
    records: &[Record],
) -> (Vec<Bytes>, End) {
    let header = FileHeader { kind: LogKind::Journal, owner: owner.0, first_index };
    let mut pieces = alloc::vec![Bytes::copy_from_slice(&header.encode())];
    let (mut end, mut index) = (HEADER_BYTES, first_index);
    let begun = Record::Begun { boot };
    let mut records = core::iter::once(&begun).chain(records).peekable();
    while records.peek().is_some() {
        let mut group = GroupWriter::new(end, end, index);
        while group.len() < JOURNAL_GROUP {
            let Some(record) = records.next() else { break };
            let (op, payload) = record.encode();
            index = group.push(op, &payload) + 1;
        }
        let bytes = group.finish();
        end += bytes.len() as u64;
        pieces.push(Bytes::from(bytes));
    }
    // The mark that lets a scan tell damage in the last group from a tear.
    let mark = GroupWriter::new(end, end, index).finish();
    end += mark.len() as u64;
    pieces.push(Bytes::from(mark));
    (pieces, End { offset: end, next_index: index, marked: true })
}

/// The steps that write a whole file under its temporary name and make it the volume's journal `number`.
pub(super) fn install(volume: u16, number: u64, pieces: Vec<Bytes>) -> super::script::Script {
    use super::names;
    use crate::disk::DiskRequest;
    let new = names::journal_new(volume);
    let mut script = super::script::Script::default();
    script.attempt(DiskRequest::Remove(new.clone()));
    let mut offset = 0;
    for piece in pieces {
        let length = piece.len() as u64;
        let data = alloc::vec![piece];
        script.step(DiskRequest::Write { path: new.clone(), offset, data, create: true });
        offset += length;
    }
    script.step(DiskRequest::Sync(new.clone()));
    script.step(DiskRequest::Rename { from: new, to: names::journal(volume, number) });
    script.step(DiskRequest::SyncDir(DiskPath::new(volume, "")));
    script
}

/// What a journal says about one unsealed replica.
#[derive(Clone, Debug, Hash)]
pub(super) struct Replayed {
    pub(super) grant: Grant,
    pub(super) position: u8,
    pub(super) writer: WriterId,
    pub(super) length: u64,
    pub(super) record: u64,
    pub(super) crcs: Vec<u32>,
    pub(super) fence: Option<ChunkVersion>,
}

/// The state that a journal's records add up to.
#[derive(Clone, Debug, Default, Hash)]
pub(super) struct Replay {
    pub(super) replicas: BTreeMap<ChunkId, Replayed>,
    pub(super) tombstones: BTreeMap<ChunkId, (ChunkVersion, SessionId)>,
    pub(super) damaged: BTreeMap<ChunkId, ChunkVersion>,
    /// The boot under which the file was begun.
    pub(super) begun: Option<BootId>,
}

impl Replay {
    /// The records that add up to this state.
    pub(super) fn records(&self) -> Vec<Record> {
        let mut records = Vec::new();
        for (chunk, r) in &self.replicas {
            let (chunk, version) = (*chunk, r.grant.version);
            records.push(Record::Opened { grant: r.grant.clone(), position: r.position, writer: r.writer });
            let (length, record, crcs) = (r.length, r.record, r.crcs.clone());
            records.push(Record::Ready { chunk, version, length, record, first_block: 0, crcs });
            records.extend(r.fence.map(|fence| Record::Fenced { chunk, fence }));
        }
        for (chunk, (version, session)) in &self.tombstones {
            records.push(Record::Tombstone { chunk: *chunk, version: *version, session: *session });
        }
        for (chunk, version) in &self.damaged {
            records.push(Record::Damaged { chunk: *chunk, version: *version });
        }
        records
    }

    pub(super) fn apply(&mut self, record: Record) {
        match record {
            Record::Opened { grant, position, writer } => {
                let known = self.replicas.get(&grant.chunk).is_some_and(|r| r.grant.version == grant.version);
                if !known {
                    let (length, record, crcs, fence) = (0, 0, Vec::new(), None);
                    let replayed = Replayed { grant, position, writer, length, record, crcs, fence };
                    self.replicas.insert(replayed.grant.chunk, replayed);
                }
            }
            Record::Ready { chunk, version, length, record, first_block, crcs } => {
                let Some(replica) = self.replicas.get_mut(&chunk).filter(|r| r.grant.version == version)
                else {
                    return;
                };
                if length >= replica.length && first_block as usize <= replica.crcs.len() {
                    replica.crcs.truncate(first_block as usize);
                    replica.crcs.extend(crcs);
                    replica.length = length;
                    replica.record = record;
                }
            }
            Record::Fenced { chunk, fence } => {
                if let Some(replica) = self.replicas.get_mut(&chunk) {
                    replica.fence = replica.fence.max(Some(fence));
                }
            }
            Record::Tombstone { chunk, version, session } => {
                self.tombstones.insert(chunk, (version, session));
            }
            Record::Damaged { chunk, version } => {
                self.damaged.insert(chunk, version);
            }
            Record::Begun { boot } => self.begun = Some(boot),
            Record::Forget { chunk } => {
                self.replicas.remove(&chunk);
                self.damaged.remove(&chunk);
            }
        }
    }
}
