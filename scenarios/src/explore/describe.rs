//! Steps in words: what a counterexample is printed as.

use std::fmt::Write as _;

use super::state::State;
use super::step::{Explorer, Fate, Next, Step};
use super::world::Local;

impl Explorer {
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
        match next.fate {
            Fate::Plain => {}
            Fate::Slow(at) => {
                let _ = write!(text, "; the disk's operation {at} stays under way");
            }
            Fate::Dies { power, .. } => {
                let how = if power { "power fails" } else { "process is killed" };
                let _ = write!(text, "\n        FAULT: on the way its {how}");
            }
        }
        self.describe_effects(state, next, &mut text);
        text
    }

    fn describe_effects(&self, state: &State, next: &Next, text: &mut String) {
        for (at, (before, after)) in state.nodes.iter().zip(&next.state.nodes).enumerate() {
            let (before, after) = (self.world.node(*before), self.world.node(*after));
            if let (Some(before), Some(after)) = (before.writer(), after.writer()) {
                if after.acked != before.acked {
                    let _ = write!(
                        text,
                        "\n        {} is told: {} bytes are committed",
                        self.name(at),
                        after.acked
                    );
                }
                if let (None, Some(sealed)) = (before.sealed(), after.sealed()) {
                    let _ = write!(
                        text,
                        "\n        {} is told: sealed at {} bytes",
                        self.name(at),
                        sealed.length
                    );
                }
            }
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
