//! No replica is reported damaged on a server to whose disks no harm was done (invariant 22).

use std::collections::{BTreeMap, BTreeSet};

use cairn_core::chunkserver::Chunkserver;
use cairn_core::id::{ChunkId, ChunkUuid};
use cairn_core::message::ReplicaState;
use runtime_sim::{Damage, DamageKind};

use crate::cluster::{Cluster, is_journal};
use crate::violation::Violations;

const NAME: &str = "alarms";

/// Looks for a cause whenever a chunkserver has found damage.
pub fn watch(cluster: &Cluster, violations: &Violations) {
    let violations = violations.clone();
    let cluster = cluster.clone();
    let world = cluster.world.clone();
    let mut found: BTreeMap<String, u64> = BTreeMap::new();
    let mut known: BTreeMap<String, BTreeSet<ChunkId>> = BTreeMap::new();
    let mut journals: BTreeMap<String, u64> = BTreeMap::new();
    let mut failed: BTreeMap<String, usize> = BTreeMap::new();
    world.observe_chunkserver(move |_, node, machine| {
        let damaged = machine.damaged_journals();
        let known_before = journals.get(node).copied().unwrap_or(0);
        if damaged != known_before {
            journals.insert(node.to_owned(), damaged);
            if damaged > known_before && !journal_has_cause(&cluster, node) {
                violations.add(NAME, format!("{node} finds a journal damaged, and nothing was done to it"));
            }
        }
        let count = machine.damage_found();
        let last = found.get(node).copied().unwrap_or(0);
        if last == count {
            // What was mended meanwhile may be damaged once more.
            let known = known.get_mut(node).filter(|known| !known.is_empty() && machine.has_recovered());
            if let Some(known) = known {
                let is_damaged = |chunk: &ChunkId| {
                    machine.replica(*chunk).is_some_and(|r| r.state == ReplicaState::Damaged)
                };
                known.retain(is_damaged);
            }
            return;
        }
        found.insert(node.to_owned(), count);
        let damaged: BTreeSet<ChunkId> =
            machine.replicas().filter(|r| r.state == ReplicaState::Damaged).map(|r| r.chunk).collect();
        let before = known.insert(node.to_owned(), damaged.clone()).unwrap_or_default();
        let out_of_use = machine.failed_volumes().count();
        if failed.insert(node.to_owned(), out_of_use).unwrap_or_default() < out_of_use {
            // What was on that volume is not among the replicas any more.
            return;
        }
        let (caused, causeless): (Vec<ChunkId>, Vec<ChunkId>) = damaged
            .difference(&before)
            .copied()
            .partition(|chunk| has_cause(&cluster, node, machine, *chunk));
        // A replica that the others outran is written off like a damaged one, but without an alarm. A new process counts
        // from zero.
        let alarms = count.checked_sub(last).unwrap_or(count) as usize;
        if let Some(chunk) = causeless.first()
            && caused.len() < alarms
        {
            violations.add(
                NAME,
                format!("{node} reports its replica of {chunk} damaged, and nothing was done to it"),
            );
        }
    });
}

/// Whether anything was done to a node's disks that may have harmed a journal.
fn journal_has_cause(cluster: &Cluster, node: &str) -> bool {
    let harms = |d: &Damage| d.node == node && (is_journal(&d.path) || spreads(d.kind));
    cluster.disk_errors().contains(node) || cluster.world.damage_injected().iter().any(harms)
}

/// Whether such harm reaches further than the file that it was done to.
fn spreads(kind: DamageKind) -> bool {
    matches!(kind, DamageKind::Wipe | DamageKind::SyncFailed)
}

/// Whether anything was done to a node's disks that may have harmed its replica of `chunk`.
fn has_cause(cluster: &Cluster, node: &str, machine: &Chunkserver, chunk: ChunkId) -> bool {
    let volume = machine.replica(chunk).map(|r| r.volume_index);
    let is_there = |other: u16| volume.is_none_or(|volume| volume == other);
    let lost_power = cluster.shape.is_relaxed() && cluster.power_cut_at(node).is_some();
    if lost_power || machine.failed_volumes().any(|(failed, _)| is_there(failed)) {
        return true;
    }
    let name = cluster.last_grant().map(|grant| ChunkUuid::new(grant.cluster, chunk).to_string());
    // What befell anything but another chunk's files may reach further than one replica.
    let elsewhere =
        |path: &str| path.contains("/chunk-") && name.as_ref().is_some_and(|name| !path.contains(name));
    if cluster.world.any_failed(node, |other, path| is_there(other) && !elsewhere(path)) {
        return true;
    }
    let is_here = |d: &Damage| {
        let spread = spreads(d.kind);
        d.node == node && (spread || !elsewhere(&d.path)) && (spread || is_there(d.volume))
    };
    // A good copy that came over a bad replica ends what was done to that.
    let ends = |d: &Damage| d.path.contains("/chunk-") && !spreads(d.kind) && d.kind != DamageKind::HandEdit;
    cluster.world.damage_standing().iter().any(is_here)
        || cluster.world.damage_injected().iter().any(|d| !ends(d) && is_here(d))
}
