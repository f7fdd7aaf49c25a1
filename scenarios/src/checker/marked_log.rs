//! An idle master has marked the end of its log, so that rot in the last group can't pass for a torn write
//! (invariant 33).

use cairn_core::log::HEADER_BYTES;
use cairn_core::time::Span;

use crate::cluster::{Cluster, MASTER, log_segments, scan_end};
use crate::violation::Violations;

const NAME: &str = "marked-log";

/// A log that nothing was written to for so long is idle, whatever clocks drift.
const IDLE: Span = Span::from_ms(3_000);

/// Waits for an idle log at the most so many times: trash may be due meanwhile.
const TRIES: usize = 5;

/// Looks at the end of the last segment.
pub async fn check(cluster: &Cluster, violations: &Violations) {
    for _ in 0..TRIES {
        let Some(last) = last_segment(cluster) else { return };
        if is_marked(&last.1) {
            return;
        }
        cluster.world.sleep(IDLE).await;
        if last_segment(cluster).as_ref() == Some(&last) {
            let (path, seconds) = (last.0, IDLE.as_ms() / 1000);
            return violations
                .add(NAME, format!("{path} was idle for {seconds} s, and does not end with a mark"));
        }
    }
}

fn last_segment(cluster: &Cluster) -> Option<(String, Vec<u8>)> {
    let (path, _) = log_segments(&cluster.world).pop()?;
    let bytes = cluster.world.read_file(MASTER, 0, &path)?;
    Some((path, bytes))
}

fn is_marked(segment: &[u8]) -> bool {
    // An empty segment has nothing that could rot.
    scan_end(segment).is_some_and(|end| segment.len() as u64 <= HEADER_BYTES || end.ends_with_mark)
}
