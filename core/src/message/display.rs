//! One trace line for each message: its name, then what tells it from others. Nothing is allocated, payloads are lengths.

use core::fmt::{self, Display, Formatter};

use super::{
    AppendMessage, FromServer, Grant, MasterReply, MasterRequest, Message, ReadMessage, SealedChunk, ToServer,
};
use crate::id::{ChunkId, ChunkVersion};

impl Display for Message {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Message::MasterRequest { request, identity, body, .. } => {
                write!(f, "{body} request={} user={}", request.0, identity.user)
            }
            Message::MasterReply { request, result: Ok(reply) } => write!(f, "{reply} request={}", request.0),
            Message::MasterReply { request, result: Err(error) } => {
                write!(f, "MasterError request={} error={error:?}", request.0)
            }
            Message::FromServer(message) => message.fmt(f),
            Message::ToServer(message) => message.fmt(f),
            Message::Append(message) => message.fmt(f),
            Message::Read(message) => message.fmt(f),
        }
    }
}

/// `chunk=7 v=1`, the beginning of most lines.
struct At(ChunkId, ChunkVersion);

impl Display for At {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "chunk={} v={}", self.0.0, self.1.0)
    }
}

impl Display for SealedChunk {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} len={} crc={:08x}", At(self.chunk, self.version), self.length, self.crc)
    }
}

impl Display for Grant {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} w={}/{} {} on",
            At(self.chunk, self.version),
            self.quorum,
            self.replication,
            self.durability
        )?;
        self.addresses.iter().try_for_each(|address| write!(f, " {address}"))
    }
}

impl Display for MasterRequest {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            MasterRequest::Mkdir { path, parents, mode } => {
                write!(f, "Mkdir path={path:?} parents={parents} mode={mode:o}")
            }
            MasterRequest::List { path, after, limit } => {
                write!(f, "List path={path:?} after={after:?} limit={limit}")
            }
            MasterRequest::Stat { path } => write!(f, "Stat path={path:?}"),
            MasterRequest::Chmod { path, mode } => write!(f, "Chmod path={path:?} mode={mode:o}"),
            MasterRequest::Chown { path, owner, group } => {
                write!(f, "Chown path={path:?} owner={owner:?} group={group:?}")
            }
            MasterRequest::Rename { from, to, replace } => {
                write!(f, "Rename from={from:?} to={to:?} replace={replace}")
            }
            MasterRequest::Delete { path, recursive } => {
                write!(f, "Delete path={path:?} recursive={recursive}")
            }
            MasterRequest::ListTrash { limit, .. } => write!(f, "ListTrash limit={limit}"),
            MasterRequest::Restore { entry, path, to } => {
                write!(f, "Restore entry={} path={path:?} to={to:?}", entry.map_or(0, |entry| entry.0))
            }
            MasterRequest::BeginUpload { path, replace, .. } => {
                write!(f, "BeginUpload path={path:?} replace={replace}")
            }
            MasterRequest::OpenChunk { upload, ordinal, avoid } => {
                write!(f, "OpenChunk upload={} ordinal={ordinal} avoid={}", upload.0, avoid.len())
            }
            MasterRequest::SealChunk { upload, chunk, version } => {
                write!(f, "SealChunk {} upload={}", At(*chunk, *version), upload.0)
            }
            MasterRequest::KeepUpload { upload } => write!(f, "KeepUpload upload={}", upload.0),
            MasterRequest::CompleteUpload { upload, length } => {
                write!(f, "CompleteUpload upload={} len={length}", upload.0)
            }
            MasterRequest::AbortUpload { upload } => write!(f, "AbortUpload upload={}", upload.0),
            MasterRequest::Locate { path, offset, length } => {
                write!(f, "Locate path={path:?} at={offset} len={length}")
            }
            MasterRequest::ReportBadReplica { chunk, version, server } => {
                write!(f, "ReportBadReplica {} on={server}", At(*chunk, *version))
            }
            MasterRequest::ClusterStatus => f.write_str("ClusterStatus"),
            MasterRequest::Fsck { after, limit } => {
                write!(f, "Fsck after={} limit={limit}", after.map_or(0, |chunk| chunk.0))
            }
        }
    }
}

impl Display for MasterReply {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            MasterReply::Done => f.write_str("Done"),
            MasterReply::Entries { entries, more } => {
                write!(f, "Entries count={} more={more}", entries.len())
            }
            MasterReply::Status(status) => {
                write!(f, "Status path={:?} len={} id={}", status.path, status.length, status.id.0)
            }
            MasterReply::Trashed(entry) => write!(f, "Trashed entry={}", entry.0),
            MasterReply::Trash { entries, more } => write!(f, "Trash count={} more={more}", entries.len()),
            MasterReply::Restored(path) => write!(f, "Restored path={path:?}"),
            MasterReply::Upload { upload, options } => write!(
                f,
                "Upload upload={} n={} w={} {}",
                upload.0, options.replication, options.quorum, options.durability
            ),
            MasterReply::Grant(grant) => write!(f, "Grant {grant}"),
            MasterReply::Sealed(sealed) => write!(f, "Sealed {sealed}"),
            MasterReply::Located(plan) => {
                write!(f, "Located file={} len={} extents={}", plan.file.0, plan.length, plan.extents.len())
            }
            MasterReply::Cluster(status) => write!(
                f,
                "Cluster servers={} chunks={} under={} missing={}",
                status.servers.len(),
                status.chunks,
                status.under_replicated,
                status.missing
            ),
            MasterReply::Findings { findings, next } => {
                write!(f, "Findings count={} next={}", findings.len(), next.map_or(0, |chunk| chunk.0))
            }
        }
    }
}

