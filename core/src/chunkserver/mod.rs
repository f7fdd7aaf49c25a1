//! The chunkserver: replicas on volumes, the pipeline, copies, scrubbing, reports. It knows chunks, never files.
//!
//! Where to look: `append` and `ready` carry records down and READY up; `commit` groups journal writes; `fence`,
//! `complete` and `seal` settle a chunk; `flush`, `copy`, `scrub`, `report` and `quarantine` look after sealed ones; `recovery` and
//! `tail` read the volumes after a start. Rules are numbered as in `docs/design/chunk-protocol.md`.

mod append;
mod commit;
mod complete;
mod copy;
mod fence;
mod fingerprint;
mod flush;
#[cfg(any(test, feature = "fuzz"))]
pub(crate) mod fuzz;
mod identity;
mod job;
mod journal;
mod journal_recovery;
mod losers;
mod machine;
mod metrics;
mod names;
mod out;
mod pull;
mod quarantine;
mod read;
mod ready;
mod recovery;
mod replica;
mod report;
mod script;
mod scrub;
mod seal;
mod session;
pub mod sidecar;
mod tables;
mod tail;
mod volume;

#[cfg(test)]
mod tests;

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::string::String;
use alloc::vec::Vec;

use crate::config::ChunkserverConfig;
use crate::defect::Defects;
use crate::disk::DiskPath;
use crate::id::{
    Address, BootId, ChunkId, ChunkVersion, ClusterId, Durability, Peer, ProcessId, ServerId, VolumeId,
};
use crate::message::ReplicaState;
use crate::rng::Rng;
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
#[derive(Clone, Debug, PartialEq, Hash, serde::Serialize, serde::Deserialize)]
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
#[derive(Clone, Debug)]
pub struct Chunkserver {
    setup: ChunkserverSetup,
    rng: Rng,
    /// The time of the input being handled.
    now: Time,
    started: bool,
    stopping: bool,
    shutdown_syncs: usize,
    next_housekeeping: Time,
    out: out::Out,
    /// 0 until the volumes' identities are read.
    server: ServerId,
    /// 0 until a volume or the master has told.
    cluster: ClusterId,
    session: session::Session,
    volumes: Vec<volume::Volume>,
    recoveries: BTreeMap<u16, Box<recovery::Recovery>>,
    replicas: BTreeMap<ChunkId, replica::Replica>,
    /// Chunks whose replica has a stream.
    open: BTreeSet<ChunkId>,
    tombstones: BTreeMap<ChunkId, fence::Tombstone>,
    jobs: job::Jobs,
    /// Our own reads of other servers, and for which chunk's job.
    pulls: BTreeMap<u64, ChunkId>,
    reads: BTreeMap<u64, read::Read>,
    reads_of: BTreeMap<Peer, u32>,
    tables: tables::Tables,
    scrubbers: Vec<scrub::Scrubber>,
    checks: BTreeMap<ChunkId, scrub::Check>,
    scan: Option<report::Scan>,
    report_number: u64,
    /// Counts changes of replicas; the last one of each chunk since the last report.
    changes: u64,
    changed_at: BTreeMap<ChunkId, u64>,
    /// Files in quarantine, oldest first.
    purges: VecDeque<(Time, DiskPath)>,
    losers: VecDeque<losers::Loser>,
    generation: u64,
    next_job: u64,
    next_read: u64,
    next_key: u64,
    damage_found: u64,
    damaged_journals: u64,
    scrubbed_bytes: u64,
    flushed: u64,
    second_replicas: u64,
}

/// One replica, for checkers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ReplicaView {
    /// The chunk.
    pub chunk: ChunkId,
    /// The replica's version.
    pub version: ChunkVersion,
    /// Its state.
    pub state: ReplicaState,
    /// Bytes that arrived.
    pub staged: u64,
    /// Bytes promised: READY, or sealed.
    pub ready: u64,
    /// Bytes known to be committed; of a sealed replica all.
    pub committed: u64,
    /// Bytes of which others may have been told that they are here; of a sealed replica all, of an unsealed one none while an
    /// order about it is being carried out.
    pub promised: u64,
    /// The fence under which it voted.
    pub fence: Option<ChunkVersion>,
    /// Whether a power cut takes nothing of what is promised.
    pub is_durable: bool,
    /// Whether its files are being replaced or moved away.
    pub is_moving: bool,
    /// CRC32 of a sealed replica.
    pub crc: u32,
    /// The volume that holds it.
    pub volume: VolumeId,
    /// The volume's number on this server.
    pub volume_index: u16,
}

impl Chunkserver {
    /// A chunkserver that will recover from its volumes, starting at its first wake.
    pub fn new(setup: ChunkserverSetup) -> Chunkserver {
        let volumes = (0..setup.volumes).map(|_| volume::Volume::starting()).collect();
        let scrubbers = (0..setup.volumes).map(|_| scrub::Scrubber::default()).collect();
        // A restarted process must not draw the ids of the one before it: the seed alone may be the same.
        let rng = Rng::stream(setup.seed ^ setup.process.0.rotate_left(17), "chunkserver");
        Chunkserver {
            rng,
            now: Time::ZERO,
            started: false,
            stopping: false,
            shutdown_syncs: 0,
            next_housekeeping: Time::ZERO,
            out: out::Out::default(),
            server: ServerId(0),
            cluster: ClusterId(0),
            session: session::Session::default(),
            volumes,
            recoveries: BTreeMap::new(),
            replicas: BTreeMap::new(),
            open: BTreeSet::new(),
            tombstones: BTreeMap::new(),
            jobs: job::Jobs::default(),
            pulls: BTreeMap::new(),
            reads: BTreeMap::new(),
            reads_of: BTreeMap::new(),
            tables: tables::Tables::default(),
            scrubbers,
            checks: BTreeMap::new(),
            scan: None,
            report_number: 0,
            changes: 0,
            changed_at: BTreeMap::new(),
            purges: VecDeque::new(),
            losers: VecDeque::new(),
            generation: 0,
            next_job: 0,
            next_read: 0,
            next_key: 0,
            damage_found: 0,
            damaged_journals: 0,
            scrubbed_bytes: 0,
            flushed: 0,
            second_replicas: 0,
            setup,
        }
    }

