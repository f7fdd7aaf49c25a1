//! What a run leaves behind.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use cairn_core::time::Span;

use crate::record::Record;

/// A run's end.
#[derive(Clone, Debug)]
pub struct Outcome<T> {
    /// What it was started from.
    pub seed: u64,
    /// What the story returned, or the panic that ended the run.
    pub result: Result<T, Failure>,
    /// Inputs that machines handled.
    pub inputs: u64,
    /// The same by node.
    pub inputs_by_node: BTreeMap<String, u64>,
    /// Hash over all trace lines; 0 with the trace off.
    pub trace_hash: u64,
    /// The trace lines, if they were to be kept.
    pub trace: String,
    /// The events, if they were to be kept.
    pub record: Option<Record>,
    /// How long the story took in the world.
    pub simulated: Span,
    /// How long the run took of one processor.
    pub cpu: Duration,
    /// What was injected.
    pub faults: FaultCounts,
}

/// A panic somewhere in the run: in a machine, a checker or the story.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What it said.
    pub message: String,
    /// `file:line` where it was raised.
    pub location: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.message, self.location)
    }
}

/// How often each fault happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FaultCounts {
    /// Processes killed.
    pub kills: u64,
    /// Machines that lost power.
    pub power_cuts: u64,
    /// Processes started again.
    pub restarts: u64,
    /// Processes frozen.
    pub pauses: u64,
    /// Connections broken under a running process at each end.
    pub resets: u64,
    /// Partitions made.
    pub partitions: u64,
    /// Messages that a partition held.
    pub held_messages: u64,
    /// Messages lost with their connection.
    pub dropped_messages: u64,
    /// Frames with a bit flipped under way.
    pub corrupted_frames: u64,
    /// Bits flipped at rest, and sectors made unreadable.
    pub bit_flips: u64,
    /// Disk operations that failed.
    pub io_errors: u64,
    /// Unsynced writes that a power cut dropped.
    pub writes_lost: u64,
    /// Unsynced writes of which a power cut kept some sectors.
    pub writes_torn: u64,
    /// Unsynced changes of names that a power cut dropped.
    pub names_lost: u64,
    /// Volumes emptied.
    pub wipes: u64,
}

impl FaultCounts {
    /// Name and value of each, for summaries.
    pub fn list(&self) -> [(&'static str, u64); 15] {
        [
            ("kills", self.kills),
            ("power cuts", self.power_cuts),
            ("restarts", self.restarts),
            ("pauses", self.pauses),
            ("resets", self.resets),
            ("partitions", self.partitions),
            ("held messages", self.held_messages),
            ("dropped messages", self.dropped_messages),
            ("corrupted frames", self.corrupted_frames),
            ("bit flips", self.bit_flips),
            ("I/O errors", self.io_errors),
            ("writes lost", self.writes_lost),
            ("writes torn", self.writes_torn),
            ("names lost", self.names_lost),
            ("wipes", self.wipes),
        ]
    }
}

impl std::ops::AddAssign for FaultCounts {
    fn add_assign(&mut self, other: FaultCounts) {
        self.kills += other.kills;
        self.power_cuts += other.power_cuts;
        self.restarts += other.restarts;
        self.pauses += other.pauses;
        self.resets += other.resets;
        self.partitions += other.partitions;
        self.held_messages += other.held_messages;
        self.dropped_messages += other.dropped_messages;
        self.corrupted_frames += other.corrupted_frames;
        self.bit_flips += other.bit_flips;
        self.io_errors += other.io_errors;
        self.writes_lost += other.writes_lost;
        self.writes_torn += other.writes_torn;
        self.names_lost += other.names_lost;
        self.wipes += other.wipes;
    }
}
