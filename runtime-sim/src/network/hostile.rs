//! What makes messages late, or come again. Within a connection their order holds; between two connections none does: one
//! of them may stand still, its sender may have given it up, dialled anew, or died, and a sender may say again what it said.

use std::collections::VecDeque;

use cairn_core::id::{Address, ChunkId, RequestId};
use cairn_core::message::{AppendMessage, Message};
use cairn_core::time::{Span, Time};

use super::{Connection, End};
use crate::event::{Event, LinkId};
use crate::node::NodeIx;
use crate::parcel::Parcel;
use crate::world::State;

/// Conversations that are remembered, the latest ones.
const CONVERSATIONS: usize = 32;
/// Messages remembered of each: what opens the chunk, and its first records.
const MESSAGES: usize = 9;
/// Requests to a master that are remembered.
const REQUESTS: usize = 512;

/// What was said, to be said again.
#[derive(Debug, Default)]
pub(super) struct Heard {
    conversations: VecDeque<Conversation>,
    requests: VecDeque<Request>,
}

/// How a chunk was opened and written.
#[derive(Clone, Debug)]
struct Conversation {
    from: NodeIx,
    to: NodeIx,
    chunk: ChunkId,
    parcels: Vec<Parcel>,
}

/// A change that a client asked a master for.
#[derive(Clone, Debug)]
struct Request {
    from: NodeIx,
    to: NodeIx,
    /// Which process of `to` it was said to.
    life: u64,
    request: RequestId,
    parcel: Parcel,
}

impl Heard {
    fn note_open(&mut self, from: NodeIx, to: NodeIx, chunk: ChunkId, parcel: &Parcel) {
        if self.conversations.len() == CONVERSATIONS {
            self.conversations.pop_front();
        }
        self.conversations.push_back(Conversation { from, to, chunk, parcels: vec![parcel.clone()] });
    }

    fn note_data(&mut self, from: NodeIx, to: NodeIx, chunk: ChunkId, parcel: &Parcel) {
        let same = |c: &&mut Conversation| c.chunk == chunk && c.from == from && c.to == to;
        if let Some(known) = self.conversations.iter_mut().rev().find(same)
            && known.parcels.len() < MESSAGES
        {
            known.parcels.push(parcel.clone());
        }
    }

    fn note_request(&mut self, request: Request) {
        if self.requests.len() == REQUESTS {
            self.requests.pop_front();
        }
        self.requests.push_back(request);
    }
}

impl State {
    /// Remembers what may come again. True if it comes again at once.
    pub(super) fn overhear(&mut self, link: LinkId, message: &Message, parcel: &Parcel) -> bool {
        let Some(connection) = self.network.connections.get(&link) else { return false };
        let (from, to) = (connection.ends[0].node, connection.ends[1].node);
        match message {
            Message::Append(AppendMessage::Open { grant, .. }) => {
                self.network.heard.note_open(from, to, grant.chunk, parcel);
                false
            }
            Message::Append(AppendMessage::Data { chunk, .. }) => {
                self.network.heard.note_data(from, to, *chunk, parcel);
                let chance = self.network.link(from, to).repeat_per_million;
                chance > 0 && self.network.rng.chance(u64::from(chance), 1_000_000)
            }
            Message::MasterRequest { request, body, .. } if body.is_change() => {
                let (request, parcel) = (*request, parcel.clone());
                let life = self.nodes[usize::from(to)].life;
                self.network.heard.note_request(Request { from, to, life, request, parcel });
                false
            }
            _ => false,
        }
    }

    fn links_from(&self, from: NodeIx, to: NodeIx) -> Vec<(LinkId, usize)> {
        let open = self.network.connections.iter().filter(|(_, c)| !c.broken);
        let ends = |c: &Connection| (c.ends[0].node, c.ends[1].node);
        open.filter_map(|(link, c)| match ends(c) {
            pair if pair == (from, to) => Some((*link, 0)),
            pair if pair == (to, from) => Some((*link, 1)),
            _ => None,
        })
        .collect()
    }

    /// What one node sends over the connections that it has with another stands still from now on.
    pub(crate) fn stall(&mut self, from: NodeIx, to: NodeIx) {
        for (link, e) in self.links_from(from, to) {
            if let Some(connection) = self.network.connections.get_mut(&link) {
                connection.stalled[e] = true;
                self.faults.stalls += 1;
            }
        }
    }

    /// Stalls from one node to another end. `None`: all of them.
    pub(crate) fn end_stalls(&mut self, only: Option<(NodeIx, NodeIx)>) {
        for connection in self.network.connections.values_mut() {
            for e in [0, 1] {
                let pair = (connection.ends[e].node, connection.ends[1 - e].node);
                if only.is_none_or(|only| only == pair) {
                    connection.stalled[e] = false;
                }
            }
        }
    }

