//! No replica is dropped on the master's order before its chunk is at its goal without it (invariant 25).

use std::collections::BTreeSet;

use cairn_core::id::ChunkId;
use cairn_core::message::{FromServer, Message};

use crate::cluster::{Cluster, chunk_path};
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
        Some((entry.sealed(chunk)?, entry.goal, master.catalog().cluster()))
    });
    // The chunks of no file go altogether.
    let Some(Some((sealed, goal, id))) = sealed else { return Ok(()) };
    if sealed.length == 0 {
        return Ok(());
    }
    let path = chunk_path(id, chunk);
    let is_whole = |bytes: &[u8]| bytes.len() as u64 == sealed.length && crc32fast::hash(bytes) == sealed.crc;
    let is_good = |server: &String| {
        (0..cluster.volumes(server))
            .any(|volume| cluster.world.with_file(server, volume, &path, is_whole) == Some(true))
    };
    let servers = cluster.server_names();
    let good = servers.iter().filter(|server| is_good(server)).count();
    if good >= usize::from(goal) {
        return Ok(());
    }
    let harmed: BTreeSet<String> = cluster.world.damage_injected().into_iter().map(|d| d.node).collect();
    let excused = servers.iter().filter(|server| harmed.contains(*server)).count();
    if good + excused >= usize::from(goal) {
        return Ok(());
    }
    Err(format!("{good} good replicas are left of {goal}"))
}
