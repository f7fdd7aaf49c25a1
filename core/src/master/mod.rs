//! The master: the catalog, and the volatile state of who has what.

pub mod catalog;
pub mod command;

use alloc::string::String;

use crate::config::MasterConfig;
use crate::defect::Defects;
use crate::machine::{Effects, Input, Machine, WakeReason};
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
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
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
#[derive(Debug)]
pub struct Master {
    _setup: MasterSetup,
}

impl Master {
    /// A master that will recover from its directory, starting at its first wake.
    pub fn new(setup: MasterSetup) -> Master {
        Master { _setup: setup }
    }
}

impl Machine for Master {
    type Request = MasterCall;
    type Response = MasterCallReply;

    fn handle(&mut self, _now: Time, _input: Input<MasterCall>, _effects: &mut Effects<MasterCallReply>) {}

    fn next_wake(&self) -> Option<(Time, WakeReason)> {
        None
    }
}
