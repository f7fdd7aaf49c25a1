//! How a server that has come back beside the run goes down once more: names and cuts are lost by two crashes rather than by one.

use std::collections::BTreeSet;

use cairn_core::chunkserver::{Chunkserver, ReplicaView};
use cairn_core::disk::DiskPath;
use cairn_core::id::ChunkId;
use cairn_core::rng::Rng;
use runtime_sim::Again;

use crate::cluster::{Cluster, SIDECAR, chunk_of, chunk_path};

/// Disk operations of a process after which it goes down again, at the most: about what recovery takes, or what follows its first
/// change of a name.
const AGAIN_WITHIN: u64 = 200;
const AGAIN_AFTER_CHANGE: u64 = 12;

/// How the process that comes back goes down, after a loss of power or not; half of the time it could not read what lies where a
/// chunk is.
pub(super) fn draw_again(
    machine: &Chunkserver,
    after_power: bool,
    of_interest: Option<ChunkId>,
    rng: &mut Rng,
) -> Again {
    // Two deaths of processes take less than anything else.
    let power = rng.chance(if after_power { 2 } else { 3 }, 4);
    let changing = rng.chance(1, 2);
    let after = rng.below(if changing { AGAIN_AFTER_CHANGE } else { AGAIN_WITHIN });
    let replicas: Vec<ReplicaView> = machine.replicas().collect();
    if replicas.is_empty() || rng.chance(1, 2) {
        return Again { after, changing, power, unreadable: None };
    }
    let drawn = replicas[rng.below(replicas.len() as u64) as usize];
    let replica = of_interest.and_then(|chunk| machine.replica(chunk)).unwrap_or(drawn);
    let mut path = chunk_path(machine.cluster(), replica.chunk);
    if rng.chance(3, 4) {
        path.push_str(SIDECAR);
    }
    let unreadable = Some(DiskPath::new(replica.volume_index, &path));
    // What comes of that is done after all was read.
    Again { after: after * 4, changing, power, unreadable }
}

/// A chunk of which a server has files on two volumes.
pub(super) fn doubled(cluster: &Cluster, node: &str) -> Option<ChunkId> {
    let mut seen = BTreeSet::new();
    let volumes = 0..cluster.volumes(node);
    let all = volumes.flat_map(|volume| cluster.world.files(node, volume));
    all.filter_map(|(path, _)| chunk_of(&path)).find(|chunk| !seen.insert(*chunk))
}
