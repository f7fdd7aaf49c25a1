//! A node's outgoing connections of both planes.

use cairn_core::machine::Machine;

use crate::environment::{Control, Dialer};
use crate::mailbox::Mailbox;

/// How `mailbox`'s node reaches the nodes that it dials.
pub(crate) fn outgoing<M: Machine>(_mailbox: &Mailbox<M>, _limits: Option<()>) -> (Dialer, Control) {
    (Box::new(|_, _| Box::new(|_| {})), Box::new(|_, _| {}))
}
