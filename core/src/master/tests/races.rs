//! Late, repeated and contradicting messages of chunkservers and clients.

use alloc::format;
use alloc::vec::Vec;

use super::rig::{Rig, conn, prefix, replica, volumes};
use super::service::file_on_three;
use crate::error::MasterError;
use crate::id::*;
use crate::message::*;

fn drops(rig: &mut Rig, server: u64) -> usize {
    rig.orders(server).iter().filter(|o| matches!(o, ToServer::Drop { .. })).count()
}

/// The server whose replica, one too many, is ordered to go.
fn ordered_to_drop(rig: &mut Rig, servers: &[u64]) -> u64 {
    let mut victim = None;
    for _ in 0..30 {
        rig.pass(1_000, servers);
        victim = servers.iter().find(|n| drops(rig, **n) > 0).or(victim);
    }
    *victim.expect("one of four replicas goes")
}

fn seal_again(rig: &mut Rig, request: u64, upload: UploadId, grant: &Grant) {
    rig.ask_as(request, MasterRequest::SealChunk { upload, chunk: grant.chunk, version: grant.version });
}

#[test]
fn a_report_from_before_a_drop_does_not_bring_the_replica_back() {
    let (mut rig, sealed) = file_on_three(4);
    let all = [1, 2, 3, 4];
    rig.sealed_on(4, sealed);
    let victim = ordered_to_drop(&mut rig, &all);
    // What it sent before the order arrived.
    let replicas = Vec::from([replica(victim, sealed, ReplicaState::Sealed)]);
    rig.message(conn(victim), FromServer::BlockReport { report: 9, replicas, last: true });
    let (chunk, version) = (sealed.chunk, sealed.version);
    rig.message(conn(victim), FromServer::DropDone { chunk, version, dropped: true });
    assert_eq!(rig.master.good_replicas(chunk), 3);
    rig.pass(25_000, &all);
    assert!(all.into_iter().all(|n| drops(&mut rig, n) == 0), "the others are needed");
}

#[test]
fn a_replica_counts_no_more_from_the_order_to_drop_it_to_the_answer() {
    let (mut rig, sealed) = file_on_three(5);
    let all = [1, 2, 3, 4, 5];
    rig.sealed_on(4, sealed);
    let victim = ordered_to_drop(&mut rig, &all);
    // Its disk is slow: what it reports after the order came is still there.
    for report in 9..12 {
        let replicas = Vec::from([replica(victim, sealed, ReplicaState::Sealed)]);
        rig.message(conn(victim), FromServer::BlockReport { report, replicas, last: true });
        assert_eq!(rig.master.good_replicas(sealed.chunk), 3);
        rig.pass(10_000, &all);
    }
    assert!(all.into_iter().all(|n| drops(&mut rig, n) == 0), "the others are needed");
    // It refused: the replica is there and counts again.
    let (chunk, version) = (sealed.chunk, sealed.version);
    rig.message(conn(victim), FromServer::DropDone { chunk, version, dropped: false });
    let replicas = Vec::from([replica(victim, sealed, ReplicaState::Sealed)]);
    rig.message(conn(victim), FromServer::BlockReport { report: 12, replicas, last: true });
    assert_eq!(rig.master.good_replicas(chunk), 4);
}

#[test]
fn a_replica_that_is_gone_from_no_matter_which_volume_counts_no_more() {
    let (mut rig, sealed) = file_on_three(3);
    let gone = ReplicaReport { volume: VolumeId(0), ..replica(2, sealed, ReplicaState::Gone) };
    rig.message(conn(2), FromServer::ReplicaChanged(gone));
    assert_eq!(rig.master.good_replicas(sealed.chunk), 2);
}

#[test]
fn a_dead_server_that_speaks_once_and_dies_again_counts_no_more() {
    let (mut rig, sealed) = file_on_three(3);
    rig.pass(20_000, &[1, 2]);
    assert_eq!(rig.master.good_replicas(sealed.chunk), 2);
    rig.sealed_on(3, sealed);
    rig.lose(3);
    rig.pass(20_000, &[1, 2]);
    assert_eq!(rig.master.good_replicas(sealed.chunk), 2);
}

