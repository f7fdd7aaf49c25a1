//! What a step makes of a state.
//!
//! A step is taken in two halves: what it takes away (the message from its queue, the budget), and what then happens to one
//! node. The second half also has variants: an operation of that node's disk stays under way, or the process dies within it.

use std::sync::Arc;

use cairn_core::message::{AppendMessage, FromServer, Message};

use super::state::{Budget, Late, MASTER, State};
use super::step::{Explorer, Fate, LATE_CONNS, Next, Step};
use super::world::{Done, Local, Variant, World};
use super::writer::Act;

/// What happens to which node.
type Event = (usize, Local);

impl Explorer {
    /// All states that follow.
    pub(super) fn successors(&mut self, state: &State) -> Vec<Next> {
        let mut all = Vec::new();
        for step in self.ordinary(state) {
            let mut begun = state.clone();
            let event = self.begin_step(&mut begun, &step);
            if let Some((node, local)) = event.filter(|_| self.scope.prompt) {
                for fate in self.fates(&begun, node, local) {
                    all.push(self.end_step(begun.clone(), step.clone(), event, fate));
                }
            }
            all.push(self.end_step(begun, step, event, Fate::Plain));
        }
        for step in self.wrongs(state) {
            all.push(self.take(state, step));
        }
        all
    }

    /// What else can come of something that happens to a node whose disk is prompt.
    fn fates(&mut self, state: &State, node: usize, local: Local) -> Vec<Fate> {
        let number = state.nodes[node];
        let mut fates = Vec::new();
        if state.left.slow > 0 {
            let operations = self.world.happen(number, local, 0).operations;
            fates.extend((1..=operations).map(Fate::Slow));
        }
        for power in [false, true] {
            if self.may_die(state, node, power) {
                let count = self.world.deaths_within(number, local, power).len();
                fates.extend((0..count).map(|variant| Fate::Dies { power, variant }));
            }
        }
        fates
    }

    /// Takes a step.
    pub(super) fn take(&mut self, state: &State, step: Step) -> Next {
        let mut next = state.clone();
        let event = self.begin_step(&mut next, &step);
        self.end_step(next, step, event, Fate::Plain)
    }

    /// The first half.
    fn begin_step(&mut self, next: &mut State, step: &Step) -> Option<Event> {
        match *step {
            Step::Deliver { conn, up } => Some(self.receive(next, conn, up)),
            Step::Lost { conn, dialler } => {
                let c = &next.conns[conn];
                let (node, peer) = if dialler {
                    (usize::from(c.from), self.world.dialled(usize::from(c.to)))
                } else {
                    (usize::from(c.to), c.id() as u32)
                };
                next.close(conn, dialler);
                Some((node, Local::Lost { peer }))
            }
            Step::Own { node, local: Local::Act(act) } => self.act(next, node, act),
            Step::Own { node, local } => {
                if local == Local::Tick {
                    next.left.ticks -= 1;
                }
                Some((node, local))
            }
            Step::Reset { conn } => {
                next.left.resets -= 1;
                next.conns[conn].broken = true;
                None
            }
            Step::HoldBack { conn, up } => {
                next.left.late -= 1;
                let c = &next.conns[conn];
                let (from, to) = if up { (c.to, c.from) } else { (c.from, c.to) };
                next.late.push(Late { from, to, up, message: c.queue(up)[0] });
                None
            }
            Step::Late { at } => {
                let late = next.late.remove(at);
                let peer = self.late_peer(next, late)?;
                Some((usize::from(late.to), Local::Message { peer, message: late.message }))
            }
            Step::Die { .. } | Step::Return { .. } => None,
        }
    }

