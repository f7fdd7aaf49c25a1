//! What no storm can bring about: peers that lie or forget, copied and damaged directories, a log put back from a backup. Each story
//! reaches the marks that `mark::DIRECTED` lists, and says what the machines make of it.

use std::sync::atomic::Ordering;

use cairn_core::chunkserver::Chunkserver;
use cairn_core::defect::Defects;
use cairn_core::error::MasterError;
use cairn_core::id::{
    Address, BootId, ChunkId, ChunkVersion, ClientId, ClusterId, Durability, Peer, ProcessId, RequestId,
    ServerId, SessionId, UploadId, VolumeId,
};
use cairn_core::mark::{COUNTS, DIRECTED, index};
use cairn_core::master::catalog::Catalog;
use cairn_core::master::command::{Change, Command};
use cairn_core::message::{
    FromServer, Grant, Identity, MasterReply, MasterRequest, Member, Message, ReplicaState, SealedChunk,
    StorageOptions, ToServer, VolumeStatus, Vote,
};
use cairn_core::time::UnixMs;
use runtime_sim::{NodeState, World};
use scenarios::cluster::{MASTER, chunk_of};
use scenarios::workload::operation::Operation;

use super::lonely::{Lonely, pass, sealed, until, world};
use super::puppet::{CLUSTER, Puppet};
use super::stage::{CHUNK, content, shape, tell_on};

/// Which test reaches which marks.
const STORIES: &[(&str, &[&str])] = &[
    ("counterexamples::rule_11", &["append.gap"]),
    ("restart::a_rotten_log", &["oplog.damage"]),
    ("a_log_from_a_backup", &["collect.unknown_chunk", "drop.kept_for_good"]),
    ("the_catalog_applies_a_request_once", &["catalog.retry_applied", "catalog.sealed_before"]),
    (
        "a_master_that_asks_for_other_bytes",
        &["complete.other_bytes", "seal.other_bytes", "seal.file_cut_short"],
    ),
    ("a_master_that_asks_another_volume", &["fence.other_volume"]),
    ("a_master_that_forgot_a_seal", &["fence.superseded"]),
    (
        "voters_that_lie",
        &["seal.conflict", "seal.superseded_vote", "seal.vote_shrinks", "seal.vote_too_long"],
    ),
    ("impostors", &["servers.duplicate", "servers.refused"]),
    (
        "directories_that_were_mixed_up",
        &[
            "recovery.copied_volume",
            "recovery.foreign_file",
            "recovery.foreign_volume",
            "recovery.identity_damaged",
            "recovery.identity_missing",
        ],
    ),
];

#[test]
fn every_directed_mark_has_its_story() {
    let mut told: Vec<&str> = STORIES.iter().flat_map(|(_, marks)| marks.iter().copied()).collect();
    told.sort_unstable();
    assert_eq!(told, DIRECTED);
}

/// Runs a story, which must pass every mark that [`STORIES`] says it reaches.
fn reaches(story: &str, tell: impl FnOnce()) {
    let marks = STORIES.iter().find(|(name, _)| *name == story).expect("it is listed").1;
    let counts = || marks.iter().map(|mark| COUNTS[index(mark)].load(Ordering::Relaxed)).collect::<Vec<_>>();
    let before = counts();
    tell();
    for ((mark, before), after) in marks.iter().zip(before).zip(counts()) {
        assert!(after > before, "{story} does not reach {mark}");
    }
}

fn root() -> Identity {
    Identity { user: "root".into(), groups: vec!["root".into()] }
}

#[test]
fn a_master_that_asks_for_other_bytes_gets_a_short_vote_and_damage_but_never_those_bytes() {
    reaches("a_master_that_asks_for_other_bytes", || {
        world(|world| async move {
            let lonely = Lonely::start(world, Defects::none()).await;
            // cs1 never had chunk 5; it is told to take from cs0 what cs0 has not.
            let grant = lonely.write("cs0", 5, b"abc").await;
            lonely.order("cs0", lonely.fence("cs0", &grant, None)).await;
            lonely.order("cs1", lonely.fence("cs1", &grant, None)).await;
            assert_eq!(lonely.last_vote(), Some(Vote::Absent));
            let member = lonely.member("cs1");
            let complete = ToServer::Complete {
                chunk: grant.chunk,
                version: grant.version,
                incarnation: member.incarnation(),
                length: 3,
                crc: 1,
                sources: vec![Address::new("cs0")],
            };
            lonely.order("cs1", complete).await;
            assert_eq!(lonely.last_vote(), Some(Vote::Prefix { length: 0, crc: 0 }));
            lonely
                .order("cs0", ToServer::Seal { base: grant.version, sealed: sealed(grant.chunk, 3, 1) })
                .await;
            assert_eq!(lonely.state("cs0", grant.chunk), Some(ReplicaState::Damaged));
            // A file that somebody cut behind the server's back, below where the seal cuts it.
            let grant = lonely.write("cs0", 6, b"abcdef").await;
            let files = lonely.world.files("cs0", 0);
            let (path, _) =
                files.iter().find(|(path, _)| chunk_of(path) == Some(grant.chunk)).expect("its file");
            lonely.world.truncate_file("cs0", 0, path, 2);
            let crc = crc32fast::hash(b"abcd");
            lonely
                .order("cs0", ToServer::Seal { base: grant.version, sealed: sealed(grant.chunk, 4, crc) })
                .await;
            assert_eq!(lonely.state("cs0", grant.chunk), Some(ReplicaState::Damaged));
        });
    });
}