#[test]
fn a_dead_server_whose_place_was_taken_is_not_heard_before_it_registers() {
    // Another one registers at its address before it is taken for dead, or after.
    for replaced_first in [true, false] {
        let (mut rig, sealed) = file_on_three(4);
        let takes_place = FromServer::Register {
            server: ServerId(5),
            cluster: None,
            boot: BootId(5),
            process: ProcessId(5),
            address: Address::new("cs3"),
            rack: "r".into(),
            volumes: volumes(5),
        };
        if replaced_first {
            rig.message(conn(5), takes_place);
            rig.pass(16_000, &[1, 2, 4, 5]);
        } else {
            rig.pass(16_000, &[1, 2, 4]);
            assert_eq!(rig.closed, []);
            rig.message(conn(5), takes_place);
        }
        assert_eq!(rig.closed, [conn(3)]);
        let replicas = Vec::from([replica(3, sealed, ReplicaState::Sealed)]);
        rig.message(conn(3), FromServer::BlockReport { report: 9, replicas, last: true });
        assert_eq!(rig.master.good_replicas(sealed.chunk), 2, "it would never be buried");
        rig.sealed_on(3, sealed);
        assert_eq!(rig.master.good_replicas(sealed.chunk), 2);
        rig.register(3, 3);
        rig.sealed_on(3, sealed);
        assert_eq!(rig.master.good_replicas(sealed.chunk), 3);
    }
}

#[test]
fn what_only_an_earlier_process_told_lets_no_replica_go() {
    let (mut rig, sealed) = file_on_three(4);
    let all = [1, 2, 3, 4];
    rig.sealed_on(4, sealed);
    rig.lose(3);
    rig.register(3, 33);
    rig.pass(30_000, &all);
    assert!(
        all.into_iter().all(|n| drops(&mut rig, n) == 0),
        "a power cut may have taken the one on server 3"
    );
    assert_eq!(rig.master.good_replicas(sealed.chunk), 4, "nor is another copy made before it has reported");
    let replicas = Vec::from([replica(3, sealed, ReplicaState::Sealed)]);
    rig.message(conn(3), FromServer::BlockReport { report: 1, replicas, last: true });
    rig.pass(30_000, &all);
    assert_eq!(all.into_iter().map(|n| drops(&mut rig, n)).sum::<usize>(), 1);
}

#[test]
fn two_replicas_on_one_server_are_one_when_another_is_to_be_dropped() {
    let (mut rig, sealed) = file_on_three(4);
    rig.config.repair_streams = 0;
    rig.restart();
    for n in [1, 2, 4] {
        rig.register(n, n);
    }
    rig.sealed_on(1, sealed);
    rig.sealed_on(2, sealed);
    let twice = ReplicaReport { volume: VolumeId(11), ..replica(1, sealed, ReplicaState::Sealed) };
    rig.message(conn(1), FromServer::ReplicaChanged(twice));
    rig.message(conn(4), FromServer::ReplicaChanged(replica(4, sealed, ReplicaState::Damaged)));
    rig.pass(6_000, &[1, 2, 4]);
    assert_eq!(drops(&mut rig, 4), 0, "only two servers have it");
}

#[test]
fn a_seal_asked_for_again_and_again_is_still_told_that_the_quorum_is_lost() {
    let mut rig = Rig::with_servers(3);
    let (upload, grant) = rig.open_chunk("/f", 2);
    rig.lose(2);
    rig.lose(3);
    let request = 77;
    seal_again(&mut rig, request, upload, &grant);
    rig.vote(&grant, 1, prefix(9));
    for _ in 0..2 {
        rig.pass(4_500, &[1]);
        seal_again(&mut rig, request, upload, &grant);
    }
    rig.pass(2_000, &[1]);
    let lost = MasterError::QuorumLost { chunk: grant.chunk, needed: 2, answered: 1 };
    assert_eq!(rig.answer(request), Some(Err(lost)));
}

#[test]
fn a_member_whose_vote_was_void_is_asked_again_after_its_restart() {
    let mut rig = Rig::with_servers(3);
    let (upload, grant) = rig.open_chunk("/f", 2);
    rig.lose(3);
    let request = 77;
    seal_again(&mut rig, request, upload, &grant);
    rig.vote(&grant, 1, prefix(9));
    rig.vote(&grant, 2, Vote::OtherIncarnation);
    rig.orders(2);
    rig.lose(2);
    rig.register(2, 22);
    assert!(rig.orders(2).iter().any(|o| matches!(o, ToServer::Fence { .. })));
    rig.vote(&grant, 2, prefix(9));
    assert!(matches!(rig.answer(request), Some(Ok(MasterReply::Sealed(SealedChunk { length: 9, .. })))));
}

