//! No replica is dropped on the master's order before its chunk is at its goal without it (invariant 25).

use std::collections::BTreeSet;

use cairn_core::id::ChunkId;
use cairn_core::message::{FromServer, Message};

use crate::cluster::Cluster;
use crate::violation::Violations;

const NAME: &str = "drops";

/// Counts good replicas on disks whenever a server says that it dropped one.
pub fn watch(cluster: &Cluster, violations: &Violations) {
    let seen = cluster.clone();
    let violations = violations.clone();
    cluster.world.observe_messages(move |_, from, _, message| {
        if let Message::FromServer(FromServer::DropDone { chunk, dropped: true, .. }) = message
            && let Err(text) = check(&seen, *chunk)
        {
            violations.add(NAME, format!("{from} dropped {chunk}: {text}"));
        }
    });
}

fn check(cluster: &Cluster, chunk: ChunkId) -> Result<(), String> {
    let sealed = cluster.master(|master| {
        let entry = master.catalog().chunk(chunk)?;
        Some((entry.sealed(chunk)?, entry.goal))
    });
    // The chunks of no file go altogether.
    let Some(Some((sealed, goal))) = sealed else { return Ok(()) };
    if sealed.length == 0 {
        return Ok(());
    }
    let harmed: BTreeSet<String> = cluster.world.damage_injected().into_iter().map(|d| d.node).collect();
    let is_good = |server: &String| {
        cluster.chunk_files(server).into_iter().any(|(volume, path, length, found)| {
            let bytes = || cluster.world.read_file(server, volume, &path).unwrap_or_default();
            found == chunk && length == sealed.length && crc32fast::hash(&bytes()) == sealed.crc
        })
    };
    let servers = cluster.server_names();
    let good = servers.iter().filter(|server| is_good(server)).count();
    let excused = servers.iter().filter(|server| harmed.contains(*server)).count();
    if good + excused >= usize::from(goal) {
        return Ok(());
    }
    Err(format!("{good} good replicas are left of {goal}"))
}
