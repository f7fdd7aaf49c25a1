//! Every message that can travel, as proptest strategies.

use alloc::string::String;
use alloc::vec::Vec;
use bytes::Bytes;
use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;

use crate::error::{ChunkError, MasterError};
use crate::id::{
    Address, BootId, ChunkId, ChunkVersion, ClientId, ClusterId, Durability, FileId, Incarnation, ProcessId,
    RequestId, ServerId, SessionId, TrashId, UploadId, VolumeId, WriterId,
};
use crate::message::{
    AppendMessage, ClusterStatus, DropReason, ExtentPlan, FilePlan, FileStatus, Finding, FromServer, Grant,
    Identity, MasterReply, MasterRequest, Member, Message, Problem, ReadMessage, ReplicaPlace, ReplicaReport,
    ReplicaState, SealedChunk, ServerStatus, StorageOptions, ToServer, TrashEntry, VolumeStatus, Vote,
};
use crate::payload::Payload;
use crate::time::UnixMs;

/// One strategy for each id: its number is anything.
macro_rules! any_ids {
    ($($name:ident: $type:ident;)*) => {$(
        fn $name() -> impl Strategy<Value = $type> + Clone {
            any::<u64>().prop_map($type)
        }
    )*};
}

any_ids! {
    boot: BootId;
    chunk: ChunkId;
    client: ClientId;
    cluster: ClusterId;
    file: FileId;
    process: ProcessId;
    request: RequestId;
    server: ServerId;
    session: SessionId;
    trash_id: TrashId;
    upload: UploadId;
    volume: VolumeId;
    writer: WriterId;
    unix: UnixMs;
}

fn version() -> impl Strategy<Value = ChunkVersion> + Clone {
    any::<u32>().prop_map(ChunkVersion)
}

fn text() -> impl Strategy<Value = String> + Clone {
    "[a-zé/\\x00 ]{0,20}"
}

fn address() -> impl Strategy<Value = Address> + Clone {
    "[a-z0-9.:]{0,20}".prop_map(|text| Address::new(&text))
}

/// A struct from a strategy for each of its fields, in groups that fit proptest's tuples.
macro_rules! build {
    ($($type:ident)::+ { $($field:ident: $strategy:expr),* $(,)? }) => {
        ($($strategy,)*).prop_map(|($($field,)*)| $($type)::+ { $($field),* })
    };
}

fn durability() -> impl Strategy<Value = Durability> + Clone {
    prop_oneof![Just(Durability::Sync), Just(Durability::Async)]
}

fn options() -> impl Strategy<Value = StorageOptions> {
    build!(StorageOptions {
        replication: any::<u8>(),
        quorum: any::<u8>(),
        chunk_bytes: any::<u64>(),
        durability: durability(),
    })
}

fn incarnation() -> impl Strategy<Value = Incarnation> {
    build!(Incarnation { volume: volume(), boot: boot(), process: process() })
}

fn sealed() -> impl Strategy<Value = SealedChunk> {
    build!(SealedChunk { chunk: chunk(), version: version(), length: any::<u64>(), crc: any::<u32>() })
}

fn member() -> impl Strategy<Value = (Member, Address)> {
    let member = build!(Member {
        server: server(),
        session: session(),
        volume: volume(),
        boot: boot(),
        process: process(),
    });
    (member, address())
}

fn grant() -> impl Strategy<Value = Grant> {
    let head = (cluster(), chunk(), version(), any::<u8>(), durability(), any::<u64>());
    (head, vec(member(), 1..=8), any::<prop::sample::Index>()).prop_map(|(head, members, quorum)| {
        let (cluster, chunk, version, replication, durability, capacity) = head;
        let quorum = quorum.index(members.len()) as u8 + 1;
        let (members, addresses) = members.into_iter().unzip();
        Grant { cluster, chunk, version, members, addresses, replication, quorum, durability, capacity }
    })
}

fn status() -> impl Strategy<Value = FileStatus> {
    let first = (text(), file(), any::<bool>(), any::<u64>(), any::<u16>(), text(), text());
    let second = (unix(), any::<u8>(), any::<u64>(), any::<u32>(), any::<u32>());
    (first, second).prop_map(|((path, id, directory, length, mode, owner, group), second)| {
        let (modified, replication, chunk_bytes, extents, crc) = second;
        FileStatus {
            path,
            id,
            directory,
            length,
            mode,
            owner,
            group,
            modified,
            replication,
            chunk_bytes,
            extents,
            crc,
        }
    })
}

