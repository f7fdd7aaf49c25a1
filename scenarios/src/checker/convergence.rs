//! Once nothing goes wrong any more, the cluster becomes whole within a stated time (invariant 8).

use cairn_core::time::Span;

use super::{health, leaks, replication};
use crate::cluster::Cluster;
use crate::violation::Violations;

const NAME: &str = "convergence";

/// Simulated time within which a healed cluster must be whole: expiry of uploads (8 s), death and repair, and a full
/// scrub of all that a storm writes, several times over.
pub const WITHIN: Span = Span::from_ms(120_000);

/// How often the cluster is looked at.
const LOOK_EVERY: Span = Span::from_ms(500);

/// Waits until the cluster is whole; says what is missing if it does not become so.
pub async fn check(cluster: &Cluster, violations: &Violations) {
    let world = &cluster.world;
    let start = world.now();
    let mut last;
    loop {
        last = whole(cluster).await;
        if last.is_ok() || world.now().since(start) > WITHIN {
            break;
        }
        world.sleep(LOOK_EVERY).await;
    }
    if let Err(text) = last {
        violations.add(NAME, format!("{} s after healing: {text}", WITHIN.as_ms() / 1000));
    }
}

async fn whole(cluster: &Cluster) -> Result<(), String> {
    for node in cluster.node_names() {
        let state = cluster.world.state(&node);
        if state != runtime_sim::NodeState::Up {
            return Err(format!("{node} is {state:?}"));
        }
    }
    let client = cluster.clients.first().ok_or("no client")?;
    health::worries(&health::status(client).await?, cluster.shape.servers.len())?;
    leaks::check(cluster)?;
    replication::check(cluster)
}
