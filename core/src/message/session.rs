//! Chunkserver ↔ master: one two-way stream that the chunkserver opens.

use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

use super::{SealedChunk, VolumeStatus};
use crate::id::{
    Address, BootId, ChunkId, ChunkVersion, ClusterId, Incarnation, ProcessId, ServerId, SessionId, VolumeId,
};

/// What a chunkserver tells the master.
#[derive(Clone, Debug, PartialEq, Hash, Serialize, Deserialize)]
pub enum FromServer {
    /// The first message of a session.
    Register {
        /// Who.
        server: ServerId,
        /// The cluster that its volumes belong to; `None` while all are blank.
        cluster: Option<ClusterId>,
        /// This boot.
        boot: BootId,
        /// This process.
        process: ProcessId,
        /// Where clients and other servers can dial it.
        address: Address,
        /// Its rack.
        rack: String,
        /// Its volumes.
        volumes: Vec<VolumeStatus>,
    },
    /// I live.
    Heartbeat {
        /// Counts upwards within the session.
        sequence: u64,
        /// The latest one whose answer has arrived, 0 before the first: it was said after that answer.
        acked: u64,
        /// The volumes' space.
        volumes: Vec<VolumeStatus>,
        /// Chunks open for writing and reads under way: the load.
        load: u32,
    },
    /// A part of a scan of the disks.
    BlockReport {
        /// Counts upwards within the session; all parts of one report have the same number.
        report: u64,
        /// Replicas, in order of chunk ids across the parts.
        replicas: Vec<ReplicaReport>,
        /// Whether this is the last part: what was not in the report is not there.
        last: bool,
    },
    /// A replica changed between reports (sealed, copied, dropped, found damaged): its state now.
    ReplicaChanged(ReplicaReport),
    /// Answer to [`ToServer::Fence`] and [`ToServer::Complete`].
    Vote {
        /// The chunk.
        chunk: ChunkId,
        /// The version that is now fenced here.
        version: ChunkVersion,
        /// Under which incarnation.
        incarnation: Incarnation,
        /// What this replica has.
        vote: Vote,
    },
    /// Answer to [`ToServer::Copy`]. What the copy became was told before, as [`FromServer::ReplicaChanged`].
    CopyDone {
        /// The chunk as asked for.
        target: SealedChunk,
        /// Why not, if it failed. A success was synced, read back and compared with the checksum.
        error: Option<String>,
    },
    /// Answer to [`ToServer::Drop`].
    DropDone {
        /// The chunk.
        chunk: ChunkId,
        /// The version named in the order.
        version: ChunkVersion,
        /// Whether the replica is now in quarantine or was not there; false: refused, it has advanced.
        dropped: bool,
    },
}

/// A replica as found on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ReplicaReport {
    /// The chunk.
    pub chunk: ChunkId,
    /// The volume that holds it.
    pub volume: VolumeId,
    /// The replica's version.
    pub version: ChunkVersion,
    /// Length in bytes: of sealed replicas exact, of others what is staged.
    pub length: u64,
    /// CRC32 of the whole content of a sealed replica, else 0.
    pub crc: u32,
    /// Its state.
    pub state: ReplicaState,
}

/// The state of a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ReplicaState {
    /// Accepts appends under its version.
    Open,
    /// Accepts no more appends under its version; waits to be sealed or dropped.
    Fenced,
    /// Sealed and, as far as known, good.
    Sealed,
    /// Known to be bad: never counts, is repaired by copy.
    Damaged,
    /// No longer here (in `ReplicaChanged` only).
    Gone,
}

/// A fenced replica's vote on a chunk's length (chunk protocol, rules 3 to 7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Vote {
    /// It holds a valid prefix that ends on a record boundary, durable as the grant demands.
    Prefix {
        /// Length in bytes.
        length: u64,
        /// CRC32 of the prefix.
        crc: u32,
    },
    /// It never had the chunk; a tombstone now refuses it. Counts as an empty prefix.
    Absent,
    /// It is shorter than it promised, or unreadable: does not count.
    Damaged,
    /// It is sealed at or fenced beyond a higher version: the question is out of date.
    Superseded {
        /// The higher version.
        version: ChunkVersion,
    },
    /// The incarnation that was asked for is gone: does not count.
    OtherIncarnation,
}

