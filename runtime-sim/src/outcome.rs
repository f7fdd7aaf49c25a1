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
    /// Hash over all inputs and effects, their bytes among them; 0 with the trace off.
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
    /// It is no panic of a machine, checker or story: the run grew beyond one of its limits.
    pub limit: bool,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.message, self.location)
    }
}

macro_rules! counts {
    ($($(#[$doc:meta])* $field:ident = $text:literal,)*) => {
        /// How often each fault happened.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct FaultCounts { $($(#[$doc])* pub $field: u64,)* }

        impl FaultCounts {
            /// Name and value of each, for summaries.
            pub fn list(&self) -> Vec<(&'static str, u64)> {
                vec![$(($text, self.$field),)*]
            }
        }

        impl std::ops::AddAssign for FaultCounts {
            fn add_assign(&mut self, other: FaultCounts) {
                $(self.$field += other.$field;)*
            }
        }
    };
}

counts! {
    /// Processes killed.
    kills = "kills",
    /// Those among them that died between two of their disk operations, at a counted one.
    crash_points = "crash points",
    /// Machines that lost power.
    power_cuts = "power cuts",
    /// Processes started again.
    restarts = "restarts",
    /// Processes frozen.
    pauses = "pauses",
    /// Processes made slow.
    slowdowns = "slowdowns",
    /// Clocks that jumped ahead.
    clock_jumps = "clock jumps",
    /// Connections broken under a running process at each end.
    resets = "resets",
    /// Partitions made.
    partitions = "partitions",
    /// Connections that stood still while others passed.
    stalls = "stalls",
    /// Connections given up by their sender while what it had sent was still under way, and arrived.
    zombies = "zombies",
    /// Conversations that came again.
    replays = "replays",
    /// Records and requests that came again.
    repeats = "repeats",
    /// Messages that a partition or a stall held.
    held_messages = "held messages",
    /// Messages lost with their connection.
    dropped_messages = "dropped messages",
    /// Frames with a bit flipped under way.
    corrupted_frames = "corrupted frames",
    /// Bits flipped at rest, and sectors made unreadable.
    bit_flips = "bit flips",
    /// Sectors that were written to the wrong place.
    misdirected_writes = "misdirected writes",
    /// Disk operations that failed.
    io_errors = "I/O errors",
    /// Syncs that hung.
    stuck_syncs = "stuck syncs",
    /// Lists of directories that were told late.
    stuck_lists = "stuck lists",
    /// Unsynced writes that a power cut dropped.
    writes_lost = "writes lost",
    /// Unsynced writes of which a power cut kept some sectors.
    writes_torn = "writes torn",
    /// Unsynced changes of names that a power cut dropped.
    names_lost = "names lost",
    /// Volumes emptied.
    wipes = "wipes",
}
