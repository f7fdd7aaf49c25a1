//! The chunkserver: replicas on volumes, the pipeline, copies, scrubbing, reports. It knows chunks, never files.

use alloc::string::String;
use alloc::vec::Vec;

use crate::config::ChunkserverConfig;
use crate::defect::Defects;
use crate::id::{Address, BootId, ProcessId};
use crate::machine::{Effects, Input, Machine, WakeReason};
use crate::stats::Metrics;
use crate::time::Time;

/// What a chunkserver is built from. The rest it reads from its volumes.
#[derive(Clone, Debug)]
pub struct ChunkserverSetup {
    /// Settings.
    pub config: ChunkserverConfig,
    /// For everything random: the ids of a blank server and of blank volumes, pauses.
    pub seed: u64,
    /// This boot of the machine.
    pub boot: BootId,
    /// This process.
    pub process: ProcessId,
    /// Where others can dial this server.
    pub address: Address,
    /// Its rack.
    pub rack: String,
    /// The masters.
    pub masters: Vec<Address>,
    /// Number of data directories.
    pub volumes: u16,
    /// Planted defects.
    pub defects: Defects,
}

/// What the hosting process asks of a chunkserver.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub enum ChunkserverCall {
    /// → [`ChunkserverCallReply::Metrics`]
    Metrics,
    /// Fence nothing, sync the journals, then halt without failure. → none
    Shutdown,
}

/// Its answers.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub enum ChunkserverCallReply {
    /// Figures.
    Metrics {
        /// Figures.
        metrics: Metrics,
        /// Whether it is registered and serves; else why not.
        ready: Result<(), String>,
    },
}

/// The machine.
#[derive(Debug)]
pub struct Chunkserver {
    _setup: ChunkserverSetup,
}

impl Chunkserver {
    /// A chunkserver that will recover from its volumes, starting at its first wake.
    pub fn new(setup: ChunkserverSetup) -> Chunkserver {
        Chunkserver { _setup: setup }
    }
}

impl Machine for Chunkserver {
    type Request = ChunkserverCall;
    type Response = ChunkserverCallReply;

    fn handle(
        &mut self,
        _now: Time,
        _input: Input<ChunkserverCall>,
        _effects: &mut Effects<ChunkserverCallReply>,
    ) {
    }

    fn next_wake(&self) -> Option<(Time, WakeReason)> {
        None
    }
}
