//! What a server promised to keep is put where it will be purged only on the master's order, or for a copy that the master
//! ordered (invariant 39): of whatever nobody describes any more every byte may be the last one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use cairn_core::disk::DiskRequest;
use cairn_core::id::ChunkId;
use cairn_core::message::{AppendMessage, FromServer, Message, ReplicaState, ToServer, Vote};
use runtime_sim::DamageKind;

use crate::cluster::{Cluster, chunk_of, chunk_of_either, is_journal, lock, of_node};
use crate::violation::Violations;

const NAME: &str = "purges";

#[derive(Default)]
struct Server {
    promised: BTreeSet<ChunkId>,
    /// Chunks of which the master has had a replica dropped or replaced here.
    ordered: BTreeSet<ChunkId>,
    /// Its present process has found a journal damaged, so that silence about a chunk means nothing.
    distrusts: bool,
}

type Memory = BTreeMap<String, Server>;

/// Follows promises, orders, and moves into the quarantine.
pub fn watch(cluster: &Cluster, violations: &Violations) {
    let world = &cluster.world;
    let memory: Arc<Mutex<Memory>> = Arc::default();
    let promises = memory.clone();
    world.observe_sends(move |_, node, _, _, message| {
        if let Some(chunk) = promise(message) {
            of_node(&mut lock(&promises), node).promised.insert(chunk);
        }
    });
    let orders = memory.clone();
    world.observe_messages(move |_, _, to, message| {
        let chunk = match message {
            Message::ToServer(ToServer::Drop { chunk, .. }) => *chunk,
            Message::ToServer(ToServer::Copy { sealed, .. }) => sealed.chunk,
            _ => return,
        };
        of_node(&mut lock(&orders), to).ordered.insert(chunk);
    });
    let found = memory.clone();
    world.observe_chunkserver(move |_, node, machine| {
        if !machine.has_recovered() {
            of_node(&mut lock(&found), node).distrusts = machine.damaged_journals() > 0;
        }
    });
    let (seen, violations) = (cluster.clone(), violations.clone());
    world.observe_disks(move |_, node, request| {
        let DiskRequest::Rename { from, to } = request else { return };
        let Some(chunk) = chunk_of(&from.name) else { return };
        if !to.name.starts_with("quarantine/") || to.name.ends_with(".keep") {
            return;
        }
        let mut memory = lock(&memory);
        let server = of_node(&mut memory, node);
        if server.promised.contains(&chunk)
            && !server.ordered.contains(&chunk)
            && !is_excused(&seen, node, chunk, server.distrusts)
        {
            violations.add(
                NAME,
                format!(
                    "{node} moves {chunk} to where it is purged: it promised it, and was not told to drop it"
                ),
            );
        }
    });
}

/// The chunk whose bytes the sender says to have.
fn promise(message: &Message) -> Option<ChunkId> {
    match message {
        Message::Append(AppendMessage::Ready { chunk, ends, .. }) => {
            ends.first().is_some_and(|end| *end > 0).then_some(*chunk)
        }
        Message::FromServer(FromServer::Vote { chunk, vote: Vote::Prefix { length, .. }, .. }) => {
            (*length > 0).then_some(*chunk)
        }
        Message::FromServer(FromServer::ReplicaChanged(report)) => {
            (report.state == ReplicaState::Sealed).then_some(report.chunk)
        }
        Message::FromServer(FromServer::CopyDone { target, error: None }) => Some(target.chunk),
        _ => None,
    }
}

/// Whether the promise was taken away: by a power cut from an `async` file, by somebody's hand, or by rot that passes for the
/// torn end of a journal.
fn is_excused(cluster: &Cluster, node: &str, chunk: ChunkId, distrusts: bool) -> bool {
    let cut = cluster.shape.is_relaxed() && cluster.power_cut_at(node).is_some();
    let harmed = cluster.world.damage_injected().iter().any(|d| {
        d.node == node
            && match d.kind {
                DamageKind::HandEdit | DamageKind::SyncFailed => {
                    d.path.is_empty() || chunk_of_either(&d.path) == Some(chunk)
                }
                _ => is_journal(&d.path) && !distrusts,
            }
    });
    cut || harmed
}
