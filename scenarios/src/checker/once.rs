//! No change is carried out twice: each request of a client is in the master's log once at the most (invariant 37).

use std::collections::BTreeMap;

use cairn_core::id::{ClientId, RequestId};
use cairn_core::master::command::Command;

use crate::cluster::{Cluster, MASTER, log_segments, scan};
use crate::violation::Violations;

const NAME: &str = "once";

/// Reads the whole log.
pub fn check(cluster: &Cluster, violations: &Violations) {
    let mut carried_out: BTreeMap<(ClientId, RequestId), u64> = BTreeMap::new();
    for (path, _) in log_segments(&cluster.world) {
        let twice = cluster.world.with_file(MASTER, 0, &path, |bytes| twice(bytes, &mut carried_out));
        if let Some(Some(text)) = twice {
            violations.add(NAME, text);
        }
    }
}

fn twice(segment: &[u8], carried_out: &mut BTreeMap<(ClientId, RequestId), u64>) -> Option<String> {
    let mut scan = scan(segment)?;
    let mut found = None;
    while let Some((index, op, payload)) = scan.next_record() {
        let Some(origin) = Command::decode(op, &payload).ok().and_then(|command| command.origin) else {
            continue;
        };
        if let Some(first) = carried_out.insert(origin, index) {
            let (client, request) = origin;
            found =
                Some(format!("{request} of {client} is in the log as record {first}, and again as {index}"));
        }
    }
    found
}
