//! No daemon ends by itself, and no volume goes out of use unless its disk was harmed: whatever is late, repeated,
//! restarted or full, it is never refused for good (invariant 24).

use runtime_sim::{Damage, DamageKind};

use crate::cluster::{Cluster, MASTER, chunk_of_any, is_journal};
use crate::violation::Violations;

const NAME: &str = "halts";

/// No volume goes out of use, either, unless something was done to its disk. A full one is as good as any to read from.
pub fn watch(cluster: &Cluster, violations: &Violations) {
    let (seen, violations) = (cluster.clone(), violations.clone());
    cluster.world.observe_chunkserver(move |_, node, machine| {
        for (volume, why) in machine.failed_volumes() {
            if !is_excused(&seen, node, volume, why) {
                violations.add(NAME, format!("{node}, to which nothing was done: {why}"));
            }
        }
    });
}

/// Whether a volume met errors, or anything was done to it that reaches further than a chunk or the journal.
fn is_excused(cluster: &Cluster, node: &str, volume: u16, why: &str) -> bool {
    // A blank disk may be too full to be formatted; a formatted one is no excuse.
    let starts = why.contains("can't be recovered");
    // Another journal in place of a rotten one needs room, too.
    let is_full = why.contains("no space left");
    let is_local = |path: &str| chunk_of_any(path).is_some() || is_journal(path) && !is_full;
    let harms = |d: &Damage| {
        d.node == node && d.volume == volume && !is_local(&d.path) && (d.kind != DamageKind::Wipe || starts)
    };
    cluster.disk_errors().contains(node) || cluster.world.damage_injected().iter().any(harms)
}

/// Looks at the end of a storm at all ends of machines, also of those that were started again since.
pub fn check(cluster: &Cluster, violations: &Violations) {
    let met_errors = cluster.disk_errors();
    // Nobody formats a disk without room, and no master starts on a rotten log.
    let excuses = |node: &str| {
        let harms = |d: &Damage| d.node == node && (d.kind == DamageKind::Wipe || node == MASTER);
        met_errors.contains(node) || cluster.world.damage_injected().iter().any(harms)
    };
    // Each of its volumes was judged when it went out of use.
    let is_judged = |reason: &str| reason.starts_with("none of the volumes can be used");
    for (node, reason) in cluster.world.failures() {
        if !excuses(&node) && !is_judged(&reason) {
            violations.add(NAME, format!("{node} ended: {reason}"));
        }
    }
}
