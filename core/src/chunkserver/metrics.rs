//! The chunkserver's figures.

use alloc::string::ToString;

use super::Chunkserver;
use crate::message::ReplicaState;
use crate::stats::{Metric, MetricKind, Metrics, put};

impl Chunkserver {
    pub(super) fn metrics(&self) -> Metrics {
        let mut all = Metrics::new();
        let m = &mut all;
        let of = |state| self.replicas.values().filter(|r| r.state == state).count() as u64;
        let bytes: u64 = self.replicas.values().map(|r| r.length).sum();
        let gauge = MetricKind::Gauge;
        put(
            m,
            gauge,
            "cairn_chunkserver_replicas_open",
            "Replicas open for appends.",
            of(ReplicaState::Open),
        );
        put(
            m,
            gauge,
            "cairn_chunkserver_replicas_fenced",
            "Replicas waiting for their seal.",
            of(ReplicaState::Fenced),
        );
        put(m, gauge, "cairn_chunkserver_replicas_sealed", "Sealed replicas.", of(ReplicaState::Sealed));
        put(
            m,
            gauge,
            "cairn_chunkserver_replicas_damaged",
            "Replicas known to be bad.",
            of(ReplicaState::Damaged),
        );
        put(m, gauge, "cairn_chunkserver_chunk_bytes", "Bytes of all replicas.", bytes);
        put(m, gauge, "cairn_chunkserver_reads", "Reads under way.", self.reads.len() as u64);
        put(m, gauge, "cairn_chunkserver_jobs", "Orders of the master under way.", self.jobs.len() as u64);
        put(
            m,
            gauge,
            "cairn_chunkserver_quarantine_files",
            "Files waiting to be purged.",
            self.purges.len() as u64,
        );
        let counter = MetricKind::Counter;
        let damage = self.damage_found;
        put(m, counter, "cairn_chunkserver_damage_found_total", "Replicas found to be bad.", damage);
        let journals = self.damaged_journals;
        put(m, counter, "cairn_chunkserver_damaged_journals_total", "Journals found damaged.", journals);
        let scrubbed = self.scrubbed_bytes;
        put(m, counter, "cairn_chunkserver_scrubbed_bytes_total", "Bytes read by checks.", scrubbed);
        let flushed = self.flushed;
        put(
            m,
            counter,
            "cairn_chunkserver_flushed_total",
            "Replicas made durable after their seal.",
            flushed,
        );
        let second = self.second_replicas;
        put(
            m,
            counter,
            "cairn_chunkserver_second_replicas_total",
            "Replicas moved away because a start found two.",
            second,
        );
        for (index, volume) in self.volumes.iter().enumerate() {
            let (total, free) = volume.space.unwrap_or((0, 0));
            for (name, kind, help, value) in [
                ("cairn_volume_ready", gauge, "1 if the volume is used.", u64::from(volume.is_ready())),
                ("cairn_volume_total_bytes", gauge, "Capacity.", total),
                ("cairn_volume_free_bytes", gauge, "Free space.", free),
                ("cairn_volume_journal_bytes", gauge, "Length of the journal.", volume.journal.end),
                (
                    "cairn_volume_unsynced_bytes",
                    gauge,
                    "Sealed bytes that are not synced yet.",
                    volume.flusher.cost(),
                ),
                ("cairn_volume_journal_syncs_total", counter, "Syncs of the journal.", volume.journal.syncs),
            ] {
                m.push(Metric {
                    name: name.into(),
                    label: Some(("volume".into(), index.to_string())),
                    kind,
                    help: help.into(),
                    value: value as f64,
                });
            }
        }
        all
    }
}