#[test]
fn no_figure_of_a_chunkserver_makes_the_master_stumble() {
    let (mut rig, sealed) = file_on_three(4);
    rig.sealed_on(4, sealed);
    let volume =
        |n| VolumeStatus { volume: VolumeId(n), total_bytes: u64::MAX, free_bytes: u64::MAX, writable: true };
    for n in 1..=4 {
        let volumes = Vec::from([volume(n * 10), volume(n * 10 + 1)]);
        let heartbeat =
            FromServer::Heartbeat { sequence: u64::MAX, acked: u64::MAX, volumes, load: u32::MAX };
        rig.message(conn(n), heartbeat);
    }
    assert!(rig.call(MasterRequest::ClusterStatus).is_ok());
    let (_, grant) = rig.open_chunk("/g", 2);
    assert_eq!(grant.members.len(), 3);
    rig.pass(14_000, &[]);
    rig.pass(500, &[1, 2, 3, 4]);
}

#[test]
fn a_grant_asked_for_again_after_a_restart_waits_for_its_servers_to_register() {
    let mut rig = Rig::with_servers(3);
    let (upload, grant) = rig.open_chunk("/a", 2);
    let again = || MasterRequest::OpenChunk { upload, ordinal: 0, avoid: Vec::new() };
    rig.restart();
    assert!(matches!(rig.call(again()), Err(MasterError::Unavailable(_))));
    rig.register(1, 1);
    rig.register(2, 1);
    assert!(matches!(rig.call(again()), Err(MasterError::Unavailable(_))), "the third may come yet");
    rig.pass(rig.config.startup_grace_ms, &[1, 2]);
    let Ok(MasterReply::Grant(late)) = rig.call(again()) else { panic!("the third has had its time") };
    assert_eq!(late.members, grant.members);
    let known = |g: &Grant| g.addresses.iter().filter(|a| grant.addresses.contains(a)).count();
    assert_eq!(known(&late), 2);
    rig.register(3, 1);
    let Ok(MasterReply::Grant(whole)) = rig.call(again()) else { panic!("all are there") };
    assert_eq!(whole.addresses, grant.addresses);
}

#[test]
fn a_chunk_is_opened_and_sealed_however_much_later_its_client_asks_again() {
    let mut rig = Rig::with_servers(3);
    let (upload, grant) = rig.open_chunk("/f", 2);
    let seals = rig.ask(MasterRequest::SealChunk { upload, chunk: grant.chunk, version: grant.version });
    let open = MasterRequest::OpenChunk { upload, ordinal: 1, avoid: Vec::new() };
    let opens = rig.ask(open.clone());
    let opened = rig.answer(opens);
    assert!(matches!(opened, Some(Ok(MasterReply::Grant(_)))), "{opened:?}");
    // Enough to push everything older out of the table of outcomes.
    for n in 0..66 {
        rig.mkdir(&format!("/{n}")).unwrap();
    }
    rig.ask_as(opens, open);
    assert_eq!(rig.answer(opens), opened);
    seal_again(&mut rig, seals, upload, &grant);
    assert_eq!(rig.answer(seals), None, "it waits for votes");
    for server in 1..=3 {
        rig.vote(&grant, server, prefix(9));
    }
    assert!(matches!(rig.answer(seals), Some(Ok(MasterReply::Sealed(SealedChunk { length: 9, .. })))));
}

#[test]
fn a_refused_request_that_comes_again_is_refused_again() {
    let mut rig = Rig::new();
    rig.settle();
    let delete = MasterRequest::Delete { path: "/d".into(), recursive: true };
    let refused = rig.ask(delete.clone());
    let first = rig.answer(refused).expect("an answer at once");
    assert!(matches!(first, Err(MasterError::NotFound(_))), "{first:?}");
    rig.mkdir("/d").unwrap();
    rig.ask_as(refused, delete.clone());
    assert_eq!(rig.answer(refused), Some(first));
    assert!(rig.exists("/d"), "its client was told that nothing was removed");
    // What another 64 refusals have pushed out can't be told any more, but is not carried out either.
    for n in 0..65 {
        assert!(rig.call(MasterRequest::Delete { path: format!("/no{n}"), recursive: false }).is_err());
    }
    rig.ask_as(refused, delete);
    assert!(matches!(rig.answer(refused), Some(Err(MasterError::Unavailable(_)))));
    assert!(rig.exists("/d"));
}
