//! What requests, replies and session messages are made of.

use super::{ConvertError, Wire, plain_enum, record, required, variants};
use crate::error::MasterError;
use crate::id::{Durability, Incarnation};
use crate::message::{
    ClusterStatus, DropReason, ExtentPlan, FilePlan, FileStatus, Finding, Grant, Member, Problem,
    ReplicaPlace, ReplicaReport, ReplicaState, SealedChunk, ServerStatus, StorageOptions, TrashEntry,
    VolumeStatus, Vote,
};
use crate::wire::{proto, shape};

plain_enum!(Durability = proto::Durability { Sync, Async });
plain_enum!(Problem = proto::Problem { Missing, UnderReplicated, OverReplicated, Unsettled });
plain_enum!(ReplicaState = proto::ReplicaState { Open, Fenced, Sealed, Damaged, Gone });
plain_enum!(DropReason = proto::DropReason { Reclaimed, Stale, Excess, Unknown });

record!(StorageOptions = proto::StorageOptions { replication, quorum, chunk_bytes, durability });
record!(FileStatus = proto::FileStatus {
    path, id, directory, length, mode, owner, group, modified, replication, chunk_bytes, extents, crc
} max 10_000);
record!(TrashEntry = proto::TrashEntry { id, path, deleted, expires, directory, by } max 10_000);
record!(Member = proto::Member { server, session, volume, boot, process });
record!(Grant = proto::Grant {
    cluster, chunk, version, members, addresses, replication, quorum, durability, capacity
} if shape::grant);
record!(SealedChunk = proto::SealedChunk { chunk, version, length, crc });
record!(FilePlan = proto::FilePlan { file, length, extents });
record!(ExtentPlan = proto::ExtentPlan { index, file_offset, chunk_offset, length, chunk, replicas }
    max 10_000 if shape::extent);
record!(ReplicaPlace = proto::ReplicaPlace { server, address, rack });
record!(
    ClusterStatus = proto::ClusterStatus {
        cluster,
        servers,
        files,
        directories,
        trash,
        chunks,
        open_chunks,
        under_replicated,
        missing,
        over_replicated,
        repairs,
        uploads,
        log_index,
        log_bytes,
        starting,
        uptime_ms,
        dead_after_ms,
        log_full
    }
);
record!(ServerStatus = proto::ServerStatus {
    server, address, rack, live, last_heartbeat_ms, replicas, total_bytes, free_bytes, volumes, connected
} max 10_000);
record!(VolumeStatus = proto::VolumeStatus { volume, total_bytes, free_bytes, writable });
record!(Finding = proto::Finding { chunk, path, problem, good, goal } max 10_000);
record!(Incarnation = proto::Incarnation { volume, boot, process });
record!(ReplicaReport = proto::ReplicaReport { chunk, volume, version, length, crc, state } max 100_000);

variants! {
    Vote = proto::Vote, proto::vote::Body;
    unit Absent, Damaged, OtherIncarnation;
    value ;
    Prefix(proto::vote::Prefix) { length, crc }
    Superseded(proto::vote::Superseded) { version }
}

variants! {
    MasterError = proto::MasterError, proto::master_error::Body;
    unit ;
    value NotFound, AlreadyExists, NotADirectory, IsADirectory, NotEmpty, InvalidArgument, ChunkNotOpen, UploadGone,
        Unavailable, Busy, Protocol;
    PermissionDenied(proto::master_error::PermissionDenied) { path, needs }
    InvalidPath(proto::master_error::InvalidPath) { path, reason }
    NotEnoughServers(proto::master_error::NotEnoughServers) { needed, live }
    QuorumLost(proto::master_error::QuorumLost) { chunk, needed, answered }
}
