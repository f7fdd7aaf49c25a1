//! Commands for operators: status, df, fsck.

use std::time::{Duration, Instant};

use anyhow::Result;
use bins::exit::{Exit, Failure};
use cairn_core::message::{ClusterStatus, Problem, ServerStatus};
use runtime_real::client::Cluster;
use serde_json::{Value, json};

use crate::args::StatusArgs;
use crate::output::{self, Output};

/// Between two looks at a cluster that is waited for.
const PAUSE: Duration = Duration::from_millis(500);

pub(crate) async fn status(
    cluster: &Cluster,
    out: Output,
    args: StatusArgs,
    timeout: Option<Duration>,
) -> Result<()> {
    let begin = Instant::now();
    let mut status = cluster.status().await?;
    let in_time = || timeout.is_none_or(|timeout| begin.elapsed() < timeout);
    while args.wait && !is_healthy(&status) && in_time() {
        tokio::time::sleep(PAUSE.min(timeout.unwrap_or(PAUSE))).await;
        status = cluster.status().await?;
    }
    let lacking = lacking(cluster, &status).await?;
    out.result(&status_text(&status, lacking), &cluster_json(&status, lacking))?;
    if args.wait && !is_healthy(&status) {
        let text = format!("not fully replicated after {} s", begin.elapsed().as_secs());
        return Err(Failure::new(Exit::Unavailable, text).into());
    }
    Ok(())
}

/// Whether every chunk is at its replication factor, the master knows it, and no chunkserver is about to be lost.
fn is_healthy(status: &ClusterStatus) -> bool {
    health(status, None) == Health::Replicated
}

/// Chunkservers that the master can talk to.
pub(crate) fn usable(status: &ClusterStatus) -> usize {
    status.servers.iter().filter(|server| server.live && server.connected).count()
}

/// How many chunkservers it takes for the chunks below their replication factor, when there are too few for copies of them.
async fn lacking(cluster: &Cluster, status: &ClusterStatus) -> Result<Option<u8>> {
    if status.starting || status.under_replicated == status.missing || status.repairs > 0 {
        return Ok(None);
    }
    let mut scan = cluster.fsck();
    while let Some(findings) = scan.next_page().await? {
        let below = findings.iter().filter(|finding| finding.problem == Problem::UnderReplicated);
        // Chunks in later pages may want more still; these are enough to say what to do.
        if let Some(goal) = below.map(|finding| finding.goal).max() {
            return Ok((usize::from(goal) > usable(status)).then_some(goal));
        }
    }
    Ok(None)
}

/// The cluster in a word; the first that holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Health {
    Starting,
    Missing,
    LogFull,
    Degraded { goal: u8 },
    Repairing,
    Silent,
    Replicated,
}

fn health(status: &ClusterStatus, lacking: Option<u8>) -> Health {
    if status.starting {
        Health::Starting
    } else if status.missing > 0 {
        Health::Missing
    } else if status.log_full {
        Health::LogFull
    } else if let Some(goal) = lacking {
        Health::Degraded { goal }
    } else if status.under_replicated > 0 {
        Health::Repairing
    } else if silent(status).next().is_some() {
        Health::Silent
    } else {
        Health::Replicated
    }
}

/// Servers that are gone and not yet given up.
fn silent(status: &ClusterStatus) -> impl Iterator<Item = &ServerStatus> {
    status.servers.iter().filter(|server| server.live && !server.connected)
}

fn headline(status: &ClusterStatus, health: Health) -> String {
    let below = status.under_replicated;
    match health {
        Health::Starting => "STARTING: waiting for the chunkservers' reports".to_owned(),
        Health::Missing => format!(
            "DATA MISSING: {} chunks have no live replica; bring their chunkservers back",
            status.missing
        ),
        Health::LogFull => concat!(
            "LOG FULL: no space for the master's operation log; ",
            "reads and repairs go on, nothing else changes until there is some on its disk"
        )
        .to_owned(),
        Health::Degraded { goal } => format!(
            "DEGRADED: {below} chunks below their replication factor; it takes {goal} chunkservers, {} live: \
             bring them back or start more",
            match usable(status) {
                1 => "1 is".to_owned(),
                usable => format!("{usable} are"),
            }
        ),
        Health::Repairing => format!("REPAIRING: {below} chunks below their replication factor"),
        Health::Silent => {
            let left = |server: &ServerStatus| status.dead_after_ms.saturating_sub(server.last_heartbeat_ms);
            let (count, left) = (silent(status).count(), silent(status).map(left).max().unwrap_or(0));
            let (are, their) = if count == 1 { (" is", "its") } else { ("s are", "their") };
            format!(
                "SILENT: {count} chunkserver{are} not connected; {their} chunks are copied after another {} s",
                left.div_ceil(1000)
            )
        }
        Health::Replicated => "fully replicated".to_owned(),
    }
}

fn state(server: &ServerStatus) -> &'static str {
    if !server.live {
        "DEAD"
    } else if !server.connected {
        "LOST"
    } else if !server.volumes.iter().any(|volume| volume.writable) {
        "FULL"
    } else {
        "live"
    }
}

