//! Every step that can be taken from a state. The order of steps is fixed, so that a step is named by
//! its place in it.

use super::scope::Scope;
use super::state::{MASTER, State};
use super::world::{Local, World, may_come_late};
use super::writer::Act;

/// Connections of late copies are numbered from here.
pub(super) const LATE_CONNS: u32 = 10_000;

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

/// How what happens to a node goes on, if its disk is prompt.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fate {
    /// All operations of its disk end.
    Plain,
    /// All but one, counted from 1.
    Slow(u8),
    /// The process dies on the way.
    Dies { power: bool, variant: usize },
}

/// A state that follows.
pub(super) struct Next {
    pub(super) step: Step,
    pub(super) fate: Fate,
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
        usize::from(self.scope.replication + self.scope.spares)
    }

    pub(super) fn is_server(&self, node: usize) -> bool {
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
                let again = if node.writer().is_some() { Local::Act(Act::Seal) } else { Local::Wake };
                steps.push(own(again));
            }
        }
        steps
    }

    /// What can go wrong next.
    pub(super) fn wrongs(&mut self, state: &State) -> Vec<Step> {
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

    pub(super) fn may_die(&self, state: &State, node: usize, power: bool) -> bool {
        let left = state.left;
        match (node == MASTER, power) {
            (true, _) => left.master > 0,
            (false, _) if !self.is_server(node) => false,
            (false, false) => left.kills > 0,
            (false, true) => left.cuts > 0,
        }
    }

    pub(super) fn spend_death(&self, state: &mut State, node: usize, power: bool) {
        match (node == MASTER, power) {
            (true, _) => state.left.master -= 1,
            (false, false) => state.left.kills -= 1,
            (false, true) => state.left.cuts -= 1,
        }
    }
}
