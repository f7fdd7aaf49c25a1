//! No daemon ends by itself, and no volume goes out of use unless its disk was harmed: whatever is late, repeated,
//! restarted or full, it is never refused for good (invariant 24).

use runtime_sim::{Damage, DamageKind};

use crate::cluster::{Cluster, MASTER};
use crate::violation::Violations;

const NAME: &str = "halts";

/// No volume goes out of use, either, unless something was done to its disk. A full one is as good as any to read from.
pub fn watch(cluster: &Cluster, violations: &Violations) {
    let (seen, violations) = (cluster.clone(), violations.clone());
    cluster.world.observe_chunkserver(move |_, node, machine| {
        let Some((_, why)) = machine.failed_volumes().next() else { return };
        // A blank disk may be too full to be formatted; a formatted one is no excuse.
        let starts = why.contains("can't be recovered");
        let harmed = |d: &Damage| d.node == node && (d.kind != DamageKind::Wipe || starts);
        if !seen.disk_errors().contains(node) && !seen.world.damage_injected().iter().any(harmed) {
            violations.add(NAME, format!("{node}, to which nothing was done: {why}"));
        }
    });
}

/// Looks at the end of a storm at all ends of machines, also of those that were started again since.
pub fn check(cluster: &Cluster, violations: &Violations) {
    let met_errors = cluster.disk_errors();
    // Nobody formats a disk without room, and no master starts on a rotten log.
    let excuses = |node: &str| {
        let harms = |d: &Damage| d.node == node && (d.kind == DamageKind::Wipe || node == MASTER);
        met_errors.contains(node) || cluster.world.damage_injected().iter().any(harms)
    };
    for (node, reason) in cluster.world.failures() {
        if !excuses(&node) {
            violations.add(NAME, format!("{node} ended: {reason}"));
        }
    }
}
