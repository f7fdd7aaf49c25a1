//! Once all uploads are over, no disk holds a chunk that the catalog does not know, nothing waits to be purged, and no upload
//! or open chunk is left (invariant 6).

use std::collections::BTreeSet;

use cairn_core::id::ChunkId;

use crate::cluster::{Cluster, is_purged};

/// What its violations are called.
pub const NAME: &str = "leaks";

/// Says what was left over.
pub fn check(cluster: &Cluster) -> Result<(), String> {
    let (uploads, open, known) = cluster
        .master(|master| {
            let counts = master.catalog().counts();
            let known: BTreeSet<ChunkId> = master.catalog().chunks_after(None).map(|(id, _)| id).collect();
            (counts.uploads, counts.open_chunks, known)
        })
        .ok_or("the master is down")?;
    if uploads > 0 || open > 0 {
        return Err(format!("{uploads} uploads and {open} open chunks are left"));
    }
    for server in cluster.server_names() {
        for (volume, path, length, chunk) in cluster.chunk_files(&server) {
            if !known.contains(&chunk) {
                return Err(format!(
                    "{server} volume {volume} keeps {path} of {length} bytes, unknown to the catalog"
                ));
            }
        }
        for volume in 0..cluster.volumes(&server) {
            let is_left = |path: &str| path.starts_with("staging/") || is_purged(path);
            if let Some((path, _)) =
                cluster.world.files(&server, volume).into_iter().find(|(path, _)| is_left(path))
            {
                return Err(format!("{server} volume {volume} keeps {path}"));
            }
        }
    }
    Ok(())
}