fn trash_entry() -> impl Strategy<Value = TrashEntry> {
    build!(TrashEntry {
        id: trash_id(),
        path: text(),
        deleted: unix(),
        expires: unix(),
        directory: any::<bool>(),
        by: text(),
    })
}

fn extent() -> impl Strategy<Value = ExtentPlan> {
    let place = build!(ReplicaPlace { server: server(), address: address(), rack: text() });
    (any::<u32>(), any::<u32>(), any::<u32>(), any::<u32>(), sealed(), vec(place, 0..3)).prop_map(
        |(index, file_offset, chunk_offset, length, mut chunk, replicas)| {
            let (chunk_offset, length) = (u64::from(chunk_offset), u64::from(length));
            chunk.length = chunk_offset + length;
            ExtentPlan { index, file_offset: file_offset.into(), chunk_offset, length, chunk, replicas }
        },
    )
}

fn volumes() -> impl Strategy<Value = Vec<VolumeStatus>> {
    let one = build!(VolumeStatus {
        volume: volume(),
        total_bytes: any::<u64>(),
        free_bytes: any::<u64>(),
        writable: any::<bool>(),
    });
    vec(one, 0..3)
}

fn server_status() -> impl Strategy<Value = ServerStatus> {
    build!(ServerStatus {
        server: server(),
        address: address(),
        rack: text(),
        live: any::<bool>(),
        last_heartbeat_ms: any::<u64>(),
        replicas: any::<u64>(),
        total_bytes: any::<u64>(),
        free_bytes: any::<u64>(),
        volumes: volumes(),
        connected: any::<bool>(),
    })
}

fn cluster_status() -> impl Strategy<Value = ClusterStatus> {
    (cluster(), vec(server_status(), 0..3), vec(any::<u64>(), 14), any::<[bool; 2]>()).prop_map(
        |(cluster, servers, n, [starting, log_full])| ClusterStatus {
            cluster,
            servers,
            files: n[0],
            directories: n[1],
            trash: n[2],
            chunks: n[3],
            open_chunks: n[4],
            under_replicated: n[5],
            missing: n[6],
            over_replicated: n[7],
            repairs: n[8],
            uploads: n[9],
            log_index: n[10],
            log_bytes: n[11],
            log_full,
            starting,
            uptime_ms: n[12],
            dead_after_ms: n[13],
        },
    )
}

fn finding() -> impl Strategy<Value = Finding> {
    let problem = prop_oneof![
        Just(Problem::Missing),
        Just(Problem::UnderReplicated),
        Just(Problem::OverReplicated),
        Just(Problem::Unsettled),
    ];
    build!(Finding {
        chunk: chunk(),
        path: of(text()),
        problem: problem,
        good: any::<u8>(),
        goal: any::<u8>()
    })
}

fn master_request() -> impl Strategy<Value = MasterRequest> {
    use MasterRequest as R;
    let names = prop_oneof![
        build!(R::Mkdir { path: text(), parents: any::<bool>(), mode: any::<u16>() }),
        build!(R::List { path: text(), after: of(text()), limit: any::<u32>() }),
        build!(R::Stat { path: text() }),
        build!(R::Chmod { path: text(), mode: any::<u16>() }),
        build!(R::Chown { path: text(), owner: of(text()), group: of(text()) }),
        build!(R::Rename { from: text(), to: text(), replace: any::<bool>() }),
        build!(R::Delete { path: text(), recursive: any::<bool>() }),
        build!(R::ListTrash { after: of(trash_id()), limit: any::<u32>() }),
        build!(R::Restore { entry: of(trash_id()), path: text(), to: of(text()) }),
    ];
    let data = prop_oneof![
        build!(R::BeginUpload {
            path: text(),
            replace: any::<bool>(),
            mode: any::<u16>(),
            options: options()
        }),
        build!(R::OpenChunk { upload: upload(), ordinal: any::<u32>(), avoid: vec(server(), 0..4) }),
        build!(R::SealChunk { upload: upload(), chunk: chunk(), version: version() }),
        build!(R::KeepUpload { upload: upload() }),
        build!(R::CompleteUpload { upload: upload(), length: any::<u64>() }),
        build!(R::AbortUpload { upload: upload() }),
        build!(R::Locate { path: text(), offset: any::<u64>(), length: any::<u64>() }),
        build!(R::ReportBadReplica { chunk: chunk(), version: version(), server: server() }),
        Just(R::ClusterStatus),
        build!(R::Fsck { after: of(chunk()), limit: any::<u32>() }),
    ];
    prop_oneof![names, data]
}

