//! Moments that a strike can wait for: the narrow gaps between a message and what must be durable before its answer.

use std::collections::{BTreeMap, BTreeSet};
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Poll, Waker};
use std::time::Duration;

use cairn_core::id::ChunkId;
use cairn_core::message::{
    AppendMessage, DropReason, FromServer, MasterReply, MasterRequest, Message, ReadMessage, ReplicaState,
    ToServer,
};
use runtime_sim::World;
use serde::{Deserialize, Serialize};

use crate::cluster::lock;

/// Something that arrives somewhere. The node where it does is `Target::Cued`; of damage, the node that tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cue {
    /// A chunkserver is told to open a chunk.
    Open,
    /// A chunkserver gets bytes.
    Data,
    /// A chunkserver is told to fence.
    Fence,
    /// The master gets a vote.
    Vote,
    /// A chunkserver is told that a chunk is sealed.
    Seal,
    /// A chunkserver is told to copy.
    Copy,
    /// A chunkserver is told to copy a chunk of which it once got bytes from a writer.
    CopyOver,
    /// The master gets a change of the namespace.
    Change,
    /// A client gets leave to write a chunk.
    Grant,
    /// A client is told that bytes are committed.
    Committed,
    /// A chunkserver is told to complete a shorter replica.
    Complete,
    /// A chunkserver is told to drop a replica that is one too many.
    Drop,
    /// A chunkserver is told to drop a replica of a chunk that no file has any more.
    Reclaim,
    /// A chunkserver is told to drop the chunk that it was told to seal last.
    DropLast,
    /// A chunkserver is told that it is registered.
    Registered,
    /// A client gets bytes that it reads.
    Read,
    /// The master is told that a replica is damaged.
    Damage,
}

impl Cue {
    /// All of them.
    pub const EACH: [Cue; 17] = [
        Cue::Open,
        Cue::Data,
        Cue::Fence,
        Cue::Vote,
        Cue::Seal,
        Cue::Copy,
        Cue::CopyOver,
        Cue::Change,
        Cue::Grant,
        Cue::Committed,
        Cue::Complete,
        Cue::Drop,
        Cue::Reclaim,
        Cue::DropLast,
        Cue::Registered,
        Cue::Read,
        Cue::Damage,
    ];

    /// How long a strike waits for it.
    pub(crate) fn patience(self) -> Duration {
        match self {
            // It is waited for from the moment that its cause is struck.
            Cue::CopyOver | Cue::Damage | Cue::Registered | Cue::DropLast => Duration::from_secs(8),
            Cue::Reclaim => Duration::from_secs(4),
            _ => Duration::from_secs(1),
        }
    }

    /// Whether a message is the cue, and which chunk it is about.
    fn is(self, message: &Message) -> Option<Option<ChunkId>> {
        match (self, message) {
            (Cue::Open, Message::Append(AppendMessage::Open { grant, .. }))
            | (Cue::Grant, Message::MasterReply { result: Ok(MasterReply::Grant(grant)), .. }) => {
                Some(Some(grant.chunk))
            }
            (Cue::Data, Message::Append(AppendMessage::Data { chunk, .. }))
            | (Cue::Committed, Message::Append(AppendMessage::Committed { chunk, .. }))
            | (Cue::Fence, Message::ToServer(ToServer::Fence { chunk, .. }))
            | (Cue::Complete, Message::ToServer(ToServer::Complete { chunk, .. }))
            | (Cue::Drop, Message::ToServer(ToServer::Drop { chunk, reason: DropReason::Excess, .. }))
            | (
                Cue::Reclaim,
                Message::ToServer(ToServer::Drop { chunk, reason: DropReason::Reclaimed, .. }),
            )
            | (Cue::DropLast, Message::ToServer(ToServer::Drop { chunk, .. }))
            | (Cue::Vote, Message::FromServer(FromServer::Vote { chunk, .. })) => Some(Some(*chunk)),
            (Cue::Seal, Message::ToServer(ToServer::Seal { sealed, .. }))
            | (Cue::Copy | Cue::CopyOver, Message::ToServer(ToServer::Copy { sealed, .. })) => {
                Some(Some(sealed.chunk))
            }
            (Cue::Damage, Message::FromServer(FromServer::ReplicaChanged(replica))) => {
                (replica.state == ReplicaState::Damaged).then_some(Some(replica.chunk))
            }
            (Cue::Registered, Message::ToServer(ToServer::Registered { .. }))
            | (Cue::Read, Message::Read(ReadMessage::Reply { .. })) => Some(None),
            (Cue::Change, Message::MasterRequest { body, .. }) => {
                (body.is_change() && !matches!(body, MasterRequest::AbortUpload { .. })).then_some(None)
            }
            _ => None,
        }
    }
}

