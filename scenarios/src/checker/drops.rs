//! No replica is dropped on the master's order before its chunk is at its goal without it (invariant 25).
//!
//! The master decides by what it was told. A volume that is emptied, and under `async` a power cut, takes replicas in
//! silence: such a server is excused until its next process has registered, and for orders that were given before that.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use cairn_core::id::{ChunkId, ProcessId, VolumeId};
use cairn_core::message::{FromServer, Message, ToServer};
use cairn_core::time::Time;
use runtime_sim::{Damage, DamageKind};

use crate::cluster::{Cluster, chunk_path, lock};
use crate::violation::Violations;

const NAME: &str = "drops";

/// When an order was given, and servers that had lost replicas without the master knowing.
#[derive(Clone, Default)]
struct Order {
    at: Time,
    unheard: BTreeSet<String>,
}

#[derive(Default)]
struct Memory {
    /// When each process first asked to be registered, and the latest of those that the master has heard, by server.
    asked: BTreeMap<ProcessId, Time>,
    heard: BTreeMap<String, Time>,
    /// Orders on their way, and the last that each server got.
    sent: BTreeMap<(ChunkId, VolumeId), Order>,
    given: BTreeMap<(String, ChunkId), Order>,
}

impl Memory {
    /// Servers that may have lost what the master believes them to have.
    fn unheard(&self, cluster: &Cluster) -> BTreeSet<String> {
        let heard = |server: &str| self.heard.get(server).copied().unwrap_or(Time::ZERO);
        let lost = |server: &String| lost_since(cluster, server, heard(server));
        cluster.server_names().into_iter().filter(lost).collect()
    }
}

/// Whether a server lost replicas after `since` that its next process will know to be gone: its power was cut, and with it
/// went what it had not synced, or one of its volumes was emptied.
fn lost_since(cluster: &Cluster, server: &str, since: Time) -> bool {
    let cut = cluster.shape.is_relaxed() && cluster.power_cut_at(server).is_some_and(|at| at > since);
    let is_wipe = |d: &Damage| d.node == server && d.kind == DamageKind::Wipe && d.at > since;
    cut || cluster.world.damage_injected().iter().any(is_wipe)
}

/// Counts good replicas on disks whenever a server says that it dropped one.
pub fn watch(cluster: &Cluster, violations: &Violations) {
    let memory = Arc::new(Mutex::new(Memory::default()));
    let (seen, noted) = (cluster.clone(), memory.clone());
    cluster.world.observe_sends(move |now, _, _, _, message| {
        let mut memory = lock(&noted);
        match message {
            Message::FromServer(FromServer::Register { process, .. }) => {
                memory.asked.entry(*process).or_insert(now);
            }
            Message::ToServer(ToServer::Drop { chunk, volume, .. }) => {
                let order = Order { at: now, unheard: memory.unheard(&seen) };
                memory.sent.insert((*chunk, *volume), order);
            }
            _ => {}
        }
    });
    let (seen, violations) = (cluster.clone(), violations.clone());
    cluster.world.observe_messages(move |_, from, to, message| {
        let mut memory = lock(&memory);
        match message {
            Message::FromServer(FromServer::Register { process, .. }) => {
                let at = memory.asked.get(process).copied().unwrap_or(Time::ZERO);
                let heard = memory.heard.entry(from.to_owned()).or_default();
                *heard = at.max(*heard);
            }
            Message::ToServer(ToServer::Drop { chunk, volume, .. }) => {
                let order = memory.sent.remove(&(*chunk, *volume)).unwrap_or_default();
                memory.given.insert((to.to_owned(), *chunk), order);
            }
            Message::FromServer(FromServer::DropDone { chunk, dropped, .. }) => {
                let order = memory.given.remove(&(from.to_owned(), *chunk)).unwrap_or_default();
                if *dropped && let Err(text) = check(&seen, from, *chunk, &order) {
                    violations.add(NAME, format!("{from} dropped {chunk}: {text}"));
                }
            }
            _ => {}
        }
    });
}

fn check(cluster: &Cluster, dropper: &str, chunk: ChunkId, order: &Order) -> Result<(), String> {
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
    // What rots does so in silence.
    let mut harm = cluster.world.damage_injected();
    harm.retain(|d| d.kind != DamageKind::Wipe && (d.path.is_empty() || d.path.starts_with(&path)));
    let harmed: BTreeSet<String> = harm.into_iter().map(|d| d.node).collect();
    let is_excused = |server: &String| {
        let lost = order.unheard.contains(server) || lost_since(cluster, server, order.at);
        server != dropper && (lost || harmed.contains(server))
    };
    let excused = servers.iter().filter(|server| !is_good(server) && is_excused(server)).count();
    if good + excused >= usize::from(goal) {
        return Ok(());
    }
    Err(format!("{good} good replicas are left of {goal}"))
}
