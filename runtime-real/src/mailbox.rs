//! One mailbox for each node: the only way into its machine.
//!
//! The queue has no bound of its own. What flows through it is bounded elsewhere: payload bytes by the data plane's
//! budget, disk operations by the windows of the machines that ask for them, calls by their callers, who wait.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use cairn_core::id::{Address, ConnId, OpId, Peer};
use cairn_core::machine::{Input, Machine};
use cairn_core::message::Message;
use tokio::sync::{mpsc, oneshot};

/// Takes messages towards the other end of a connection; dropped to close it.
pub(crate) type Sink = Box<dyn FnMut(Message) + Send>;

/// What can come into a mailbox.
pub(crate) enum Event<M: Machine> {
    Input(Input<M::Request>),
    Call {
        request: M::Request,
        reply: oneshot::Sender<M::Response>,
    },
    Opened {
        conn: ConnId,
        sink: Sink,
    },
    /// An outgoing data connection ended. `link` tells it from a later one to the same address.
    LinkLost {
        address: Address,
        link: u64,
    },
    Stop,
}

/// The writing end, for connections, disks and callers.
pub(crate) struct Mailbox<M: Machine> {
    sender: mpsc::UnboundedSender<Event<M>>,
    conns: Arc<AtomicU64>,
}

impl<M: Machine> Clone for Mailbox<M> {
    fn clone(&self) -> Self {
        Mailbox { sender: self.sender.clone(), conns: self.conns.clone() }
    }
}

impl<M: Machine> fmt::Debug for Mailbox<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Mailbox")
    }
}

/// Both ends of a new mailbox.
pub(crate) fn mailbox<M: Machine>() -> (Mailbox<M>, mpsc::UnboundedReceiver<Event<M>>) {
    let (sender, receiver) = mpsc::unbounded_channel();
    (Mailbox { sender, conns: Arc::new(AtomicU64::new(1)) }, receiver)
}

impl<M: Machine> Mailbox<M> {
    /// A message arrived.
    pub(crate) fn message(&self, from: Peer, message: Message) {
        self.put(Event::Input(Input::Message { from, message }));
    }

    /// A connection ended.
    pub(crate) fn lost(&self, peer: Peer) {
        self.put(Event::Input(Input::PeerLost { peer }));
    }

    /// An outgoing data connection ended.
    pub(crate) fn link_lost(&self, address: Address, link: u64) {
        self.put(Event::LinkLost { address, link });
    }

    /// A connection was accepted; `sink` carries answers to it.
    pub(crate) fn new_conn(&self, sink: Sink) -> ConnId {
        let conn = ConnId(self.conns.fetch_add(1, Ordering::Relaxed));
        self.put(Event::Opened { conn, sink });
        conn
    }

    /// A disk operation ended.
    pub(crate) fn disk_done(&self, op: OpId, result: cairn_core::disk::DiskResult) {
        self.put(Event::Input(Input::DiskDone { op, result }));
    }

    /// Asks the machine; the answer fails when the node has ended.
    pub(crate) fn call(&self, request: M::Request) -> oneshot::Receiver<M::Response> {
        let (reply, answer) = oneshot::channel();
        self.put(Event::Call { request, reply });
        answer
    }

    /// Ends the node's loop at once, as a crash would.
    pub(crate) fn stop(&self) {
        self.put(Event::Stop);
    }

    fn put(&self, event: Event<M>) {
        // A node that has ended reads nothing: dropping the event is all that can be done, and a call's dropped `reply`
        // tells its caller.
        let _ = self.sender.send(event);
    }
}
