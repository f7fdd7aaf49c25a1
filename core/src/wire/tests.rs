//! Round trips of every message, hostile bytes, and the formats' golden bytes.

use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use bytes::Bytes;
use proptest::prelude::*;
use prost::Message as _;

use super::control::{self, ConvertError, Rpc};
use super::{frame, proto, strategy};
use crate::error::{ChunkError, MasterError};
use crate::id::{
    Address, BootId, ChunkId, ChunkVersion, ClientId, ClusterId, Durability, Incarnation, ProcessId,
    RequestId, ServerId, SessionId, VolumeId, WriterId,
};
use crate::message::{
    AppendMessage, ClusterStatus, FromServer, Grant, Identity, MasterReply, MasterRequest, Member, Message,
    ReadMessage, SealedChunk, ServerStatus, ToServer, Vote,
};
use crate::payload::{MAX_PAYLOAD, Payload};

fn whole(message: &Message) -> Vec<u8> {
    let (head, payload) = frame::encode(message).unwrap();
    [head.as_ref(), payload.as_ref()].concat()
}

proptest! {
    #[test]
    fn every_frame_comes_back(message in strategy::data(200_000)) {
        let (head, payload) = frame::encode(&message).unwrap();
        prop_assert_eq!(frame::decode_parts(&head, payload), Ok(message.clone()));
        prop_assert_eq!(frame::decode(&whole(&message)), Ok(message));
    }

    #[test]
    fn every_control_message_comes_back(message in strategy::control()) {
        let bytes = control::encode_control(&message).unwrap();
        prop_assert_eq!(control::decode_control(&bytes), Ok(message));
    }

    #[test]
    fn any_flipped_bit_of_a_frame_is_noticed(message in strategy::data(64), at in any::<prop::sample::Index>()) {
        let mut bytes = whole(&message);
        let bit = at.index(bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(frame::decode(&bytes).is_err());
    }

    #[test]
    fn a_frame_cut_or_lengthened_is_refused(message in strategy::data(64), at in any::<prop::sample::Index>()) {
        let mut bytes = whole(&message);
        prop_assert!(frame::decode(&bytes[..at.index(bytes.len())]).is_err());
        bytes.push(0);
        prop_assert!(frame::decode(&bytes).is_err());
    }

    #[test]
    fn random_headers_never_panic(kind in 0_u8..20, header in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut bytes = vec![b'C', b'R', b'N', b'1', 1, kind, 0, 0];
        bytes.extend_from_slice(&(header.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&[0; 4]);
        let crc = crc32fast::hash(&[bytes.as_slice(), header.as_slice()].concat());
        bytes.extend_from_slice(&crc.to_le_bytes());
        bytes.extend_from_slice(&header);
        // The checksum is right: what is in the header itself is refused or understood.
        prop_assert!(!matches!(frame::decode(&bytes), Err(frame::FrameError::HeaderCrc)));
    }

    #[test]
    fn damaged_control_messages_never_panic(
        message in strategy::control(),
        flips in prop::collection::vec((any::<prop::sample::Index>(), 0_u32..8), 1..4),
    ) {
        let mut bytes = control::encode_control(&message).unwrap();
        for (at, bit) in flips {
            let at = at.index(bytes.len());
            bytes[at] ^= 1_u8 << bit;
        }
        let _ = control::decode_control(&bytes);
    }

    #[test]
    fn random_control_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = control::decode_control(&bytes);
    }
}

fn grant() -> Grant {
    let member = Member {
        server: ServerId(0x11),
        session: SessionId(0x22),
        volume: VolumeId(0x33),
        boot: BootId(0x44),
        process: ProcessId(0x55),
    };
    Grant {
        cluster: ClusterId(0x66),
        chunk: ChunkId(7),
        version: ChunkVersion(1),
        members: vec![member],
        addresses: vec![Address::new("a:1")],
        replication: 3,
        quorum: 1,
        durability: Durability::Async,
        capacity: 1 << 26,
    }
}

fn payload() -> Payload {
    Payload::new(65_534, Bytes::from_static(b"cairn"))
}

/// One frame of each kind.
fn frames() -> Vec<(&'static str, Message)> {
    let (chunk, version) = (ChunkId(7), ChunkVersion(1));
    let writer = WriterId(0x77);
    vec![
        ("open", AppendMessage::Open { grant: grant(), position: 0, writer }.into()),
        (
            "data",
            AppendMessage::Data { chunk, version, writer, record: 3, committed: 2, payload: payload() }
                .into(),
        ),
        ("ready", AppendMessage::Ready { chunk, version, ends: vec![5, 4] }.into()),
        ("committed", AppendMessage::Committed { chunk, version, end: 5, record: 3, everywhere: 4 }.into()),
        (
            "failed",
            AppendMessage::Failed { chunk, version, server: ServerId(0x11), error: ChunkError::NoSpace }
                .into(),
        ),
        ("request", ReadMessage::Request { read: 1, chunk, version, offset: 2, length: 3 }.into()),
        ("reply", ReadMessage::Reply { read: 1, result: Ok(payload()) }.into()),
        ("refusal", ReadMessage::Reply { read: 1, result: Err(ChunkError::Busy("b".into())) }.into()),
    ]
}

/// A few control messages, one of each conversation.
fn controls() -> Vec<(&'static str, Message)> {
    let sealed = SealedChunk { chunk: ChunkId(7), version: ChunkVersion(2), length: 5, crc: 0x1234_5678 };
    let incarnation = Incarnation { volume: VolumeId(1), boot: BootId(2), process: ProcessId(3) };
    let request = Message::MasterRequest {
        client: ClientId(9),
        request: RequestId(2),
        identity: Identity { user: "ann".into(), groups: vec!["staff".into()] },
        body: MasterRequest::Mkdir { path: "/d".into(), parents: true, mode: 0o755 },
    };
    vec![
        ("request", request),
        ("reply", Message::MasterReply { request: RequestId(2), result: Ok(MasterReply::Grant(grant())) }),
        (
            "error",
            Message::MasterReply { request: RequestId(2), result: Err(MasterError::NotFound("/d".into())) },
        ),
        (
            "vote",
            FromServer::Vote {
                chunk: ChunkId(7),
                version: ChunkVersion(1),
                incarnation,
                vote: Vote::Prefix { length: 5, crc: 6 },
            }
            .into(),
        ),
        ("seal", ToServer::Seal { base: ChunkVersion(1), sealed }.into()),
        (
            "status",
            Message::MasterReply {
                request: RequestId(2),
                result: Ok(MasterReply::Cluster(cluster_status())),
            },
        ),
    ]
}

fn cluster_status() -> ClusterStatus {
    let server = ServerStatus {
        server: ServerId(0x11),
        address: Address::new("a:1"),
        rack: "r".into(),
        live: true,
        last_heartbeat_ms: 1,
        replicas: 2,
        total_bytes: 3,
        free_bytes: 4,
        volumes: vec![],
        connected: true,
    };
    ClusterStatus { servers: vec![server], uptime_ms: 5, dead_after_ms: 6, ..ClusterStatus::default() }
}

fn hex(bytes: &[u8]) -> String {
    bytes
        .chunks(16)
        .map(|line| line.iter().map(|byte| format!("{byte:02x}")).collect::<String>() + "\n")
        .collect()
}

#[test]
fn the_frame_format_has_not_changed() {
    let text: String =
        frames().iter().map(|(name, message)| format!("{name}\n{}", hex(&whole(message)))).collect();
    insta::assert_snapshot!(text);
}

#[test]
fn the_control_format_has_not_changed() {
    let text: String = controls()
        .iter()
        .map(|(name, message)| format!("{name}\n{}", hex(&control::encode_control(message).unwrap())))
        .collect();
    insta::assert_snapshot!(text);
}

/// Every variant's number in the bincode header: a reordered enum would make old peers misread it.
#[test]
fn chunk_errors_keep_their_numbers() {
    let chunk = ChunkId(0);
    let version = ChunkVersion(0);
    let errors = [
        ChunkError::UnknownChunk(chunk),
        ChunkError::WrongVersion { chunk, asked: version, have: version },
        ChunkError::Fenced { chunk, version },
        ChunkError::WrongIncarnation(chunk),
        ChunkError::Gap { chunk, expected: 0 },
        ChunkError::OutOfBounds(chunk),
        ChunkError::LeaseExpired(chunk),
        ChunkError::ReplicaLost { chunk, server: ServerId(0) },
        ChunkError::DataCorrupt { chunk, offset: 0 },
        ChunkError::Disk { chunk, error: String::new() },
        ChunkError::NoSpace,
        ChunkError::BeyondEnd { chunk, length: 0 },
        ChunkError::Busy(String::new()),
        ChunkError::NotReady(String::new()),
    ];
    for (number, error) in errors.iter().enumerate() {
        assert_eq!(crate::codec::encode(error)[0], number as u8, "{error:?}");
    }
}

/// Encodes `message`, changes its header with `change`, and makes its checksum right again.
fn forged(message: &Message, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = whole(message);
    change(&mut bytes);
    let header_end = 20 + u32::from_le_bytes(bytes[8..12].try_into().unwrap()) as usize;
    let crc = crc32fast::hash(&[&bytes[..16], &bytes[20..header_end]].concat());
    bytes[16..20].copy_from_slice(&crc.to_le_bytes());
    bytes
}

#[test]
fn a_frame_is_refused_for_what_is_wrong_with_it() {
    use frame::FrameError as E;
    let data = &frames()[1].1;
    let decode = |change: &dyn Fn(&mut Vec<u8>)| frame::decode(&forged(data, change)).unwrap_err();
    assert_eq!(decode(&|b| b[0] = b'X'), E::Magic);
    assert_eq!(decode(&|b| b[4] = 2), E::Version(2));
    assert_eq!(decode(&|b| b[5] = 99), E::UnknownKind(99));
    assert_eq!(decode(&|b| b[6] = 1), E::Malformed);
    assert_eq!(decode(&|b| *b.last_mut().unwrap() ^= 1), E::PayloadCrc);
    let prefix = |header: u32, payload: u32| {
        let mut bytes: [u8; frame::PREFIX_BYTES] = whole(data)[..20].try_into().unwrap();
        bytes[8..12].copy_from_slice(&header.to_le_bytes());
        bytes[12..16].copy_from_slice(&payload.to_le_bytes());
        frame::Prefix::parse(&bytes).map(|_| ()).unwrap_err()
    };
    assert_eq!(prefix(64 * 1024 + 1, 0), E::HeaderTooLarge(64 * 1024 + 1));
    assert_eq!(prefix(10, MAX_PAYLOAD + 1), E::PayloadTooLarge(MAX_PAYLOAD + 1));
    assert_eq!(frame::encode(&controls()[0].1), Err(E::WrongPlane));
    let large = Payload { bytes: Bytes::from(vec![0; MAX_PAYLOAD as usize + 1]), ..Payload::default() };
    let reply = ReadMessage::Reply { read: 1, result: Ok(large) };
    assert_eq!(frame::encode(&reply.into()), Err(E::PayloadTooLarge(MAX_PAYLOAD + 1)));
}

#[test]
fn a_grant_whose_parts_do_not_fit_is_refused_on_both_planes() {
    let cases: [fn(&mut Grant); 4] = [
        |grant| grant.addresses.clear(),
        |grant| grant.quorum = 2,
        |grant| grant.quorum = 0,
        |grant| {
            grant.members = vec![grant.members[0]; 9];
            grant.addresses = vec![grant.addresses[0].clone(); 9];
        },
    ];
    for change in cases {
        let mut grant = grant();
        change(&mut grant);
        let open = AppendMessage::Open { grant: grant.clone(), position: 0, writer: WriterId(1) }.into();
        assert_eq!(frame::decode(&whole(&open)), Err(frame::FrameError::Malformed));
        let reply = Message::MasterReply { request: RequestId(1), result: Ok(MasterReply::Grant(grant)) };
        let bytes = control::encode_control(&reply).unwrap();
        assert!(matches!(control::decode_control(&bytes), Err(ConvertError::Inconsistent(_))));
    }
    let open = AppendMessage::Open { grant: grant(), position: 1, writer: WriterId(1) }.into();
    assert_eq!(frame::decode(&whole(&open)), Err(frame::FrameError::Malformed));
}

#[test]
fn a_control_message_is_refused_for_what_is_wrong_with_it() {
    use proto::envelope::Body;
    use proto::master_request::Body as Request;
    let refused = |body: Body| {
        let bytes = proto::Envelope { body: Some(body) }.encode_to_vec();
        control::decode_control(&bytes).unwrap_err()
    };
    let ask = |body| Body::MasterRequest(proto::MasterRequest { body });
    let header = Some(proto::RequestHeader::default());

    assert_eq!(control::decode_control(&[]), Err(ConvertError::Missing("message")));
    assert_eq!(refused(ask(None)), ConvertError::Missing("request"));
    let stat = proto::StatRequest { header: None, path: "/".into() };
    assert_eq!(refused(ask(Some(Request::Stat(stat)))), ConvertError::Missing("header"));
    let chmod = proto::ChmodRequest { header: header.clone(), path: "/".into(), mode: 65_536 };
    assert_eq!(
        refused(ask(Some(Request::Chmod(chmod)))),
        ConvertError::OutOfRange { field: "mode", value: 65_536 }
    );
    let stat = proto::StatRequest { header: header.clone(), path: "x".repeat(8 * 1024 + 1) };
    assert_eq!(
        refused(ask(Some(Request::Stat(stat)))),
        ConvertError::TooLong { field: "path", length: 8 * 1024 + 1 }
    );
    let assign =
        proto::AssignChunkRequest { header: header.clone(), upload: 1, ordinal: 0, avoid: vec![0; 1_025] };
    assert_eq!(
        refused(ask(Some(Request::AssignChunk(assign)))),
        ConvertError::TooLong { field: "avoid", length: 1_025 }
    );
    let begin = |options| proto::BeginUploadRequest {
        header: header.clone(),
        path: "/".into(),
        replace: false,
        mode: 0,
        options,
    };
    assert_eq!(refused(ask(Some(Request::BeginUpload(begin(None))))), ConvertError::Missing("options"));
    for durability in [0, 3, -1] {
        let options = proto::StorageOptions { durability, ..Default::default() };
        assert_eq!(
            refused(ask(Some(Request::BeginUpload(begin(Some(options)))))),
            ConvertError::UnknownEnum { field: "durability", value: durability }
        );
    }
    assert_eq!(control::encode_control(&frames()[0].1), Err(ConvertError::WrongPlane));
}

#[test]
fn a_reply_fits_its_rpc() {
    let sealed =
        MasterReply::Sealed(SealedChunk { chunk: ChunkId(1), version: ChunkVersion(2), length: 3, crc: 4 });
    let reply = proto::AssignChunkRequest::reply_to_proto(&Ok(sealed.clone()));
    assert_eq!(proto::AssignChunkRequest::reply_from_proto(reply), Ok(Ok(sealed.clone())));
    let reply = proto::MkdirRequest::reply_to_proto(&Ok(sealed));
    assert!(matches!(proto::MkdirRequest::reply_from_proto(reply), Ok(Err(MasterError::Protocol(_)))));
    let reply = proto::MkdirReply { outcome: None };
    assert_eq!(proto::MkdirRequest::reply_from_proto(reply), Err(ConvertError::Missing("outcome")));
    assert_eq!(proto::GetChunkLocationRequest::PATH, "/cairn.v1.Master/GetChunkLocation");
}

#[test]
fn the_descriptors_are_there_for_reflection() {
    let name = b"RegisterDataNode";
    assert!(proto::FILE_DESCRIPTOR_SET.windows(name.len()).any(|window| window == name));
}
