//! Every step that can be taken from a state, and the state after it. The order of steps is fixed, so that a step is named by
//! its place in it.

use std::fmt::Write as _;

use cairn_core::message::{AppendMessage, FromServer, Message};

use super::scope::Scope;
use super::state::{Late, MASTER, State};
use super::world::{Done, Local, Variant, World, may_come_late};

/// Connections of late copies are numbered from here.
const LATE_CONNS: u32 = 10_000;

/// A step.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// The first message under way in a direction arrives.
    Deliver { conn: usize, up: bool },
    /// A side learns that its connection broke.
    Lost { conn: usize, dialler: bool },
    /// A node does something by itself, or an operation of its disk ends.
    Own { node: usize, local: Local },
    /// A connection breaks.
    Reset { conn: usize },
    /// The network keeps a copy.
    HoldBack { conn: usize, up: bool },
    /// The copy arrives.
    Late { at: usize },
    /// A node's process dies.
    Die { node: usize, power: bool, variant: usize },
    /// It comes back.
    Return { node: usize, variant: usize },
}

/// A state that follows.
pub(super) struct Next {
    pub(super) step: Step,
    pub(super) state: State,
    pub(super) fault: Option<std::sync::Arc<str>>,
}

/// A scope and all that was met in it.
pub(super) struct Explorer {
    pub(super) scope: Scope,
    pub(super) world: World,
    /// Servers by their position in the grant; empty before there is one.
    pub(super) members: Vec<usize>,
    pub(super) chunk_files: String,
}

impl Explorer {
    /// How many servers there are.
    pub(super) fn servers(&self) -> usize {
        usize::from(self.scope.replication)
    }

    fn is_server(&self, node: usize) -> bool {
        node != MASTER && node <= self.servers()
    }

    /// All that can happen next, but for what goes wrong.
    pub(super) fn ordinary(&mut self, state: &State) -> Vec<Step> {
        let mut steps = Vec::new();
        for (at, conn) in state.conns.iter().enumerate() {
            for up in [false, true] {
                if conn.is_open_at(up) && !conn.queue(up).is_empty() {
                    steps.push(Step::Deliver { conn: at, up });
                }
            }
            for dialler in [false, true] {
                if conn.broken && conn.is_open_at(dialler) {
                    steps.push(Step::Lost { conn: at, dialler });
                }
            }
        }
        for at in 0..state.late.len() {
            let twice = state.late[..at].contains(&state.late[at]);
            if !twice && self.late_peer(state, state.late[at]).is_some() {
                steps.push(Step::Late { at });
            }
        }
        let master_up = !self.world.node(state.nodes[MASTER]).is_down();
        for (at, number) in state.nodes.iter().enumerate() {
            let node = self.world.node(*number);
            let own = |local| Step::Own { node: at, local };
            steps.extend((0..node.under_way().len()).map(|op| own(Local::Completed(op as u32))));
            if let Some(writer) = node.writer() {
                steps.extend(writer.acts().map(|act| own(Local::Act(act))));
            }
            if master_up && node.wants_master() && state.dialled(at, MASTER).is_none() {
                let again =
                    if node.writer().is_some() { Local::Act(super::writer::Act::Seal) } else { Local::Wake };
                steps.push(own(again));
            }
        }
        steps
    }

    /// What can go wrong next.
    fn wrongs(&mut self, state: &State) -> Vec<Step> {
        let mut steps = Vec::new();
        let left = state.left;
        for (at, conn) in state.conns.iter().enumerate() {
            if left.resets > 0 && !conn.broken {
                steps.push(Step::Reset { conn: at });
            }
            for up in [false, true] {
                let open = left.late > 0 && conn.is_open_at(up);
                if open && conn.queue(up).first().is_some_and(|m| may_come_late(self.world.message(*m))) {
                    steps.push(Step::HoldBack { conn: at, up });
                }
            }
        }
        for (at, number) in state.nodes.iter().enumerate() {
            let down = self.world.node(*number).is_down();
            let server = self.is_server(at);
            if down {
                let files = server.then(|| self.chunk_files.clone());
                let returns = self.world.returns(*number, at, files.as_deref());
                for (variant, back) in returns.iter().enumerate() {
                    let again = match back.died {
                        None => true,
                        Some(power) => self.scope.die_in_recovery && self.may_die(state, at, power),
                    };
                    if again && (!back.loss || left.losses > 0) {
                        steps.push(Step::Return { node: at, variant });
                    }
                }
                continue;
            }
            for power in [false, true] {
                if self.may_die(state, at, power) {
                    let count = self.world.deaths(*number, power).len();
                    steps.extend((0..count).map(|variant| Step::Die { node: at, power, variant }));
                }
            }
            if at == MASTER && left.ticks > 0 {
                steps.push(Step::Own { node: at, local: Local::Tick });
            }
        }
        steps
    }

