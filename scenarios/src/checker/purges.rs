//! What a server promised to keep is put where it will be purged only on the master's order, or for a copy that the master
//! ordered (invariant 39): of whatever nobody describes any more every byte may be the last one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use cairn_core::disk::DiskRequest;
use cairn_core::id::ChunkId;
use cairn_core::message::{AppendMessage, FromServer, Message, ReplicaState, ToServer, Vote};
use cairn_core::time::Time;
use runtime_sim::DamageKind;

use crate::cluster::{
    Cluster, chunk_of, chunk_of_either, is_journal, is_new, is_purged, lock, of_node, sidecar,
};
use crate::violation::Violations;

const NAME: &str = "purges";

/// What a volume's identity is called before it takes its name.
const NEW_IDENTITY: &str = "cairn-volume.new";

#[derive(Default)]
struct Server {
    promised: BTreeSet<ChunkId>,
    /// Chunks that it dropped as it was told to: what records of long ago make of them after that nobody counts on.
    dropped: BTreeSet<ChunkId>,
    /// Replicas of which the sidecar was put aside when another volume had one too: the bytes may follow, whatever becomes of the
    /// other volume.
    seconds: BTreeSet<(u16, ChunkId)>,
    /// Chunks of which the master wants a replica dropped or replaced here: how many of its orders are not carried out yet.
    ordered: BTreeMap<ChunkId, u64>,
    volumes: BTreeMap<u16, Journal>,
}

/// What is known of a volume's journal.
#[derive(Default)]
struct Journal {
    /// The present process is making another volume of it.
    is_renaming: bool,
    /// When it was last found damaged, so that silence about a chunk means nothing.
    found_damaged: Option<Time>,
}

type Memory = BTreeMap<String, Server>;

/// Follows promises, orders, and moves into the quarantine.
pub fn watch(cluster: &Cluster, violations: &Violations) {
    let world = &cluster.world;
    let memory: Arc<Mutex<Memory>> = Arc::default();
    let promises = memory.clone();
    world.observe_sends(move |_, node, _, _, message| match message {
        // One that failed may have been carried out in part.
        Message::FromServer(FromServer::DropDone { chunk, dropped: true, .. }) => {
            let mut memory = lock(&promises);
            let server = of_node(&mut memory, node);
            server.carry_out(*chunk);
            server.promised.remove(chunk);
            server.dropped.insert(*chunk);
        }
        message => {
            if let Some(chunk) = promise(message) {
                let mut memory = lock(&promises);
                let server = of_node(&mut memory, node);
                if matches!(message, Message::FromServer(FromServer::CopyDone { .. })) {
                    server.carry_out(chunk);
                    server.dropped.remove(&chunk);
                }
                server.seconds.retain(|(_, second)| *second != chunk);
                if !server.dropped.contains(&chunk) {
                    server.promised.insert(chunk);
                }
            }
        }
    });
    let orders = memory.clone();
    world.observe_messages(move |_, _, to, message| {
        let chunk = match message {
            Message::ToServer(ToServer::Drop { chunk, .. }) => *chunk,
            Message::ToServer(ToServer::Copy { sealed, .. }) => sealed.chunk,
            _ => return,
        };
        *of_node(&mut lock(&orders), to).ordered.entry(chunk).or_default() += 1;
    });
    let started = memory.clone();
    world.observe_chunkserver(move |_, node, machine| {
        if is_new(machine) {
            let mut memory = lock(&started);
            of_node(&mut memory, node).volumes.values_mut().for_each(|volume| volume.is_renaming = false);
        }
    });
    let (seen, violations) = (cluster.clone(), violations.clone());
    world.observe_disks(move |at, node, request| match request {
        DiskRequest::Write { path, .. } => {
            let renames = &*path.name == NEW_IDENTITY;
            if renames || path.name.starts_with("journal") {
                of_node(&mut lock(&memory), node).volumes.entry(path.volume).or_default().write(at, renames);
            }
        }
        DiskRequest::Rename { from, to } if is_purged(&to.name) => {
            let Some(chunk) = chunk_of_either(&from.name) else { return };
            let mut memory = lock(&memory);
            let server = of_node(&mut memory, node);
            let second = (from.volume, chunk);
            if chunk_of(&from.name).is_none() {
                if is_second(&seen, node, from.volume, &from.name) {
                    server.seconds.insert(second);
                }
                return;
            }
            let was_second = server.seconds.remove(&second);
            let found = server.volumes.get(&from.volume).and_then(|journal| journal.found_damaged);
            if server.promised.contains(&chunk)
                && !server.ordered.contains_key(&chunk)
                && !is_excused(&seen, node, (from.volume, chunk), found)
                && !was_second
                && !is_second(&seen, node, from.volume, &sidecar(&from.name))
            {
                violations.add(
                    NAME,
                    format!(
                        "{node} moves {chunk} to where it is purged: it promised it, and was not told to drop it"
                    ),
                );
            }
        }
        _ => {}
    });
}

impl Server {
    fn carry_out(&mut self, chunk: ChunkId) {
        if let Some(left) = self.ordered.get_mut(&chunk) {
            *left -= 1;
            if *left == 0 {
                self.ordered.remove(&chunk);
            }
        }
    }
}

impl Journal {
    /// The identity comes first. When a journal follows, it is on stable storage, and no later process believes the old journal.
    fn write(&mut self, at: Time, renames: bool) {
        if renames {
            self.is_renaming = true;
        } else if self.is_renaming {
            self.is_renaming = false;
            self.found_damaged = Some(at);
        }
    }
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

/// Whether another volume of the server has a sealed replica of the same chunk: one is enough.
fn is_second(cluster: &Cluster, node: &str, volume: u16, sidecar: &str) -> bool {
    let has = |other| cluster.world.with_file(node, other, sidecar, |_| ()).is_some();
    (0..cluster.volumes(node)).any(|other| other != volume && has(other))
}

/// Whether the promise was taken away: by a power cut from an `async` file, by somebody's hand, or by rot that passes for the
/// torn end of a journal.
fn is_excused(cluster: &Cluster, node: &str, (volume, chunk): (u16, ChunkId), found: Option<Time>) -> bool {
    let cut = cluster.shape.is_relaxed() && cluster.power_cut_at(node).is_some();
    let harmed = cluster.world.damage_injected().iter().any(|d| {
        d.node == node
            && match d.kind {
                DamageKind::HandEdit | DamageKind::SyncFailed => {
                    d.path.is_empty() || chunk_of_either(&d.path) == Some(chunk)
                }
                _ => is_journal(&d.path) && d.volume == volume && found.is_none_or(|found| found < d.at),
            }
    });
    cut || harmed
}