    /// A node loses its connections with another; what it sent over them goes on.
    pub(crate) fn abandon(&mut self, now: Time, from: NodeIx, to: NodeIx) {
        for (link, e) in self.links_from(from, to) {
            let Some(connection) = self.network.connections.get(&link) else { continue };
            if connection.orphaned.is_some() || connection.ends[e].done || !connection.connected {
                continue;
            }
            self.orphan(now, link, e);
            let wait = self.network.latency(from, to);
            self.events.at(now + wait, Event::Lost { link, end: e as u8 });
        }
    }

    /// End `e` sends nothing more; the other one is told after all that is under way.
    fn orphan(&mut self, now: Time, link: LinkId, e: usize) {
        let Some(connection) = self.network.connections.get(&link) else { return };
        self.faults.zombies += u64::from(!connection.under_way[e].is_empty());
        let sender = connection.ends[e].node;
        self.push(now, link, e as u8, sender, Parcel::End, None);
        if let Some(connection) = self.network.connections.get_mut(&link) {
            connection.orphaned = Some(e as u8);
        }
    }

    /// Whether what a killed process sent over a connection still arrives: its kernel goes on.
    pub(super) fn outlives(&mut self, now: Time, link: LinkId, node: NodeIx) -> bool {
        let Some(connection) = self.network.connections.get(&link) else { return false };
        let e = usize::from(connection.ends[0].node != node);
        let other = connection.ends[1 - e];
        if connection.broken || !connection.connected || other.done || other.node == node {
            return false;
        }
        if connection.orphaned.is_none() {
            if connection.ends[e].done || !self.network.rng.chance(1, 2) {
                return false;
            }
            self.orphan(now, link, e);
        }
        if let Some(connection) = self.network.connections.get_mut(&link) {
            connection.ends[e].done = true;
        }
        self.network.connections.get(&link).is_some_and(|c| c.orphaned == Some(e as u8))
    }

    /// Says to `to` again how a chunk was opened: the latest one said to it, or the `back`-th before that, or `chunk`. With
    /// the first `records` records. The connection ends after `linger`. Returns who had said it, of which chunk.
    pub(crate) fn replay(
        &mut self,
        now: Time,
        to: NodeIx,
        chunk: Option<ChunkId>,
        back: usize,
        records: usize,
        linger: Span,
    ) -> Option<(NodeIx, ChunkId, usize)> {
        let wanted = |c: &&Conversation| c.to == to && chunk.is_none_or(|chunk| chunk == c.chunk);
        let known: Vec<&Conversation> =
            self.network.heard.conversations.iter().rev().filter(wanted).collect();
        let Conversation { from, chunk, parcels, .. } =
            (*known.get(back.min(known.len().checked_sub(1)?))?).clone();
        let said = parcels.len().min(1 + records);
        self.faults.replays += 1;
        self.say_again(now, from, to, parcels.into_iter().take(said), linger);
        Some((from, chunk, said))
    }

    /// Asks a master again for up to `count` of the latest changes that this process of it heard, from the `back`-th on:
    /// what was said to a dead process ended with its connections. Returns who had asked for what.
    pub(crate) fn repeat_requests(
        &mut self,
        now: Time,
        to: NodeIx,
        back: usize,
        count: usize,
    ) -> Vec<(NodeIx, RequestId)> {
        let life = self.nodes[usize::from(to)].life;
        let heard = self.network.heard.requests.iter();
        let known: Vec<&Request> = heard.filter(|r| r.to == to && r.life == life).collect();
        let first = known.len().saturating_sub(back + 1);
        let again: Vec<Request> = known.into_iter().skip(first).take(count).cloned().collect();
        let mut asked = Vec::new();
        for Request { from, request, parcel, .. } in again {
            self.faults.repeats += 1;
            self.say_again(now, from, to, std::iter::once(parcel), Span::from_ms(1_000));
            asked.push((from, request));
        }
        asked
    }

    fn say_again(
        &mut self,
        now: Time,
        from: NodeIx,
        to: NodeIx,
        parcels: impl Iterator<Item = Parcel>,
        linger: Span,
    ) {
        let link = self.network.next_link;
        self.network.next_link += 1;
        let there = self.network.latency(from, to);
        let life = self.nodes[usize::from(to)].life;
        let ends = [End { node: from, life: u64::MAX, done: true }, End { node: to, life, done: false }];
        let address = Address(self.nodes[usize::from(to)].name.clone());
        let mut connection = Connection::new(ends, address, None, now);
        connection.orphaned = Some(0);
        let mut at = now + there;
        self.events.at(at, Event::Connect { link });
        for parcel in parcels {
            at = at + self.network.latency(from, to);
            connection.under_way[0].push_back((parcel, None));
            self.events.at(at, Event::Arrive { link, from: 0 });
        }
        connection.under_way[0].push_back((Parcel::End, None));
        self.events.at(at + linger, Event::Arrive { link, from: 0 });
        self.network.connections.insert(link, connection);
    }
}