    fn may_die(&self, state: &State, node: usize, power: bool) -> bool {
        let left = state.left;
        match (node == MASTER, power) {
            (true, _) => left.master > 0,
            (false, _) if !self.is_server(node) => false,
            (false, false) => left.kills > 0,
            (false, true) => left.cuts > 0,
        }
    }

    fn spend_death(&self, state: &mut State, node: usize, power: bool) {
        match (node == MASTER, power) {
            (true, _) => state.left.master -= 1,
            (false, false) => state.left.kills -= 1,
            (false, true) => state.left.cuts -= 1,
        }
    }

    /// All states that follow.
    pub(super) fn successors(&mut self, state: &State) -> Vec<Next> {
        let mut steps = self.ordinary(state);
        steps.extend(self.wrongs(state));
        steps.into_iter().map(|step| self.take(state, step)).collect()
    }

    /// Takes a step.
    pub(super) fn take(&mut self, state: &State, step: Step) -> Next {
        let mut next = state.clone();
        let mut fault = None;
        match &step {
            Step::Deliver { conn, up } => {
                let (conn, up) = (*conn, *up);
                let c = &mut next.conns[conn];
                let receiver = c.receiver(up);
                let sender = c.receiver(!up);
                let message = if up { c.up.remove(0) } else { c.down.remove(0) };
                let peer = if up { self.world.dialled(sender) } else { c.id() as u32 };
                fault = self.own(&mut next, receiver, Local::Message { peer, message });
            }
            Step::Lost { conn, dialler } => {
                let c = &next.conns[*conn];
                let (node, peer) = if *dialler {
                    (usize::from(c.from), self.world.dialled(usize::from(c.to)))
                } else {
                    (usize::from(c.to), c.id() as u32)
                };
                next.close(*conn, *dialler);
                fault = self.own(&mut next, node, Local::Lost { peer });
            }
            Step::Own { node, local } => {
                if *local == Local::Tick {
                    next.left.ticks -= 1;
                }
                fault = self.own(&mut next, *node, *local);
            }
            Step::Reset { conn } => {
                next.left.resets -= 1;
                next.conns[*conn].broken = true;
            }
            Step::HoldBack { conn, up } => {
                next.left.late -= 1;
                let c = &next.conns[*conn];
                let (from, to) = if *up { (c.to, c.from) } else { (c.from, c.to) };
                next.late.push(Late { from, to, up: *up, message: c.queue(*up)[0] });
            }
            Step::Late { at } => {
                let late = next.late.remove(*at);
                if let Some(peer) = self.late_peer(&next, late) {
                    let local = Local::Message { peer, message: late.message };
                    fault = self.own(&mut next, usize::from(late.to), local);
                }
            }
            Step::Die { node, power, variant } => {
                self.spend_death(&mut next, *node, *power);
                next.die(*node);
                next.nodes[*node] = self.world.deaths(state.nodes[*node], *power)[*variant].done.node;
            }
            Step::Return { node, variant } => {
                let Variant { done, loss, died, .. } = self.variant(state, *node, *variant);
                if let Some(power) = died {
                    self.spend_death(&mut next, *node, power);
                }
                if loss {
                    next.left.losses -= 1;
                    next.lost += 1;
                    next.lost_early += u8::from(!self.is_sealing(state));
                }
                fault = self.react(&mut next, *node, done);
            }
        }
        self.note_seal(&mut next);
        Next { step, state: next, fault }
    }

    fn variant(&mut self, state: &State, node: usize, variant: usize) -> Variant {
        let files = self.is_server(node).then(|| self.chunk_files.clone());
        self.world.returns(state.nodes[node], node, files.as_deref())[variant].clone()
    }

    fn own(&mut self, state: &mut State, node: usize, local: Local) -> Option<std::sync::Arc<str>> {
        let done = self.world.happen(state.nodes[node], local);
        self.react(state, node, done)
    }

