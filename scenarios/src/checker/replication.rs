//! After healing, every chunk has its goal of good replicas on disks, and the master says exactly that (invariant 5).

use std::collections::BTreeMap;

use cairn_core::id::ChunkId;
use cairn_core::master::Master;
use cairn_core::master::catalog::ChunkState;

use crate::cluster::Cluster;

/// What its violations are called.
pub const NAME: &str = "replication";

/// What the catalog says of a sealed chunk.
#[derive(Clone, Copy, Debug)]
struct Wanted {
    length: u64,
    crc: u32,
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
            let Some(wanted) = chunks.get(&chunk) else { continue };
            if length != wanted.length || counted.contains(&chunk) {
                continue;
            }
            if cluster.world.with_file(&server, volume, &path, crc32fast::hash) == Some(wanted.crc) {
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

fn wanted(master: &Master) -> Result<BTreeMap<ChunkId, Wanted>, String> {
    let mut chunks = BTreeMap::new();
    for (id, chunk) in master.catalog().chunks_after(None) {
        match chunk.state {
            ChunkState::Sealed { length, crc } => {
                let claimed = master.good_replicas(id);
                // An empty chunk has no bytes that could be lost, and no extent refers to it.
                if length > 0 {
                    chunks.insert(id, Wanted { length, crc, goal: chunk.goal, claimed });
                }
            }
            ChunkState::Open(_) => return Err(format!("{id} is still open")),
        }
    }
    Ok(chunks)
}