#[test]
fn a_master_that_asks_another_volume_gets_no_vote_of_it() {
    reaches("a_master_that_asks_another_volume", || {
        world(|world| async move {
            let lonely = Lonely::start(world, Defects::none()).await;
            let grant = lonely.write("cs0", 5, b"abc").await;
            let other = lonely.other_volume("cs0");
            lonely.order("cs0", lonely.fence("cs0", &grant, Some(other))).await;
            assert_eq!(lonely.last_vote(), Some(Vote::OtherIncarnation));
        });
    });
}

#[test]
fn a_master_that_forgot_a_seal_is_told_the_version_that_it_is_at() {
    reaches("a_master_that_forgot_a_seal", || {
        world(|world| async move {
            let lonely = Lonely::start(world, Defects::none()).await;
            let grant = lonely.write("cs0", 5, b"abc").await;
            let sealed = sealed(grant.chunk, 3, crc32fast::hash(b"abc"));
            lonely.order("cs0", ToServer::Seal { base: grant.version, sealed }).await;
            assert_eq!(lonely.state("cs0", grant.chunk), Some(ReplicaState::Sealed));
            lonely.order("cs0", lonely.fence("cs0", &grant, None)).await;
            assert_eq!(lonely.last_vote(), Some(Vote::Superseded { version: sealed.version }));
            assert_eq!(lonely.state("cs0", grant.chunk), Some(ReplicaState::Sealed));
        });
    });
}

/// Registers a puppet with the master as a server of its own.
async fn register(world: &World, name: &str, server: u64, process: u64, cluster: Option<ClusterId>) {
    let register = FromServer::Register {
        server: ServerId(server),
        cluster,
        boot: BootId(1),
        process: ProcessId(process),
        address: Address::new(name),
        rack: String::new(),
        volumes: volumes(server),
    };
    Puppet::say(world, name, master(), register).await;
}

fn volumes(server: u64) -> Vec<VolumeStatus> {
    vec![VolumeStatus { volume: VolumeId(server), total_bytes: 1 << 40, free_bytes: 1 << 40, writable: true }]
}

fn master() -> Peer {
    Peer::Dial(Address::new(MASTER))
}

async fn ask(world: &World, body: MasterRequest) -> Result<MasterReply, MasterError> {
    let request = begin_to_ask(world, body).await;
    until(world, "an answer", || answer(world, request).is_some()).await;
    answer(world, request).expect("it was waited for")
}

async fn begin_to_ask(world: &World, body: MasterRequest) -> RequestId {
    let request = RequestId(world.now().0);
    let message = Message::MasterRequest { client: ClientId(7), request, identity: root(), body };
    Puppet::say(world, "writer", master(), message).await;
    pass(world, 1).await;
    request
}

fn answer(world: &World, asked: RequestId) -> Option<Result<MasterReply, MasterError>> {
    Puppet::heard(world, "writer").into_iter().find_map(|message| match message {
        Message::MasterReply { request, result } if request == asked => Some(result),
        _ => None,
    })
}

/// A master whose servers are all puppets, with a chunk that is being sealed.
async fn being_sealed(world: &World, servers: u64) -> (Grant, RequestId) {
    world.start_master(MASTER, shape().master, Defects::none());
    Puppet::start(world, "writer", false);
    for server in 1..=servers {
        let name = format!("cs{server}");
        Puppet::start(world, &name, false);
        register(world, &name, server, 1, None).await;
    }
    let options =
        StorageOptions { replication: 3, quorum: 2, chunk_bytes: 1 << 20, durability: Durability::Sync };
    let begin = MasterRequest::BeginUpload { path: "/f".into(), replace: false, mode: 0o644, options };
    let mut upload = UploadId(0);
    for _ in 0..100 {
        if let Ok(MasterReply::Upload { upload: begun, .. }) = ask(world, begin.clone()).await {
            upload = begun;
            break;
        }
        pass(world, 50).await;
    }
    let grant = match ask(world, MasterRequest::OpenChunk { upload, ordinal: 0, avoid: Vec::new() }).await {
        Ok(MasterReply::Grant(grant)) => grant,
        other => panic!("{other:?}"),
    };
    let (chunk, version) = (grant.chunk, grant.version);
    let asked = begin_to_ask(world, MasterRequest::SealChunk { upload, chunk, version }).await;
    pass(world, 10).await;
    (grant, asked)
}

