//! What a master has applied is what its durable log says: replaying the log gives the same state, before a restart and
//! after it (invariant 13).

use std::collections::BTreeMap;

use cairn_core::defect::Defects;
use cairn_core::master::catalog::Catalog;
use cairn_core::master::command::Command;
use runtime_sim::World;

use crate::cluster::{Cluster, MASTER, log_segments, scan};
use crate::violation::Violations;

const NAME: &str = "log-agreement";

/// Indices whose digests are remembered: a master that starts again has lost at the most what was under way.
const KEPT: usize = 256;

/// Digests the catalog whenever it moved, and replays the log whenever a master begins to serve.
pub fn watch(cluster: &Cluster, defects: Defects, violations: &Violations) {
    let found = violations.clone();
    let world = cluster.world.clone();
    let mut known: BTreeMap<u64, u64> = BTreeMap::new();
    let mut last = 0;
    let mut serves = false;
    cluster.world.observe_master(move |_, master| {
        let began = master.is_ready() && !serves;
        serves = master.is_ready();
        if began
            && let Err(text) = compare(&world, defects, (master.applied_index(), master.catalog().digest()))
        {
            found.add(NAME, text);
        }
        let index = master.applied_index();
        if index == last || index == 0 {
            return;
        }
        last = index;
        let digest = master.catalog().digest();
        // What a start has read may not be durable, and is nothing that anybody was told, until the master serves.
        let before = if serves {
            *known.entry(index).or_insert(digest)
        } else {
            *known.get(&index).unwrap_or(&digest)
        };
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

/// Replays the log as it would survive now, and compares.
pub fn check(cluster: &Cluster, defects: Defects, violations: &Violations) {
    let result = cluster.master(|master| (master.applied_index(), master.catalog().digest()));
    let agreed = match result {
        Some(applied) => compare(&cluster.world, defects, applied),
        None => Err("the master is down".to_owned()),
    };
    if let Err(text) = agreed {
        violations.add(NAME, text);
    }
}

/// `defects`: planted ones concern what a command does, and not whether the log has it.
fn compare(world: &World, defects: Defects, (applied, digest): (u64, u64)) -> Result<(), String> {
    let mut catalog = Catalog::new(defects);
    for (path, _) in log_segments(world) {
        let Some(bytes) = world.durable_file(MASTER, 0, &path) else { continue };
        replay(&mut catalog, &bytes, applied).map_err(|error| format!("{path}: {error}"))?;
    }
    if catalog.applied() < applied {
        return Err(format!(
            "the master has applied {applied} records, its durable log has only {}",
            catalog.applied()
        ));
    }
    let replayed = catalog.digest();
    if replayed != digest {
        return Err(format!(
            "at index {applied} the master's state is {digest:016x}, the replayed log's {replayed:016x}"
        ));
    }
    Ok(())
}

/// Applies a segment's records up to index `upto`.
fn replay(catalog: &mut Catalog, bytes: &[u8], upto: u64) -> Result<(), String> {
    // A segment that is just being made says nothing yet; a damaged one shows in what is missing.
    let Some(mut scan) = scan(bytes) else { return Ok(()) };
    while let Some((index, op, payload)) = scan.next_record() {
        // A torn tail may have been cut and its indices given out again: what was applied already is not applied twice.
        if catalog.applied() >= upto || index <= catalog.applied() {
            continue;
        }
        let command = Command::decode(op, &payload).map_err(|error| format!("record {index}: {error}"))?;
        catalog.apply(&command);
    }
    Ok(())
}
