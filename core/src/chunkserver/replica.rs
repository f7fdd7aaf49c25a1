//! One replica: what it promised, what is staged, and how far those behind it are.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec;
use alloc::vec::Vec;
use bytes::Bytes;

use super::flush::Kept;
use super::journal::Record;
use super::sidecar::{Sidecar, whole_crc};
use crate::id::{ChunkId, ChunkVersion, Peer, WriterId};
use crate::message::{Grant, ReplicaReport, ReplicaState, SealedChunk};
use crate::payload::{BLOCK_BYTES, Payload, combine, pieces};

/// A replica on one volume.
#[derive(Clone, Debug, Hash)]
pub(super) struct Replica {
    /// Index of the volume.
    pub(super) volume: u16,
    /// The grant's version until sealed, then the sealed one.
    pub(super) version: ChunkVersion,
    pub(super) state: ReplicaState,
    /// Sealed: exact. Else: the prefix that is as durable as the grant demands (in the journal, or on its way there).
    pub(super) length: u64,
    /// Of the whole content, once sealed.
    pub(super) crc: u32,
    /// How a sealed replica's files are kept; of no meaning before.
    pub(super) kept: Kept,
    /// Changes whenever the files behind the replica may have: answers of earlier disk operations are then void.
    pub(super) generation: u64,
    /// Damaged only in that the disk would not read it when the process started: the next one judges anew.
    pub(super) unread: bool,
    /// What only an unsealed replica has.
    pub(super) unsealed: Option<Box<Unsealed>>,
}

/// The part of a replica that ends with its seal.
#[derive(Clone, Debug, Hash)]
pub(super) struct Unsealed {
    pub(super) grant: Grant,
    pub(super) position: u8,
    pub(super) writer: WriterId,
    /// The highest fenced version.
    pub(super) fence: Option<ChunkVersion>,
    /// Whether the fence is in the journal.
    pub(super) fence_kept: bool,
    /// Whether the journal has the grant.
    pub(super) opened_kept: bool,
    /// Checksums of the blocks below `Replica::length`.
    pub(super) crcs: Vec<u32>,
    /// The last record below `Replica::length`.
    pub(super) record: u64,
    /// While appends may arrive or are still on their way to the disk.
    pub(super) stream: Option<Stream>,
}

/// The moving part of an open replica.
#[derive(Clone, Debug, Hash)]
pub(super) struct Stream {
    pub(super) upstream: Peer,
    /// Where records go next; `None` at the end of the pipeline or when that server is lost.
    pub(super) downstream: Option<Peer>,
    /// Records are passed on; false once the next member failed, which may still tell what those behind it hold.
    pub(super) passing: bool,
    /// A member further down was lost or is in trouble: the writer is not paced by it any more.
    pub(super) trouble_below: bool,
    /// Accepts no more records.
    pub(super) stopped: bool,
    /// The file is there: writes may start.
    pub(super) made: bool,
    /// The file's name is durable (or needs not be): READY may be told.
    pub(super) created: bool,
    /// The next record number (rule 11).
    pub(super) next_record: u64,
    /// Where the next record goes.
    pub(super) staged_end: u64,
    /// Checksum of the started block at `staged_end`.
    tail: u32,
    pub(super) queue: VecDeque<Staged>,
    /// Disk operations of the stream under way.
    pub(super) busy: u32,
    /// A sync of the chunk file is under way.
    pub(super) syncing: bool,
    /// How far each member is READY, by position.
    pub(super) ends: Vec<u64>,
    pub(super) committed: u64,
    pub(super) committed_record: u64,
    /// At the primary: what every member is READY for, as last told to the writer.
    pub(super) everywhere: u64,
    /// At the primary: records not yet committed.
    pub(super) uncommitted: VecDeque<(u64, u64)>,
}

/// A record between its arrival and READY.
#[derive(Clone, Debug, Hash)]
pub(super) struct Staged {
    pub(super) record: u64,
    pub(super) offset: u64,
    pub(super) end: u64,
    /// Checksums, after this record, of the blocks that it touches; the first is this one.
    first_block: u32,
    crcs: Vec<u32>,
    /// The bytes, until their write was started.
    pub(super) bytes: Option<Bytes>,
    pub(super) written: bool,
}

