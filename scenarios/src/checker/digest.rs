//! What a master replays from its log is what it had applied before: the same index means the same state (invariant 13).

use std::collections::BTreeMap;

use crate::cluster::Cluster;
use crate::violation::Violations;

const NAME: &str = "digest";

/// Indices whose digests are remembered: a master that starts again has lost at the most what was under way.
const KEPT: usize = 256;

/// Digests the catalog whenever it moved.
pub fn watch(cluster: &Cluster, violations: &Violations) {
    let found = violations.clone();
    let mut known: BTreeMap<u64, u64> = BTreeMap::new();
    let mut last = 0;
    cluster.world.observe_master(move |_, master| {
        let index = master.applied_index();
        if index == last || index == 0 {
            return;
        }
        last = index;
        let digest = master.catalog().digest();
        let before = *known.entry(index).or_insert(digest);
        if before != digest {
            found.add(
                NAME,
                format!("state {before:016x} at index {index} became {digest:016x} after a restart"),
            );
        }
        if known.len() > KEPT {
            known.pop_first();
        }
    });
}
