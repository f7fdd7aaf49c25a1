//! The network. The fault model, all of it:
//!
//! - **Connections** carry messages in order in each direction, each with a drawn latency. A dial takes a round trip.
//! - **Refusal.** Nobody runs at the address: the dialler loses the connection after a round trip; without power there, after
//!   a connect timeout.
//! - **Reset.** What is under way is lost in both directions. Each end learns of it on its own, and drops what it sends
//!   until then. A dead process resets its connections; a machine without power leaves its peers to find out by themselves.
//! - **Partition**, of both directions or one: messages are held as TCP holds them, and come late if it heals in time; after
//!   a drawn time TCP gives up and the connection is reset. Dials time out if either direction is cut.
//! - **Slow and lossy links.** A lost packet is sent again: it and those behind it come later.
//! - **Corruption.** One bit of a data frame is flipped. The receiver must close the connection; if it accepts the frame, the
//!   run fails.
//! - **Close.** What was sent before arrives, then the other end loses the connection. So it is, half of the time, for what a
//!   killed process had sent: its kernel still delivers it.
//! - **Stall** (`network/hostile.rs`): one direction of the connections that exist stands still while others pass, as when one
//!   path of several is broken: no order holds between two connections.
//! - **Zombie** (same file): a sender loses a connection while what it sent stays under way: it arrives late, from a sender
//!   that has long since dialled anew, or died.
//! - **Replay** (same file): what opened a chunk is said again over a connection of its own, at any later time, to whoever
//!   runs there then: a writer that retries with an old grant. Answers go nowhere. So may a request to the master.
//! - **Repeated records**: a writer sends a record twice in a row ([`Link::repeat_per_million`]).
//! - **Unary calls** ([`crate::Options::unary_master_calls`]): each request to a master is a connection of its own, which the
//!   reply ends; a broken one is answered `MasterError::Unavailable`.
//!
//! Not modelled: backpressure (machines bound what they send), reordered messages within a connection (TCP).

mod hostile;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use cairn_core::error::MasterError;
use cairn_core::id::{Address, ConnId, Peer, RequestId};
use cairn_core::message::Message;
use cairn_core::rng::Rng;
use cairn_core::time::{Span, Time};

use crate::event::{Event, LinkId};
use crate::node::{Item, NodeIx};
use crate::options::Link;
use crate::parcel::{Parcel, master_request};
use crate::record::{HappeningId, What};
use crate::world::State;

/// First retransmission of a lost packet.
const RETRANSMIT: Span = Span::from_ms(200);
/// Dials to where nothing answers end after so long.
const CONNECT_TIMEOUT_MS: (u64, u64) = (1_000, 3_000);
/// Connections across a partition end after so long.
const GIVE_UP_MS: (u64, u64) = (2_000, 15_000);
/// How much later one end may learn of a silent loss.
const SILENT_LOSS_MS: (u64, u64) = (0, 8_000);

/// One end of a connection.
#[derive(Clone, Copy, Debug)]
struct End {
    node: NodeIx,
    life: u64,
    /// Needs no more telling: closed by itself, told, or dead.
    done: bool,
}

/// A connection. End 0 dialled, end 1 listens.
#[derive(Debug)]
pub(crate) struct Connection {
    ends: [End; 2],
    address: Address,
    unary: Option<RequestId>,
    /// Sent and not arrived, by sending end, with the sending if events are kept.
    under_way: [VecDeque<(Parcel, Option<HappeningId>)>; 2],
    /// Arrivals that a partition or a stall held back, by sending end.
    owed: [u32; 2],
    /// By sending end: what it sends stands still.
    stalled: [bool; 2],
    /// An end lost it while what that one had sent goes on to the other.
    orphaned: Option<u8>,
    last_arrival: [Time; 2],
    connected: bool,
    /// The listening machine has seen it.
    seen: bool,
    broken: bool,
    /// TCP's patience is running out.
    giving_up: bool,
}

impl Connection {
    /// A connection that the listening end has not seen yet.
    fn new(ends: [End; 2], address: Address, unary: Option<RequestId>, earliest: Time) -> Connection {
        Connection {
            broken: ends[1].done,
            ends,
            address,
            unary,
            under_way: Default::default(),
            owed: [0; 2],
            stalled: [false; 2],
            orphaned: None,
            last_arrival: [earliest; 2],
            connected: false,
            seen: false,
            giving_up: false,
        }
    }
}

