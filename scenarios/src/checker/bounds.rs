//! Once nothing is under way, no machine remembers more than there is (invariant 21).

use cairn_core::chunkserver::Chunkserver;
use cairn_core::client::Client;
use cairn_core::limits::DEDUP_CLIENTS;

use crate::cluster::Cluster;
use crate::violation::Violations;

/// What its violations are called.
pub const NAME: &str = "bounds";

/// A client's tables of what is being read.
const READING: [&str; 4] = ["readers", "reads", "reads of chunkservers", "busy servers"];

/// Entries that a table may have beyond what there is: what housekeeping has not come round to yet.
const SLACK: usize = 16;

/// Says which table is too large.
pub fn check(cluster: &Cluster) -> Result<(), String> {
    let servers = cluster.server_count();
    let (chunks, given_out, sizes) = cluster
        .master(|master| {
            let catalog = master.catalog();
            (catalog.counts().chunks as usize, catalog.next_chunk().0 as usize, master.table_sizes())
        })
        .ok_or("the master is down")?;
    for (table, size) in sizes {
        let most = match table {
            "servers" => servers,
            "locations" => chunks + SLACK,
            "clients" | "clients by use" => DEDUP_CLIENTS,
            "failed copies" | "delayed repairs" => chunks * servers,
            // Whatever was asked, sealed, copied or queued is over.
            _ => 0,
        };
        fits("the master", table, size, most)?;
    }
    for server in cluster.server_names() {
        let (replicas, sizes) = cluster
            .world
            .inspect(&server, |machine: &Chunkserver| (machine.replicas().count(), machine.table_sizes()))
            .ok_or_else(|| format!("{server} is down"))?;
        for (table, size) in sizes {
            let most = match table {
                "replicas" => chunks + SLACK,
                "changes" | "block checksums" | "quarantine" | "checks" => replicas + SLACK,
                "tombstones" => given_out,
                _ => 0,
            };
            fits(&server, table, size, most)?;
        }
    }
    for client in &cluster.clients {
        let sizes = cluster
            .world
            .inspect(client.name(), Client::table_sizes)
            .ok_or_else(|| format!("{} is down", client.name()))?;
        for (table, size) in sizes {
            let most = match table {
                "locations" => cluster.shape.client.cache_entries as usize,
                "suspect servers" => servers,
                _ => 0,
            };
            // What asks for this very status is under way.
            fits(client.name(), table, size, most)?;
        }
    }
    Ok(())
}

/// When all users have had their last answer, no client has anything left of a read.
pub fn check_clients(cluster: &Cluster, violations: &Violations) {
    for client in &cluster.clients {
        let sizes = cluster.world.inspect(client.name(), Client::table_sizes).unwrap_or_default();
        for (table, size) in sizes {
            if READING.contains(&table)
                && let Err(text) = fits(client.name(), table, size, 0)
            {
                violations.add(NAME, text);
            }
        }
    }
}

fn fits(who: &str, table: &str, size: usize, most: usize) -> Result<(), String> {
    if size <= most {
        return Ok(());
    }
    Err(format!("{who} remembers {size} {table}, {most} at the most are left to know"))
}