fn master_reply() -> impl Strategy<Value = MasterReply> {
    use MasterReply as R;
    let names = prop_oneof![
        Just(R::Done),
        build!(R::Entries { entries: vec(status(), 0..3), more: any::<bool>() }),
        status().prop_map(R::Status),
        trash_id().prop_map(R::Trashed),
        build!(R::Trash { entries: vec(trash_entry(), 0..3), more: any::<bool>() }),
        text().prop_map(R::Restored),
    ];
    prop_oneof![
        names,
        build!(R::Upload { upload: upload(), options: options() }),
        grant().prop_map(R::Grant),
        sealed().prop_map(R::Sealed),
        build!(FilePlan { file: file(), length: any::<u64>(), extents: vec(extent(), 0..3) })
            .prop_map(R::Located),
        cluster_status().prop_map(R::Cluster),
        build!(R::Findings { findings: vec(finding(), 0..3), next: of(chunk()) }),
    ]
}

fn master_error() -> impl Strategy<Value = MasterError> {
    use MasterError as E;
    let plain = prop_oneof![
        text().prop_map(E::NotFound),
        text().prop_map(E::AlreadyExists),
        text().prop_map(E::NotADirectory),
        text().prop_map(E::IsADirectory),
        text().prop_map(E::NotEmpty),
        text().prop_map(E::InvalidArgument),
        text().prop_map(E::Unavailable),
        text().prop_map(E::Busy),
        text().prop_map(E::Protocol),
    ];
    prop_oneof![
        plain,
        build!(E::PermissionDenied { path: text(), needs: text() }),
        build!(E::InvalidPath { path: text(), reason: text() }),
        build!(E::NotEnoughServers { needed: any::<u8>(), live: any::<u8>() }),
        build!(E::QuorumLost { chunk: chunk(), needed: any::<u8>(), answered: any::<u8>() }),
        chunk().prop_map(E::ChunkNotOpen),
        upload().prop_map(E::UploadGone),
    ]
}

fn replica_report() -> impl Strategy<Value = ReplicaReport> {
    let state = prop_oneof![
        Just(ReplicaState::Open),
        Just(ReplicaState::Fenced),
        Just(ReplicaState::Sealed),
        Just(ReplicaState::Damaged),
        Just(ReplicaState::Gone),
    ];
    build!(ReplicaReport {
        chunk: chunk(),
        volume: volume(),
        version: version(),
        length: any::<u64>(),
        crc: any::<u32>(),
        state: state,
    })
}

fn vote() -> impl Strategy<Value = Vote> {
    prop_oneof![
        build!(Vote::Prefix { length: any::<u64>(), crc: any::<u32>() }),
        Just(Vote::Absent),
        Just(Vote::Damaged),
        build!(Vote::Superseded { version: version() }),
        Just(Vote::OtherIncarnation),
    ]
}

fn from_server() -> impl Strategy<Value = FromServer> {
    use FromServer as F;
    prop_oneof![
        build!(F::Register {
            server: server(),
            cluster: of(cluster()),
            boot: boot(),
            process: process(),
            address: address(),
            rack: text(),
            volumes: volumes(),
        }),
        build!(F::Heartbeat {
            sequence: any::<u64>(),
            acked: any::<u64>(),
            volumes: volumes(),
            load: any::<u32>()
        }),
        build!(F::BlockReport {
            report: any::<u64>(),
            replicas: vec(replica_report(), 0..4),
            last: any::<bool>()
        }),
        replica_report().prop_map(F::ReplicaChanged),
        build!(F::Vote { chunk: chunk(), version: version(), incarnation: incarnation(), vote: vote() }),
        build!(F::CopyDone { target: sealed(), error: of(text()) }),
        build!(F::DropDone { chunk: chunk(), version: version(), dropped: any::<bool>() }),
    ]
}

fn to_server() -> impl Strategy<Value = ToServer> {
    use ToServer as T;
    let reason = prop_oneof![
        Just(DropReason::Reclaimed),
        Just(DropReason::Stale),
        Just(DropReason::Excess),
        Just(DropReason::Unknown),
    ];
    let stream = prop_oneof![
        build!(T::Registered {
            cluster: cluster(),
            session: session(),
            heartbeat_ms: any::<u64>(),
            block_report_ms: any::<u64>(),
        }),
        build!(T::Refused { reason: text() }),
        build!(T::HeartbeatAck { sequence: any::<u64>(), lease_ms: any::<u64>() }),
        Just(T::RequestReport),
    ];
    prop_oneof![
        stream,
        build!(T::Fence {
            chunk: chunk(),
            version: version(),
            incarnation: incarnation(),
            durability: durability(),
        }),
        build!(T::Complete {
            chunk: chunk(),
            version: version(),
            incarnation: incarnation(),
            length: any::<u64>(),
            crc: any::<u32>(),
            sources: vec(address(), 0..3),
        }),
        build!(T::Seal { base: version(), sealed: sealed() }),
        build!(T::Copy { sealed: sealed(), sources: vec(address(), 0..3), volume: volume() }),
        build!(T::Verify { chunk: chunk(), version: version() }),
        build!(T::Drop { chunk: chunk(), version: version(), volume: volume(), reason: reason }),
    ]
}