fn status_text(status: &ClusterStatus, lacking: Option<u8>) -> String {
    let live = usable(status);
    let health = headline(status, health(status, lacking));
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
                state(server).into(),
                format!("{:.1} s", server.last_heartbeat_ms as f64 / 1000.0),
                server.replicas.to_string(),
                output::size(server.total_bytes.saturating_sub(server.free_bytes)),
                output::size(server.free_bytes),
                output::size(server.total_bytes),
                server.volumes.len().to_string(),
            ]
        });
        let header = ["ADDRESS", "RACK", "STATE", "HEARTBEAT", "REPLICAS", "USED", "FREE", "OF", "VOLUMES"];
        text.push('\n');
        text.push_str(&output::table(&header, rows.collect(), &[3, 4, 5, 6, 7, 8]));
    }
    text
}

/// A cluster's state as JSON. Ids that are random are strings: a reader that takes numbers for floating-point would round them.
fn cluster_json(status: &ClusterStatus, lacking: Option<u8>) -> Value {
    let servers: Vec<Value> = status
        .servers
        .iter()
        .map(|server| {
            let volumes: Vec<Value> = server
                .volumes
                .iter()
                .map(|volume| {
                    json!({
                        "volume": volume.volume.0.to_string(), "total_bytes": volume.total_bytes,
                        "free_bytes": volume.free_bytes, "writable": volume.writable,
                    })
                })
                .collect();
            json!({
                "server": server.server.0.to_string(), "address": server.address.0.as_ref(), "rack": server.rack,
                "live": server.live, "connected": server.connected, "last_heartbeat_ms": server.last_heartbeat_ms, "replicas": server.replicas,
                "total_bytes": server.total_bytes, "free_bytes": server.free_bytes, "volumes": volumes,
            })
        })
        .collect();
    let word = match health(status, lacking) {
        Health::Starting => "starting",
        Health::Missing => "missing",
        Health::LogFull => "log-full",
        Health::Degraded { .. } => "degraded",
        Health::Repairing => "repairing",
        Health::Silent => "silent",
        Health::Replicated => "replicated",
    };
    json!({
        "cluster": status.cluster.0.to_string(), "health": word, "servers": servers, "files": status.files, "directories": status.directories,
        "trash": status.trash, "chunks": status.chunks, "open_chunks": status.open_chunks,
        "under_replicated": status.under_replicated, "missing": status.missing,
        "over_replicated": status.over_replicated, "repairs": status.repairs, "uploads": status.uploads,
        "log_index": status.log_index, "log_bytes": status.log_bytes, "log_full": status.log_full, "starting": status.starting,
        "uptime_ms": status.uptime_ms, "dead_after_ms": status.dead_after_ms,
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

#[cfg(test)]
mod tests {
    use cairn_core::id::{Address, ServerId, VolumeId};
    use cairn_core::message::VolumeStatus;

    use super::*;

    fn server(live: bool, connected: bool, writable: bool) -> ServerStatus {
        let volume = VolumeStatus { volume: VolumeId(1), total_bytes: 2, free_bytes: 1, writable };
        ServerStatus {
            server: ServerId(1),
            address: Address::new("a:1"),
            rack: String::new(),
            live,
            last_heartbeat_ms: 2_500,
            replicas: 0,
            total_bytes: 2,
            free_bytes: 1,
            volumes: vec![volume],
            connected,
        }
    }

    fn cluster(servers: Vec<ServerStatus>) -> ClusterStatus {
        ClusterStatus { servers, dead_after_ms: 15_000, ..ClusterStatus::default() }
    }

    #[test]
    fn a_server_is_dead_lost_full_or_live() {
        let servers = [(false, false, true), (true, false, true), (true, true, false), (true, true, true)];
        let states = servers.map(|(live, connected, writable)| state(&server(live, connected, writable)));
        assert_eq!(states, ["DEAD", "LOST", "FULL", "live"]);
    }

    #[test]
    fn a_silent_server_is_not_healthy() {
        let quiet = cluster(vec![server(true, true, true), server(true, false, true)]);
        assert!(!is_healthy(&quiet));
        let said = "SILENT: 1 chunkserver is not connected; its chunks are copied after another 13 s";
        assert_eq!(headline(&quiet, health(&quiet, None)), said);
        // One that is dead has had its chunks counted.
        assert!(is_healthy(&cluster(vec![server(true, true, true), server(false, false, true)])));
        let degraded = ClusterStatus { under_replicated: 2, ..cluster(vec![server(true, true, true)]) };
        let said = "DEGRADED: 2 chunks below their replication factor; it takes 3 chunkservers, 1 is live: \
                    bring them back or start more";
        assert_eq!(headline(&degraded, health(&degraded, Some(3))), said);
        assert_eq!(health(&degraded, None), Health::Repairing);
        let full = ClusterStatus { log_full: true, ..degraded };
        assert!(!is_healthy(&full) && headline(&full, health(&full, None)).starts_with("LOG FULL: "));
    }
}
