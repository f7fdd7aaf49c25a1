//! An idle master has marked the end of its log, so that rot in the last group can't pass for a torn write
//! (invariant 33).

use cairn_core::log::{FileHeader, HEADER_BYTES, Scan};
use cairn_core::time::Span;

use crate::cluster::{Cluster, MASTER};
use crate::violation::Violations;

const NAME: &str = "marked-log";

/// A log that nothing was written to for so long is idle, whatever clocks drift.
const IDLE: Span = Span::from_ms(3_000);

/// Waits for an idle log at the most so many times: trash may be due meanwhile.
const TRIES: usize = 5;

/// Looks at the end of the last segment.
pub async fn check(cluster: &Cluster, violations: &Violations) {
    for _ in 0..TRIES {
        let Some((path, bytes)) = last_segment(cluster) else { return };
        if is_marked(&bytes) {
            return;
        }
        cluster.world.sleep(IDLE).await;
        if last_segment(cluster).is_some_and(|now| now == (path.clone(), bytes)) {
            let seconds = IDLE.as_ms() / 1000;
            return violations
                .add(NAME, format!("{path} was idle for {seconds} s, and does not end with a mark"));
        }
    }
}

fn last_segment(cluster: &Cluster) -> Option<(String, Vec<u8>)> {
    let world = &cluster.world;
    // Names of segments sort by their first index.
    let path =
        world.files(MASTER, 0).into_iter().map(|(path, _)| path).filter(|p| p.ends_with(".log")).max()?;
    let bytes = world.read_file(MASTER, 0, &path)?;
    Some((path, bytes))
}

fn is_marked(segment: &[u8]) -> bool {
    let Ok(header) = FileHeader::decode(segment) else { return false };
    let mut scan = Scan::new(header.first_index);
    scan.feed(segment.get(HEADER_BYTES as usize..).unwrap_or_default());
    // An empty segment has nothing that could rot.
    segment.len() as u64 <= HEADER_BYTES || scan.finish().is_ok_and(|end| end.ends_with_mark)
}
