//! What one run's cluster is like: drawn anew for each seed, so that no single choice hides a bug.

use cairn_core::config::{ChunkserverConfig, ClientConfig, MasterConfig};
use cairn_core::id::Durability;
use cairn_core::rng::Rng;
use serde::{Deserialize, Serialize};

use crate::workload::operation::Storage;

/// A cluster's make-up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shape {
    /// Chunkservers.
    pub servers: Vec<ServerShape>,
    /// Client machines.
    pub clients: usize,
    /// Users, spread over the clients.
    pub users: usize,
    /// Ways of storing files that are used.
    pub storages: Vec<Storage>,
    /// Settings.
    pub master: MasterConfig,
    /// Settings.
    pub chunkserver: ChunkserverConfig,
    /// Settings.
    pub client: ClientConfig,
    /// Least time of a message in microseconds.
    pub latency_us: u64,
    /// Added to it at the most.
    pub jitter_us: u64,
    /// Clocks drift by up to so much.
    pub drift_ppm: u32,
    /// How many times slower than the fastest disks are: the slower, the more is under way when something goes wrong.
    pub disk_slow_factor: u32,
}

/// A chunkserver's make-up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerShape {
    /// Its rack.
    pub rack: String,
    /// Data directories.
    pub volumes: u16,
}

impl Shape {
    /// Draws one.
    pub fn draw(rng: &mut Rng) -> Shape {
        let servers = 3 + rng.below(5) as usize;
        let racks = 1 + rng.below(3);
        let volumes_max = 1 + rng.below(3);
        // Tiny chunks make for many grants and seals.
        let chunk_bytes = 4096 * if rng.chance(1, 5) { 2 + rng.below(6) } else { 8 + rng.below(56) };
        let storages = storages(rng, servers as u8, chunk_bytes);
        let frame_bytes = 4096 << rng.below(3);
        let client = client(rng, frame_bytes);
        // The least that a writer with a full window needs: a member that lags behind the others has no room to spare.
        let least_window = client.write_window_bytes + u64::from(client.frame_bytes);
        // Answers may come much sooner than disks do anything.
        let is_near = rng.chance(1, 4);
        let mut shape = Shape {
            servers: (0..servers)
                .map(|i| ServerShape {
                    rack: format!("rack{}", i as u64 % racks),
                    volumes: 1 + rng.below(volumes_max) as u16,
                })
                .collect(),
            clients: 1 + rng.below(3) as usize,
            users: 3 + rng.below(3) as usize,
            master: master(rng, chunk_bytes),
            chunkserver: chunkserver(rng, least_window),
            client,
            storages,
            latency_us: if is_near { 20 + rng.below(80) } else { 50 + rng.below(1_000) },
            jitter_us: rng.below(if is_near { 100 } else { 2_000 }),
            drift_ppm: rng.below(500) as u32,
            disk_slow_factor: [1, 1, 8, 40][rng.below(4) as usize],
        };
        shape.chunkserver.lazy_sync_ms = 50 + rng.below(3_000);
        shape.chunkserver.lazy_sync_bytes = if rng.chance(1, 4) { 2 << 20 } else { 64 << 20 };
        shape
    }

    /// How many servers may lose what they hold without an acknowledged byte being lost: none if a file may be
    /// acknowledged by one server alone, else one, since a seal makes sure of two holders only (chunk protocol, rule 7).
    pub fn victims_max(&self) -> usize {
        usize::from(self.storages.iter().all(|s| s.quorum >= 2))
    }

    /// Whether losing power may lose acknowledged bytes.
    pub fn is_relaxed(&self) -> bool {
        self.storages.iter().any(|s| s.relaxed)
    }
}

