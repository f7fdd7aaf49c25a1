//! Where exploration begins: registered servers, an upload, and the grant of its first chunk in the writers' hands.

use cairn_core::defect::Defects;
use cairn_core::disk::DiskRequest;
use cairn_core::id::Address;

use super::disk::Snapshot;
use super::node::{Machine, Maker, Node};
use super::scope::Scope;
use super::state::{MASTER, State};
use super::step::{Explorer, Step};
use super::world::{Local, World};
use super::writer::Writer;

/// The directory of the chunk's files; it exists beforehand, as in a cluster that has been written to.
const DIRECTORY: &str = "chunks/01";

impl Explorer {
    /// The explorer of a scope, and the state that it starts from. Up to there everything happens in the only order in which
    /// nothing waits.
    pub(super) fn start(scope: Scope, defects: Defects) -> (Explorer, State) {
        let servers = usize::from(scope.replication + scope.spares);
        let mut names = vec!["master".to_owned()];
        names.extend((0..servers).map(|i| format!("cs{i}")));
        names.extend((0..scope.writers.len()).map(|i| format!("writer {i}")));
        let names: Vec<Address> = names.iter().map(|name| Address::new(name)).collect();
        let world = World::new(names, Maker { defects, patient: scope.patient }, scope.prompt);
        let (members, chunk_files) = (Vec::new(), format!("{DIRECTORY}/chunk-"));
        let mut explorer = Explorer { scope, world, members, chunk_files };
        let mut state = State::default();
        for node in 0..=servers {
            let mut down = Node::new(Machine::Down);
            if node != MASTER {
                down = explorer.formatted(node);
            }
            state.nodes.push(explorer.world.intern(down));
        }
        for (number, script) in scope.writers.iter().enumerate() {
            let writer = Node::new(Machine::Writer(Writer::new(number as u8, *script)));
            state.nodes.push(explorer.world.intern(writer));
        }
        for node in 0..=servers {
            state = explorer.take(&state, Step::Return { node, variant: 0 }).state;
            state = explorer.drain(state);
        }
        state = explorer.begin(state);
        state.left = scope.budget;
        (explorer, state)
    }

    /// A server's disk after its very first start.
    fn formatted(&self, node: usize) -> Node {
        let name = &self.world.names[node].0;
        let (mut first, _) = Node::new(Machine::Down).restarted(self.world.maker, name);
        let directory = cairn_core::disk::DiskPath::new(0, DIRECTORY);
        let made = first.disk.perform(&DiskRequest::MakeDir(directory), &Snapshot::Nothing);
        assert!(made.is_ok(), "a directory can be made");
        first.disk.settle();
        first.bare(false)
    }

    /// The upload and the grant.
    fn begin(&mut self, state: State) -> State {
        let first = self.servers() + 1;
        let Scope { replication, quorum, durability, .. } = self.scope;
        let ask =
            self.world.node(state.nodes[first]).writer().map(|w| w.begin(replication, quorum, durability));
        let (_, request) = ask.expect("writers follow servers");
        let mut state = state;
        let conn = state.dial(first, MASTER, false);
        let request = self.world.intern_message(request);
        state.push(conn, false, request);
        let mut state = self.drain(state);
        let granted = self.world.node(state.nodes[first]).writer().cloned().expect("a writer");
        let grant = granted.grant.clone().expect("the master granted the chunk");
        let place = |address: &Address| self.world.names.iter().position(|name| name == address);
        self.members = grant.addresses.iter().filter_map(place).collect();
        for node in first..state.nodes.len() {
            let mut writer = self.world.node(state.nodes[node]).writer().cloned().expect("a writer");
            writer.adopt(&granted);
            state.nodes[node] = self.world.intern(Node::new(Machine::Writer(writer)));
        }
        for node in 0..first {
            let mut settled = Node::clone(self.world.node(state.nodes[node]));
            settled.disk.settle();
            state.nodes[node] = self.world.intern(settled);
        }
        state
    }

    /// Lets everything happen that is under way, the first thing first.
    fn drain(&mut self, mut state: State) -> State {
        for _ in 0..10_000 {
            let acts = |step: &Step| matches!(step, Step::Own { local: Local::Act(_), .. });
            let Some(step) = self.ordinary(&state).into_iter().find(|step| !acts(step)) else { return state };
            let next = self.take(&state, step);
            assert!(next.fault.is_none(), "a start without faults fails: {:?}", next.fault);
            state = next.state;
        }
        panic!("the start does not come to rest");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::explore::scope::SCOPES;

    #[test]
    fn every_scope_starts_with_a_grant_to_all_its_servers_and_nothing_under_way() {
        for scope in SCOPES {
            let (explorer, state) = Explorer::start(*scope, Defects::none());
            assert_eq!(explorer.members.len(), usize::from(scope.replication), "{}", scope.name);
            assert!(
                state.conns.iter().all(|c| c.up.is_empty() && c.down.is_empty() && !c.broken),
                "{}",
                scope.name
            );
            let server = explorer.world.node(state.nodes[1]).server().expect("a server");
            assert!(server.is_ready());
        }
    }
}