    /// Whether it recovered and is registered with a master.
    pub fn is_ready(&self) -> bool {
        self.readiness().is_ok()
    }

    /// Whether all its volumes are recovered or failed.
    pub fn has_recovered(&self) -> bool {
        self.started && self.recoveries.is_empty()
    }

    /// The cluster that its volumes belong to; 0 before that is known.
    pub fn cluster(&self) -> ClusterId {
        self.cluster
    }

    /// Its id; 0 before the volumes' identities are read.
    pub fn server(&self) -> ServerId {
        self.server
    }

    /// Its replicas, in order of chunk ids.
    pub fn replicas(&self) -> impl Iterator<Item = ReplicaView> + '_ {
        self.replicas.iter().map(|(chunk, replica)| self.view(*chunk, replica))
    }

    /// Its replica of a chunk.
    pub fn replica(&self, chunk: ChunkId) -> Option<ReplicaView> {
        Some(self.view(chunk, self.replicas.get(&chunk)?))
    }

    /// Those with a stream: few, however many there are in all.
    pub fn open_replicas(&self) -> impl Iterator<Item = ReplicaView> + '_ {
        self.open.iter().filter_map(|chunk| Some(self.view(*chunk, self.replicas.get(chunk)?)))
    }

    fn view(&self, chunk: ChunkId, r: &replica::Replica) -> ReplicaView {
        let stream = r.unsealed.as_ref().and_then(|u| u.stream.as_ref());
        let committed = if r.unsealed.is_none() { r.length } else { stream.map_or(0, |s| s.committed) };
        let fence = r.unsealed.as_ref().filter(|u| u.fence_kept).and_then(|u| u.fence);
        // While an order is being carried out, what it took in last may not be promised yet.
        let settling = r.unsealed.is_some() && self.jobs.is_running(chunk);
        let promised = match (stream, &r.unsealed) {
            (Some(stream), Some(unsealed)) => stream.ends[usize::from(unsealed.position)],
            _ if settling => 0,
            _ => r.length,
        };
        ReplicaView {
            chunk,
            version: r.version,
            state: r.state,
            staged: r.staged(),
            ready: r.length,
            committed,
            promised,
            fence,
            is_durable: match &r.unsealed {
                Some(unsealed) => unsealed.grant.durability == Durability::Sync,
                None => !r.kept.is_at_risk(),
            },
            is_moving: self.jobs.is_moving(chunk),
            crc: r.crc,
            volume: self.volume(r.volume).identity.volume,
            volume_index: r.volume,
        }
    }

    /// How often damage was found since the start.
    pub fn damage_found(&self) -> u64 {
        self.damage_found
    }

    /// Which volumes are out of use, and why.
    pub fn failed_volumes(&self) -> impl Iterator<Item = (u16, &str)> {
        (0..).zip(&self.volumes).filter_map(|(index, volume)| match &volume.state {
            volume::VolumeState::Failed(why) => Some((index, why.as_str())),
            _ => None,
        })
    }

    /// How many journals were found damaged at the start of this process.
    pub fn damaged_journals(&self) -> u64 {
        self.damaged_journals
    }

    /// How many replicas were made durable after they had been sealed in the page cache.
    pub fn flushed(&self) -> u64 {
        self.flushed
    }

    /// How many replicas were moved away because a start found a better one, or an equal one, on another volume.
    pub fn second_replicas(&self) -> u64 {
        self.second_replicas
    }

    /// Whether nothing is on its way into its journals: what had to be on stable storage is.
    pub fn is_journaled(&self) -> bool {
        self.volumes.iter().all(|volume| volume.journal.is_quiet())
    }

    /// Entries of its tables: what must be bounded by what there is.
    pub fn table_sizes(&self) -> Vec<(&'static str, usize)> {
        Vec::from([
            ("replicas", self.replicas.len()),
            ("open replicas", self.open.len()),
            ("tombstones", self.tombstones.len()),
            ("orders", self.jobs.len()),
            ("reads of other servers", self.pulls.len()),
            ("reads", self.reads.len()),
            ("readers", self.reads_of.len()),
            ("block checksums", self.tables.len()),
            ("checks", self.checks.len()),
            ("changes", self.changed_at.len()),
            ("quarantine", self.purges.len()),
            ("lesser replicas", self.losers.len()),
        ])
    }

    fn next_generation(&mut self) -> u64 {
        self.generation += 1;
        self.generation
    }

    /// The replica's files are about to change.
    fn renew(&mut self, chunk: ChunkId) {
        let generation = self.next_generation();
        if let Some(replica) = self.replicas.get_mut(&chunk) {
            replica.generation = generation;
        }
        self.touch(chunk);
    }

    /// A scan that is under way must not judge this chunk.
    fn touch(&mut self, chunk: ChunkId) {
        self.changes += 1;
        self.changed_at.insert(chunk, self.changes);
    }
}