/// All connections and what is wrong with the links.
#[derive(Debug)]
pub(crate) struct Network {
    pub(crate) connections: BTreeMap<LinkId, Connection>,
    next_link: LinkId,
    pub(crate) default_link: Link,
    pub(crate) links: BTreeMap<(NodeIx, NodeIx), Link>,
    pub(crate) cut: BTreeSet<(NodeIx, NodeIx)>,
    pub(crate) corrupt_next: BTreeSet<(NodeIx, NodeIx)>,
    heard: hostile::Heard,
    rng: Rng,
}

impl Network {
    pub(crate) fn new(seed: u64, default_link: Link) -> Network {
        Network {
            connections: BTreeMap::new(),
            next_link: 1,
            default_link,
            links: BTreeMap::new(),
            cut: BTreeSet::new(),
            corrupt_next: BTreeSet::new(),
            heard: hostile::Heard::default(),
            rng: Rng::stream(seed, "network"),
        }
    }

    fn link(&self, from: NodeIx, to: NodeIx) -> Link {
        if self.links.is_empty() {
            return self.default_link;
        }
        self.links.get(&(from, to)).copied().unwrap_or(self.default_link)
    }

    fn is_cut(&self, from: NodeIx, to: NodeIx) -> bool {
        !self.cut.is_empty() && self.cut.contains(&(from, to))
    }

    fn latency(&mut self, from: NodeIx, to: NodeIx) -> Span {
        let link = self.link(from, to);
        Span(link.latency_us * 1_000 + self.rng.below(link.jitter_us * 1_000 + 1))
    }

    fn between_ms(&mut self, (low, high): (u64, u64)) -> Span {
        Span(self.rng.between(low * 1_000_000, high * 1_000_000))
    }

    /// When a message sent now arrives.
    fn arrival(&mut self, now: Time, from: NodeIx, to: NodeIx) -> Time {
        let link = self.link(from, to);
        let mut at = now + self.latency(from, to);
        let mut wait = RETRANSMIT;
        while link.loss_per_million > 0
            && wait.0 < 30_000_000_000
            && self.rng.chance(u64::from(link.loss_per_million), 1_000_000)
        {
            at = at + wait;
            wait = Span(wait.0 * 2);
        }
        at
    }
}

impl State {
    /// Carries out a machine's send.
    pub(crate) fn send(&mut self, now: Time, from: NodeIx, to: Peer, message: Message) {
        match to {
            Peer::Conn(ConnId(link)) => {
                let to = self.network.connections.get(&link).map(|c| c.ends[0].node);
                let parcel = Parcel::pack(&message);
                let sent = self.record_send(now, from, to, message);
                self.push(now, link, 1, from, parcel, sent);
            }
            Peer::Dial(address) => {
                let unary = if self.options.unary_master_calls { master_request(&message) } else { None };
                let known = if unary.is_some() {
                    None
                } else {
                    self.nodes[usize::from(from)].dialled.get(&address).copied()
                };
                let link = known.unwrap_or_else(|| self.dial(now, from, address, unary));
                let parcel = Parcel::pack(&message);
                let to = self.network.connections.get(&link).map(|c| c.ends[1].node);
                let again = self.overhear(link, &message, &parcel).then(|| parcel.clone());
                let sent = self.record_send(now, from, to, message);
                self.push(now, link, 0, from, parcel, sent);
                if let Some(again) = again {
                    self.faults.repeats += 1;
                    self.push(now, link, 0, from, again, sent);
                }
            }
        }
    }

    fn record_send(
        &mut self,
        now: Time,
        from: NodeIx,
        to: Option<NodeIx>,
        message: Message,
    ) -> Option<HappeningId> {
        let recorder = self.trace.recorder.as_mut()?;
        Some(recorder.effect(now, from, What::Sent { to, message: Box::new(message) }))
    }

