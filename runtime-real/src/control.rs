//! Joins the control plane (gRPC) to a node's mailbox.

use cairn_core::id::{Address, ConnId, Peer};
use cairn_core::machine::Machine;
use cairn_core::message::Message;

use crate::environment::Control;
use crate::grpc::{Inbox, Outgoing};
use crate::mailbox::{Mailbox, Sink};

impl<M> Inbox for Mailbox<M>
where
    M: Machine + 'static,
    M::Request: Send,
    M::Response: Send,
{
    fn message(&self, from: Peer, message: Message) {
        Mailbox::message(self, from, message);
    }

    fn lost(&self, peer: Peer) {
        Mailbox::lost(self, peer);
    }

    fn new_conn(&self, sink: Sink) -> ConnId {
        Mailbox::new_conn(self, sink)
    }
}

impl<I: Inbox> Control for Outgoing<I> {
    fn send(&mut self, address: Address, message: Message) {
        Outgoing::send(self, address, message);
    }

    fn close(&mut self, address: &Address) {
        Outgoing::close(self, address);
    }
}
