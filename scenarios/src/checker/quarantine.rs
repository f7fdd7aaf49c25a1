//! What is moved to the quarantine stays there for as long as is set, and what is kept for good stays (invariant 27).

use std::collections::BTreeMap;

use cairn_core::disk::{DiskPath, DiskRequest};
use cairn_core::time::{Span, Time};

use crate::cluster::Cluster;
use crate::violation::Violations;

const NAME: &str = "quarantine";

/// Clocks that run fast reach a time early: by one in so many parts at the most.
const DRIFT: u64 = 100;

/// A purge is due by the machine's clock, which it reads when an input begins.
const TOLERANCE: Span = Span::from_ms(10);

/// Follows every move into the quarantine and every removal from it.
pub fn watch(cluster: &Cluster, violations: &Violations) {
    let (seen, violations) = (cluster.clone(), violations.clone());
    let least = Span::from_ms(cluster.shape.chunkserver.quarantine_ms);
    let least = Span((least.0 - least.0 / DRIFT).saturating_sub(TOLERANCE.0));
    let mut moved: BTreeMap<(String, DiskPath), Time> = BTreeMap::new();
    cluster.world.observe_disks(move |now, node, request| match request {
        DiskRequest::Rename { to, .. } if is_quarantined(to) => {
            moved.insert((node.to_owned(), to.clone()), now);
        }
        DiskRequest::Remove(path) if is_quarantined(path) => {
            if path.name.ends_with(".keep") {
                violations.add(NAME, format!("{node} removes {}, which is to be kept", path.name));
            }
            let since = moved.remove(&(node.to_owned(), path.clone()));
            if let Some(at) = since.filter(|at| now.since(*at) < least && !seen.clock_jumped(node)) {
                let ms = now.since(at).as_ms();
                violations.add(NAME, format!("{node} removes {} after {ms} ms", path.name));
            }
        }
        _ => {}
    });
}

fn is_quarantined(path: &DiskPath) -> bool {
    path.name.starts_with("quarantine/")
}
