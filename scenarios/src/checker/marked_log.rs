//! An idle log, the master's or a volume's journal, ends with a mark, so that rot in the last group can't pass for a torn write
//! (invariant 33).

use cairn_core::log::HEADER_BYTES;
use cairn_core::time::Span;

use crate::cluster::{Cluster, MASTER, is_journal, log_segments, scan_end};
use crate::violation::Violations;

const NAME: &str = "marked-log";

/// A log that nothing was written to for so long is idle, whatever clocks drift.
const IDLE: Span = Span::from_ms(3_000);

/// Waits for an idle log at the most so many times: trash may be due meanwhile.
const TRIES: usize = 5;

/// Where a log is, and what is in it.
type Log = (String, u16, String, Vec<u8>);

/// Looks at the end of the last segment and of each volume's journal.
pub async fn check(cluster: &Cluster, violations: &Violations) {
    for _ in 0..TRIES {
        let unmarked = unmarked(cluster);
        if unmarked.is_empty() {
            return;
        }
        cluster.world.sleep(IDLE).await;
        let now = all(cluster);
        if let Some((node, volume, path, _)) = unmarked.iter().find(|log| now.contains(log)) {
            let seconds = IDLE.as_ms() / 1000;
            return violations.add(
                NAME,
                format!("{node} {volume}:{path} was idle for {seconds} s, and does not end with a mark"),
            );
        }
    }
}

fn all(cluster: &Cluster) -> Vec<Log> {
    let world = &cluster.world;
    let mut paths: Vec<(String, u16, String)> = Vec::new();
    paths.extend(log_segments(world).pop().map(|(path, _)| (MASTER.to_owned(), 0, path)));
    for server in cluster.server_names() {
        for volume in 0..cluster.volumes(&server) {
            let files = world.files(&server, volume).into_iter();
            let journal = files.map(|(path, _)| path).filter(|path| is_journal(path)).max();
            paths.extend(journal.map(|path| (server.clone(), volume, path)));
        }
    }
    let read = |(node, volume, path): (String, u16, String)| {
        let bytes = world.read_file(&node, volume, &path)?;
        Some((node, volume, path, bytes))
    };
    paths.into_iter().filter_map(read).collect()
}

/// Those that should be marked: what no sync has made durable yet is no limit to what a scan can tell.
fn unmarked(cluster: &Cluster) -> Vec<Log> {
    let is_durable = |(node, volume, path, bytes): &Log| {
        cluster.world.with_durable(node, *volume, path, |durable| durable.starts_with(bytes)) == Some(true)
    };
    let harm = cluster.world.damage_injected();
    // The mark may have rotted itself.
    let is_sound = |(node, volume, path, _): &Log| {
        !harm.iter().any(|d| d.node == *node && d.volume == *volume && d.path == *path)
    };
    let mut logs = all(cluster);
    logs.retain(|log| !is_marked(&log.3) && is_durable(log) && is_sound(log));
    logs
}

fn is_marked(log: &[u8]) -> bool {
    // An empty one has nothing that could rot.
    scan_end(log).is_some_and(|end| log.len() as u64 <= HEADER_BYTES || end.ends_with_mark)
}
