//! One chunk of a file being written: from the wish for it to its seal.

use crate::id::{Address, Peer};
use crate::message::Grant;
use crate::time::Time;

/// Where a chunk is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// The master is asked for a grant.
    Opening,
    /// Records may be sent.
    Writing,
    /// The master is asked to seal it.
    Sealing,
}

/// One chunk under way. Offsets are in bytes of the chunk.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) ordinal: u32,
    pub(super) phase: Phase,
    pub(super) grant: Option<Grant>,
    /// Where its first byte lies in the file: known when all earlier chunks' lengths are, which is when it gets its first record.
    pub(super) base: Option<u64>,
    pub(super) records: u64,
    pub(super) sent: u64,
    pub(super) committed: u64,
    /// What every member is READY for.
    pub(super) everywhere: u64,
    /// Since when the oldest record waits, or the last commit.
    pub(super) waiting_since: Time,
    /// When to ask the master, and whether that happened.
    pub(super) due: Time,
    pub(super) asked: bool,
    pub(super) attempt: u32,
}

impl Stream {
    pub(super) fn new(ordinal: u32, due: Time) -> Stream {
        Stream {
            ordinal,
            phase: Phase::Opening,
            grant: None,
            base: None,
            records: 0,
            sent: 0,
            committed: 0,
            everywhere: 0,
            waiting_since: due,
            due,
            asked: false,
            attempt: 0,
        }
    }

    /// The node that records go to.
    pub(super) fn primary(&self) -> Option<&Address> {
        self.grant.as_ref()?.addresses.first()
    }

    pub(super) fn is_primary(&self, peer: &Peer) -> bool {
        matches!(peer, Peer::Dial(address) if self.primary() == Some(address))
    }

    /// Bytes that may still be sent into it.
    pub(super) fn room(&self) -> u64 {
        match (&self.grant, self.phase) {
            (Some(grant), Phase::Writing) => grant.capacity.saturating_sub(self.sent),
            _ => 0,
        }
    }

    /// Whether it takes nothing more and its length is known before its seal: the seal keeps all that is committed.
    pub(super) fn is_settled(&self) -> bool {
        self.phase == Phase::Sealing && self.committed == self.sent
    }

    /// Whether everything that fits was sent and committed.
    pub(super) fn is_full(&self) -> bool {
        self.phase == Phase::Writing && self.room() == 0 && self.committed == self.sent
    }

    /// Has the master asked for the seal at `due`.
    pub(super) fn seal(&mut self, due: Time) {
        self.phase = Phase::Sealing;
        self.asked = false;
        self.attempt = 0;
        self.due = due;
    }

    /// A seal that waits for the slowest member waits no longer.
    pub(super) fn hasten(&mut self, now: Time) {
        if self.phase == Phase::Sealing && !self.asked && self.attempt == 0 {
            self.due = self.due.min(now);
        }
    }
}
