//! All node states and messages met so far, and what follows from what. Each local step is taken once and remembered: nodes
//! are deterministic, so the same node state given the same input always does the same.

use std::collections::HashMap;
use std::sync::Arc;

use cairn_core::id::{Address, ConnId, Peer};
use cairn_core::message::{AppendMessage, FromServer, Message, ToServer};

use super::fingerprint::{Direct, fingerprint};
use super::node::{Happening, Maker, Node, Reaction};
use super::writer::Act;
use crate::cluster::SIDECAR;

/// Peers that dial are counted from here; the others are connections.
const DIALLED: u32 = 1 << 24;

/// What happens to a node, in numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Local {
    Message { peer: u32, message: u32 },
    Lost { peer: u32 },
    Completed(u32),
    Wake,
    Tick,
    Act(Act),
}

/// What came of it.
#[derive(Clone, Debug)]
pub(super) struct Done {
    pub(super) node: u32,
    pub(super) sends: Vec<(u32, u32)>,
    pub(super) closes: Vec<u32>,
    pub(super) fault: Option<Arc<str>>,
    /// Operations that a prompt disk carried out.
    pub(super) operations: u8,
}

/// A variant of a node's death or return.
#[derive(Clone, Debug)]
pub(super) struct Variant {
    pub(super) name: Arc<str>,
    pub(super) done: Done,
    /// The disk was lost with it.
    pub(super) loss: bool,
    /// It died again on the way: killed (`false`) or by a power cut.
    pub(super) died: Option<bool>,
}

/// What there is besides global states.
#[derive(Default)]
struct Tables {
    nodes: Vec<Arc<Node>>,
    node_numbers: HashMap<u128, u32, Direct>,
    messages: Vec<Message>,
    message_numbers: HashMap<u128, u32, Direct>,
    done: HashMap<(u32, Local, u8), Done, Direct>,
    deaths: HashMap<(u32, bool), Arc<[Variant]>, Direct>,
    deaths_within: HashMap<(u32, Local, bool), Arc<[Variant]>, Direct>,
    returns: HashMap<(u32, u32), Arc<[Variant]>, Direct>,
}

/// The nodes' names, and everything met so far.
pub(super) struct World {
    pub(super) names: Vec<Address>,
    pub(super) maker: Maker,
    /// Whether disks are prompt.
    prompt: bool,
    tables: Tables,
}

impl World {
    pub(super) fn new(names: Vec<Address>, maker: Maker, prompt: bool) -> World {
        World { names, maker, prompt, tables: Tables::default() }
    }

    /// Different node states and messages.
    pub(super) fn sizes(&self) -> (usize, usize) {
        (self.tables.nodes.len(), self.tables.messages.len())
    }

    pub(super) fn node(&self, number: u32) -> &Arc<Node> {
        &self.tables.nodes[number as usize]
    }

    pub(super) fn message(&self, number: u32) -> &Message {
        &self.tables.messages[number as usize]
    }

    pub(super) fn intern(&mut self, node: Node) -> u32 {
        let next = self.tables.nodes.len() as u32;
        let number = *self.tables.node_numbers.entry(fingerprint(&node)).or_insert(next);
        if number == next {
            self.tables.nodes.push(Arc::new(node));
        }
        number
    }

    pub(super) fn intern_message(&mut self, message: Message) -> u32 {
        let next = self.tables.messages.len() as u32;
        let number = *self.tables.message_numbers.entry(fingerprint(&message)).or_insert(next);
        if number == next {
            self.tables.messages.push(message);
        }
        number
    }

    pub(super) fn dialled(&self, node: usize) -> u32 {
        DIALLED + node as u32
    }

    fn number_of(&self, peer: &Peer) -> u32 {
        match peer {
            Peer::Conn(conn) => conn.0 as u32,
            Peer::Dial(address) => {
                let at = self.names.iter().position(|name| name == address);
                self.dialled(at.unwrap_or(usize::from(u16::MAX)))
            }
        }
    }

    fn peer(&self, number: u32) -> Peer {
        match number.checked_sub(DIALLED) {
            Some(node) => Peer::Dial(self.names[node as usize].clone()),
            None => Peer::Conn(ConnId(u64::from(number))),
        }
    }

    /// The node behind a dialled peer's number, or the connection's.
    pub(super) fn target(number: u32) -> Result<usize, u64> {
        number.checked_sub(DIALLED).map(|node| node as usize).ok_or(u64::from(number))
    }

    fn done(&mut self, node: Node, reaction: Reaction) -> Done {
        let mut sends = Vec::new();
        for (peer, message) in reaction.sends {
            let peer = self.number_of(&peer);
            sends.push((peer, self.intern_message(message)));
        }
        let closes = reaction.closes.iter().map(|peer| self.number_of(peer)).collect();
        let fault = reaction.fault.map(Arc::from);
        Done { node: self.intern(node), sends, closes, fault, operations: 0 }
    }

