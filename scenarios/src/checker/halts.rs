//! No chunkserver ends by itself, and no volume goes out of use unless its disk was harmed: whatever is late, repeated,
//! restarted or full, it is never refused for good (invariant 24).

use runtime_sim::{Damage, NodeState};

use crate::cluster::Cluster;
use crate::violation::Violations;

const NAME: &str = "halts";

/// No volume goes out of use, either, unless something was done to its disk. A full one is as good as any to read from.
pub fn watch(cluster: &Cluster, violations: &Violations) {
    let (seen, violations) = (cluster.clone(), violations.clone());
    cluster.world.observe_chunkserver(move |_, node, machine| {
        let Some(why) = machine.failed_volumes().next() else { return };
        let harmed = |d: &Damage| d.node == node;
        if !seen.disk_errors().contains(node) && !seen.world.damage_injected().iter().any(harmed) {
            violations.add(NAME, format!("{node}, to which nothing was done: {why}"));
        }
    });
}

/// Looks at the end of a storm, before what is down is started again.
pub fn check(cluster: &Cluster, violations: &Violations) {
    let met_errors = cluster.disk_errors();
    for server in cluster.server_names() {
        if let NodeState::Halted { reason, failed: true } = cluster.world.state(&server)
            && !met_errors.contains(&server)
        {
            violations.add(NAME, format!("{server} ended: {reason}"));
        }
    }
}
