//! What is to happen later, in one heap: earliest first, and in the order of scheduling at the same time.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::task::Waker;

use cairn_core::time::Time;

use crate::node::NodeIx;

/// A connection's number: never reused within a world.
pub(crate) type LinkId = u64;

/// Something that happens to the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// The oldest message under way from end `from` of the connection arrives.
    Arrive { link: LinkId, from: u8 },
    /// Messages held by a partition are sent again.
    Release { link: LinkId, from: u8 },
    /// A dial reaches its target.
    Connect { link: LinkId },
    /// An end learns that the connection is gone.
    Lost { link: LinkId, end: u8 },
    /// TCP gives up, if the partition is still there.
    GiveUp { link: LinkId },
    /// A disk operation ends.
    Disk { node: NodeIx, life: u64, op: u64 },
    /// A machine's wake is due, unless it asked for another one since.
    Wake { node: NodeIx, life: u64, armed: u64 },
}

#[derive(Debug, PartialEq, Eq)]
struct Due {
    at: u64,
    order: u64,
    event: Event,
}

impl Ord for Due {
    fn cmp(&self, other: &Due) -> Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Due) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The heap, and what the pump needs to sleep until its head.
#[derive(Debug, Default)]
pub(crate) struct Events {
    heap: BinaryHeap<Reverse<Due>>,
    scheduled: u64,
    /// When the pump will look next by itself.
    pub(crate) pump_looks_at: Option<u64>,
    /// How to make it look now.
    pub(crate) pump: Option<Waker>,
}

impl Events {
    /// Adds an event.
    pub(crate) fn at(&mut self, at: Time, event: Event) {
        self.scheduled += 1;
        self.heap.push(Reverse(Due { at: at.0, order: self.scheduled, event }));
        if self.pump_looks_at.is_none_or(|looks| at.0 < looks)
            && let Some(pump) = self.pump.take()
        {
            pump.wake();
        }
    }

    /// Takes the next event that is due.
    pub(crate) fn due(&mut self, now: Time) -> Option<Event> {
        if self.heap.peek()?.0.at > now.0 {
            return None;
        }
        self.heap.pop().map(|due| due.0.event)
    }

    /// When the next one is.
    pub(crate) fn next_at(&self) -> Option<u64> {
        self.heap.peek().map(|due| due.0.at)
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.heap.len()
    }

    /// Forgets all.
    pub(crate) fn clear(&mut self) {
        self.heap.clear();
    }
}
