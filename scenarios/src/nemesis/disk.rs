//! Disks fail, fill up and crawl.

use cairn_core::chunkserver::Chunkserver;
use runtime_sim::DiskFaults;

use super::{Fault, Undo};
use crate::cluster::{self, Cluster, MASTER};

pub(super) fn strike(fault: &Fault, cluster: &Cluster) -> Undo {
    let node = cluster.resolve(fault.target());
    let normal = normal(cluster, &node);
    let faults = match fault {
        Fault::DiskErrors { read_per_million, write_per_million, sync_per_million, chunks_only, .. } => {
            cluster.note_disk_errors(&node);
            DiskFaults {
                read_errors_per_million: *read_per_million,
                write_errors_per_million: *write_per_million,
                sync_errors_per_million: *sync_per_million,
                errors_below: chunks_only.then_some("chunks"),
                ..normal
            }
        }
        // It is no excuse for anything: what is there can be read, and nothing is lost.
        Fault::FullDisk { .. } => DiskFaults { capacity_bytes: 1, ..normal },
        Fault::StuckSync { names: true, .. } => DiskFaults { stuck_dir_syncs: true, ..normal },
        Fault::StuckSync { .. } => DiskFaults { stuck_syncs: true, ..normal },
        Fault::VolumeAway { .. } => return volume_away(cluster, node, normal),
        Fault::StuckList { .. } => {
            hang_lists(cluster, &node, true);
            return Undo::Lists(node);
        }
        Fault::SlowDisk { factor, .. } => {
            DiskFaults { slow_factor: factor.saturating_mul(normal.slow_factor).min(400), ..normal }
        }
        _ => return Undo::Nothing,
    };
    set(cluster, &node, faults);
    match fault {
        // What could not be read may be read again, by the same process too.
        Fault::DiskErrors { write_per_million: 0, sync_per_million: 0, .. } => Undo::Readable(node),
        _ => {
            // Of errors that spare journals nobody notices anything, unless a volume went out of use.
            let spares_journals = matches!(fault, Fault::DiskErrors { chunks_only: true, .. });
            Undo::Disks { restarts: !spares_journals && had_errors(cluster, &node), node }
        }
    }
}

fn volume_away(cluster: &Cluster, node: String, normal: DiskFaults) -> Undo {
    let files = cluster.chunk_files(&node);
    let Some((volume, ..)) = files.iter().find(|(.., chunk)| Some(*chunk) == cluster.cued_chunk()) else {
        return Undo::Nothing;
    };
    cluster.note_disk_errors(&node);
    let unreadable = DiskFaults { read_errors_per_million: 1_000_000, ..normal };
    cluster.world.set_disk_faults(&node, *volume, unreadable);
    start_again(cluster, &node);
    Undo::Readable(node)
}

/// Nothing else may have ended it.
pub(super) fn start_again(cluster: &Cluster, node: &str) {
    if cluster.world.is_up(node) {
        cluster.world.kill(node);
    }
    cluster.world.restart(node);
}

/// Lists hang beside any other trouble, and as long as that was drawn.
fn normal(cluster: &Cluster, node: &str) -> DiskFaults {
    let stuck_lists = cluster.world.disk_faults(node, 0).stuck_lists;
    DiskFaults { stuck_lists, ..cluster::disk(&cluster.shape) }
}

pub(super) fn hang_lists(cluster: &Cluster, node: &str, stuck_lists: bool) {
    for volume in 0..cluster.volumes(node) {
        let faults = cluster.world.disk_faults(node, volume);
        cluster.world.set_disk_faults(node, volume, DiskFaults { stuck_lists, ..faults });
    }
}

pub(super) fn set_normal(cluster: &Cluster, node: &str) {
    set(cluster, node, normal(cluster, node));
}

/// Ends what is wrong with a node's disks, and starts it again if it `restarts` or has a volume out of use.
pub(super) fn restore(cluster: &Cluster, node: &str, restarts: bool) {
    set_normal(cluster, node);
    let out_of_use = |server: &Chunkserver| server.failed_volumes().next().is_some();
    if restarts || node != MASTER && cluster.world.inspect(node, out_of_use).unwrap_or(false) {
        // An operator replaces the cable, or frees space for a volume that needs some to start, and starts the server
        // again.
        start_again(cluster, node);
    }
}

pub(super) fn had_errors(cluster: &Cluster, node: &str) -> bool {
    cluster.disk_errors().contains(node)
}

fn set(cluster: &Cluster, node: &str, faults: DiskFaults) {
    for volume in 0..cluster.volumes(node) {
        cluster.world.set_disk_faults(node, volume, faults);
    }
}
