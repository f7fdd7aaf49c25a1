//! What an operator removed by hand is missed by the third block report after it at the latest (invariant 38): the first may
//! have begun before, and the second may have found the replica in somebody's hands.

use std::collections::BTreeMap;

use cairn_core::id::{ChunkId, ProcessId};
use cairn_core::message::{FromServer, Message, ReplicaReport, ReplicaState};
use runtime_sim::DamageKind;

use crate::cluster::{Cluster, chunk_of_either};
use crate::violation::Violations;

const NAME: &str = "removed";

/// Reports that may be sent before one must show it.
const PATIENCE: u32 = 2;

/// A file that is gone.
#[derive(Debug)]
struct Removed {
    path: String,
    chunk: ChunkId,
    /// The report that is under way relies on it.
    counted: bool,
    /// Reports of the present process since then, but those that were made while its syncs hung.
    reports: u32,
}

#[derive(Debug, Default)]
struct Server {
    process: ProcessId,
    removed: Vec<Removed>,
    /// How much of all harm ever done was looked at.
    seen: usize,
}

/// Follows block reports.
pub fn watch(cluster: &Cluster, violations: &Violations) {
    let (seen, violations) = (cluster.clone(), violations.clone());
    let mut servers: BTreeMap<String, Server> = BTreeMap::new();
    cluster.world.observe_sends(move |_, node, process, _, message| {
        let (replicas, last) = match message {
            Message::FromServer(FromServer::BlockReport { replicas, last, .. }) => (&replicas[..], *last),
            Message::FromServer(FromServer::ReplicaChanged(report)) if !counts(report) => {
                let server = servers.entry(node.to_owned()).or_default();
                server.look(&seen, node, process);
                return server.removed.retain(|removed| removed.chunk != report.chunk);
            }
            _ => return,
        };
        let server = servers.entry(node.to_owned()).or_default();
        server.look(&seen, node, process);
        for removed in &mut server.removed {
            removed.counted |= replicas.iter().any(|report| report.chunk == removed.chunk && counts(report));
            if removed.counted && removed.reports >= PATIENCE {
                let Removed { chunk, path, .. } = removed;
                violations
                    .add(NAME, format!("{node} reports {chunk} again, of which {path} was removed by hand"));
            }
        }
        if last {
            server.removed.retain(|removed| removed.counted);
            // A replica stays in somebody's hands for as long as syncs hang.
            let mut faults = (0..seen.volumes(node)).map(|volume| seen.world.disk_faults(node, volume));
            let looked = u32::from(!faults.any(|f| f.stuck_syncs || f.stuck_dir_syncs));
            for removed in &mut server.removed {
                (removed.counted, removed.reports) = (false, removed.reports + looked);
            }
        }
    });
}

/// Whether such a report makes somebody rely on a replica.
fn counts(report: &ReplicaReport) -> bool {
    match report.state {
        ReplicaState::Sealed => true,
        ReplicaState::Fenced => report.length > 0,
        // Of an open one everything that came in is told, promised or not.
        ReplicaState::Open | ReplicaState::Damaged | ReplicaState::Gone => false,
    }
}

impl Server {
    /// Learns what was removed. What is there again was replaced, and so is what another volume has.
    fn look(&mut self, cluster: &Cluster, node: &str, process: ProcessId) {
        if self.process != process {
            self.process = process;
            self.removed.iter_mut().for_each(|removed| (removed.counted, removed.reports) = (false, 0));
        }
        let all = cluster.world.damage_injected();
        for harm in &all[self.seen..] {
            if harm.node == node
                && harm.kind == DamageKind::HandEdit
                && let Some(chunk) = chunk_of_either(&harm.path)
            {
                let path = harm.path.clone();
                self.removed.push(Removed { path, chunk, counted: false, reports: 0 });
            }
        }
        self.seen = all.len();
        let has = |volume, r: &Removed| cluster.world.with_file(node, volume, &r.path, |_| ()).is_some();
        self.removed.retain(|removed| !(0..cluster.volumes(node)).any(|volume| has(volume, removed)));
    }
}
