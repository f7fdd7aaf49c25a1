//! Sealed replicas of a chunk are byte for byte what was sealed, unless harm was done to them (invariant 20).

use std::collections::BTreeMap;

use cairn_core::chunkserver::Chunkserver;
use cairn_core::id::ChunkId;
use cairn_core::message::{ReplicaState, SealedChunk};

use crate::cluster::{Cluster, chunk_path};
use crate::violation::Violations;

const NAME: &str = "identical";

/// Compares every replica that its server calls sealed with what the log says, on disk.
pub fn check(cluster: &Cluster, violations: &Violations) {
    let sealed: BTreeMap<ChunkId, SealedChunk> = cluster
        .master(|master| {
            let catalog = master.catalog();
            catalog.chunks_after(None).filter_map(|(id, chunk)| Some((id, chunk.sealed(id)?))).collect()
        })
        .unwrap_or_default();
    let harmed = cluster.world.damage_standing();
    for server in cluster.server_names() {
        let replicas = cluster
            .world
            .inspect(&server, |machine: &Chunkserver| {
                let sealed = machine.replicas().filter(|r| r.state == ReplicaState::Sealed);
                sealed.map(|r| (r.chunk, r.version, r.volume_index)).collect::<Vec<_>>()
            })
            .unwrap_or_default();
        let Some(id) = cluster.master(|master| master.catalog().cluster()) else { return };
        for (chunk, version, volume) in replicas {
            let Some(sealed) = sealed.get(&chunk).filter(|s| s.version == version) else { continue };
            let path = chunk_path(id, chunk);
            if harmed.iter().any(|d| d.node == server && d.volume == volume && d.path.starts_with(&path)) {
                continue;
            }
            let of = |bytes: &[u8]| (bytes.len() as u64, crc32fast::hash(bytes));
            let found = cluster.world.with_file(&server, volume, &path, of);
            if found != Some((sealed.length, sealed.crc)) {
                violations.add(
                    NAME,
                    format!("{server} volume {volume} calls {chunk} {version} sealed, and has {found:?} of {sealed:?}"),
                );
            }
        }
    }
}