    /// The second half.
    fn end_step(&mut self, mut next: State, step: Step, event: Option<Event>, fate: Fate) -> Next {
        let mut fault = None;
        if let Some((node, local)) = event {
            fault = self.own(&mut next, node, local, fate);
        }
        match step {
            Step::Die { node, power, variant } => {
                self.spend_death(&mut next, node, power);
                next.die(node);
                next.nodes[node] = self.world.deaths(next.nodes[node], power)[variant].done.node;
            }
            Step::Return { node, variant } => {
                let Variant { done, loss, died, .. } = self.variant(&next, node, variant);
                if let Some(power) = died {
                    self.spend_death(&mut next, node, power);
                }
                if loss {
                    next.left.losses -= 1;
                    next.lost += 1;
                    next.lost_early += u8::from(!self.is_sealing(&next));
                }
                fault = self.react(&mut next, node, done);
                self.dial_at_once(&mut next, node);
            }
            _ => {}
        }
        self.hang_up(&mut next);
        self.note_seal(&mut next);
        Next { step, fate, state: next, fault }
    }

    /// Takes the first message of a queue.
    fn receive(&self, next: &mut State, conn: usize, up: bool) -> Event {
        let c = &mut next.conns[conn];
        let (receiver, sender) = (c.receiver(up), c.receiver(!up));
        let message = if up { c.up.take() } else { c.down.take() };
        let peer = if up { self.world.dialled(sender) } else { c.id() as u32 };
        (receiver, Local::Message { peer, message })
    }

    /// A writer does something, and the first message that it sends arrives at once: it might as well have done so later.
    fn act(&mut self, next: &mut State, writer: usize, act: Act) -> Option<Event> {
        let done = self.world.happen(next.nodes[writer], Local::Act(act), 0);
        let first = done.sends.first().copied();
        let fault = self.react(next, writer, done);
        assert!(fault.is_none(), "a script fails: {fault:?}");
        let conn = next.dialled(writer, World::target(first?.0).ok()?)?;
        let c = &next.conns[conn];
        let now = !c.broken && c.down.first() == first.map(|(_, message)| message).as_ref();
        (now && next.left.late == 0).then(|| self.receive(next, conn, false))
    }

    /// A server that came back dials the master at once, if nothing can come of dialling later: what it says may still be under
    /// way for any time.
    fn dial_at_once(&mut self, next: &mut State, node: usize) {
        let Budget { master, resets, .. } = self.scope.budget;
        let sure = master == 0 && resets == 0 && !self.members.is_empty();
        if sure && self.world.node(next.nodes[node]).wants_master() && next.dialled(node, MASTER).is_none() {
            let done = self.world.happen(next.nodes[node], Local::Wake, 0);
            let fault = self.react(next, node, done);
            assert!(fault.is_none(), "a server can't say who it is: {fault:?}");
        }
    }

    /// Writers learn at once that a connection broke: they do nothing about it that they could not do anyway.
    fn hang_up(&self, next: &mut State) {
        let servers = self.servers();
        let gone = |c: &super::state::Conn| usize::from(c.from) > servers && c.broken && c.from_open;
        while let Some(conn) = next.conns.iter().position(gone) {
            next.close(conn, true);
        }
    }

    pub(super) fn variant(&mut self, state: &State, node: usize, variant: usize) -> Variant {
        let files = self.is_server(node).then(|| self.chunk_files.clone());
        self.world.returns(state.nodes[node], node, files.as_deref())[variant].clone()
    }

    fn own(&mut self, state: &mut State, node: usize, local: Local, fate: Fate) -> Option<Arc<str>> {
        let number = state.nodes[node];
        match fate {
            Fate::Plain => {
                let done = self.world.happen(number, local, 0);
                self.react(state, node, done)
            }
            Fate::Slow(operation) => {
                state.left.slow -= 1;
                let done = self.world.happen(number, local, operation);
                self.react(state, node, done)
            }
            Fate::Dies { power, variant } => {
                self.spend_death(state, node, power);
                let done = self.world.deaths_within(number, local, power)[variant].done.clone();
                let fault = self.react(state, node, done);
                state.die(node);
                fault
            }
        }
    }

