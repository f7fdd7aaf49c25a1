//! The session stream between chunkserver and master.

use super::{ConvertError, Wire, required, variants};
use crate::message::{FromServer, ToServer};
use crate::wire::proto;

variants! {
    FromServer = proto::FromServer, proto::from_server::Body;
    unit ;
    value ReplicaChanged;
    Register(proto::from_server::Register) { server, cluster, boot, process, address, rack, volumes }
    Heartbeat(proto::from_server::Heartbeat) { sequence, acked, volumes, load }
    BlockReport(proto::from_server::BlockReport) { report, replicas, last }
    Vote(proto::from_server::FenceVote) { chunk, version, incarnation, vote }
    CopyDone(proto::from_server::CopyDone) { target, error }
    DropDone(proto::from_server::DropDone) { chunk, version, dropped }
}

variants! {
    ToServer = proto::ToServer, proto::to_server::Body;
    unit RequestReport;
    value ;
    Registered(proto::to_server::Registered) { cluster, session, heartbeat_ms, block_report_ms }
    Refused(proto::to_server::Refused) { reason }
    HeartbeatAck(proto::to_server::HeartbeatAck) { sequence, lease_ms }
    Fence(proto::to_server::Fence) { chunk, version, incarnation, durability }
    Complete(proto::to_server::Complete) { chunk, version, incarnation, length, crc, sources }
    Seal(proto::to_server::Seal) { base, sealed }
    Copy(proto::to_server::Copy) { sealed, sources, volume }
    Verify(proto::to_server::Verify) { chunk, version }
    Drop(proto::to_server::Drop) { chunk, version, volume, reason }
}