impl Stream {
    pub(super) fn new(upstream: Peer, downstream: Option<Peer>, members: usize) -> Stream {
        Stream {
            upstream,
            downstream,
            passing: true,
            trouble_below: false,
            stopped: false,
            made: false,
            created: false,
            next_record: 1,
            staged_end: 0,
            tail: 0,
            queue: VecDeque::new(),
            busy: 0,
            syncing: false,
            ends: vec![0; members],
            committed: 0,
            committed_record: 0,
            everywhere: 0,
            uncommitted: VecDeque::new(),
        }
    }

    /// Takes a record in at the end.
    pub(super) fn stage(&mut self, record: u64, payload: &Payload) {
        let first_block = (payload.offset / BLOCK_BYTES) as u32;
        let mut crcs = Vec::with_capacity(payload.crcs.len());
        for ((start, length), piece) in pieces(payload.offset, payload.len()).zip(&payload.crcs) {
            let joins = !(payload.offset + start).is_multiple_of(BLOCK_BYTES);
            self.tail = if joins { combine(self.tail, *piece, length) } else { *piece };
            crcs.push(self.tail);
        }
        self.next_record = record + 1;
        self.staged_end = payload.end();
        self.queue.push_back(Staged {
            record,
            offset: payload.offset,
            end: payload.end(),
            first_block,
            crcs,
            bytes: Some(payload.bytes.clone()),
            written: false,
        });
    }

    /// End of the written prefix; `floor` if nothing of the queue is written.
    pub(super) fn written_end(&self, floor: u64) -> u64 {
        self.queue.iter().take_while(|s| s.written).last().map_or(floor, |s| s.end)
    }

    /// Stops accepting and forgets what was not started. True when no disk operation is under way any more.
    pub(super) fn stop(&mut self) -> bool {
        self.stopped = true;
        self.queue.retain(|s| s.bytes.is_none());
        self.busy == 0
    }
}

impl Replica {
    /// A new, open replica.
    pub(super) fn open(
        volume: u16,
        generation: u64,
        grant: Grant,
        position: u8,
        writer: WriterId,
        stream: Stream,
    ) -> Replica {
        Replica {
            volume,
            version: grant.version,
            state: ReplicaState::Open,
            length: 0,
            crc: 0,
            kept: Kept::Durable,
            generation,
            unread: false,
            unsealed: Some(Box::new(Unsealed {
                grant,
                position,
                writer,
                fence: None,
                fence_kept: false,
                opened_kept: false,
                crcs: Vec::new(),
                record: 0,
                stream: Some(stream),
            })),
        }
    }

    /// Only a planted defect comes here: appends go on where the journal ends.
    pub(super) fn resume(&mut self, generation: u64, mut stream: Stream) {
        let Some(unsealed) = self.unsealed.as_mut() else { return };
        stream.made = true;
        stream.created = true;
        stream.next_record = unsealed.record + 1;
        stream.staged_end = self.length;
        stream.tail = match self.length % BLOCK_BYTES {
            0 => 0,
            _ => unsealed.crcs.last().copied().unwrap_or(0),
        };
        unsealed.stream = Some(stream);
        self.generation = generation;
        self.state = ReplicaState::Open;
    }

    /// A sealed replica.
    pub(super) fn sealed(volume: u16, generation: u64, sealed: &SealedChunk, kept: Kept) -> Replica {
        Replica {
            volume,
            version: sealed.version,
            state: ReplicaState::Sealed,
            length: sealed.length,
            crc: sealed.crc,
            kept,
            generation,
            unread: false,
            unsealed: None,
        }
    }

    /// What was sealed nobody knows: its sidecar could not be read. The next start judges it anew.
    pub(super) fn is_unknown(&self) -> bool {
        self.version == ChunkVersion(0) && self.unsealed.is_none()
    }