    /// What a node did takes effect: at once, in its order.
    fn react(&mut self, state: &mut State, node: usize, done: Done) -> Option<Arc<str>> {
        state.nodes[node] = done.node;
        for (peer, message) in done.sends {
            if self.changes_nothing(state, node, peer, message) {
                continue;
            }
            match World::target(peer) {
                Ok(to) => {
                    let refused = self.world.node(state.nodes[to]).is_down();
                    let conn = state.dialled(node, to).unwrap_or_else(|| state.dial(node, to, refused));
                    state.push(conn, false, message);
                }
                Err(id) => {
                    if let Some(conn) = state.inbound(node, id) {
                        self.answer(state, node, conn, message);
                    }
                }
            }
        }
        for peer in done.closes {
            match World::target(peer) {
                Ok(to) => state.dialled(node, to).into_iter().for_each(|conn| state.close(conn, true)),
                Err(id) => state.inbound(node, id).into_iter().for_each(|conn| state.close(conn, false)),
            }
        }
        done.fault
    }

    /// Sends to who dialled. A writer is told at once: being told earlier only makes more demands of the others.
    fn answer(&mut self, state: &mut State, node: usize, conn: usize, message: u32) {
        let c = &state.conns[conn];
        let to = usize::from(c.from);
        if self.members.is_empty() || to <= self.servers() {
            state.push(conn, true, message);
        } else if !c.broken && c.from_open {
            let local = Local::Message { peer: self.world.dialled(node), message };
            state.nodes[to] = self.world.happen(state.nodes[to], local, 0).node;
        }
    }

    /// Whether a message would change nothing that is explored, whenever it came: it is left out.
    fn changes_nothing(&self, state: &State, from: usize, peer: u32, message: u32) -> bool {
        use cairn_core::message::ReplicaState::{Fenced, Open};
        if self.members.is_empty() {
            return false;
        }
        match self.world.message(message) {
            // Where replicas are matters to readers, repair and collection, which are not explored.
            Message::FromServer(FromServer::ReplicaChanged(report)) => !matches!(report.state, Open | Fenced),
            Message::FromServer(FromServer::BlockReport { replicas, .. }) => {
                !replicas.iter().any(|report| matches!(report.state, Open | Fenced))
            }
            Message::FromServer(FromServer::Heartbeat { .. }) => !self.scope.heartbeats,
            Message::Append(AppendMessage::Failed { .. }) => self.writer_behind(state, from, peer).is_some(),
            Message::Append(AppendMessage::Committed { end, .. }) => {
                self.writer_behind(state, from, peer).is_some_and(|told| told >= *end)
            }
            _ => false,
        }
    }

    /// If a writer is at the other end: how much it was told is committed.
    fn writer_behind(&self, state: &State, from: usize, peer: u32) -> Option<u64> {
        let conn = &state.conns[state.inbound(from, World::target(peer).err()?)?];
        Some(self.world.node(state.nodes[usize::from(conn.from)]).writer()?.acked)
    }

    /// As whom a late copy comes; `None` while it can't.
    pub(super) fn late_peer(&self, state: &State, late: Late) -> Option<u32> {
        let (from, to) = (usize::from(late.from), usize::from(late.to));
        if self.world.node(state.nodes[to]).is_down() {
            return None;
        }
        if late.up {
            return Some(self.world.dialled(from));
        }
        if to == MASTER {
            let conn = state.dialled(from, MASTER)?;
            return Some(state.conns[conn].id() as u32);
        }
        Some(LATE_CONNS + 100 * (u32::from(late.from) + 1))
    }

    fn is_sealing(&self, state: &State) -> bool {
        let mut writers =
            state.nodes[self.servers() + 1..].iter().filter_map(|n| self.world.node(*n).writer());
        writers.any(|writer| writer.is_sealing() || writer.sealed().is_some())
    }

    fn note_seal(&self, state: &mut State) {
        if state.sealed.is_none()
            && let Some(sealed) = self.logged(state)
        {
            state.sealed = Some(sealed);
        }
    }
}
