//! Commands for operators: status, df, fsck.

use std::time::Duration;

use anyhow::Result;
use bins::exit::{Exit, Failure};
use cairn_core::message::{ClusterStatus, Problem};
use runtime_real::client::Cluster;
use serde_json::{Value, json};

use crate::args::StatusArgs;
use crate::output::{self, Output};

pub(crate) async fn status(cluster: &Cluster, out: Output, args: StatusArgs) -> Result<()> {
    let mut status = cluster.status().await?;
    while args.wait && !is_healthy(&status) {
        tokio::time::sleep(Duration::from_millis(500)).await;
        status = cluster.status().await?;
    }
    out.result(&status_text(&status), &cluster_json(&status))
}

/// Whether every chunk is at its replication factor and the master knows it.
pub(crate) fn is_healthy(status: &ClusterStatus) -> bool {
    !status.starting && status.under_replicated == 0 && status.missing == 0
}

fn status_text(status: &ClusterStatus) -> String {
    let live = status.servers.iter().filter(|server| server.live).count();
    let health = if status.starting {
        "STARTING: waiting for the chunkservers' reports".to_owned()
    } else if status.missing > 0 {
        format!("DATA MISSING: {} chunks have no live replica; bring their chunkservers back", status.missing)
    } else if status.under_replicated > 0 {
        format!("REPAIRING: {} chunks below their replication factor", status.under_replicated)
    } else {
        "fully replicated".to_owned()
    };
    let mut text = format!(
        "{}  {health}\n\
         chunkservers  {live} live of {}\n\
         namespace     {} files, {} directories, {} in the trash, {} uploads\n\
         chunks        {} ({} open), {} under-replicated, {} missing, {} over-replicated, {} repairs under way\n\
         log           record {}, {}; master up {} s",
        status.cluster,
        status.servers.len(),
        status.files,
        status.directories,
        status.trash,
        status.uploads,
        status.chunks,
        status.open_chunks,
        status.under_replicated,
        status.missing,
        status.over_replicated,
        status.repairs,
        status.log_index,
        output::size(status.log_bytes),
        status.uptime_ms / 1000,
    );
    if !status.servers.is_empty() {
        let rows = status.servers.iter().map(|server| {
            vec![
                server.address.to_string(),
                server.rack.clone(),
                if server.live { "live".into() } else { "DEAD".into() },
                format!("{:.1} s", server.last_heartbeat_ms as f64 / 1000.0),
                server.replicas.to_string(),
                output::size(server.total_bytes.saturating_sub(server.free_bytes)),
                output::size(server.total_bytes),
                server.volumes.len().to_string(),
            ]
        });
        let header = ["ADDRESS", "RACK", "STATE", "HEARTBEAT", "REPLICAS", "USED", "OF", "VOLUMES"];
        text.push('\n');
        text.push_str(&output::table(&header, rows.collect(), &[3, 4, 5, 6, 7]));
    }
    text
}

/// A cluster's state as JSON.
pub(crate) fn cluster_json(status: &ClusterStatus) -> Value {
    let servers: Vec<Value> = status
        .servers
        .iter()
        .map(|server| {
            let volumes: Vec<Value> = server
                .volumes
                .iter()
                .map(|volume| {
                    json!({
                        "volume": volume.volume.0, "total_bytes": volume.total_bytes,
                        "free_bytes": volume.free_bytes, "writable": volume.writable,
                    })
                })
                .collect();
            json!({
                "server": server.server.0, "address": server.address.0.as_ref(), "rack": server.rack,
                "live": server.live, "last_heartbeat_ms": server.last_heartbeat_ms, "replicas": server.replicas,
                "total_bytes": server.total_bytes, "free_bytes": server.free_bytes, "volumes": volumes,
            })
        })
        .collect();
    json!({
        "cluster": status.cluster.0, "servers": servers, "files": status.files, "directories": status.directories,
        "trash": status.trash, "chunks": status.chunks, "open_chunks": status.open_chunks,
        "under_replicated": status.under_replicated, "missing": status.missing,
        "over_replicated": status.over_replicated, "repairs": status.repairs, "uploads": status.uploads,
        "log_index": status.log_index, "log_bytes": status.log_bytes, "starting": status.starting,
        "uptime_ms": status.uptime_ms,
    })
}

pub(crate) async fn df(cluster: &Cluster, out: Output) -> Result<()> {
    let status = cluster.status().await?;
    let live: Vec<_> = status.servers.iter().filter(|server| server.live).collect();
    let total: u64 = live.iter().map(|server| server.total_bytes).sum();
    let free: u64 = live.iter().map(|server| server.free_bytes).sum();
    let text = format!(
        "{} raw on {} live chunkservers, {} free (divide by the replication factor for what files can take)",
        output::size(total),
        live.len(),
        output::size(free)
    );
    out.result(&text, &json!({ "total_bytes": total, "free_bytes": free, "servers": live.len() }))
}

pub(crate) async fn fsck(cluster: &Cluster, out: Output) -> Result<()> {
    if cluster.status().await?.starting {
        let message = "the master still waits for its chunkservers' reports; try again in half a minute";
        return Err(Failure::new(Exit::Unavailable, message).into());
    }
    let mut found = 0_u64;
    let mut scan = cluster.fsck();
    while let Some(findings) = scan.next_page().await? {
        for finding in findings {
            found += 1;
            let problem = match finding.problem {
                Problem::Missing => "missing",
                Problem::UnderReplicated => "under-replicated",
                Problem::OverReplicated => "over-replicated",
                Problem::Unsettled => "unsettled",
            };
            let path = finding.path.as_deref().unwrap_or("(no file)");
            let text = format!(
                "{}  {problem}  {} of {} replicas  {path}",
                finding.chunk, finding.good, finding.goal
            );
            let value = json!({
                "chunk": finding.chunk.0, "path": finding.path, "problem": problem,
                "good": finding.good, "goal": finding.goal,
            });
            out.result(&text, &value)?;
        }
    }
    if found > 0 {
        return Err(Failure::new(Exit::Failed, format!("{found} chunks are not as they should be")).into());
    }
    out.say("All chunks are as they should be.")
}