    /// What a node did takes effect: at once, in its order.
    fn react(&mut self, state: &mut State, node: usize, done: Done) -> Option<std::sync::Arc<str>> {
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
                        state.push(conn, true, message);
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

    /// If a writer is at the other end: how much it was or will be told is committed.
    fn writer_behind(&self, state: &State, from: usize, peer: u32) -> Option<u64> {
        let conn = &state.conns[state.inbound(from, World::target(peer).err()?)?];
        let writer = self.world.node(state.nodes[usize::from(conn.from)]).writer()?;
        let under_way = conn.up.iter().filter_map(|message| match self.world.message(*message) {
            Message::Append(AppendMessage::Committed { end, .. }) => Some(*end),
            _ => None,
        });
        under_way.chain([writer.acked]).max()
    }

    /// As whom a late copy comes; `None` while it can't.
    fn late_peer(&self, state: &State, late: Late) -> Option<u32> {
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

    /// A node's name.
    pub(super) fn name(&self, node: usize) -> String {
        let name = &self.world.names[node].0;
        match self.members.iter().position(|member| *member == node) {
            Some(0) => format!("{name} (primary)"),
            Some(1) => format!("{name} (second)"),
            Some(2) => format!("{name} (third)"),
            _ => name.to_string(),
        }
    }

    /// A step in words, and what the node did.
    pub(super) fn describe(&mut self, state: &State, next: &Next) -> String {
        let mut text = match &next.step {
            Step::Deliver { conn, up } => {
                let c = &state.conns[*conn];
                let message = self.world.message(c.queue(*up)[0]).to_string();
                format!(
                    "{} takes from {}: {message}",
                    self.name(c.receiver(*up)),
                    self.name(c.receiver(!*up))
                )
            }
            Step::Lost { conn, dialler } => {
                let c = &state.conns[*conn];
                let (at, other) = (c.receiver(*dialler), c.receiver(!*dialler));
                format!("{} notices that its connection with {} broke", self.name(at), self.name(other))
            }
            Step::Own { node, local } => {
                let name = self.name(*node);
                match local {
                    Local::Completed(op) => {
                        let node = self.world.node(state.nodes[*node]);
                        let request = node.under_way().nth(*op as usize).map(ToString::to_string);
                        format!("{name}: its disk completes {}", request.unwrap_or_default())
                    }
                    Local::Act(act) => format!("{name} decides to {act:?}"),
                    Local::Tick => format!("a long time passes at {name}"),
                    _ => format!("{name} dials the master again"),
                }
            }
            Step::Reset { conn } => {
                let c = &state.conns[*conn];
                format!(
                    "FAULT: the connection from {} to {} breaks",
                    self.name(c.receiver(true)),
                    self.name(c.receiver(false))
                )
            }
            Step::HoldBack { conn, up } => {
                let c = &state.conns[*conn];
                let message = self.world.message(c.queue(*up)[0]).to_string();
                format!("FAULT: the network keeps a copy for {} of: {message}", self.name(c.receiver(*up)))
            }
            Step::Late { at } => {
                let late = state.late[*at];
                let message = self.world.message(late.message).to_string();
                format!("FAULT: late, {} takes: {message}", self.name(usize::from(late.to)))
            }
            Step::Die { node, power, variant } => {
                let how = if *power { "loses power" } else { "is killed" };
                let variant = self.world.deaths(state.nodes[*node], *power)[*variant].name.clone();
                let sep = if variant.is_empty() { "" } else { "; " };
                format!("FAULT: {} {how}{sep}{variant}", self.name(*node))
            }
            Step::Return { node, variant } => {
                let variant = self.variant(state, *node, *variant).name;
                format!("{} starts again {variant}", self.name(*node)).trim_end().to_owned()
            }
        };
        self.describe_effects(state, next, &mut text);
        text
    }

    fn describe_effects(&self, state: &State, next: &Next, text: &mut String) {
        for (at, (before, after)) in state.nodes.iter().zip(&next.state.nodes).enumerate() {
            let (before, after) = (self.world.node(*before), self.world.node(*after));
            let mut old: Vec<String> = before.under_way().map(ToString::to_string).collect();
            for request in after.under_way().map(ToString::to_string) {
                match old.iter().position(|known| *known == request) {
                    Some(known) => drop(old.remove(known)),
                    None => drop(write!(text, "\n        {} asks its disk to {request}", self.name(at))),
                }
            }
        }
        for conn in &next.state.conns {
            let before =
                state.conns.iter().find(|c| (c.from, c.to, c.serial) == (conn.from, conn.to, conn.serial));
            for up in [false, true] {
                let had = before.map_or(0, |c| c.queue(up).len());
                let took = matches!(&next.step, Step::Deliver { conn, up: direction } if *direction == up
                    && before.is_some_and(|b| b.id() == state.conns[*conn].id() && b.to == state.conns[*conn].to));
                for message in conn.queue(up).iter().skip(had - usize::from(took)) {
                    let (from, to) = (self.name(conn.receiver(!up)), self.name(conn.receiver(up)));
                    let _ = write!(text, "\n        {from} sends to {to}: {}", self.world.message(*message));
                }
            }
        }
    }
}
