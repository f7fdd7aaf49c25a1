//! What is being freed can't be restored: nobody gets back a part of what was deleted (invariant 40).

use cairn_core::id::TrashId;
use cairn_core::message::MasterRequest;
use cairn_core::time::Span;
use runtime_sim::ClientHandle;

use crate::cluster::Cluster;
use crate::violation::Violations;
use crate::workload::operation::{Operation, Outcome};
use crate::workload::perform::{master, perform, trash};

const NAME: &str = "half-freed";

const TREE: &str = "/halved";
const RESTORED: &str = "/halved-restored";

/// Directories, each in the one before it: more than one step of the background frees.
const DEPTH: usize = 40;

/// Longer than this no entry is waited for.
const SOON: Span = Span::from_ms(10_000);

/// Clocks drift, and the background collects in steps.
const SLACK: Span = Span::from_ms(2_000);

/// How often one looks whether freeing has begun.
const LOOK: Span = Span::from_ms(2);

/// Deletes a tree, and asks for it again when a part of it is gone.
pub async fn watch(cluster: &Cluster, violations: &Violations) {
    let master = &cluster.shape.master;
    if Span::from_ms(master.undelete_ms) > SOON || master.step_budget as usize >= DEPTH {
        return;
    }
    let Some(entry) = delete(&cluster.clients[0]).await else { return };
    let over = cluster.world.now() + Span::from_ms(master.undelete_ms) + SLACK;
    let (cluster, violations) = (cluster.clone(), violations.clone());
    let world = cluster.world.clone();
    world.spawn(async move {
        while cluster.world.now() < over {
            cluster.world.sleep(LOOK).await;
            if cluster.master(|master| master.catalog().is_being_freed(entry)) == Some(true) {
                return ask(&cluster.clients[0], entry, &violations).await;
            }
        }
    });
}

async fn delete(client: &ClientHandle) -> Option<TrashId> {
    let path = format!("{TREE}{}", "/d".repeat(DEPTH));
    let make = Operation::Mkdir { path, parents: true };
    let delete = Operation::Delete { path: TREE.to_owned(), recursive: true };
    for operation in [make, delete] {
        if perform(client, &operation).await != Outcome::Done {
            return None;
        }
    }
    trash(client).await.ok()?.into_iter().find(|entry| entry.path == TREE).map(|entry| entry.id)
}

async fn ask(client: &ClientHandle, entry: TrashId, violations: &Violations) {
    for entry in [Some(entry), None] {
        let (path, to) = (TREE.to_owned(), Some(RESTORED.to_owned()));
        if master(client, MasterRequest::Restore { entry, path, to }).await.is_ok() {
            return violations
                .add(NAME, format!("{TREE} was being freed, and could be restored all the same"));
        }
    }
}
