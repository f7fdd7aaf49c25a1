//! Each group of the master's log or of a journal says how far its file had been synced, no less and no more (invariant 41).
//!
//! Told less, a start would take rot for a torn write, and cut what was acknowledged; told more, a torn write for rot.

use cairn_core::disk::DiskRequest;
use cairn_core::log::{HEADER_BYTES, group_header};

use crate::cluster::{Cluster, is_journal, is_log_segment};
use crate::violation::Violations;

const NAME: &str = "group-ends";

/// Compares each group that is about to be written with what the disk has synced of its file.
pub fn watch(cluster: &Cluster, violations: &Violations) {
    let (seen, violations) = (cluster.clone(), violations.clone());
    cluster.world.observe_disks(move |_, node, request| {
        let DiskRequest::Write { path, offset, data, .. } = request else { return };
        if !is_journal(&path.name) && !is_log_segment(&path.name) {
            return;
        }
        let Some(group) = data.first() else { return };
        let Some(header) = group_header(group, *offset) else { return };
        // Whose name may still go is whole when it comes back, or is not there.
        let Some(synced) = seen.world.synced_end(node, path.volume, &path.name) else { return };
        let (says, synced) = (header.durable_end, synced.max(HEADER_BYTES));
        if says == synced {
            return;
        }
        // What a start writes again, as it found it, said what was true when it was written first.
        let start = *offset as usize;
        let is_there = |file: &[u8]| file.get(start..start + group.len()) == Some(group);
        // A failed sync may have lost anything.
        let is_excused = seen.world.with_file(node, path.volume, &path.name, is_there) == Some(true)
            || seen.disk_errors().contains(node);
        if !is_excused {
            violations.add(
                NAME,
                format!(
                    "{node} writes that {path} is on stable storage up to byte {says}, it is up to {synced}"
                ),
            );
        }
    });
}