/// Any message of the control plane.
pub(super) fn control() -> impl Strategy<Value = Message> {
    let identity = build!(Identity { user: text(), groups: vec(text(), 0..3) });
    prop_oneof![
        build!(Message::MasterRequest {
            client: client(),
            request: request(),
            identity: identity,
            body: master_request(),
        }),
        (request(), master_reply())
            .prop_map(|(request, reply)| Message::MasterReply { request, result: Ok(reply) }),
        (request(), master_error())
            .prop_map(|(request, error)| Message::MasterReply { request, result: Err(error) }),
        from_server().prop_map(Message::FromServer),
        to_server().prop_map(Message::ToServer),
    ]
}

fn chunk_error() -> impl Strategy<Value = ChunkError> {
    use ChunkError as E;
    let plain = prop_oneof![
        chunk().prop_map(E::UnknownChunk),
        chunk().prop_map(E::WrongIncarnation),
        chunk().prop_map(E::OutOfBounds),
        chunk().prop_map(E::LeaseExpired),
        Just(E::NoSpace),
        text().prop_map(E::Busy),
        text().prop_map(E::NotReady),
    ];
    prop_oneof![
        plain,
        build!(E::WrongVersion { chunk: chunk(), asked: version(), have: version() }),
        build!(E::Fenced { chunk: chunk(), version: version() }),
        build!(E::Gap { chunk: chunk(), expected: any::<u64>() }),
        build!(E::ReplicaLost { chunk: chunk(), server: server() }),
        build!(E::DataCorrupt { chunk: chunk(), offset: any::<u64>() }),
        build!(E::Disk { chunk: chunk(), error: text() }),
        build!(E::BeyondEnd { chunk: chunk(), length: any::<u64>() }),
    ]
}

fn payload(longest: usize) -> impl Strategy<Value = Payload> {
    (0_u64..1 << 40, 0..=longest, any::<u8>()).prop_map(|(offset, length, seed)| {
        let bytes: Vec<u8> = (0..length).map(|i| (i as u8).wrapping_mul(31) ^ seed).collect();
        Payload::new(offset, Bytes::from(bytes))
    })
}

/// Any message of the data plane, payloads up to `longest` bytes.
pub(super) fn data(longest: usize) -> impl Strategy<Value = Message> {
    let open = (grant(), any::<prop::sample::Index>(), writer()).prop_map(|(grant, position, writer)| {
        AppendMessage::Open { position: position.index(grant.members.len()) as u8, grant, writer }
    });
    let append = prop_oneof![
        open,
        build!(AppendMessage::Data {
            chunk: chunk(),
            version: version(),
            writer: writer(),
            record: any::<u64>(),
            committed: any::<u64>(),
            payload: payload(longest),
        }),
        build!(AppendMessage::Ready { chunk: chunk(), version: version(), ends: vec(any::<u64>(), 0..4) }),
        build!(AppendMessage::Committed {
            chunk: chunk(),
            version: version(),
            end: any::<u64>(),
            record: any::<u64>(),
            everywhere: any::<u64>(),
        }),
        build!(AppendMessage::Failed {
            chunk: chunk(),
            version: version(),
            server: server(),
            error: chunk_error()
        }),
    ];
    let read = prop_oneof![
        build!(ReadMessage::Request {
            read: any::<u64>(),
            chunk: chunk(),
            version: version(),
            offset: 0_u64..1 << 40,
            length: 0_u32..=1 << 20,
        }),
        (any::<u64>(), payload(longest))
            .prop_map(|(read, payload)| ReadMessage::Reply { read, result: Ok(payload) }),
        (any::<u64>(), chunk_error())
            .prop_map(|(read, error)| ReadMessage::Reply { read, result: Err(error) }),
    ];
    prop_oneof![append.prop_map(Message::Append), read.prop_map(Message::Read)]
}
