//! Measurements that a machine gives out: a flat list, for metrics endpoints and for the simulator's bounds.

use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// How a figure behaves over time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MetricKind {
    /// Only grows while the process lives.
    Counter,
    /// Goes up and down.
    Gauge,
}

/// One figure.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Metric {
    /// Prometheus name, with its unit at the end (`cairn_master_log_bytes`).
    pub name: String,
    /// Label, if the figure is one of several (`("volume", "0")`).
    pub label: Option<(String, String)>,
    /// How it behaves.
    pub kind: MetricKind,
    /// One sentence.
    pub help: String,
    /// The value.
    pub value: f64,
}

/// A snapshot of a machine's figures.
pub type Metrics = Vec<Metric>;

/// Adds one unlabelled figure.
pub fn put(into: &mut Metrics, kind: MetricKind, name: &str, help: &str, value: u64) {
    into.push(Metric { name: name.into(), label: None, kind, help: help.into(), value: value as f64 });
}