/// Where a cue came, and which chunk it was about.
pub(crate) type Came = (String, Option<ChunkId>);

/// Sees cues as they come.
#[derive(Clone, Debug, Default)]
pub struct Stagehand(Arc<Mutex<Waiting>>);

#[derive(Debug, Default)]
struct Waiting {
    next: u64,
    all: BTreeMap<u64, Wait>,
    /// Who got bytes of a chunk from a writer.
    written: BTreeMap<ChunkId, BTreeSet<String>>,
    /// What each chunkserver was told to seal last.
    sealed: BTreeMap<String, ChunkId>,
}

#[derive(Debug)]
struct Wait {
    cue: Cue,
    at: Option<String>,
    came: Option<Came>,
    waker: Option<Waker>,
}

/// A place in the waiting room: left when it is dropped.
struct Ticket<'a>(&'a Stagehand, u64);

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        self.0.lock().all.remove(&self.1);
    }
}

impl Stagehand {
    /// Watches a world from now on.
    pub fn watch(world: &World) -> Stagehand {
        let hand = Stagehand::default();
        let seen = hand.clone();
        world.observe_messages(move |_, from, to, message| {
            let Waiting { all, written, sealed, .. } = &mut *seen.lock();
            if let Some(Some(chunk)) = Cue::Data.is(message) {
                let nodes = written.entry(chunk).or_default();
                if !nodes.contains(to) {
                    nodes.insert(to.to_owned());
                }
            }
            if let Some(Some(chunk)) = Cue::Seal.is(message) {
                sealed.insert(to.to_owned(), chunk);
            }
            for wait in all.values_mut().filter(|wait| wait.came.is_none()) {
                let Some(chunk) = wait.cue.is(message) else { continue };
                let node = if wait.cue == Cue::Damage { from } else { to };
                let here = wait.at.as_deref().is_none_or(|at| at == node);
                let is_it = here
                    && match wait.cue {
                        Cue::CopyOver => chunk
                            .and_then(|chunk| written.get(&chunk))
                            .is_some_and(|nodes| nodes.contains(to)),
                        Cue::DropLast => sealed.get(to).copied() == chunk,
                        _ => true,
                    };
                if is_it {
                    wait.came = Some((node.to_owned(), chunk));
                    if let Some(waker) = wait.waker.take() {
                        waker.wake();
                    }
                }
            }
        });
        hand
    }

    /// Waits for a cue, if told so at one node only; where it came, and the chunk that it was about.
    pub(crate) async fn wait(&self, cue: Cue, at: Option<String>) -> Came {
        let ticket = {
            let mut waiting = self.lock();
            waiting.next += 1;
            let number = waiting.next;
            waiting.all.insert(number, Wait { cue, at, came: None, waker: None });
            Ticket(self, number)
        };
        poll_fn(|context| {
            let mut waiting = self.lock();
            let Some(wait) = waiting.all.get_mut(&ticket.1) else { return Poll::Pending };
            match wait.came.take() {
                Some(came) => Poll::Ready(came),
                None => {
                    wait.waker = Some(context.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        lock(&self.0)
    }
}
