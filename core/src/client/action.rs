//! What the parts of the client want done. Only the machine turns these into effects.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::ClientResult;
use crate::config::ClientConfig;
use crate::defect::Defects;
use crate::id::{CallId, HandleId, Peer};
use crate::machine::Level;
use crate::message::{MasterRequest, Message};
use crate::rng::Rng;
use crate::time::{Span, Time};

/// What the parts of the client are given for one step, and where they put what they want done.
#[derive(Debug)]
pub(super) struct Context<'a> {
    /// The node's clock.
    pub(super) now: Time,
    /// Settings.
    pub(super) config: &'a ClientConfig,
    /// Randomness.
    pub(super) rng: &'a mut Rng,
    /// Planted defects.
    pub(super) defects: Defects,
    /// What is wanted, in order.
    pub(super) out: Vec<Action>,
}

impl Context<'_> {
    pub(super) fn send(&mut self, to: Peer, message: impl Into<Message>) {
        self.out.push(Action::Send { to, message: message.into() });
    }

    pub(super) fn ask(&mut self, body: MasterRequest, then: Origin, deadline: Time) {
        self.out.push(Action::Ask { body, then, deadline });
    }

    pub(super) fn reply(&mut self, call: CallId, result: ClientResult) {
        self.out.push(Action::Reply { call, result });
    }

    pub(super) fn note(&mut self, level: Level, text: String) {
        self.out.push(Action::Note { level, text });
    }

    /// How long an operation may go on without progress.
    pub(super) fn patience(&self) -> Span {
        Span::from_ms(self.config.operation_deadline_ms)
    }
}

/// One thing to do.
#[derive(Debug)]
pub(super) enum Action {
    /// Send a message to a chunkserver.
    Send { to: Peer, message: Message },
    /// Ask the master until it answers or the deadline passes.
    Ask { body: MasterRequest, then: Origin, deadline: Time },
    /// Answer the user.
    Reply { call: CallId, result: ClientResult },
    /// Tell the operator.
    Note { level: Level, text: String },
}

/// Who waits for an answer of the master.
#[derive(Clone, Debug)]
pub(super) enum Origin {
    /// The user asked it directly.
    Call(CallId),
    /// A file is being created.
    Begin { call: CallId },
    /// A writer opens or seals its chunk number `ordinal`.
    Chunk { handle: HandleId, ordinal: u32 },
    /// A writer tells that it lives.
    Keep(HandleId),
    /// A writer finishes its file.
    Complete(HandleId),
    /// A file is being opened for reading.
    Open { call: CallId, path: Arc<str> },
    /// A read misses a location.
    Locate { call: CallId },
    /// Nobody: best effort.
    Nobody,
}
