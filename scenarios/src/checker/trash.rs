//! What was restored stays, and is in the trash no more; what was deleted is listed there until its time (invariant 30).

use cairn_core::time::{Span, Time};
use runtime_sim::ClientHandle;

use crate::cluster::{Cluster, MASTER};
use crate::violation::Violations;
use crate::workload::checker::namespace::short;
use crate::workload::content::Content;
use crate::workload::operation::{Operation, Outcome};
use crate::workload::perform::{perform, trash};

/// What its violations are called.
pub const NAME: &str = "trash";

const ROOT: &str = "/trashed";
const RESTORED: &str = "/trashed/restored";
const DELETED: &str = "/trashed/deleted";

/// No user's contents have numbers so high.
const CONTENT: Content = Content { number: u32::MAX, length: 5_000 };

/// Clocks drift, and the background collects in steps.
const SLACK: Span = Span::from_ms(500);

/// When two files were deleted, one of which was restored in time.
#[derive(Debug)]
pub struct Trashed(Time);

/// Deletes two files and restores one of them. `None` if that took so long that its time may have been over.
pub async fn prepare(cluster: &Cluster, violations: &Violations) -> Option<Trashed> {
    let (world, client) = (&cluster.world, &cluster.clients[0]);
    let storage = cluster.shape.storages.first().copied().unwrap_or_default();
    let put = |path: &str| {
        let (path, replace, piece) = (path.to_owned(), false, 4_096);
        Operation::Put { path, content: CONTENT, replace, piece, storage }
    };
    let delete = |path: &str| Operation::Delete { path: path.to_owned(), recursive: false };
    let mkdir = Operation::Mkdir { path: ROOT.to_owned(), parents: false };
    for operation in [mkdir, put(RESTORED), put(DELETED)] {
        did(client, &operation, violations).await?;
    }
    let trashed = Trashed(world.now());
    for operation in [delete(RESTORED), delete(DELETED)] {
        did(client, &operation, violations).await?;
    }
    let restored = perform(client, &Operation::Restore { path: RESTORED.to_owned() }).await;
    let may_be_over = || world.now() + SLACK > trashed.over(cluster);
    if may_be_over() {
        return None;
    }
    if restored != Outcome::Done {
        violations.add(NAME, format!("{RESTORED} can't be restored: {}", short(&restored)));
        return None;
    }
    let listed = listed(client, violations).await?;
    if !may_be_over() && listed != [DELETED] {
        violations.add(NAME, format!("{DELETED} is in the trash, but listed are {listed:?}"));
    }
    Some(trashed)
}

/// Looks again once the time in the trash is over, if that is soon.
pub async fn check(cluster: &Cluster, trashed: &Trashed, violations: &Violations) {
    let (world, client) = (&cluster.world, &cluster.clients[0]);
    let soon = cluster.shape.master.undelete_ms < 60_000;
    let over = trashed.over(cluster) + SLACK + SLACK;
    while soon && world.now() < over {
        world.sleep(SLACK).await;
    }
    let outcome = perform(client, &Operation::Get { path: RESTORED.to_owned() }).await;
    if !matches!(outcome, Outcome::Read { content: Some(CONTENT), .. }) {
        violations.add(NAME, format!("{RESTORED} was restored, and is now {}", short(&outcome)));
    }
    let Some(listed) = listed(client, violations).await else { return };
    // Deleted by a clock that was ahead: a start has set it right since, and the time comes later.
    if cluster.clock_jumped(MASTER) {
        return;
    }
    let expected: &[&str] = if soon { &[] } else { &[DELETED] };
    if listed != expected {
        violations.add(NAME, format!("the trash should hold {expected:?} of {ROOT}, but lists {listed:?}"));
    }
}

impl Trashed {
    /// When the time in the trash is over.
    fn over(&self, cluster: &Cluster) -> Time {
        self.0 + Span::from_ms(cluster.shape.master.undelete_ms)
    }
}

async fn did(client: &ClientHandle, operation: &Operation, violations: &Violations) -> Option<()> {
    match perform(client, operation).await {
        Outcome::Done | Outcome::Stored { .. } => Some(()),
        other => {
            violations.add(NAME, format!("{} came to {}", operation.brief(), short(&other)));
            None
        }
    }
}

/// What the trash lists of the checker's own.
async fn listed(client: &ClientHandle, violations: &Violations) -> Option<Vec<String>> {
    match trash(client).await {
        Ok(entries) => {
            Some(entries.into_iter().map(|e| e.path).filter(|path| path.starts_with(ROOT)).collect())
        }
        Err(error) => {
            violations.add(NAME, format!("the trash can't be listed: {error}"));
            None
        }
    }
}
