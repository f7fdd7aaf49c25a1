//! Registration, grants, repair, collection: the master's dealings with chunkservers.

use alloc::vec::Vec;

use super::rig::{CLIENT, Rig, conn, prefix, replica, volumes};
use crate::error::MasterError;
use crate::id::*;
use crate::master::command::ReplicaDrop;
use crate::message::*;

/// A sealed file of one chunk on servers 1 to 3, of which each reported its replica.
pub(super) fn file_on_three(servers: u64) -> (Rig, SealedChunk) {
    let mut rig = Rig::with_servers(servers);
    for n in 4..=servers {
        rig.lose(n);
    }
    let (upload, grant) = rig.open_chunk("/f", 2);
    let request = rig.ask(MasterRequest::SealChunk { upload, chunk: grant.chunk, version: grant.version });
    for server in 1..=3 {
        rig.vote(&grant, server, prefix(9));
    }
    let Some(Ok(MasterReply::Sealed(sealed))) = rig.answer(request) else { panic!("sealed") };
    rig.call(MasterRequest::CompleteUpload { upload, length: 9 }).unwrap();
    for server in 1..=3 {
        rig.sealed_on(server, sealed);
    }
    for n in 4..=servers {
        rig.register(n, n);
    }
    for n in 1..=servers {
        rig.orders(n);
    }
    assert_eq!(rig.master.good_replicas(sealed.chunk), 3);
    (rig, sealed)
}

