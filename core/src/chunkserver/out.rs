//! What one input leads to, and what each disk operation under way is for.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use super::ChunkserverCallReply;
use crate::disk::{DiskPath, DiskRequest};
use crate::id::{ChunkId, OpId, Peer};
use crate::machine::{Effect, Effects, Level};
use crate::message::Message;

/// What to do when a disk operation ends.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Then {
    /// A step of a volume's recovery; the number is the step's own.
    Recovery {
        volume: u16,
        tag: u64,
    },
    /// A step of writing the cluster into a volume's identity.
    Adopt {
        volume: u16,
    },
    JournalWritten {
        volume: u16,
    },
    JournalSynced {
        volume: u16,
    },
    /// A step of rewriting the journal.
    JournalSwitch {
        volume: u16,
    },
    /// The old journal's removal: nothing hangs on it.
    Nothing,
    /// A step of creating an open chunk's file.
    Created {
        chunk: ChunkId,
        generation: u64,
        step: u8,
    },
    /// A record's bytes were written.
    Appended {
        chunk: ChunkId,
        generation: u64,
        record: u64,
    },
    /// The chunk file was synced up to here.
    AppendSynced {
        chunk: ChunkId,
        generation: u64,
        end: u64,
    },
    /// A step of a job.
    Job {
        chunk: ChunkId,
        job: u64,
    },
    /// A step of moving away the lesser of two replicas.
    LoserMoved,
    /// A file in the quarantine was removed.
    Purged(DiskPath),
    ReadTable {
        key: u64,
    },
    ReadPart {
        key: u64,
        part: u8,
    },
    ScrubTable {
        chunk: ChunkId,
    },
    ScrubData {
        chunk: ChunkId,
    },
    /// A directory's list for a block report.
    Report {
        scan: u64,
        volume: u16,
        dir: Option<u8>,
    },
    Space {
        volume: u16,
    },
    ShutdownSynced,
}

/// Effects and operations under way.
#[derive(Clone, Debug, Default)]
pub(super) struct Out {
    effects: Vec<Effect<ChunkserverCallReply>>,
    next_op: u64,
    under_way: BTreeMap<OpId, Then>,
}

impl Out {
    pub(super) fn send(&mut self, to: Peer, message: impl Into<Message>) {
        self.effects.push(Effect::Send { to, message: message.into() });
    }

    pub(super) fn disk(&mut self, request: DiskRequest, then: Then) {
        self.next_op += 1;
        let op = OpId(self.next_op);
        self.under_way.insert(op, then);
        self.effects.push(Effect::Disk { op, request });
    }

    pub(super) fn note(&mut self, level: Level, text: impl Into<String>) {
        self.effects.push(Effect::Note { level, text: text.into() });
    }

    pub(super) fn halt(&mut self, reason: impl Into<String>, failed: bool) {
        self.effects.push(Effect::Halt { reason: reason.into(), failed });
    }

    pub(super) fn push(&mut self, effect: Effect<ChunkserverCallReply>) {
        self.effects.push(effect);
    }

    /// What is under way, in the order of its start.
    pub(super) fn under_way(&self) -> impl Iterator<Item = &Then> {
        self.under_way.values()
    }

    /// What the operation that just ended was for.
    pub(super) fn ended(&mut self, op: OpId) -> Option<Then> {
        self.under_way.remove(&op)
    }

    pub(super) fn flush(&mut self, into: &mut Effects<ChunkserverCallReply>) {
        for effect in self.effects.drain(..) {
            into.push(effect);
        }
    }
}