    fn dial(&mut self, now: Time, from: NodeIx, address: Address, unary: Option<RequestId>) -> LinkId {
        let link = self.network.next_link;
        self.network.next_link += 1;
        let target = self.by_name.get(&*address.0).copied();
        let to = target.unwrap_or(from);
        let there = self.network.latency(from, to);
        let back = self.network.latency(to, from);
        let life = |node: NodeIx| self.nodes[usize::from(node)].life;
        let ends = [
            End { node: from, life: life(from), done: false },
            End { node: to, life: life(to), done: target.is_none() },
        ];
        let connection = Connection::new(ends, address.clone(), unary, now + there + back);
        self.network.connections.insert(link, connection);
        if unary.is_none() {
            self.nodes[usize::from(from)].dialled.insert(address, link);
        }
        if target.is_none() {
            self.events.at(now + there + back, Event::Lost { link, end: 0 });
        } else {
            self.events.at(now + there, Event::Connect { link });
        }
        link
    }

    /// Puts a parcel on the wire.
    fn push(
        &mut self,
        now: Time,
        link: LinkId,
        end: u8,
        sender: NodeIx,
        mut parcel: Parcel,
        sent: Option<HappeningId>,
    ) {
        let e = usize::from(end);
        let Some(connection) = self.network.connections.get(&link) else { return };
        let (own, other) = (connection.ends[e], connection.ends[1 - e]);
        assert!(own.node == sender, "a node sent on a connection of another");
        let given_up = connection.orphaned == Some(end);
        if connection.broken || given_up || own.done || own.life != self.nodes[usize::from(sender)].life {
            self.faults.dropped_messages += 1;
            return;
        }
        let chance = self.network.link(own.node, other.node).corrupt_per_million;
        let unlucky = chance > 0 && self.network.rng.chance(u64::from(chance), 1_000_000);
        let chosen = !self.network.corrupt_next.is_empty()
            && self.network.corrupt_next.contains(&(own.node, other.node));
        if (unlucky || chosen) && parcel.corrupt(self.network.rng.u64()) {
            self.network.corrupt_next.remove(&(own.node, other.node));
            self.faults.corrupted_frames += 1;
        }
        let arrival = self.network.arrival(now, own.node, other.node);
        let connection = self.network.connections.get_mut(&link).expect("it was there");
        let at = arrival.max(connection.last_arrival[e]);
        connection.last_arrival[e] = at;
        connection.under_way[e].push_back((parcel, sent));
        self.events.at(at, Event::Arrive { link, from: end });
    }

    /// The dial reaches its target.
    pub(crate) fn on_connect(&mut self, now: Time, link: LinkId) {
        let Some(connection) = self.network.connections.get(&link).filter(|c| !c.broken) else { return };
        let (from, to) = (connection.ends[0].node, connection.ends[1].node);
        let target = &self.nodes[usize::from(to)];
        let (runs, dark, life) = (target.runs(), target.dark, target.life);
        if dark || self.network.is_cut(from, to) || self.network.is_cut(to, from) {
            let wait = self.network.between_ms(CONNECT_TIMEOUT_MS);
            self.break_link(now, link, [Some(wait), None]);
        } else if runs {
            let connection = self.network.connections.get_mut(&link).expect("it was there");
            connection.connected = true;
            connection.ends[1].life = life;
        } else {
            let back = self.network.latency(to, from);
            self.break_link(now, link, [Some(back), None]);
        }
    }

    /// The oldest message under way arrives, unless a partition holds it.
    pub(crate) fn on_arrive(&mut self, now: Time, link: LinkId, from: u8) {
        let e = usize::from(from);
        let Some(connection) = self.network.connections.get(&link).filter(|c| !c.broken) else { return };
        let (source, target, stalled) = (connection.ends[e], connection.ends[1 - e], connection.stalled[e]);
        if self.network.is_cut(source.node, target.node) || self.network.is_cut(target.node, source.node) {
            self.start_giving_up(now, link);
        }
        if stalled || self.network.is_cut(source.node, target.node) {
            self.faults.held_messages += 1;
            self.network.connections.get_mut(&link).expect("it was there").owed[e] += 1;
            return;
        }
        self.hand_over(now, link, e);
    }

    fn start_giving_up(&mut self, now: Time, link: LinkId) {
        let wait = self.network.between_ms(GIVE_UP_MS);
        let connection = self.network.connections.get_mut(&link).expect("only of known connections");
        if !connection.giving_up {
            connection.giving_up = true;
            self.events.at(now + wait, Event::GiveUp { link });
        }
    }