fn storages(rng: &mut Rng, servers: u8, chunk_bytes: u64) -> Vec<Storage> {
    let single = rng.chance(1, 6);
    let relaxed = rng.chance(1, 4);
    (0..1 + rng.below(2))
        .map(|_| {
            let replication = match rng.below(8) {
                0 if single => 1,
                0..=1 => 2,
                2 => servers.min(4),
                _ => 3,
            };
            let quorum = if single && rng.chance(1, 2) {
                1
            } else if rng.chance(1, 4) && replication >= 2 {
                2 + rng.below(u64::from(replication) - 1) as u8
            } else {
                replication / 2 + 1
            };
            Storage { replication, quorum, chunk_bytes, relaxed }
        })
        .collect()
}

fn master(rng: &mut Rng, chunk_bytes: u64) -> MasterConfig {
    let heartbeat_ms = 100 + rng.below(200);
    MasterConfig {
        heartbeat_ms,
        dead_after_ms: heartbeat_ms * (5 + rng.below(6)),
        block_report_ms: 1_000 + rng.below(2_000),
        lease_ms: heartbeat_ms * (3 + rng.below(4)),
        seal_grace_ms: 20 + rng.below(100),
        seal_timeout_ms: 500 + rng.below(1_000),
        upload_expiry_ms: 4_000 + rng.below(4_000),
        undelete_ms: if rng.chance(1, 2) { 3_600_000 } else { 2_000 },
        startup_grace_ms: 1_500 + rng.below(1_000),
        repair_delay_ms: 200 + rng.below(800),
        repair_streams: 2 + rng.below(8) as u32,
        repair_streams_per_server: 1 + rng.below(4) as u32,
        repair_timeout_ms: 2_000 + rng.below(3_000),
        log_segment_bytes: 2048 << rng.below(6),
        replication: 3,
        quorum: 0,
        chunk_bytes,
        min_free_bytes: 1 << 20,
        step_budget: 8 + rng.below(60) as u32,
    }
}

fn chunkserver(rng: &mut Rng, least_window: u64) -> ChunkserverConfig {
    ChunkserverConfig {
        reserve_bytes: 1 << 20,
        quarantine_ms: 500 + rng.below(3_000),
        scrub_bytes_per_second: 32 << 20,
        journal_bytes: 2048 << rng.below(7),
        reads_per_connection: if rng.chance(1, 2) { 1 << rng.below(3) } else { 4 + rng.below(60) as u32 },
        append_window_bytes: least_window * if rng.chance(1, 2) { 1 } else { 2 + rng.below(6) },
        reconnect_ms: 50 + rng.below(200),
        copy_read_bytes: 262_144 >> rng.below(4).min(2),
        copy_reads: 1 + rng.below(4) as u32,
        copy_timeout_ms: 400 + rng.below(800),
        ..ChunkserverConfig::default()
    }
}

fn client(rng: &mut Rng, frame_bytes: u32) -> ClientConfig {
    let few = rng.chance(1, 2);
    ClientConfig {
        request_timeout_ms: 300 + rng.below(500),
        operation_deadline_ms: 4_000 + rng.below(4_000),
        retry_ms: 10 + rng.below(40),
        read_timeout_ms: 300 + rng.below(300),
        append_timeout_ms: 400 + rng.below(800),
        write_window_bytes: u64::from(frame_bytes) * (2 + rng.below(14)),
        frame_bytes,
        read_bytes: 4096 << rng.below(5),
        parallel_reads: 1 + rng.below(6) as u32,
        cache_entries: 1 + rng.below(if few { 2 } else { 60 }) as u32,
        keep_upload_ms: 500 + rng.below(1_000),
        settle_ms: [0, 0, 50, 300, 1_000][rng.below(5) as usize],
        durability: Durability::Sync,
        ..ClientConfig::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a storm finds must be possible in a real cluster.
    #[test]
    fn every_shape_has_settings_that_daemons_take() {
        for seed in 0..10_000 {
            let shape = Shape::draw(&mut Rng::new(seed));
            let refused = [
                shape.master.validate(),
                shape.chunkserver.validate(shape.client.frame_bytes),
                shape.client.validate(),
            ];
            for refused in refused {
                assert_eq!(refused, Ok(()), "seed {seed}");
            }
        }
    }
}
