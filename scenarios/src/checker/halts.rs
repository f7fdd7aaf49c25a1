//! No chunkserver ends by itself: whatever is late, repeated or restarted, it is never refused for good (invariant 15).

use runtime_sim::NodeState;

use crate::cluster::Cluster;
use crate::violation::Violations;

const NAME: &str = "halts";

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
