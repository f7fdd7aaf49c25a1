//! A server that comes back claims as sealed only what its disks hold, whatever happens to their power (invariant 15), and
//! nothing on a volume that is out of use.

use std::collections::{BTreeMap, BTreeSet};

use cairn_core::chunkserver::{Chunkserver, ReplicaView};
use cairn_core::id::ChunkId;
use cairn_core::message::ReplicaState;

use runtime_sim::{Damage, DamageKind};

use crate::cluster::{Cluster, chunk_of_either, is_new, sidecar};
use crate::violation::Violations;

const NAME: &str = "claims";

/// Reads a server's disks whenever a new process of it has recovered and registered.
pub fn watch(cluster: &Cluster, violations: &Violations) {
    let violations = violations.clone();
    let seen = cluster.clone();
    let mut checked: BTreeSet<String> = BTreeSet::new();
    let mut failed: BTreeMap<String, usize> = BTreeMap::new();
    cluster.world.observe_chunkserver(move |_, name, server| {
        let count = server.failed_volumes().count();
        if failed.get(name).copied().unwrap_or(0) != count {
            failed.insert(name.to_owned(), count);
            if let Some(text) = lost(server) {
                violations.add(NAME, format!("{name} claims {text}"));
            }
        }
        if checked.contains(name) {
            if is_new(server) {
                checked.remove(name);
            }
        } else if server.is_ready() {
            checked.insert(name.to_owned());
            if let Err(text) = check(&seen, name, server) {
                violations.add(NAME, text);
            }
        }
    });
}

/// A replica that is claimed although its volume is out of use.
fn lost(server: &Chunkserver) -> Option<String> {
    let failed: BTreeSet<u16> = server.failed_volumes().map(|(volume, _)| volume).collect();
    let lost = |r: &ReplicaView| failed.contains(&r.volume_index) && r.state != ReplicaState::Damaged;
    server
        .replicas()
        .find(lost)
        .map(|r| format!("{} on volume {}, which is out of use", r.chunk, r.volume_index))
}

fn check(cluster: &Cluster, name: &str, server: &Chunkserver) -> Result<(), String> {
    let files: BTreeMap<(u16, ChunkId), String> = cluster
        .chunk_files(name)
        .into_iter()
        .map(|(volume, path, _, chunk)| ((volume, chunk), path))
        .collect();
    let harmed: Vec<String> =
        cluster.world.damage_standing().into_iter().filter(|d| d.node == name).map(|d| d.path).collect();
    // A file that was removed after it had been found is missed by the next report.
    let by_hand = |d: &&Damage| d.node == name && d.kind == DamageKind::HandEdit;
    let removed: BTreeSet<ChunkId> = cluster
        .world
        .damage_injected()
        .iter()
        .filter(by_hand)
        .filter_map(|d| chunk_of_either(&d.path))
        .collect();
    for replica in server.replicas().filter(|r| r.state == ReplicaState::Sealed) {
        let path = files.get(&(replica.volume_index, replica.chunk));
        let found = path.and_then(|path| held(cluster, name, (replica.volume_index, path), replica.ready));
        // What rotted since it was written is for the scrubber to find.
        if path.is_some_and(|path| harmed.contains(path))
            || found.is_none() && removed.contains(&replica.chunk)
        {
            continue;
        }
        if found != Some((replica.ready, replica.crc)) {
            return Err(format!(
                "{name} came back and claims {} {} with {} bytes and checksum {:08x}, its disk has {found:x?}",
                replica.chunk, replica.version, replica.ready, replica.crc
            ));
        }
    }
    Ok(())
}

/// Length and checksum of what a power cut now would leave of a sealed replica of `length` bytes; under `async`, of what is
/// in the page cache. Bytes beyond are cut at the next start.
fn held(cluster: &Cluster, name: &str, (volume, path): (u16, &String), length: u64) -> Option<(u64, u32)> {
    let world = &cluster.world;
    let of = |bytes: &[u8]| (bytes.len() as u64, crc32fast::hash(bytes));
    // A sync that failed may have lost for good what it calls clean.
    if cluster.shape.is_relaxed() || cluster.disk_errors().contains(name) {
        return world.with_file(name, volume, path, of);
    }
    world.durable_length(name, volume, &sidecar(path))?;
    world.with_durable(name, volume, path, |bytes| of(&bytes[..bytes.len().min(length as usize)]))
}
