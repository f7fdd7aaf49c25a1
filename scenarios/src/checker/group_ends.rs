//! Each group of the master's log or of a journal says how far its file had been synced, no less and no more (invariant 41).
//!
//! Told less, a start would take rot for a torn write, and cut what was acknowledged; told more, a torn write for rot.

use cairn_core::codec;
use cairn_core::disk::DiskRequest;
use cairn_core::log::{GROUP_HEADER_BYTES, GroupHeader, GroupWriter, HEADER_BYTES, RECORD_OVERHEAD};

use crate::cluster::{Cluster, is_journal, is_log_segment};
use crate::violation::Violations;

const NAME: &str = "group-ends";

/// A group's header, which is its first record.
const GROUP_BYTES: usize = GROUP_HEADER_BYTES + RECORD_OVERHEAD;

/// Compares each group that is about to be written with what the disk has synced of its file.
pub fn watch(cluster: &Cluster, violations: &Violations) {
    let (seen, violations) = (cluster.clone(), violations.clone());
    cluster.world.observe_disks(move |_, node, request| {
        let DiskRequest::Write { path, offset, data, .. } = request else { return };
        if !is_journal(&path.name) && !is_log_segment(&path.name) {
            return;
        }
        let Some(header) = data.first().and_then(|bytes| group_header(*offset, bytes)) else { return };
        // What a start writes again, as it found it, said what was true when it was written first.
        let start = *offset as usize;
        let is_there = |file: &[u8]| file.get(start..start + GROUP_BYTES) == data[0].get(..GROUP_BYTES);
        // A failed sync may have lost anything.
        if seen.world.with_file(node, path.volume, &path.name, is_there) == Some(true)
            || seen.disk_errors().contains(node)
        {
            return;
        }
        // Whose name may still go is whole when it comes back, or is not there.
        let Some(synced) = seen.world.synced_end(node, path.volume, &path.name) else { return };
        let (says, synced) = (header.durable_end, synced.max(HEADER_BYTES));
        if says != synced {
            violations.add(
                NAME,
                format!(
                    "{node} writes that {path} is on stable storage up to byte {says}, it is up to {synced}"
                ),
            );
        }
    });
}

/// What a group at `offset` says, if `bytes` begin with one.
fn group_header(offset: u64, bytes: &[u8]) -> Option<GroupHeader> {
    let record = bytes.get(..GROUP_BYTES)?;
    let payload = &record[5..5 + GROUP_HEADER_BYTES];
    let header = codec::decode::<GroupHeader, GROUP_HEADER_BYTES>(payload).ok()?;
    let fits = header.durable_end <= offset;
    (fits && GroupWriter::new(offset, header.durable_end, header.first_index).finish() == record)
        .then_some(header)
}