    /// Gives the oldest message under way from end `e` to the other end's machine.
    fn hand_over(&mut self, now: Time, link: LinkId, e: usize) {
        let Some(connection) = self.network.connections.get_mut(&link) else { return };
        let Some((parcel, sent)) = connection.under_way[e].pop_front() else { return };
        let (source, target) = (connection.ends[e], connection.ends[1 - e]);
        if target.done {
            self.faults.dropped_messages += 1;
            return;
        }
        if matches!(parcel, Parcel::End) {
            self.tell_lost(link, 1 - e);
            return;
        }
        let Some(message) = parcel.open() else {
            let waits = [Some(self.network.latency(source.node, target.node)), Some(Span(1_000))];
            self.break_link(now, link, if e == 0 { waits } else { [waits[1], waits[0]] });
            return;
        };
        let connection = self.network.connections.get_mut(&link).expect("it was there");
        let peer = if e == 0 {
            connection.seen = true;
            Peer::Conn(ConnId(link))
        } else {
            Peer::Dial(connection.address.clone())
        };
        if e == 1 && connection.unary.is_some() {
            self.network.connections.remove(&link);
        }
        self.nodes[usize::from(target.node)].deliver(Item::Message {
            peer,
            sender: source.node,
            message,
            sent,
        });
    }

    /// A partition or a stall has ended: what it held comes now.
    pub(crate) fn on_release(&mut self, now: Time, link: LinkId, from: u8) {
        let e = usize::from(from);
        while let Some(connection) =
            self.network.connections.get(&link).filter(|c| !c.broken && !c.stalled[e] && c.owed[e] > 0)
        {
            let (source, target) = (connection.ends[e].node, connection.ends[1 - e].node);
            if self.network.is_cut(source, target) {
                return;
            }
            self.network.connections.get_mut(&link).expect("it was there").owed[e] -= 1;
            self.hand_over(now, link, e);
        }
    }

    /// TCP gives up on a connection across a partition.
    pub(crate) fn on_give_up(&mut self, now: Time, link: LinkId) {
        let Some(connection) = self.network.connections.get_mut(&link).filter(|c| !c.broken) else { return };
        connection.giving_up = false;
        let (a, b) = (connection.ends[0].node, connection.ends[1].node);
        if self.network.is_cut(a, b) || self.network.is_cut(b, a) {
            self.faults.resets += 1;
            let waits =
                [self.network.between_ms(SILENT_LOSS_MS), self.network.between_ms(SILENT_LOSS_MS)].map(Some);
            self.break_link(now, link, waits);
        }
    }

    /// Breaks a connection; each end that is not done learns of it after its wait (`None`: need not be told).
    pub(crate) fn break_link(&mut self, now: Time, link: LinkId, waits: [Option<Span>; 2]) {
        let Some(connection) = self.network.connections.get_mut(&link) else { return };
        if connection.broken {
            return;
        }
        connection.broken = true;
        self.faults.dropped_messages +=
            connection.under_way.iter().map(|queue| queue.len() as u64).sum::<u64>();
        connection.under_way.iter_mut().for_each(VecDeque::clear);
        for (end, wait) in waits.into_iter().enumerate() {
            match wait {
                Some(wait) if !connection.ends[end].done => {
                    self.events.at(now + wait, Event::Lost { link, end: end as u8 });
                }
                _ => connection.ends[end].done = true,
            }
        }
        self.forget_if_done(link);
    }

    fn forget_if_done(&mut self, link: LinkId) {
        if self.network.connections.get(&link).is_some_and(|c| c.ends[0].done && c.ends[1].done) {
            self.network.connections.remove(&link);
        }
    }

    /// An end learns that its connection is gone.
    pub(crate) fn on_lost(&mut self, link: LinkId, end: u8) {
        self.tell_lost(link, usize::from(end));
    }

