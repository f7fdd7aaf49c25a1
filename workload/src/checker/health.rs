//! The master's figures are the truth: healthy when disks are, never before (invariant 7).

use cairn_core::message::{ClusterStatus, Finding, MasterReply, MasterRequest};

use crate::perform::{Caller, master};

/// What its violations are called.
pub const NAME: &str = "health";

/// Chunks that are looked at to name some that are not well, and how many are named.
const NAMED_OF: u32 = 10_000;
const NAMED: usize = 5;

/// Asks for the cluster's state as an operator would.
pub async fn status<C: Caller>(client: &C) -> Result<ClusterStatus, String> {
    match master(client, MasterRequest::ClusterStatus).await {
        Ok(MasterReply::Cluster(status)) => Ok(status),
        Ok(other) => Err(format!("ClusterStatus was answered {other:?}")),
        Err(error) => Err(format!("no cluster status: {error}")),
    }
}

/// The first chunks that are not as they should be, as `fsck` names them; empty if nothing can be learned.
pub async fn findings<C: Caller>(client: &C) -> String {
    let Ok(MasterReply::Findings { findings, .. }) =
        master(client, MasterRequest::Fsck { after: None, limit: NAMED_OF }).await
    else {
        return String::new();
    };
    let name = |f: &Finding| format!("{} ({:?}, {} of {})", f.chunk, f.problem, f.good, f.goal);
    let names: Vec<String> = findings.iter().take(NAMED).map(name).collect();
    names.join(", ")
}

/// What an operator would still have to worry about.
pub fn worries(status: &ClusterStatus, servers: usize) -> Result<(), String> {
    let live = status.servers.iter().filter(|s| s.live).count();
    if live != servers {
        return Err(format!("{live} of {servers} servers are live"));
    }
    if status.starting {
        return Err("the master is still starting".into());
    }
    let figures = [
        ("under-replicated chunks", status.under_replicated),
        ("missing chunks", status.missing),
        ("over-replicated chunks", status.over_replicated),
        ("repairs", status.repairs),
        ("uploads", status.uploads),
        ("open chunks", status.open_chunks),
    ];
    match figures.iter().find(|(_, value)| *value > 0) {
        Some((what, value)) => Err(format!("{value} {what}")),
        None => Ok(()),
    }
}
