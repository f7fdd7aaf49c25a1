//! The control plane over gRPC: clients and chunkservers towards the master.
//!
//! Every unary call is a connection of its own to the machine: opened with the request, lost with the reply. A
//! chunkserver's session stream is one connection for as long as it lasts.

mod client;
mod reach;
mod server;
mod silence;
#[cfg(test)]
mod tests;

use std::time::Duration;

use cairn_core::id::{ConnId, Peer};
use cairn_core::message::Message;

pub(crate) use client::Outgoing;
pub(crate) use server::serve;
pub(crate) use silence::Silence;

/// A request unanswered for so long has an unknown fate.
const DEADLINE: Duration = Duration::from_secs(60);
/// How often a silent connection is pinged, and how long a ping may take: a dead peer is noticed after both.
const KEEPALIVE: Duration = Duration::from_secs(5);
/// The largest request of a client in bytes. Far smaller than replies and reports may be: decoding multiplies.
const MAX_REQUEST_BYTES: usize = 1024 * 1024;

/// Takes messages towards the other end of a connection; dropped to close it.
pub(crate) type Sink = Box<dyn FnMut(Message) + Send>;

/// Where a node's inputs go. Calls never block, and what they tell reaches the machine in the order of the calls.
pub(crate) trait Inbox: Clone + Send + Sync + 'static {
    /// A message arrived.
    fn message(&self, from: Peer, message: Message);
    /// A connection ended.
    fn lost(&self, peer: Peer);
    /// A connection was accepted; `sink` carries answers to it.
    fn new_conn(&self, sink: Sink) -> ConnId;
}

/// The service traits and servers, generated.
#[allow(missing_docs, unreachable_pub, clippy::all)]
mod service {
    include!(concat!(env!("OUT_DIR"), "/cairn.v1.rs"));
}