    /// Whether a sidecar is the one that this sealed replica must have.
    pub(super) fn is_described_by(&self, sidecar: &Sidecar) -> bool {
        let sealed = sidecar.sealed;
        (sealed.version, sealed.length, sealed.crc) == (self.version, self.length, self.crc)
    }

    pub(super) fn stream(&mut self) -> Option<&mut Stream> {
        self.unsealed.as_mut()?.stream.as_mut()
    }

    /// Takes the written records up to `end` into the promised prefix. Returns the journal records that say so.
    pub(super) fn absorb(&mut self, end: u64) -> Vec<Record> {
        let Some(unsealed) = self.unsealed.as_mut() else { return Vec::new() };
        let Some(stream) = unsealed.stream.as_mut() else { return Vec::new() };
        let mut first = None;
        while stream.queue.front().is_some_and(|s| s.written && s.end <= end) {
            let Some(staged) = stream.queue.pop_front() else { break };
            unsealed.crcs.truncate(staged.first_block as usize);
            unsealed.crcs.extend(staged.crcs);
            unsealed.record = staged.record;
            self.length = staged.end;
            first.get_or_insert(staged.first_block);
        }
        match first {
            Some(first) => self.ready_records(first),
            None => Vec::new(),
        }
    }

    /// The records that promise the prefix, with the checksums from `first_block` on.
    pub(super) fn ready_records(&mut self, first_block: u32) -> Vec<Record> {
        let mut records = self.opened_records();
        let Some(unsealed) = self.unsealed.as_ref() else { return records };
        records.push(Record::Ready {
            chunk: unsealed.grant.chunk,
            version: self.version,
            length: self.length,
            record: unsealed.record,
            first_block,
            crcs: unsealed.crcs[first_block as usize..].to_vec(),
        });
        records
    }

    /// The grant's record, unless the journal has it.
    pub(super) fn opened_records(&mut self) -> Vec<Record> {
        let Some(unsealed) = self.unsealed.as_mut().filter(|u| !u.opened_kept) else { return Vec::new() };
        unsealed.opened_kept = true;
        vec![Record::Opened {
            grant: unsealed.grant.clone(),
            position: unsealed.position,
            writer: unsealed.writer,
        }]
    }

    /// Everything that a new journal must say about the replica.
    pub(super) fn snapshot(&self, chunk: ChunkId) -> Vec<Record> {
        let mut records = Vec::new();
        if let Some(unsealed) = self.unsealed.as_ref().filter(|u| u.opened_kept) {
            records.push(Record::Opened {
                grant: unsealed.grant.clone(),
                position: unsealed.position,
                writer: unsealed.writer,
            });
            records.push(Record::Ready {
                chunk,
                version: self.version,
                length: self.length,
                record: unsealed.record,
                first_block: 0,
                crcs: unsealed.crcs.clone(),
            });
            if let Some(fence) = unsealed.fence {
                records.push(Record::Fenced { chunk, fence });
            }
        }
        if self.state == ReplicaState::Damaged && !self.unread && !self.is_unknown() {
            records.push(Record::Damaged { chunk, version: self.version });
        }
        records
    }

    /// CRC32 of the promised prefix of an unsealed replica.
    pub(super) fn prefix_crc(&self) -> u32 {
        match &self.unsealed {
            Some(unsealed) => whole_crc(&unsealed.crcs, self.length).unwrap_or(0),
            None => self.crc,
        }
    }

    /// Everything staged, promised or not.
    pub(super) fn staged(&self) -> u64 {
        let stream = self.unsealed.as_ref().and_then(|u| u.stream.as_ref());
        stream.map_or(self.length, |s| s.staged_end.max(self.length))
    }
}

/// How a replica is reported.
pub(super) fn report(chunk: ChunkId, replica: &Replica, volume: crate::id::VolumeId) -> ReplicaReport {
    let sealed = replica.unsealed.is_none();
    ReplicaReport {
        chunk,
        volume,
        version: replica.version,
        length: if sealed { replica.length } else { replica.staged() },
        crc: if sealed { replica.crc } else { 0 },
        state: replica.state,
    }
}
