//! How a world is before anything is done to it.

use cairn_core::time::Span;

/// What a run is given besides its seed and story.
#[derive(Clone, Debug)]
pub struct Options {
    /// What is kept of the run's transitions.
    pub trace: TraceMode,
    /// Every link, until [`crate::World::set_link`] changes one.
    pub link: Link,
    /// Every disk, until [`crate::World::set_disk_faults`] changes one.
    pub disk: DiskFaults,
    /// Each boot's clock starts at a reading drawn from `0..=` this.
    pub clock_offset_ms_max: u64,
    /// Each node's clock drifts by a rate drawn from `-this..=this`.
    pub clock_drift_ppm_max: u32,
    /// Each request to a master travels on its own, as a gRPC unary call does: no order between calls, and a broken
    /// transport is answered with `MasterError::Unavailable`. Off, clients keep one connection as chunkservers do.
    pub unary_master_calls: bool,
    /// A run that takes longer fails.
    pub simulated_limit: Span,
    /// A run in which machines handle more inputs fails: one that feeds itself must not eat the host's time and memory.
    pub inputs_limit: u64,
    /// A run in which more is under way at once fails: messages, disk operations, wakings.
    pub events_limit: usize,
    /// A run whose kept trace is longer fails, in bytes.
    pub trace_limit: usize,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            trace: TraceMode::Hash,
            link: Link::default(),
            disk: DiskFaults::default(),
            clock_offset_ms_max: 1_000_000,
            clock_drift_ppm_max: 200,
            unary_master_calls: true,
            simulated_limit: Span::from_ms(3_600_000),
            inputs_limit: u64::MAX,
            events_limit: usize::MAX,
            trace_limit: usize::MAX,
        }
    }
}

/// What is kept of a run's transitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TraceMode {
    /// Nothing but counts.
    Off,
    /// A hash over all inputs and effects, with every byte that they carry.
    Hash,
    /// The hash, and a line for each input.
    Full,
    /// As `Full`, and all events with their causes.
    Events,
}

/// One direction between two nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// The least time that a message takes, in microseconds.
    pub latency_us: u64,
    /// Up to so much is added to each message.
    pub jitter_us: u64,
    /// Messages in a million whose first packet is lost: TCP sends it again, so they and those behind come later.
    pub loss_per_million: u32,
    /// Data frames in a million that get one bit flipped under way.
    pub corrupt_per_million: u32,
    /// Records of a chunk in a million that their sender says twice in a row.
    pub repeat_per_million: u32,
}

impl Default for Link {
    fn default() -> Self {
        Link {
            latency_us: 150,
            jitter_us: 200,
            loss_per_million: 0,
            corrupt_per_million: 0,
            repeat_per_million: 0,
        }
    }
}

/// How one volume misbehaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskFaults {
    /// Every operation takes so many times as long.
    pub slow_factor: u32,
    /// Reads in a million that fail.
    pub read_errors_per_million: u32,
    /// Writes, truncations and changes of names in a million that fail without effect.
    pub write_errors_per_million: u32,
    /// Syncs in a million that fail; what they should have made durable may then be lost for good.
    pub sync_errors_per_million: u32,
    /// Only what is in this directory and below fails; `None`: everything.
    pub errors_below: Option<&'static str>,
    /// Syncs hang until this ends.
    pub stuck_syncs: bool,
    /// Syncs of directories hang until this ends.
    pub stuck_dir_syncs: bool,
    /// What every other list of a directory showed, by lot, is told only when this ends.
    pub stuck_lists: bool,
    /// The file system's size.
    pub capacity_bytes: u64,
}

impl DiskFaults {
    /// The same, but nothing fails.
    #[must_use]
    pub fn without_errors(self) -> DiskFaults {
        DiskFaults {
            read_errors_per_million: 0,
            write_errors_per_million: 0,
            sync_errors_per_million: 0,
            errors_below: None,
            ..self
        }
    }
}

impl Default for DiskFaults {
    fn default() -> Self {
        DiskFaults {
            slow_factor: 1,
            read_errors_per_million: 0,
            write_errors_per_million: 0,
            sync_errors_per_million: 0,
            errors_below: None,
            stuck_syncs: false,
            stuck_dir_syncs: false,
            stuck_lists: false,
            capacity_bytes: 64 << 30,
        }
    }
}
