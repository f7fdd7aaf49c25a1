//! The shape of every node: one way in, one way out.
//!
//! Laws, relied on by both runtimes:
//! 1. Sends to one peer keep their order. All other effects are unordered: what must follow a sync is emitted while
//!    handling that sync's [`Input::DiskDone`].
//! 2. Completions carry an [`OpId`] and arrive in any order; the simulator shuffles them.
//! 3. Work for one input is bounded; long work is cut into steps driven by [`Input::Wake`].
//! 4. Restart is a constructor followed by reads of the disk, never an input. No completion of an earlier process arrives.
//! 5. Sub-machines return values; only the three roots touch [`Effects`].
//! 6. Every node has its own, skewed, monotonic clock.
//!
//! A run is therefore a list of `(node, time, input)`; every input can be serialised.

use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

use crate::disk::{DiskRequest, DiskResult};
use crate::id::{CallId, OpId, Peer};
use crate::message::Message;
use crate::time::Time;

/// A pure, deterministic node.
pub trait Machine {
    /// A request from the process that hosts the machine (a user's call, a metrics scrape, a shutdown).
    type Request;
    /// Its answer.
    type Response;

    /// The only way in. Never blocks, never fails: bad input is answered, broken invariants panic with their numbers.
    fn handle(&mut self, now: Time, input: Input<Self::Request>, effects: &mut Effects<Self::Response>);

    /// When to be called with [`Input::Wake`], and why. A time in the past means at once.
    fn next_wake(&self) -> Option<(Time, WakeReason)>;
}

/// What can happen to a machine.
#[derive(Clone, Debug, PartialEq, Hash, Serialize, Deserialize)]
pub enum Input<Q> {
    /// The time named by [`Machine::next_wake`] has come. May come early or late.
    Wake,
    /// A message arrived.
    Message {
        /// Where it came from.
        from: Peer,
        /// What it says.
        message: Message,
    },
    /// A disk operation ended.
    DiskDone {
        /// The operation, as named in [`Effect::Disk`].
        op: OpId,
        /// How it ended.
        result: DiskResult,
    },
    /// The hosting process asks something.
    Call {
        /// To be repeated in the [`Effect::Reply`].
        call: CallId,
        /// What it asks.
        request: Q,
    },
    /// A connection ended. Messages under way in either direction may be lost; a `Dial` peer may be dialled again.
    PeerLost {
        /// Whose connection.
        peer: Peer,
    },
}

/// What a machine wants done.
#[derive(Clone, Debug, PartialEq, Hash, Serialize, Deserialize)]
pub enum Effect<R> {
    /// Send a message. Lost silently if the connection breaks; the machine then gets [`Input::PeerLost`].
    Send {
        /// To whom.
        to: Peer,
        /// What.
        message: Message,
    },
    /// Close a connection: the peer broke the protocol, or is no longer needed.
    Close {
        /// Whose connection.
        peer: Peer,
    },
    /// Carry out a disk operation and answer with [`Input::DiskDone`].
    Disk {
        /// Names the operation.
        op: OpId,
        /// What to do.
        request: DiskRequest,
    },
    /// Answer an [`Input::Call`].
    Reply {
        /// The call.
        call: CallId,
        /// The answer.
        response: R,
    },
    /// Tell the operator: one structured log line, no decision hangs on it.
    Note {
        /// How bad it is.
        level: Level,
        /// One sentence.
        text: String,
    },
    /// The machine can't go on (a damaged log, a foreign directory): the process must end and say why.
    Halt {
        /// What is wrong, where, and what to do about it.
        reason: String,
        /// True when an operator has to act; false after a requested shutdown.
        failed: bool,
    },
}

/// How important a note is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Level {
    /// For developers.
    Debug,
    /// Part of normal life.
    Info,
    /// Something failed and is being handled.
    Warn,
    /// Data or availability is in danger: an operator should look.
    Alarm,
}

/// The effects of one call of [`Machine::handle`], in order.
#[derive(Clone, Debug, Hash)]
pub struct Effects<R> {
    queue: Vec<Effect<R>>,
}

impl<R> Default for Effects<R> {
    fn default() -> Self {
        Effects { queue: Vec::new() }
    }
}

impl<R> Effects<R> {
    /// Adds an effect.
    pub fn push(&mut self, effect: Effect<R>) {
        self.queue.push(effect);
    }

    /// Sends a message.
    pub fn send(&mut self, to: Peer, message: impl Into<Message>) {
        self.push(Effect::Send { to, message: message.into() });
    }

    /// Starts a disk operation.
    pub fn disk(&mut self, op: OpId, request: DiskRequest) {
        self.push(Effect::Disk { op, request });
    }

    /// Answers a call.
    pub fn reply(&mut self, call: CallId, response: R) {
        self.push(Effect::Reply { call, response });
    }

    /// Tells the operator.
    pub fn note(&mut self, level: Level, text: impl Into<String>) {
        self.push(Effect::Note { level, text: text.into() });
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Takes all effects out, keeping the allocation.
    pub fn drain(&mut self) -> alloc::vec::Drain<'_, Effect<R>> {
        self.queue.drain(..)
    }

    /// The effects so far.
    pub fn as_slice(&self) -> &[Effect<R>] {
        &self.queue
    }
}

/// Why a machine wants to be woken, so that a trace explains itself.
pub type WakeReason = &'static str;
