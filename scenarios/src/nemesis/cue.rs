//! Moments that a strike can wait for: the narrow gaps between a message and what must be durable before its answer.

use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

use cairn_core::message::{AppendMessage, MasterRequest, Message, ToServer};
use runtime_sim::World;
use serde::{Deserialize, Serialize};

/// Something that arrives somewhere; the node where it does is `Target::Cued`.
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
    /// The master gets a change of the namespace.
    Change,
}

impl Cue {
    /// All of them.
    pub const EACH: [Cue; 7] =
        [Cue::Open, Cue::Data, Cue::Fence, Cue::Vote, Cue::Seal, Cue::Copy, Cue::Change];

    fn is(self, message: &Message) -> bool {
        match (self, message) {
            (Cue::Open, Message::Append(AppendMessage::Open { .. }))
            | (Cue::Data, Message::Append(AppendMessage::Data { .. }))
            | (Cue::Fence, Message::ToServer(ToServer::Fence { .. }))
            | (Cue::Seal, Message::ToServer(ToServer::Seal { .. }))
            | (Cue::Copy, Message::ToServer(ToServer::Copy { .. }))
            | (Cue::Vote, Message::FromServer(cairn_core::message::FromServer::Vote { .. })) => true,
            (Cue::Change, Message::MasterRequest { body, .. }) => {
                body.is_change() && !matches!(body, MasterRequest::AbortUpload { .. })
            }
            _ => false,
        }
    }
}

/// Sees cues as they come.
#[derive(Clone, Debug, Default)]
pub struct Stagehand(Arc<Mutex<Waiting>>);

#[derive(Debug, Default)]
struct Waiting {
    cue: Option<Cue>,
    came_to: Option<String>,
    waker: Option<Waker>,
}

impl Stagehand {
    /// Watches a world from now on.
    pub fn watch(world: &World) -> Stagehand {
        let hand = Stagehand::default();
        let seen = hand.clone();
        world.observe_messages(move |_, _, to, message| {
            let mut waiting = seen.lock();
            if waiting.came_to.is_none() && waiting.cue.is_some_and(|cue| cue.is(message)) {
                waiting.came_to = Some(to.to_owned());
                if let Some(waker) = waiting.waker.take() {
                    waker.wake();
                }
            }
        });
        hand
    }

    /// Waits for a cue; the node to which it came.
    pub async fn wait(&self, cue: Cue) -> String {
        *self.lock() = Waiting { cue: Some(cue), ..Waiting::default() };
        poll_fn(|context| {
            let mut waiting = self.lock();
            match waiting.came_to.take() {
                Some(node) => {
                    waiting.cue = None;
                    Poll::Ready(node)
                }
                None => {
                    waiting.waker = Some(context.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