    /// What a node does when something happens to it. On a prompt disk the operation `slow`, counted from 1, stays under way.
    pub(super) fn happen(&mut self, node: u32, local: Local, slow: u8) -> Done {
        if let Some(done) = self.tables.done.get(&(node, local, slow)) {
            return done.clone();
        }
        let happening = self.happening(local);
        let mut next = Node::clone(self.node(node));
        let (reaction, operations) =
            if self.prompt { next.happen_promptly(happening, slow) } else { (next.happen(happening), 0) };
        let done = Done { operations, ..self.done(next, reaction) };
        self.tables.done.insert((node, local, slow), done.clone());
        done
    }

    fn happening(&self, local: Local) -> Happening {
        match local {
            Local::Message { peer, message } => {
                Happening::Message(self.peer(peer), self.message(message).clone())
            }
            Local::Lost { peer } => Happening::Lost(self.peer(peer)),
            Local::Completed(at) => Happening::Completed(at as usize),
            Local::Wake => Happening::Wake,
            Local::Tick => Happening::Tick,
            Local::Act(act) => Happening::Act(act),
        }
    }

    /// The ways in which a node's process can die while its prompt disk carries out what follows from something.
    pub(super) fn deaths_within(&mut self, node: u32, local: Local, power: bool) -> Arc<[Variant]> {
        if let Some(deaths) = self.tables.deaths_within.get(&(node, local, power)) {
            return deaths.clone();
        }
        let mut variants = Vec::new();
        for (name, left, reaction) in Node::clone(self.node(node)).deaths_within(self.happening(local), power)
        {
            self.add_variant(&mut variants, &name, left, reaction, (false, None));
        }
        let variants: Arc<[Variant]> = variants.into();
        self.tables.deaths_within.insert((node, local, power), variants.clone());
        variants
    }

    /// The ways in which a node's process can die.
    pub(super) fn deaths(&mut self, node: u32, power: bool) -> Arc<[Variant]> {
        if let Some(deaths) = self.tables.deaths.get(&(node, power)) {
            return deaths.clone();
        }
        let mut variants: Vec<Variant> = Vec::new();
        for (name, left) in self.node(node).clone().deaths(power) {
            self.add_variant(&mut variants, &name, left, Reaction::default(), (false, None));
        }
        let variants: Arc<[Variant]> = variants.into();
        self.tables.deaths.insert((node, power), variants.clone());
        variants
    }

    /// The ways in which it can come back: as it was, with its disk blank or rotten, or dead again on the way.
    pub(super) fn returns(&mut self, node: u32, at: usize, chunk_file: Option<&str>) -> Arc<[Variant]> {
        if let Some(returns) = self.tables.returns.get(&(node, at as u32)) {
            return returns.clone();
        }
        let (maker, name) = (self.maker, self.names[at].0.clone());
        let down = Node::clone(self.node(node));
        let mut variants = Vec::new();
        let (back, reaction) = down.restarted(maker, &name);
        self.add_variant(&mut variants, "", back, reaction, (false, None));
        if let Some(prefix) = chunk_file {
            let (back, reaction) = down.with_blank_disk().restarted(maker, &name);
            self.add_variant(&mut variants, "with a blank disk", back, reaction, (true, None));
            for file in down.disk.find(prefix).into_iter().chain(down.disk.find("journal-")) {
                let mut rotten = down.clone();
                if !file.ends_with(SIDECAR) && rotten.disk.rot(&file) {
                    let (back, reaction) = rotten.restarted(maker, &name);
                    let how = format!("with a rotten byte in {file}");
                    self.add_variant(&mut variants, &how, back, reaction, (true, None));
                }
            }
        }
        for power in [false, true] {
            for (steps, left) in down.restarts_cut_short(maker, &name, power) {
                let how = if power { "the power fails" } else { "it is killed" };
                let name = format!("and after {steps} disk operations {how} again");
                self.add_variant(&mut variants, &name, left, Reaction::default(), (false, Some(power)));
            }
        }
        let variants: Arc<[Variant]> = variants.into();
        self.tables.returns.insert((node, at as u32), variants.clone());
        variants
    }

    fn add_variant(
        &mut self,
        variants: &mut Vec<Variant>,
        name: &str,
        node: Node,
        reaction: Reaction,
        (loss, died): (bool, Option<bool>),
    ) {
        let done = self.done(node, reaction);
        let same = |other: &Variant| {
            (other.done.node, &other.done.sends, &other.done.closes) == (done.node, &done.sends, &done.closes)
                && (other.loss, other.died) == (loss, died)
        };
        if !variants.iter().any(same) {
            variants.push(Variant { name: name.into(), done, loss, died });
        }
    }
}

/// Whether the network may hold a copy of this back: what the protocol's rules must withstand.
pub(super) fn may_come_late(message: &Message) -> bool {
    match message {
        Message::Append(AppendMessage::Committed { .. } | AppendMessage::Failed { .. }) => false,
        Message::Append(_) => true,
        Message::ToServer(order) => {
            matches!(order, ToServer::Fence { .. } | ToServer::Complete { .. } | ToServer::Seal { .. })
        }
        Message::FromServer(told) => matches!(told, FromServer::Vote { .. }),
        _ => false,
    }
}