    fn tell_lost(&mut self, link: LinkId, e: usize) {
        let Some(connection) = self.network.connections.get_mut(&link) else { return };
        let end = connection.ends[e];
        let other = connection.ends[1 - e].node;
        connection.broken |= connection.orphaned != Some(e as u8);
        if end.done || self.nodes[usize::from(end.node)].life != end.life {
            connection.ends[e].done = true;
            self.forget_if_done(link);
            return;
        }
        let node = usize::from(end.node);
        match (e, connection.unary) {
            (0, Some(request)) => {
                connection.ends[0].done = true;
                let peer = Peer::Dial(connection.address.clone());
                let result = Err(MasterError::Unavailable("connection lost".into()));
                let message = Message::MasterReply { request, result };
                self.nodes[node].deliver(Item::Message { peer, sender: other, message, sent: None });
            }
            (0, None) => {
                let peer = Peer::Dial(connection.address.clone());
                self.nodes[node].deliver(Item::Lost { peer, other, link });
            }
            _ => {
                connection.ends[1].done = true;
                if connection.seen {
                    self.nodes[node].deliver(Item::Lost { peer: Peer::Conn(ConnId(link)), other, link });
                }
            }
        }
        self.forget_if_done(link);
    }

    /// The machine takes the news from its mailbox: its next send dials again.
    pub(crate) fn on_loss_taken(&mut self, node: NodeIx, peer: &Peer, link: LinkId) {
        if let Peer::Dial(address) = peer {
            let dialled = &mut self.nodes[usize::from(node)].dialled;
            if dialled.get(address) == Some(&link) {
                dialled.remove(address);
            }
            if let Some(connection) = self.network.connections.get_mut(&link) {
                connection.ends[0].done = true;
            }
            self.forget_if_done(link);
        }
    }

    /// A machine closes a connection.
    pub(crate) fn close(&mut self, now: Time, node: NodeIx, peer: &Peer) {
        let (link, e) = match peer {
            Peer::Conn(ConnId(link)) => (*link, 1),
            Peer::Dial(address) => match self.nodes[usize::from(node)].dialled.remove(address) {
                Some(link) => (link, 0),
                None => return,
            },
        };
        self.push(now, link, e as u8, node, Parcel::End, None);
        if let Some(connection) = self.network.connections.get_mut(&link) {
            connection.ends[e].done = true;
        }
        self.forget_if_done(link);
    }

    /// The process of `node` is gone: its connections break.
    pub(crate) fn drop_connections_of(&mut self, now: Time, node: NodeIx, silent: bool) {
        let links: Vec<LinkId> = (self.network.connections.iter())
            .filter(|(_, c)| c.ends.iter().any(|end| end.node == node))
            .map(|(link, _)| *link)
            .collect();
        for link in links {
            let Some(connection) = self.network.connections.get_mut(&link) else { continue };
            let ends = connection.ends;
            if !connection.connected && ends[1].node == node && ends[0].node != node {
                continue;
            }
            if !silent && self.outlives(now, link, node) {
                continue;
            }
            let Some(connection) = self.network.connections.get_mut(&link) else { continue };
            let mut waits = [None, None];
            for e in [0, 1] {
                if ends[e].node == node {
                    connection.ends[e].done = true;
                } else {
                    waits[e] = Some(if silent {
                        self.network.rng.between(SILENT_LOSS_MS.0 * 1_000_000, SILENT_LOSS_MS.1 * 1_000_000)
                    } else {
                        100_000 + self.network.rng.below(1_000_000)
                    });
                }
            }
            if self.network.connections[&link].broken {
                self.forget_if_done(link);
            } else {
                self.break_link(now, link, waits.map(|wait| wait.map(Span)));
            }
        }
    }

    /// Resets the connections between two nodes.
    pub(crate) fn reset(&mut self, now: Time, a: NodeIx, b: NodeIx) {
        let links: Vec<LinkId> = (self.network.connections.iter())
            .filter(|(_, c)| {
                let ends = (c.ends[0].node, c.ends[1].node);
                !c.broken && (ends == (a, b) || ends == (b, a))
            })
            .map(|(link, _)| *link)
            .collect();
        for link in links {
            self.faults.resets += 1;
            let waits = [self.network.latency(a, b), self.network.latency(b, a)].map(Some);
            self.break_link(now, link, waits);
        }
    }

    /// Schedules what partitions held and no longer hold.
    pub(crate) fn release_held(&mut self, now: Time) {
        let held: Vec<(LinkId, u8)> = (self.network.connections.iter())
            .flat_map(|(link, c)| (0..2_u8).filter(|e| c.owed[usize::from(*e)] > 0).map(|e| (*link, e)))
            .collect();
        for (link, from) in held {
            let wait = Span(self.network.rng.below(RETRANSMIT.0));
            self.events.at(now + wait, Event::Release { link, from });
        }
    }
}
