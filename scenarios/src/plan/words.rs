//! A plan in words: what was drawn.

use std::collections::{BTreeMap, BTreeSet};

use super::Plan;
use crate::nemesis::Fault;

impl Plan {
    /// The draw in a few lines: cluster, settings, storm.
    pub fn in_words(&self) -> String {
        let shape = &self.shape;
        let volumes: u32 = shape.servers.iter().map(|s| u32::from(s.volumes)).sum();
        let racks: BTreeSet<&str> = shape.servers.iter().map(|s| s.rack.as_str()).collect();
        let storages: Vec<String> = shape
            .storages
            .iter()
            .map(|s| {
                format!(
                    "{} replicas of which {} must hold a byte {}, chunks of {} bytes",
                    s.replication,
                    s.quorum,
                    if s.relaxed { "in memory" } else { "on disk" },
                    s.chunk_bytes
                )
            })
            .collect();
        let mut faults: BTreeMap<String, u32> = BTreeMap::new();
        for strike in &self.strikes {
            *faults.entry(strike.fault.kind()).or_default() += 1;
        }
        let faults: Vec<String> = faults.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
        format!(
            "cluster   {} with {}, {}; {}, {}\n\
             files     {}\n\
             network   {} to {} µs for a message, clocks up to {} ppm off, disks {} times as slow as the fastest\n\
             settings  heartbeat {} ms, dead after {} ms, lease {} ms, frames of {} bytes\n\
             storm     {}, {} s: {}\n\
             users     {} operations\n",
            count(shape.servers.len(), "chunkserver"),
            count(volumes as usize, "volume"),
            count(racks.len(), "rack"),
            count(shape.clients, "client"),
            count(self.users.len(), "user"),
            storages.join("; "),
            shape.latency_us,
            shape.latency_us + shape.jitter_us,
            shape.drift_ppm,
            shape.disk_slow_factor,
            shape.master.heartbeat_ms,
            shape.master.dead_after_ms,
            shape.master.lease_ms,
            shape.client.frame_bytes,
            self.profile,
            self.chaos_ms as f64 / 1e3,
            if faults.is_empty() { "nothing goes wrong".to_owned() } else { faults.join(", ") },
            self.steps() - self.strikes.len(),
        )
    }
}

impl Fault {
    /// Its kind, as plans spell it.
    pub fn kind(&self) -> String {
        match serde_json::to_value(self) {
            Ok(serde_json::Value::Object(fields)) => fields.keys().next().cloned().unwrap_or_default(),
            Ok(serde_json::Value::String(kind)) => kind,
            // Faults are written as one or the other.
            _ => String::new(),
        }
    }
}

fn count(n: usize, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nemesis::Target;

    #[test]
    fn a_draw_is_told_in_words() {
        let words = Plan::tiny(1).in_words();
        assert!(
            words.starts_with("cluster   3 chunkservers with 3 volumes, 1 rack; 1 client, 1 user\n"),
            "{words}"
        );
        assert!(
            words.contains("storm     calm, 2 s: nothing goes wrong\nusers     5 operations\n"),
            "{words}"
        );
        assert_eq!(Fault::PowerCut { target: Target::Master }.kind(), "power-cut");
    }
}
