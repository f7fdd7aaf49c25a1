//! What operators see: the cluster's state, chunks that are not as they should be, figures.

use alloc::vec::Vec;

use super::Master;
use super::servers::Server;
use crate::config::ms;
use crate::id::{ChunkId, ServerId};
use crate::message::{ClusterStatus, Finding, MasterReply, Problem, ServerStatus};
use crate::stats::{MetricKind, Metrics, put};
use crate::time::{Span, Time};

/// Chunks looked at in one page of findings.
const MAX_FSCK: u32 = 10_000;

impl Master {
    fn uptime(&self, now: Time) -> Span {
        self.started.map_or(Span::ZERO, |started| now.since(started))
    }

    pub(super) fn cluster_status(&self, now: Time) -> ClusterStatus {
        let counts = self.catalog.counts();
        let (under_replicated, missing, over_replicated) = self.locations.counts();
        ClusterStatus {
            cluster: self.log.cluster(),
            servers: self.servers.iter().map(|(id, server)| self.server_status(now, id, server)).collect(),
            files: counts.files,
            directories: counts.directories,
            trash: counts.trash,
            chunks: counts.chunks,
            open_chunks: counts.open_chunks,
            under_replicated,
            missing,
            over_replicated,
            repairs: self.repair.under_way() as u64,
            uploads: counts.uploads,
            log_index: self.catalog.applied(),
            log_bytes: self.log.stats().bytes,
            log_full: self.log.is_full(),
            starting: !self.grace_is_over(now),
            uptime_ms: self.uptime(now).as_ms(),
            dead_after_ms: self.config.dead_after_ms,
        }
    }

    fn server_status(&self, now: Time, id: ServerId, server: &Server) -> ServerStatus {
        ServerStatus {
            server: id,
            address: server.address.clone(),
            rack: server.rack.clone(),
            live: server.live,
            last_heartbeat_ms: now.since(server.last_heard).as_ms(),
            replicas: self.locations.held_by(id),
            total_bytes: server.total_bytes(),
            free_bytes: server.free_bytes(),
            volumes: server.volumes.clone(),
            connected: server.peer.is_some(),
        }
    }

    pub(super) fn fsck(&self, now: Time, after: Option<ChunkId>, limit: u32) -> MasterReply {
        let limit = limit.clamp(1, MAX_FSCK) as usize;
        let chunks: Vec<ChunkId> = self.catalog.chunks_after(after).take(limit).map(|(id, _)| id).collect();
        let next = if chunks.len() == limit { chunks.last().copied() } else { None };
        let findings = chunks.into_iter().filter_map(|chunk| self.finding(now, chunk)).collect();
        MasterReply::Findings { findings, next }
    }

    fn finding(&self, now: Time, chunk: ChunkId) -> Option<Finding> {
        let entry = self.catalog.chunk(chunk)?;
        let (good, goal) = (self.locations.good(chunk), entry.goal);
        let problem = match entry.open() {
            Some(open) => {
                let silent = ms(self.config.upload_expiry_ms / 2);
                let seen = self.uploads.get(&open.upload);
                seen.is_none_or(|seen| now >= *seen + silent).then_some(Problem::Unsettled)?
            }
            None if !self.locations.is_readable(chunk) => Problem::Missing,
            None if good < goal => Problem::UnderReplicated,
            None if good > goal => Problem::OverReplicated,
            None => return None,
        };
        Some(Finding { chunk, path: self.catalog.chunk_path(chunk), problem, good, goal })
    }

    pub(super) fn metrics(&self, now: Time) -> Metrics {
        use MetricKind::{Counter, Gauge};
        let status = self.cluster_status(now);
        let log = self.log.stats();
        let live = status.servers.iter().filter(|s| s.live).count() as u64;
        let servers = || status.servers.iter().filter(|s| s.live);
        let total = servers().fold(0_u64, |sum, s| sum.saturating_add(s.total_bytes));
        let free = servers().fold(0_u64, |sum, s| sum.saturating_add(s.free_bytes));
        let figures = [
            (Counter, "cairn_master_requests_total", "Requests from clients.", self.requests),
            (Counter, "cairn_master_log_groups_total", "Group commits written to the log.", log.groups),
            (Counter, "cairn_master_log_records_total", "Records written to the log.", log.records),
            (Counter, "cairn_master_log_syncs_total", "Syncs of the log.", log.syncs),
            (Counter, "cairn_master_log_written_bytes", "Bytes written to the log.", log.bytes_written),
            (Counter, "cairn_master_log_read_bytes", "Bytes of the log read at the start.", log.bytes_read),
            (Gauge, "cairn_master_log_bytes", "Bytes of the log on disk.", log.bytes),
            (Gauge, "cairn_master_log_backlog", "Changes waiting for the log.", self.log.backlog() as u64),
            (
                Gauge,
                "cairn_master_log_full",
                "Whether the log found no space: nothing changes until there is some.",
                u64::from(status.log_full),
            ),
            (Gauge, "cairn_master_log_index", "Log records applied.", status.log_index),
            (Gauge, "cairn_master_files", "Files.", status.files),
            (Gauge, "cairn_master_directories", "Directories.", status.directories),
            (Gauge, "cairn_master_trash_entries", "Entries of the trash.", status.trash),
            (Gauge, "cairn_master_chunks", "Chunks.", status.chunks),
            (Gauge, "cairn_master_open_chunks", "Chunks open for writing.", status.open_chunks),
            (Gauge, "cairn_master_uploads", "Uploads under way.", status.uploads),
            (Gauge, "cairn_master_servers", "Chunkservers known.", status.servers.len() as u64),
            (Gauge, "cairn_master_live_servers", "Chunkservers alive.", live),
            (Gauge, "cairn_master_total_bytes", "Capacity of live chunkservers.", total),
            (Gauge, "cairn_master_free_bytes", "Free space on live chunkservers.", free),
            (
                Gauge,
                "cairn_master_under_replicated_chunks",
                "Chunks below their goal.",
                status.under_replicated,
            ),
            (Gauge, "cairn_master_missing_chunks", "Chunks without a readable replica.", status.missing),
            (
                Gauge,
                "cairn_master_over_replicated_chunks",
                "Chunks above their goal.",
                status.over_replicated,
            ),
            (Gauge, "cairn_master_seals", "Chunks being sealed.", self.seals.len() as u64),
            (Gauge, "cairn_master_copies", "Copies under way.", status.repairs),
            (Counter, "cairn_master_copies_done_total", "Copies completed.", self.repair.done),
            (Counter, "cairn_master_copy_errors_total", "Copies that failed.", self.repair.errors),
            (Counter, "cairn_master_drops_total", "Replicas ordered to be dropped.", self.collect.dropped),
            (Gauge, "cairn_master_uptime_ms", "Milliseconds since the start.", status.uptime_ms),
        ];
        let mut metrics = Metrics::new();
        for (kind, name, help, value) in figures {
            put(&mut metrics, kind, name, help, value);
        }
        metrics
    }
}
