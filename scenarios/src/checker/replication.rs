//! After healing, every chunk has its goal of good replicas on disks, bytes and
//! sidecar, and the master says exactly that (invariant 5).

use std::collections::BTreeMap;

use cairn_core::chunkserver::sidecar::Sidecar;
use cairn_core::id::ChunkId;
use cairn_core::master::Master;
use cairn_core::message::SealedChunk;

use crate::cluster::{Cluster, sidecar};

/// What its violations are called.
pub const NAME: &str = "replication";

/// What the catalog says of a sealed chunk.
#[derive(Clone, Copy, Debug)]
struct Wanted {
    sealed: SealedChunk,
    goal: u8,
    claimed: u8,
}

/// Says what is not as it must be, by counting good bytes on disks.
pub fn check(cluster: &Cluster) -> Result<(), String> {
    let chunks = cluster.master(wanted).ok_or("the master is down")??;
    let mut good: BTreeMap<ChunkId, u8> = BTreeMap::new();
    for server in cluster.server_names() {
        let mut counted = Vec::new();
        for (volume, path, length, chunk) in cluster.chunk_files(&server) {
            let Some(Wanted { sealed, .. }) = chunks.get(&chunk) else { continue };
            if length == sealed.length
                && !counted.contains(&chunk)
                && is_good(cluster, (&server, volume), &path, sealed)
            {
                counted.push(chunk);
                *good.entry(chunk).or_default() += 1;
            }
        }
    }
    let servers = cluster.server_count() as u8;
    for (chunk, wanted) in &chunks {
        let have = good.get(chunk).copied().unwrap_or(0);
        if have < wanted.goal.min(servers) {
            return Err(format!("{chunk} has {have} good replicas on disks of {} ({wanted:?})", wanted.goal));
        }
        if have != wanted.claimed {
            return Err(format!(
                "{chunk}: the master claims {} good replicas, disks have {have}",
                wanted.claimed
            ));
        }
    }
    Ok(())
}

/// Whether bytes and sidecar at `path` are what was sealed.
fn is_good(cluster: &Cluster, (server, volume): (&str, u16), path: &str, sealed: &SealedChunk) -> bool {
    let world = &cluster.world;
    let describes = |bytes: &[u8]| Sidecar::decode(bytes).is_ok_and(|found| found.sealed == *sealed);
    world.with_file(server, volume, path, crc32fast::hash) == Some(sealed.crc)
        && world.with_file(server, volume, &sidecar(path), describes) == Some(true)
}

fn wanted(master: &Master) -> Result<BTreeMap<ChunkId, Wanted>, String> {
    let mut chunks = BTreeMap::new();
    for (id, chunk) in master.catalog().chunks_after(None) {
        let Some(sealed) = chunk.sealed(id) else { return Err(format!("{id} is still open")) };
        let claimed = master.good_replicas(id);
        // An empty chunk has no bytes that could be lost, and no extent refers to it.
        if sealed.length > 0 {
            chunks.insert(id, Wanted { sealed, goal: chunk.goal, claimed });
        }
    }
    Ok(chunks)
}
