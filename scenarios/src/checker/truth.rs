//! What an operator is shown is the truth: as disks and listings have it (invariant 7). What only the simulator can see;
//! `workload::checker::health` asks any cluster.

use std::collections::BTreeSet;

use cairn_core::id::ChunkId;
use cairn_core::message::ClusterStatus;
use runtime_sim::ClientHandle;

use crate::cluster::Cluster;
use crate::workload::perform::list;

/// Compares each server's figures with its disks.
pub fn servers(cluster: &Cluster, status: &ClusterStatus) -> Result<(), String> {
    for name in cluster.server_names() {
        let Some(shown) = status.servers.iter().find(|s| *s.address.0 == *name) else {
            return Err(format!("{name} is not shown"));
        };
        let held: BTreeSet<ChunkId> =
            cluster.chunk_files(&name).into_iter().map(|(_, _, _, chunk)| chunk).collect();
        if shown.replicas != held.len() as u64 {
            return Err(format!(
                "{name} is shown with {} replicas, its disks hold {}",
                shown.replicas,
                held.len()
            ));
        }
        if shown.volumes.len() != usize::from(cluster.volumes(&name)) {
            return Err(format!("{name} is shown with {} volumes", shown.volumes.len()));
        }
    }
    Ok(())
}

/// Compares the numbers of files and directories with what listings show.
pub async fn names(client: &ClientHandle, status: &ClusterStatus) -> Result<(), String> {
    let (mut files, mut directories) = (0, 0);
    let mut open = vec![String::new()];
    while let Some(directory) = open.pop() {
        let path = if directory.is_empty() { "/" } else { &directory };
        for (name, is_directory, _) in list(client, path).await.map_err(|error| format!("{path}: {error}"))? {
            if is_directory {
                directories += 1;
                open.push(format!("{directory}/{name}"));
            } else {
                files += 1;
            }
        }
    }
    if (files, directories) == (status.files, status.directories) {
        return Ok(());
    }
    Err(format!(
        "{} files and {} directories are shown, listings show {files} and {directories}",
        status.files, status.directories
    ))
}