/// What the master tells a chunkserver.
#[derive(Clone, Debug, PartialEq, Hash, Serialize, Deserialize)]
pub enum ToServer {
    /// Answer to `Register`.
    Registered {
        /// The cluster; blank volumes take it on.
        cluster: ClusterId,
        /// Names this registration.
        session: SessionId,
        /// How often to send heartbeats.
        heartbeat_ms: u64,
        /// How often to scan and report.
        block_report_ms: u64,
    },
    /// The registration is refused (another cluster's volumes, the same server twice): the daemon ends with this reason.
    Refused {
        /// One sentence that says what to do.
        reason: String,
    },
    /// Answer to `Heartbeat`: primaries may commit until so long after they *sent* that heartbeat.
    HeartbeatAck {
        /// The heartbeat answered.
        sequence: u64,
        /// The lease's length from the sending of the heartbeat, drift margin taken off by the receiver.
        lease_ms: u64,
    },
    /// Scan now and report.
    RequestReport,
    /// Accept no more appends to this version, persist that, then vote.
    Fence {
        /// The chunk.
        chunk: ChunkId,
        /// Fence this version and all below.
        version: ChunkVersion,
        /// The incarnation that was granted.
        incarnation: Incarnation,
        /// The durability that was granted.
        durability: crate::id::Durability,
    },
    /// A fenced, shorter member: take the missing bytes from a longer one, verify, persist, then vote again.
    Complete {
        /// The chunk.
        chunk: ChunkId,
        /// The fenced version; ignored by a replica with a higher one (rule 9).
        version: ChunkVersion,
        /// The incarnation that was granted.
        incarnation: Incarnation,
        /// The length to reach.
        length: u64,
        /// CRC32 of that prefix.
        crc: u32,
        /// Who has it.
        sources: Vec<Address>,
    },
    /// The chunk was sealed in the log: a member that was fenced at `base` becomes a sealed replica, cut to its length if
    /// longer, its checksum compared. Answered by `ReplicaChanged`. Shorter or different ones report `Damaged`.
    Seal {
        /// The version that was open; ignored by a replica with a higher one (rule 9).
        base: ChunkVersion,
        /// What it is now.
        sealed: SealedChunk,
    },
    /// Make a replica of a sealed chunk from another server's: stage, sync, read back, adopt. Replaces a damaged, stale or
    /// unsealed one, which goes to quarantine.
    Copy {
        /// What to copy; adopted only on a match of version, length and checksum (rule 16).
        sealed: SealedChunk,
        /// Who has it, best first.
        sources: Vec<Address>,
        /// The volume to put it on; any if it is gone.
        volume: VolumeId,
    },
    /// Re-read the replica and compare its checksums; answered by `ReplicaChanged`.
    Verify {
        /// The chunk.
        chunk: ChunkId,
        /// The version that is meant.
        version: ChunkVersion,
    },
    /// Put a replica into quarantine. Logged by the master with its reason; refused if the replica has advanced (rule 14).
    Drop {
        /// The chunk.
        chunk: ChunkId,
        /// The highest version that may be dropped.
        version: ChunkVersion,
        /// The volume that is meant.
        volume: VolumeId,
        /// Why, for the server's log.
        reason: DropReason,
    },
}

/// Why a replica is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum DropReason {
    /// Its chunk was reclaimed: no file refers to it any more.
    Reclaimed,
    /// Its version, length or checksum is not the logged one, and the chunk is at its goal without it.
    Stale,
    /// The chunk has more replicas than its goal.
    Excess,
    /// The chunk id is not one that this cluster's log has given out: kept for good, and an alarm.
    Unknown,
}
