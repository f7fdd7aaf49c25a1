//! Damage that a chunkserver found, its next process knows of (invariant 32): else what rotted would be counted among the
//! good replicas again, until someone reads it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use cairn_core::chunkserver::Chunkserver;
use cairn_core::disk::{DiskPath, DiskRequest};
use cairn_core::id::ChunkId;
use cairn_core::message::ReplicaState;
use runtime_sim::Damage;

use crate::cluster::{Cluster, chunk_of_either, is_journal, is_new, lock};
use crate::violation::Violations;

const NAME: &str = "known-damage";

/// A damaged replica: on which volume, of which chunk.
type Place = (u16, ChunkId);

/// What one server found.
#[derive(Default)]
struct Found {
    /// Whether its present process has recovered.
    is_up: bool,
    /// How often that process has found damage.
    count: u64,
    /// Noted, and perhaps not in the journal yet.
    noted: BTreeSet<Place>,
    /// In the journal for good.
    kept: BTreeSet<Place>,
}

/// What each server found that its journal has for good.
#[derive(Clone, Default)]
pub struct KnownDamage(Arc<Mutex<BTreeMap<String, Found>>>);

impl KnownDamage {
    /// What another process of a server would take for good though this one knows better.
    pub(super) fn forgotten(&self, cluster: &Cluster, node: &str, other: &Chunkserver) -> Option<String> {
        let memory = lock(&self.0);
        forgotten(&memory.get(node)?.kept, other).filter(|_| !is_excused(cluster, node))
    }
}

/// Compares what a server knows when it comes back with what it knew.
pub fn watch(cluster: &Cluster, violations: &Violations) -> KnownDamage {
    let known = KnownDamage::default();
    let memory = known.0.clone();
    let changed = memory.clone();
    // A replica whose files change is another one.
    cluster.world.observe_disks(move |_, node, request| {
        if let Some(found) = lock(&changed).get_mut(node)
            && !(found.noted.is_empty() && found.kept.is_empty())
        {
            for place in changes(request).into_iter().filter_map(place) {
                found.noted.remove(&place);
                found.kept.remove(&place);
            }
        }
    });
    let (seen, violations) = (cluster.clone(), violations.clone());
    cluster.world.observe_chunkserver(move |_, node, machine| {
        let mut memory = lock(&memory);
        if !memory.contains_key(node) {
            memory.insert(node.to_owned(), Found::default());
        }
        let Some(found) = memory.get_mut(node) else { return };
        if is_new(machine) {
            found.is_up = false;
        } else if !found.is_up && machine.is_ready() {
            found.is_up = true;
            found.count = 0;
            found.noted.clear();
            if let Some(text) = forgotten(&found.kept, machine).filter(|_| !is_excused(&seen, node)) {
                violations.add(NAME, format!("{node} {text}"));
            }
            found.kept.clear();
        }
        if found.is_up {
            found.learn(machine);
        }
    });
    known
}

impl Found {
    fn learn(&mut self, machine: &Chunkserver) {
        // A good copy may have come instead.
        let is_damaged = |(volume, chunk): &Place| {
            machine
                .replica(*chunk)
                .is_some_and(|r| r.volume_index == *volume && r.state == ReplicaState::Damaged)
        };
        self.noted.retain(|place| is_damaged(place));
        self.kept.retain(|place| is_damaged(place));
        if machine.damage_found() != self.count {
            self.count = machine.damage_found();
            self.noted = damaged(machine).filter(|place| !self.kept.contains(place)).collect();
        }
        if !self.noted.is_empty() && machine.is_journaled() {
            self.kept.append(&mut self.noted);
        }
    }
}

/// Whether a server's journal may say less than it did.
fn is_excused(cluster: &Cluster, node: &str) -> bool {
    let harmed = |d: &Damage| d.node == node && is_journal(&d.path);
    cluster.disk_errors().contains(node) || cluster.world.damage_injected().iter().any(harmed)
}

fn damaged(machine: &Chunkserver) -> impl Iterator<Item = Place> {
    machine.replicas().filter(|r| r.state == ReplicaState::Damaged).map(|r| (r.volume_index, r.chunk))
}

/// The first replica that a server takes for good though it knew better.
fn forgotten(kept: &BTreeSet<Place>, machine: &Chunkserver) -> Option<String> {
    let is_good = |&&(volume, chunk): &&Place| {
        machine.replica(chunk).is_some_and(|r| r.volume_index == volume && r.state != ReplicaState::Damaged)
    };
    let (volume, chunk) = kept.iter().find(is_good)?;
    Some(format!(
        "knew its replica of {chunk} on volume {volume} to be damaged, and its next process does not"
    ))
}

/// Files that a request changes.
fn changes(request: &DiskRequest) -> Vec<&DiskPath> {
    match request {
        DiskRequest::Write { path, .. } | DiskRequest::Truncate { path, .. } | DiskRequest::Remove(path) => {
            vec![path]
        }
        DiskRequest::Rename { from, to } => vec![from, to],
        _ => Vec::new(),
    }
}

fn place(path: &DiskPath) -> Option<Place> {
    Some((path.volume, chunk_of_either(&path.name)?))
}
