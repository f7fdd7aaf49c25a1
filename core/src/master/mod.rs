//! The master: the catalog, and the volatile state of who has what.
//!
//! Changes go one way: check → propose → durable → apply → reply. What is volatile is rebuilt from registrations and
//! reports after a start. Read `machine.rs` first.

mod ballot;
pub mod catalog;
mod collect;
pub mod command;
mod fingerprint;
mod grants;
pub(crate) mod identity;
mod locations;
mod machine;
mod oplog;
mod placement;
mod recovery;
mod repair;
mod requests;
mod seal;
mod servers;
mod sessions;
mod status;
#[cfg(test)]
mod tests;

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use self::catalog::Catalog;
use self::catalog::dedup::Dedup;
use self::collect::Collect;
use self::command::{Change, Command};
use self::locations::{Expected, Locations};
use self::machine::{Phase, Proposal};
use self::oplog::Oplog;
pub use self::repair::CopyPlaces;
use self::repair::Repair;
use self::seal::SealTask;
use self::servers::{Registration, Servers};
use crate::config::MasterConfig;
use crate::defect::Defects;
use crate::id::{ChunkId, ChunkVersion, ClientId, ClusterId, Peer, RequestId, UploadId};
use crate::rng::Rng;
use crate::stats::Metrics;
use crate::time::{Time, WallClock};

/// What a master is built from. The rest it reads from data directory 0.
#[derive(Clone, Debug)]
pub struct MasterSetup {
    /// Settings.
    pub config: MasterConfig,
    /// For everything random: the cluster id of a blank directory, placement.
    pub seed: u64,
    /// For times that users see.
    pub wall: WallClock,
    /// Planted defects.
    pub defects: Defects,
}

/// What the hosting process asks of a master.
#[derive(Clone, Debug, PartialEq, Hash, serde::Serialize, serde::Deserialize)]
pub enum MasterCall {
    /// → [`MasterCallReply::Metrics`]
    Metrics,
    /// Make the log durable, then halt without failure. → none
    Shutdown,
}

/// Its answers.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub enum MasterCallReply {
    /// Figures.
    Metrics {
        /// Figures.
        metrics: Metrics,
        /// Whether requests are served; else why not.
        ready: Result<(), String>,
    },
}

/// The machine.
#[derive(Clone, Debug)]
pub struct Master {
    config: MasterConfig,
    wall: WallClock,
    defects: Defects,
    rng: Rng,
    phase: Phase,
    started: Option<Time>,
    log: Oplog<Proposal>,
    catalog: Catalog,
    servers: Servers,
    locations: Locations,
    /// Chunks being sealed.
    seals: BTreeMap<ChunkId, SealTask>,
    repair: Repair,
    collect: Collect,
    /// When each upload was last named by its client.
    uploads: BTreeMap<UploadId, Time>,
    /// Who waits for the outcome of a proposed change.
    waiters: BTreeMap<(ClientId, RequestId), Vec<Peer>>,
    /// Refusals that did not go through the log.
    refused: Dedup,
    /// Registrations that came before the log was read.
    early: Vec<Registration>,
    /// The last command read back at recovery, for a planted defect.
    last_recovered: Option<Command>,
    /// When the next background step is due.
    next_tick: Time,
    requests: u64,
}

impl Master {
    /// A master that will recover from its directory, starting at its first wake.
    pub fn new(setup: MasterSetup) -> Master {
        let MasterSetup { config, seed, wall, defects } = setup;
        let cluster = ClusterId(Rng::stream(seed, "cluster id").u64() >> 6);
        let format = Command { origin: None, at: wall.at(Time::ZERO), change: Change::Format { cluster } };
        Master {
            log: Oplog::new(cluster, format.encode(), config.log_segment_bytes, defects),
            catalog: Catalog::new(defects),
            locations: Locations::new(defects),
            rng: Rng::stream(seed, "master"),
            config,
            wall,
            defects,
            phase: Phase::Starting,
            started: None,
            servers: Servers::new(defects),
            seals: BTreeMap::new(),
            repair: Repair::default(),
            collect: Collect::default(),
            uploads: BTreeMap::new(),
            waiters: BTreeMap::new(),
            refused: Dedup::default(),
            early: Vec::new(),
            last_recovered: None,
            next_tick: Time::ZERO,
            requests: 0,
        }
    }

    /// The catalog as applied so far.
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// Whether the log was read and requests are served.
    pub fn is_ready(&self) -> bool {
        matches!(self.phase, Phase::Ready { .. })
    }

    /// How many log records were applied.
    pub fn applied_index(&self) -> u64 {
        self.catalog.applied()
    }

    /// Servers that have a replica of a sealed chunk as it was logged.
    pub fn good_replicas(&self, chunk: ChunkId) -> u8 {
        self.locations.good(chunk)
    }

    /// Chunks whose length is decided and on its way into the log.
    pub fn decided_seals(&self) -> impl Iterator<Item = (ChunkId, ChunkVersion)> {
        self.seals.iter().filter(|(_, task)| task.is_decided()).map(|(chunk, task)| (*chunk, task.version()))
    }

    /// Entries of its volatile tables: what must be bounded by what there is.
    pub fn table_sizes(&self) -> Vec<(&'static str, usize)> {
        let mut sizes = Vec::from([
            ("servers", self.servers.iter().count()),
            ("locations", self.locations.len()),
            ("drops without an answer", self.locations.leaving()),
            ("seals", self.seals.len()),
            ("uploads", self.uploads.len()),
            ("waiters", self.waiters.len()),
            ("early registrations", self.early.len()),
            ("changes on their way into the log", self.log.backlog()),
        ]);
        sizes.extend(self.repair.table_sizes());
        sizes.extend(self.collect.table_sizes());
        sizes.extend(self.catalog.outcomes().table_sizes());
        sizes.extend(self.refused.table_sizes());
        sizes
    }

    fn expected(&self, chunk: ChunkId) -> Expected {
        expected(&self.catalog, chunk)
    }
}

/// What the catalog says of a sealed chunk.
fn expected(catalog: &Catalog, chunk: ChunkId) -> Expected {
    let entry = catalog.chunk(chunk)?;
    Some((entry.sealed(chunk)?, entry.goal))
}