fn status(rig: &mut Rig) -> ClusterStatus {
    match rig.call(MasterRequest::ClusterStatus) {
        Ok(MasterReply::Cluster(status)) => status,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_server_whose_connection_broke_is_shown_so_at_once() {
    let mut rig = Rig::new();
    rig.register(1, 1);
    rig.register(2, 2);
    assert!(status(&mut rig).servers.iter().all(|server| server.live && server.connected));
    rig.lose(2);
    let shown = status(&mut rig);
    let flags: Vec<(bool, bool)> = shown.servers.iter().map(|s| (s.live, s.connected)).collect();
    assert_eq!(flags, [(true, true), (true, false)]);
    assert_eq!(shown.dead_after_ms, rig.config.dead_after_ms);
    rig.register(2, 2);
    assert!(status(&mut rig).servers.iter().all(|server| server.connected));
}

#[test]
fn sessions_are_never_reused() {
    let mut rig = Rig::new();
    let mut sessions = Vec::new();
    for _ in 0..2 {
        for _ in 0..2 {
            rig.register(1, 1);
            match rig.orders(1)[..] {
                [ToServer::Registered { session, .. }] => sessions.push(session),
                ref other => panic!("{other:?}"),
            }
            rig.lose(1);
        }
        rig.restart();
    }
    let count = sessions.len();
    sessions.sort_unstable();
    sessions.dedup();
    assert_eq!(sessions.len(), count);
}

#[test]
fn a_foreign_cluster_is_refused() {
    let mut rig = Rig::new();
    rig.register_on(1, 1, 1, Some(ClusterId(3)));
    assert!(matches!(rig.orders(1)[..], [ToServer::Refused { .. }]));
    assert!(status(&mut rig).servers.is_empty());
}

#[test]
fn a_copied_directory_is_refused_while_the_first_process_lives() {
    let mut rig = Rig::with_servers(1);
    rig.register_on(50, 1, 2, None);
    assert!(rig.orders(50).is_empty(), "held back");
    rig.pass(3_000, &[1]);
    assert!(matches!(rig.orders(50)[..], [ToServer::Refused { .. }]));
}

#[test]
fn the_last_heartbeat_of_a_dead_process_does_not_refuse_its_successor() {
    let mut rig = Rig::with_servers(1);
    rig.register_on(50, 1, 2, None);
    let (sequence, volumes) = (99, volumes(1));
    rig.message(conn(1), FromServer::Heartbeat { sequence, acked: sequence - 1, volumes, load: 0 });
    assert!(rig.orders(50).is_empty(), "it was sent before the old process died");
    rig.lose(1);
    assert!(matches!(rig.orders(50)[..], [ToServer::Registered { .. }]));
}

#[test]
fn a_restarted_server_is_admitted_once_its_old_process_is_silent() {
    let mut rig = Rig::with_servers(1);
    rig.register_on(50, 1, 2, None);
    rig.pass(7_000, &[]);
    assert!(matches!(rig.orders(50)[..], [ToServer::Registered { .. }]));
    let mut rig = Rig::with_servers(1);
    rig.lose(1);
    rig.register_on(50, 1, 2, None);
    assert!(matches!(rig.orders(50)[..], [ToServer::Registered { .. }]));
}

#[test]
fn a_grant_names_distinct_servers_and_is_repeated() {
    let mut rig = Rig::with_servers(4);
    let (upload, grant) = rig.open_chunk("/f", 2);
    let mut servers: Vec<ServerId> = grant.members.iter().map(|m| m.server).collect();
    servers.sort_unstable();
    servers.dedup();
    assert_eq!(servers.len(), 3);
    for (member, address) in grant.members.iter().zip(&grant.addresses) {
        assert_eq!(*address, Address::new(&alloc::format!("cs{}", member.server.0)));
    }
    let again = rig.call(MasterRequest::OpenChunk { upload, ordinal: 0, avoid: Vec::new() });
    assert_eq!(again, Ok(MasterReply::Grant(grant.clone())));
    let next = rig.call(MasterRequest::OpenChunk { upload, ordinal: 1, avoid: Vec::new() });
    assert!(matches!(next, Ok(MasterReply::Grant(other)) if other.chunk != grant.chunk));
    let gap = rig.call(MasterRequest::OpenChunk { upload, ordinal: 5, avoid: Vec::new() });
    assert!(matches!(gap, Err(MasterError::InvalidArgument(_))));
}

#[test]
fn too_few_servers_refuse_a_grant() {
    let mut rig = Rig::with_servers(2);
    rig.lose(2);
    let options = StorageOptions { replication: 3, quorum: 2, ..StorageOptions::default() };
    let begin = MasterRequest::BeginUpload { path: "/f".into(), replace: false, mode: 0o644, options };
    let Ok(MasterReply::Upload { upload, .. }) = rig.call(begin) else { panic!("an upload") };
    let refused = rig.call(MasterRequest::OpenChunk { upload, ordinal: 0, avoid: Vec::new() });
    assert_eq!(refused, Err(MasterError::NotEnoughServers { needed: 2, live: 1 }));
}

#[test]
fn a_dead_servers_chunks_are_copied_and_its_return_makes_an_excess() {
    let (mut rig, sealed) = file_on_three(4);
    rig.pass(3_000, &[1, 2, 3, 4]);
    assert!(rig.orders(4).is_empty(), "nothing to repair");
    rig.pass(16_000, &[1, 2, 4]);
    assert_eq!(rig.master.good_replicas(sealed.chunk), 2);
    let copies = rig.orders(4);
    let wanted = |o: &ToServer| matches!(o, ToServer::Copy { sealed: s, sources, .. } if *s == sealed && sources.len() == 2);
    assert!(copies.len() == 1 && wanted(&copies[0]), "{copies:?}");
    rig.sealed_on(4, sealed);
    rig.message(conn(4), FromServer::CopyDone { target: sealed, error: None });
    assert_eq!(rig.master.good_replicas(sealed.chunk), 3);
    rig.register(3, 3);
    rig.sealed_on(3, sealed);
    assert_eq!(status(&mut rig).over_replicated, 1);
    rig.pass(20_000, &[1, 2, 3, 4]);
    let drops: usize = (1..=4)
        .map(|n| {
            rig.orders(n)
                .iter()
                .filter(|o| matches!(o, ToServer::Drop { reason: DropReason::Excess, .. }))
                .count()
        })
        .sum();
    assert_eq!(drops, 1);
    assert_eq!(rig.master.good_replicas(sealed.chunk), 3);
}

/// A sealed file of one chunk on four servers, of which the first two share a rack.
fn file_in_three_racks() -> (Rig, SealedChunk) {
    let (mut rig, sealed) = file_on_three(4);
    for (n, rack) in [(1, "a"), (2, "a"), (3, "b"), (4, "c")] {
        rig.register_in(rack, n, n, n + 10, None);
        rig.sealed_on(n, sealed);
    }
    (rig, sealed)
}

#[test]
fn an_excess_replica_that_came_to_be_alone_in_its_rack_stays() {
    let (rig, sealed) = file_in_three_racks();
    assert_eq!(rig.master.good_replicas(sealed.chunk), 4);
    let bares = |n| rig.master.would_bare_a_rack(sealed.chunk, ServerId(n));
    assert_eq!([1, 2, 3, 4].map(bares), [false, false, true, true]);
}

#[test]
fn a_stale_replica_that_became_good_is_not_dropped_if_it_is_alone_in_its_rack() {
    let (mut rig, sealed) = file_in_three_racks();
    let mut may_drop = |n: u64, state| {
        let report = replica(n, sealed, state);
        rig.message(conn(n), FromServer::ReplicaChanged(report));
        let ReplicaReport { chunk, version, volume, .. } = report;
        let reason = DropReason::Stale;
        rig.master.may_drop(&ReplicaDrop { server: ServerId(n), chunk, version, volume, reason })
    };
    let good = [1, 2, 3, 4].map(|n| may_drop(n, ReplicaState::Sealed));
    assert_eq!(good, [true, true, false, false]);
    assert!(may_drop(3, ReplicaState::Damaged));
}

#[test]
fn a_finished_copy_counts_by_what_its_server_says_of_it() {
    let (mut rig, sealed) = file_on_three(4);
    rig.pass(19_000, &[1, 2, 4]);
    let ordered_to = rig.orders(4).into_iter().find_map(|order| match order {
        ToServer::Copy { volume, .. } => Some(volume),
        _ => None,
    });
    // It was there already, and on another volume.
    let elsewhere = VolumeId(41);
    assert!(ordered_to.is_some_and(|volume| volume != elsewhere));
    let report = ReplicaReport { volume: elsewhere, ..replica(4, sealed, ReplicaState::Sealed) };
    rig.message(conn(4), FromServer::ReplicaChanged(report));
    rig.message(conn(4), FromServer::CopyDone { target: sealed, error: None });
    assert_eq!(rig.master.good_replicas(sealed.chunk), 3);
    rig.message(conn(4), FromServer::ReplicaChanged(ReplicaReport { state: ReplicaState::Gone, ..report }));
    assert_eq!(rig.master.good_replicas(sealed.chunk), 2, "there was one only");
}

#[test]
fn a_failed_copy_is_tried_elsewhere() {
    let (mut rig, sealed) = file_on_three(5);
    rig.pass(19_000, &[1, 2, 4, 5]);
    let asked = |rig: &mut Rig, n: u64| rig.orders(n).iter().any(|o| matches!(o, ToServer::Copy { .. }));
    let first = if asked(&mut rig, 4) { 4 } else { 5 };
    let second = 9 - first;
    assert!(first == 4 || asked(&mut rig, 5));
    let error = Some("checksum mismatch".into());
    rig.message(conn(first), FromServer::CopyDone { target: sealed, error });
    rig.pass(2_500, &[1, 2, 4, 5]);
    assert!(asked(&mut rig, second), "the other server is asked");
}

#[test]
fn a_damaged_replica_is_repaired_at_once_and_dropped_afterwards() {
    let (mut rig, sealed) = file_on_three(4);
    rig.pass(6_000, &[1, 2, 3, 4]);
    rig.message(conn(2), FromServer::ReplicaChanged(replica(2, sealed, ReplicaState::Damaged)));
    rig.pass(1_000, &[1, 2, 3, 4]);
    let to_four = rig.orders(4);
    let to_two = rig.orders(2);
    let copied_to = if to_four.iter().any(|o| matches!(o, ToServer::Copy { .. })) { 4 } else { 2 };
    assert!(to_two.iter().chain(&to_four).any(|o| matches!(o, ToServer::Copy { .. })));
    assert!(!to_two.iter().any(|o| matches!(o, ToServer::Drop { .. })), "not before its replacement");
    rig.sealed_on(copied_to, sealed);
    rig.message(conn(copied_to), FromServer::CopyDone { target: sealed, error: None });
    rig.pass(2_000, &[1, 2, 3, 4]);
    assert_eq!(rig.master.good_replicas(sealed.chunk), 3);
    let dropped = rig.orders(2).iter().any(|o| matches!(o, ToServer::Drop { reason: DropReason::Stale, .. }));
    assert_eq!(dropped, copied_to == 4);
}

#[test]
fn orphans_are_dropped_and_unknown_chunks_are_kept_for_good() {
    let mut rig = Rig::with_servers(3);
    let (upload, grant) = rig.open_chunk("/f", 2);
    rig.call(MasterRequest::AbortUpload { upload }).unwrap();
    let orphan = SealedChunk { chunk: grant.chunk, version: grant.version, length: 3, crc: 0 };
    let unknown = SealedChunk { chunk: ChunkId(4_711), ..orphan };
    let report = [replica(1, orphan, ReplicaState::Open), replica(1, unknown, ReplicaState::Sealed)];
    rig.message(conn(1), FromServer::BlockReport { report: 1, replicas: report.to_vec(), last: true });
    assert!(rig.orders(1).is_empty(), "not before the grace is over");
    rig.pass(3_000, &[1, 2, 3]);
    let reasons: Vec<(ChunkId, DropReason)> = rig
        .orders(1)
        .iter()
        .filter_map(|o| match o {
            ToServer::Drop { chunk, reason, .. } => Some((*chunk, *reason)),
            _ => None,
        })
        .collect();
    assert_eq!(reasons, [(grant.chunk, DropReason::Reclaimed), (ChunkId(4_711), DropReason::Unknown)]);
}

#[test]
fn a_member_that_was_away_is_told_to_seal_when_it_reports() {
    let (mut rig, sealed) = file_on_three(3);
    rig.lose(3);
    rig.register(3, 3);
    rig.orders(3);
    let fenced = SealedChunk { version: ChunkVersion(1), crc: 0, ..sealed };
    let report = replica(3, fenced, ReplicaState::Fenced);
    rig.message(conn(3), FromServer::BlockReport { report: 1, replicas: [report].to_vec(), last: true });
    assert_eq!(rig.orders(3), [ToServer::Seal { base: ChunkVersion(1), sealed }]);
}

#[test]
fn silent_uploads_expire_and_their_chunks_go() {
    let mut rig = Rig::with_servers(3);
    rig.config.upload_expiry_ms = 5_000;
    rig.restart();
    for n in 1..=3 {
        rig.register(n, n);
    }
    let (upload, _) = rig.open_chunk("/f", 2);
    for _ in 0..4 {
        rig.pass(3_000, &[1, 2, 3]);
        assert_eq!(rig.call(MasterRequest::KeepUpload { upload }), Ok(MasterReply::Done));
    }
    rig.pass(6_000, &[1, 2, 3]);
    assert_eq!(rig.call(MasterRequest::KeepUpload { upload }), Err(MasterError::UploadGone(upload)));
    assert_eq!(status(&mut rig).chunks, 0);
}

#[test]
fn expired_trash_frees_its_chunks() {
    let (mut rig, sealed) = file_on_three(3);
    rig.config.undelete_ms = 1_000;
    rig.restart();
    for n in 1..=3 {
        rig.register(n, n);
        rig.sealed_on(n, sealed);
    }
    rig.call(MasterRequest::Delete { path: "/f".into(), recursive: false }).unwrap();
    assert_eq!(status(&mut rig).chunks, 1);
    rig.pass(5_000, &[1, 2, 3]);
    assert_eq!((status(&mut rig).chunks, status(&mut rig).trash), (0, 0));
    for n in 1..=3 {
        let reclaimed = |o: &ToServer| matches!(o, ToServer::Drop { reason: DropReason::Reclaimed, .. });
        assert!(rig.orders(n).iter().any(reclaimed));
    }
}

#[test]
fn trash_is_freed_as_fast_as_users_fill_it() {
    let (mut rig, _) = file_on_three(3);
    rig.config.undelete_ms = 1_000;
    rig.restart();
    for n in 1..=3 {
        rig.register(n, n);
    }
    for i in 0..200 {
        let path = alloc::format!("/d{i}");
        rig.call(MasterRequest::Mkdir { path: path.clone(), parents: false, mode: 0o755 }).unwrap();
        rig.call(MasterRequest::Delete { path, recursive: false }).unwrap();
    }
    assert_eq!(status(&mut rig).trash, 200);
    rig.pass(5_000, &[1, 2, 3]);
    assert_eq!(status(&mut rig).trash, 0);
}

#[test]
fn fsck_finds_missing_chunks_after_the_servers_died() {
    let (mut rig, sealed) = file_on_three(3);
    rig.pass(20_000, &[]);
    match rig.call(MasterRequest::Fsck { after: None, limit: 100 }) {
        Ok(MasterReply::Findings { findings, next: None }) => {
            assert_eq!(findings.len(), 1);
            assert_eq!((findings[0].chunk, findings[0].problem), (sealed.chunk, Problem::Missing));
            assert_eq!(findings[0].path.as_deref(), Some("/f"));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(status(&mut rig).missing, 1);
}

#[test]
fn fsck_calls_nothing_missing_that_can_be_read() {
    let mut rig = Rig::with_servers(3);
    let (upload, grant) = rig.open_chunk("/f", 2);
    let request = rig.ask(MasterRequest::SealChunk { upload, chunk: grant.chunk, version: grant.version });
    for server in 1..=3 {
        rig.vote(&grant, server, prefix(9));
    }
    assert!(matches!(rig.answer(request), Some(Ok(MasterReply::Sealed(_)))));
    // The voters serve what the chunk was sealed as before they have told that they sealed it.
    match rig.call(MasterRequest::Fsck { after: None, limit: 100 }) {
        Ok(MasterReply::Findings { findings, .. }) => {
            let told: Vec<_> = findings.iter().map(|f| (f.problem, f.good)).collect();
            assert_eq!(told, [(Problem::UnderReplicated, 0)]);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_bad_replica_report_has_it_verified() {
    let (mut rig, sealed) = file_on_three(3);
    let report =
        MasterRequest::ReportBadReplica { chunk: sealed.chunk, version: sealed.version, server: ServerId(2) };
    assert_eq!(rig.call(report), Ok(MasterReply::Done));
    assert!(matches!(rig.orders(2)[..], [ToServer::Verify { chunk, .. }] if chunk == sealed.chunk));
    assert!(rig.orders(CLIENT).is_empty());
}