async fn vote(world: &World, grant: &Grant, place: usize, vote: Vote) {
    let incarnation = grant.members[place].incarnation();
    let (chunk, version) = (grant.chunk, grant.version);
    Puppet::say(
        world,
        &grant.addresses[place].0,
        master(),
        FromServer::Vote { chunk, version, incarnation, vote },
    )
    .await;
    pass(world, 10).await;
}

#[test]
fn voters_that_lie_get_nothing_sealed() {
    reaches("voters_that_lie", || {
        world(|world| async move {
            let (grant, asked) = being_sealed(&world, 3).await;
            vote(&world, &grant, 0, Vote::Prefix { length: 1 << 40, crc: 1 }).await;
            vote(&world, &grant, 0, Vote::Prefix { length: 9, crc: 1 }).await;
            vote(&world, &grant, 0, Vote::Prefix { length: 5, crc: 1 }).await;
            vote(&world, &grant, 1, Vote::Prefix { length: 9, crc: 2 }).await;
            vote(&world, &grant, 2, Vote::Superseded { version: ChunkVersion(7) }).await;
            until(&world, "an answer", || answer(&world, asked).is_some()).await;
            let refused = answer(&world, asked);
            assert!(matches!(refused, Some(Err(MasterError::QuorumLost { .. }))), "{refused:?}");
        });
    });
}

#[test]
fn impostors_are_refused_with_a_reason() {
    reaches("impostors", || {
        world(|world| async move {
            world.start_master(MASTER, shape().master, Defects::none());
            for name in ["cs1", "twin", "stranger"] {
                Puppet::start(&world, name, false);
            }
            pass(&world, 2_000).await;
            register(&world, "cs1", 1, 1, None).await;
            pass(&world, 50).await;
            register(&world, "twin", 1, 2, None).await;
            // The second one is said after the first was answered: it is not a dead process's last word.
            for sequence in [1, 2] {
                let acked = sequence - 1;
                let alive = FromServer::Heartbeat { sequence, acked, volumes: volumes(1), load: 0 };
                pass(&world, 50).await;
                Puppet::say(&world, "cs1", master(), alive).await;
            }
            register(&world, "stranger", 2, 1, Some(ClusterId(99))).await;
            pass(&world, 100).await;
            let refusal = |name: &str| {
                Puppet::heard(&world, name).into_iter().find_map(|message| match message {
                    Message::ToServer(ToServer::Refused { reason }) => Some(reason),
                    _ => None,
                })
            };
            assert_eq!(refusal("cs1"), None);
            assert!(refusal("twin").expect("refused").contains("already running elsewhere"));
            assert!(refusal("stranger").expect("refused").contains("belong to cluster-99"));
        });
    });
}

#[test]
fn directories_that_were_mixed_up_stop_the_server_which_says_so() {
    reaches("directories_that_were_mixed_up", || {
        world(|world| async move {
            let lonely = Lonely::start(world, Defects::none()).await;
            let world = &lonely.world;
            lonely.write("cs0", 5, b"abc").await;
            let identity = |server: &str, volume| {
                world.read_file(server, volume, "cairn-volume").expect("every volume has one")
            };
            let (own, foreign) = ([identity("cs0", 0), identity("cs0", 1)], identity("cs1", 1));
            let mut damaged = own[0].clone();
            damaged[20] ^= 1;
            for (volume, wrong, expected) in [
                (1, Some(own[0].clone()), "are copies of"),
                (1, Some(foreign), "give each chunkserver its own directories"),
                (0, Some(damaged), "restore it, or use an empty directory"),
                (0, None, "has chunks but no"),
            ] {
                world.kill("cs0");
                match wrong {
                    Some(bytes) => world.write_file("cs0", volume, "cairn-volume", &bytes),
                    None => assert!(world.remove_file("cs0", volume, "cairn-volume")),
                }
                world.restart("cs0");
                let halted = || matches!(world.state("cs0"), NodeState::Halted { .. });
                until(world, "it halts", halted).await;
                let NodeState::Halted { reason, failed } = world.state("cs0") else { unreachable!() };
                assert!(failed && reason.contains(expected), "{reason}");
                world.write_file("cs0", volume, "cairn-volume", &own[usize::from(volume)]);
            }
            // A file of another cluster is left alone.
            let (path, _) =
                world.files("cs0", 0).into_iter().find(|(p, _)| chunk_of(p).is_some()).expect("a chunk");
            let foreign = cairn_core::id::ChunkUuid::new(ClusterId(77), ChunkId(5));
            let directory = path.rsplit_once('/').expect("in its directory").0;
            let foreign = format!("{directory}/chunk-{foreign}");
            world.write_file("cs0", 0, &foreign, b"theirs");
            world.kill("cs0");
            world.restart("cs0");
            let ready = || world.inspect("cs0", Chunkserver::is_ready).unwrap_or_default();
            until(world, "it is registered", ready).await;
            assert_eq!(world.read_file("cs0", 0, &foreign).as_deref(), Some(&b"theirs"[..]));
            assert_eq!(lonely.state("cs0", ChunkId(5)), Some(ReplicaState::Fenced));
        });
    });
}