impl Display for FromServer {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            FromServer::Register { server, address, volumes, .. } => {
                write!(f, "Register {server} at={address} volumes={}", volumes.len())
            }
            FromServer::Heartbeat { sequence, load, .. } => write!(f, "Heartbeat seq={sequence} load={load}"),
            FromServer::BlockReport { report, replicas, last } => {
                write!(f, "BlockReport report={report} replicas={} last={last}", replicas.len())
            }
            FromServer::ReplicaChanged(replica) => write!(
                f,
                "ReplicaChanged {} len={} crc={:08x} {:?}",
                At(replica.chunk, replica.version),
                replica.length,
                replica.crc,
                replica.state
            ),
            FromServer::Vote { chunk, version, vote, .. } => {
                write!(f, "Vote {} {vote:?}", At(*chunk, *version))
            }
            FromServer::CopyDone { target, error } => write!(f, "CopyDone {target} error={error:?}"),
            FromServer::DropDone { chunk, version, dropped } => {
                write!(f, "DropDone {} dropped={dropped}", At(*chunk, *version))
            }
        }
    }
}

impl Display for ToServer {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            ToServer::Registered { cluster, session, .. } => {
                write!(f, "Registered {cluster} session={:x}", session.0)
            }
            ToServer::Refused { reason } => write!(f, "Refused reason={reason:?}"),
            ToServer::HeartbeatAck { sequence, lease_ms } => {
                write!(f, "HeartbeatAck seq={sequence} lease_ms={lease_ms}")
            }
            ToServer::RequestReport => f.write_str("RequestReport"),
            ToServer::Fence { chunk, version, .. } => write!(f, "Fence {}", At(*chunk, *version)),
            ToServer::Complete { chunk, version, length, crc, sources, .. } => {
                write!(
                    f,
                    "Complete {} len={length} crc={crc:08x} sources={}",
                    At(*chunk, *version),
                    sources.len()
                )
            }
            ToServer::Seal { base, sealed } => write!(f, "Seal {sealed} base={}", base.0),
            ToServer::Copy { sealed, sources, volume } => {
                write!(f, "Copy {sealed} sources={} to={volume}", sources.len())
            }
            ToServer::Verify { chunk, version } => write!(f, "Verify {}", At(*chunk, *version)),
            ToServer::Drop { chunk, version, volume, reason } => {
                write!(f, "Drop {} on={volume} {reason:?}", At(*chunk, *version))
            }
        }
    }
}

impl Display for AppendMessage {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            AppendMessage::Open { grant, position, writer } => {
                write!(f, "ChunkOpen {grant} position={position} {writer}")
            }
            AppendMessage::Data { chunk, version, record, committed, payload, .. } => write!(
                f,
                "ChunkAppend {} record={record} at={} len={} committed={committed}",
                At(*chunk, *version),
                payload.offset,
                payload.len()
            ),
            AppendMessage::Ready { chunk, version, ends } => {
                write!(f, "ChunkReady {} ends={ends:?}", At(*chunk, *version))
            }
            AppendMessage::Committed { chunk, version, end, record, everywhere } => {
                write!(
                    f,
                    "ChunkCommitted {} record={record} end={end} everywhere={everywhere}",
                    At(*chunk, *version)
                )
            }
            AppendMessage::Failed { chunk, version, server, error } => {
                write!(f, "ChunkFailed {} on={server} error={error:?}", At(*chunk, *version))
            }
        }
    }
}

impl Display for ReadMessage {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            ReadMessage::Request { read, chunk, version, offset, length } => {
                write!(f, "ChunkRead {} at={offset} len={length} read={read}", At(*chunk, *version))
            }
            ReadMessage::Reply { read, result: Ok(payload) } => {
                write!(f, "ChunkData at={} len={} read={read}", payload.offset, payload.len())
            }
            ReadMessage::Reply { read, result: Err(error) } => {
                write!(f, "ChunkUnreadable read={read} error={error:?}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::WriterId;
    use crate::payload::Payload;
    use alloc::string::ToString;
    use bytes::Bytes;

    #[test]
    fn a_line_names_the_message_and_its_place() {
        let message: Message = AppendMessage::Data {
            chunk: ChunkId(7),
            version: ChunkVersion(1),
            writer: WriterId(9),
            record: 3,
            committed: 131_072,
            payload: Payload::new(196_608, Bytes::from_static(&[0; 65_536])),
        }
        .into();
        assert_eq!(
            message.to_string(),
            "ChunkAppend chunk=7 v=1 record=3 at=196608 len=65536 committed=131072"
        );
        let message: Message = ToServer::Fence {
            chunk: ChunkId(7),
            version: ChunkVersion(1),
            incarnation: crate::id::Incarnation::default(),
            durability: crate::id::Durability::Sync,
        }
        .into();
        assert_eq!(message.to_string(), "Fence chunk=7 v=1");
    }
}