#[test]
fn a_log_from_a_backup_has_no_chunk_deleted_that_it_does_not_know() {
    reaches("a_log_from_a_backup", || {
        tell_on(31, shape(), false, |stage| async move {
            stage.put("/old", content(1, CHUNK)).await;
            stage.until_whole().await;
            let files = |stage: &super::stage::Stage| -> Vec<(String, Vec<u8>)> {
                let names = stage.world.files(MASTER, 0);
                let read = |(path, _): (String, u64)| {
                    let bytes = stage.world.read_file(MASTER, 0, &path).expect("it is listed");
                    (path, bytes)
                };
                names.into_iter().map(read).collect()
            };
            stage.world.kill(MASTER);
            let backup = files(&stage);
            stage.world.restart(MASTER);
            stage.put("/new", content(2, 2 * CHUNK)).await;
            stage.until_whole().await;
            stage.world.kill(MASTER);
            for (path, _) in files(&stage) {
                stage.world.remove_file(MASTER, 0, &path);
            }
            for (path, bytes) in backup {
                stage.world.write_file(MASTER, 0, &path, &bytes);
            }
            stage.world.restart(MASTER);
            let kept = || {
                let servers = stage.cluster.server_names();
                let files = servers.iter().flat_map(|server| stage.world.files(server, 0));
                files.filter(|(path, _)| path.starts_with("quarantine/") && path.ends_with(".keep")).count()
            };
            // Somebody took the log back, and with it what was acknowledged since.
            stage.pass(2_000).await;
            stage.admits(&["versions", "log-agreement"]);
            // Three replicas of two chunks, bytes and sidecars.
            stage.until("what the log does not know is kept for good", || kept() == 12).await;
            stage.pass(10_000).await;
            assert_eq!(kept(), 12);
            stage.expect("/old", content(1, CHUNK)).await;
            let gone = stage.perform(&Operation::Stat { path: "/new".into() }).await;
            assert!(matches!(gone, scenarios::workload::operation::Outcome::Refused(_)), "{gone:?}");
        });
    });
}

#[test]
fn the_catalog_applies_a_request_once_and_seals_a_chunk_once() {
    reaches("the_catalog_applies_a_request_once", || {
        let mut catalog = Catalog::new(Defects::none());
        let mut number = 0;
        let mut apply = |request: Option<u64>, change: Change| {
            number += 1;
            let origin = request.map(|request| (ClientId(1), RequestId(request)));
            catalog.apply(&Command { origin, at: UnixMs(number), change }).reply
        };
        apply(None, Change::Format { cluster: CLUSTER }).expect("the first record formats");
        let mkdir = || Change::Mkdir { identity: root(), path: "/d".into(), parents: false, mode: 0o755 };
        assert_eq!(apply(Some(1), mkdir()), Ok(MasterReply::Done));
        assert_eq!(apply(Some(1), mkdir()), Ok(MasterReply::Done), "the same request, answered as before");
        assert!(apply(Some(2), mkdir()).is_err(), "another one is refused");
        let options =
            StorageOptions { replication: 1, quorum: 1, chunk_bytes: 1 << 20, durability: Durability::Sync };
        let begin =
            Change::BeginUpload { identity: root(), path: "/f".into(), replace: false, mode: 0o644, options };
        let Ok(MasterReply::Upload { upload, .. }) = apply(None, begin) else { panic!("no upload") };
        let member = Member {
            server: ServerId(1),
            session: SessionId(1),
            volume: VolumeId(1),
            boot: BootId(1),
            process: ProcessId(1),
        };
        let grant = Change::GrantChunk {
            upload,
            ordinal: 0,
            members: vec![member],
            replication: 1,
            quorum: 1,
            durability: Durability::Sync,
            capacity: 1 << 20,
        };
        let Ok(MasterReply::Grant(grant)) = apply(None, grant) else { panic!("no grant") };
        let seal = |length| Change::SealChunk { chunk: grant.chunk, version: grant.version, length, crc: 0 };
        let first = apply(None, seal(7));
        assert!(matches!(first, Ok(MasterReply::Sealed(SealedChunk { length: 7, .. }))), "{first:?}");
        assert_eq!(apply(None, seal(5)), first, "the second decision changes nothing");
    });
}
