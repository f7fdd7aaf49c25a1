//! Copies, reads of damaged bytes, scrubbing, reports, drops.

use super::world::*;
use crate::config::ChunkserverConfig;
use crate::defect::Defects;
use crate::error::ChunkError;
use crate::id::*;
use crate::message::*;

const JOURNAL_WRITE: &str = "Write { path: DiskPath { volume: 0, name: \"journal-";
const JOURNAL_SYNC: &str = "Sync(DiskPath { volume: 0, name: \"journal-";

fn copy_outcome(world: &World, node: usize) -> Option<Option<alloc::string::String>> {
    world.to_master.iter().rev().find_map(|(from, m)| match m {
        FromServer::CopyDone { error, .. } if *from == node => Some(error.clone()),
        _ => None,
    })
}

fn last_report(world: &World, node: usize) -> alloc::vec::Vec<ReplicaReport> {
    let found = world.to_master.iter().rev().find_map(|(from, m)| match m {
        FromServer::BlockReport { replicas, .. } if *from == node => Some(replicas.clone()),
        _ => None,
    });
    found.expect("a report")
}

#[test]
fn a_corrupt_block_is_never_served_and_is_repaired_by_copy() {
    let mut world = World::new();
    let bytes = pattern(400_000);
    world.write(5, &bytes);
    let sealed = world.seal(&[0, 1, 2], 5, &bytes);
    let path = world.nodes[0].disk.find("chunks/05/")[0].clone();
    world.nodes[0].disk.flip(&path, 300_000);
    assert_eq!(world.read(0, 5, V2, 0, 100_000).unwrap().bytes, bytes[..100_000], "other blocks are good");
    let offset = 300_000 / 65_536 * 65_536;
    let chunk = ChunkId(5);
    assert_eq!(world.read(0, 5, V2, 290_000, 20_000), Err(ChunkError::DataCorrupt { chunk, offset }));
    assert_eq!(world.state(0, 5), Some(ReplicaState::Damaged));
    let order = copy(&world, 0, sealed, &["cs1", "cs2"]);
    world.order(0, order);
    world.run();
    assert_eq!(copy_outcome(&world, 0), Some(None));
    assert_eq!(world.read(0, 5, V2, 0, 400_000).unwrap().bytes, bytes);
    assert_eq!(world.nodes[0].disk.find("quarantine/").len(), 2);
    world.restart(0, true);
    assert_eq!(world.read(0, 5, V2, 0, 400_000).unwrap().bytes, bytes);
}

#[test]
fn a_copy_goes_on_at_another_source() {
    let mut world = World::new();
    let bytes = pattern(300_000);
    world.write(5, &bytes);
    let sealed = world.seal(&[1, 2], 5, &bytes);
    let path = world.nodes[1].disk.find("chunks/05/")[0].clone();
    world.nodes[1].disk.flip(&path, 1);
    let order = copy(&world, 0, sealed, &["cs1", "cs2"]);
    world.order(0, order);
    world.run();
    assert_eq!(copy_outcome(&world, 0), Some(None));
    assert_eq!(world.read(0, 5, V2, 0, 300_000).unwrap().bytes, bytes);
}

#[test]
fn a_copy_that_is_here_already_is_told_with_its_place() {
    let mut world = World::new();
    let bytes = pattern(10_000);
    world.write(5, &bytes);
    let sealed = world.seal(&[0, 1], 5, &bytes);
    let before = world.to_master.len();
    let order = copy(&world, 0, sealed, &["cs1"]);
    world.order(0, order);
    world.run();
    let told: alloc::vec::Vec<_> =
        world.to_master[before..].iter().filter(|(from, _)| *from == 0).map(|(_, told)| told).collect();
    let volume = world.nodes[0].volumes[0];
    let [FromServer::ReplicaChanged(report), FromServer::CopyDone { error: None, .. }] = told[..] else {
        panic!("{told:?}")
    };
    assert_eq!((report.volume, report.state, report.crc), (volume, ReplicaState::Sealed, sealed.crc));
}

#[test]
fn a_copy_without_a_good_source_fails_and_leaves_nothing() {
    let mut world = World::new();
    world.write(5, b"bytes");
    let other = sealed(5, b"other");
    world.seal(&[1], 5, b"bytes");
    let order = copy(&world, 0, SealedChunk { version: V2, ..other }, &["cs1"]);
    world.fence(0, &world.grant(5, Durability::Sync).clone());
    world.order(0, order);
    world.run();
    assert!(copy_outcome(&world, 0).unwrap().is_some());
    assert_eq!(world.nodes[0].disk.find("staging/").len(), 0);
    assert_eq!(world.state(0, 5), Some(ReplicaState::Fenced), "the old replica is untouched");
}

#[test]
fn a_crash_at_every_step_of_a_copy_leaves_the_old_or_the_new_or_none() {
    let bytes = pattern(100_000);
    for stuck in [
        "staging/",
        "Rename",
        "quarantine",
        "SyncDir(DiskPath { volume: 0, name: \"chunks/05\"",
        ".meta",
        "Sync(",
    ] {
        for power in [false, true] {
            let mut world = World::new();
            world.write(5, &bytes);
            let sealed = world.seal(&[0, 1, 2], 5, &bytes);
            let path = world.nodes[0].disk.find("chunks/05/")[0].clone();
            world.nodes[0].disk.flip(&path, 7);
            let order = copy(&world, 0, sealed, &["cs1"]);
            assert!(world.read(0, 5, V2, 0, 10).is_err());
            world.nodes[0].stuck = Some(stuck);
            world.order(0, order);
            world.run();
            world.restart(0, power);
            if world.state(0, 5) == Some(ReplicaState::Sealed) {
                assert_eq!(world.read(0, 5, V2, 0, 100_000).unwrap().bytes, bytes, "{stuck}");
            }
            let order = copy(&world, 0, sealed, &["cs1"]);
            world.order(0, order);
            world.run();
            assert_eq!(copy_outcome(&world, 0), Some(None), "{stuck}");
            assert_eq!(world.read(0, 5, V2, 0, 100_000).unwrap().bytes, bytes, "{stuck}");
        }
    }
}

#[test]
fn a_crash_before_the_journal_forgot_the_damage_does_not_condemn_the_copy() {
    let bytes = pattern(100_000);
    for fell_behind in [true, false] {
        for (stuck, power) in
            [(JOURNAL_WRITE, false), (JOURNAL_WRITE, true), (JOURNAL_SYNC, false), (JOURNAL_SYNC, true)]
        {
            let mut world = World::new();
            world.write(5, &bytes[..10_000]);
            if fell_behind {
                world.lose(1, World::dial(2));
            }
            world.append(5, 2, 10_000, &bytes[10_000..]);
            let sealed = world.seal(&[0, 1, 2], 5, &bytes);
            if !fell_behind {
                let path = world.nodes[2].disk.find("chunks/05/")[0].clone();
                world.nodes[2].disk.flip(&path, 7);
                assert!(world.read(2, 5, V2, 0, 10).is_err());
            }
            assert_eq!(world.state(2, 5), Some(ReplicaState::Damaged));
            let alarms = world.nodes[2].alarms.clone();
            world.nodes[2].stuck = Some(stuck);
            let order = copy(&world, 2, sealed, &["cs1"]);
            world.order(2, order.clone());
            world.run();
            world.restart(2, power);
            assert_eq!(world.nodes[2].alarms, alarms, "{fell_behind} {stuck} {power}");
            world.order(2, order);
            world.run();
            world.restart(2, true);
            assert_eq!(world.read(2, 5, V2, 0, 100_000).unwrap().bytes, bytes);
            assert_eq!(world.nodes[2].alarms, alarms, "{fell_behind} {stuck} {power}");
        }
    }
}

#[test]
fn the_scrubber_finds_a_flipped_bit() {
    let mut world = World::new();
    let bytes = pattern(200_000);
    world.write(5, &bytes);
    world.write(6, &bytes);
    world.seal(&[0], 5, &bytes);
    world.seal(&[0], 6, &bytes);
    let path = world.nodes[0].disk.find("chunks/06/")[0].clone();
    world.nodes[0].disk.flip(&path, 199_999);
    world.pass(20_000);
    assert_eq!(world.state(0, 5), Some(ReplicaState::Sealed));
    assert_eq!(world.state(0, 6), Some(ReplicaState::Damaged));
    assert_eq!(world.nodes[0].alarms.len(), 1);
}

#[test]
fn a_file_removed_by_hand_is_noticed_by_the_report() {
    let config = ChunkserverConfig { scrub_bytes_per_second: 0, ..ChunkserverConfig::default() };
    let mut world = World::with(config);
    world.write(5, b"here");
    world.write(6, b"gone");
    world.seal(&[0], 5, b"here");
    world.seal(&[0], 6, b"gone");
    let path = world.nodes[0].disk.find("chunks/06/")[0].clone();
    world.nodes[0].disk.delete(&path);
    world.pass(6_000);
    let states: alloc::vec::Vec<_> = last_report(&world, 0).iter().map(|r| (r.chunk.0, r.state)).collect();
    assert_eq!(states, [(5, ReplicaState::Sealed), (6, ReplicaState::Damaged)]);
}

/// A copy replaces what is gone while a report's list is under way and an order to drop the old replica waits.
fn copied_during_a_report(defects: Defects) -> Option<ReplicaState> {
    let config = ChunkserverConfig { scrub_bytes_per_second: 0, ..ChunkserverConfig::default() };
    let mut world = World::with(config);
    world.plant(defects);
    world.write(5, b"here");
    let sealed = world.seal(&[0, 1, 2], 5, b"here");
    for path in world.nodes[0].disk.find("chunks/05/") {
        world.nodes[0].disk.delete(&path);
    }
    world.pass(6_000);
    assert_eq!(last_report(&world, 0)[0].state, ReplicaState::Damaged);
    world.nodes[0].late = &["SyncDir(DiskPath { volume: 0, name: \"chunks\"", "name: \"chunks/05\" })"];
    world.order(0, copy(&world, 0, sealed, &["cs1"]));
    let (chunk, volume) = (ChunkId(5), world.nodes[0].volumes[0]);
    world.order(0, ToServer::Drop { chunk, version: V1, volume, reason: DropReason::Stale });
    world.pass(6_000);
    world.nodes[0].late = &[];
    world.answer_late(0);
    assert_eq!(copy_outcome(&world, 0), Some(None));
    assert!(world.to_master.contains(&(0, FromServer::DropDone { chunk, version: V1, dropped: false })));
    world.answer_late(0);
    world.nodes[0].machine.replicas().next().map(|r| r.state)
}

#[test]
fn a_list_from_before_a_copy_says_nothing_of_the_copy() {
    assert_eq!(copied_during_a_report(Defects::none()), Some(ReplicaState::Sealed));
}

#[cfg(feature = "defects")]
#[test]
fn a_change_that_is_not_noted_is_judged_by_an_old_list() {
    let defects = Defects::one(crate::defect::Defect::ChangeUnnoticed);
    assert_eq!(copied_during_a_report(defects), Some(ReplicaState::Damaged));
}

#[test]
fn an_ordered_check_reports_the_outcome() {
    let mut world = World::new();
    world.write(5, b"sound");
    world.seal(&[0], 5, b"sound");
    world.to_master.clear();
    world.order(0, ToServer::Verify { chunk: ChunkId(5), version: V2 });
    world.run();
    let told = world.to_master.iter().any(|(_, m)| {
        matches!(m, FromServer::ReplicaChanged(r) if r.chunk == ChunkId(5) && r.state == ReplicaState::Sealed)
    });
    assert!(told);
}

#[test]
fn a_drop_goes_through_quarantine_and_only_the_unknown_stays() {
    let config = ChunkserverConfig { quarantine_ms: 2_000, ..ChunkserverConfig::default() };
    let mut world = World::with(config);
    let volume = world.nodes[0].volumes[0];
    for (chunk, reason) in [(5, DropReason::Reclaimed), (6, DropReason::Unknown)] {
        world.write(chunk, b"bytes");
        world.seal(&[0], chunk, b"bytes");
        let chunk = ChunkId(chunk);
        world.order(0, ToServer::Drop { chunk, version: V1, volume, reason });
        world.run();
        assert!(world.to_master.contains(&(0, FromServer::DropDone { chunk, version: V1, dropped: false })));
        world.order(0, ToServer::Drop { chunk, version: V2, volume, reason });
        world.run();
        assert!(world.to_master.contains(&(0, FromServer::DropDone { chunk, version: V2, dropped: true })));
    }
    assert_eq!(world.nodes[0].machine.replicas().count(), 0);
    assert_eq!(world.nodes[0].disk.find("quarantine/").len(), 4);
    world.pass(4_000);
    assert_eq!(world.nodes[0].disk.find("quarantine/").len(), 2);
    world.restart(0, true);
    world.pass(4_000);
    assert_eq!(world.nodes[0].disk.find(".keep").len(), 2);
    assert_eq!(world.nodes[0].machine.replicas().count(), 0);
}

#[test]
fn an_unsealed_replica_is_forgotten_before_its_file_goes() {
    let mut world = World::new();
    let volume = world.nodes[0].volumes[0];
    world.write(5, b"bytes");
    world.nodes[0].stuck = Some(JOURNAL_SYNC);
    let chunk = ChunkId(5);
    world.order(0, ToServer::Drop { chunk, version: V1, volume, reason: DropReason::Reclaimed });
    world.run();
    world.restart(0, true);
    assert_eq!(world.nodes[0].alarms, [""; 0], "the promise came back without its file");
    world.order(0, ToServer::Drop { chunk, version: V1, volume, reason: DropReason::Reclaimed });
    world.run();
    world.restart(0, true);
    assert_eq!(world.nodes[0].alarms, [""; 0]);
    assert_eq!(world.nodes[0].machine.replicas().count(), 0);
}

#[test]
fn the_quarantine_is_emptied_although_the_journals_last_words_are_not_synced() {
    let config = ChunkserverConfig { quarantine_ms: 1_000, ..ChunkserverConfig::default() };
    let mut world = World::with(config);
    let (chunk, volume) = (ChunkId(5), world.nodes[0].volumes[0]);
    for chunk in [5, 6] {
        world.write(chunk, b"bytes");
    }
    world.seal(&[0], 5, b"bytes");
    world.order(0, ToServer::Drop { chunk, version: V2, volume, reason: DropReason::Reclaimed });
    world.run();
    world.seal(&[0], 6, b"bytes");
    assert_eq!(world.nodes[0].disk.find("quarantine/").len(), 2);
    world.pass(6_000);
    assert_eq!(world.nodes[0].disk.find("quarantine/").len(), 0);
}

#[test]
fn purging_an_older_replica_forgets_no_damage_of_the_present_one() {
    let config = ChunkserverConfig { quarantine_ms: 1_000, ..ChunkserverConfig::default() };
    let mut world = World::with(config);
    let (chunk, volume) = (ChunkId(5), world.nodes[0].volumes[0]);
    for chunk in [5, 6] {
        world.write(chunk, b"bytes");
    }
    let sealed = world.seal(&[0, 1], 5, b"bytes");
    world.order(0, ToServer::Drop { chunk, version: V2, volume, reason: DropReason::Excess });
    world.run();
    world.order(0, copy(&world, 0, sealed, &["cs1"]));
    world.run();
    let path = world.nodes[0].disk.find("chunks/05/").into_iter().find(|p| !p.name.ends_with(".meta"));
    world.nodes[0].disk.flip(&path.unwrap(), 3);
    assert!(world.read(0, 5, V2, 0, 5).is_err());
    world.seal(&[0], 6, b"bytes");
    world.pass(4_000);
    assert_eq!(world.nodes[0].disk.find("quarantine/").len(), 0);
    world.restart(0, true);
    assert_eq!(world.state(0, 5), Some(ReplicaState::Damaged));
}

#[test]
fn an_unsealed_replica_is_forgotten_before_a_copy_takes_its_place() {
    for stuck in ["SyncDir(DiskPath { volume: 0, name: \"quarantine\" })", JOURNAL_SYNC] {
        let mut world = World::new();
        world.write(5, b"bytes");
        let sealed = world.seal(&[1, 2], 5, b"bytes");
        world.nodes[0].stuck = Some(stuck);
        world.order(0, copy(&world, 0, sealed, &["cs1"]));
        world.run();
        world.nodes[0].stuck = None;
        world.restart(0, false);
        assert_eq!(world.nodes[0].alarms, [""; 0], "{stuck}");
        world.order(0, copy(&world, 0, sealed, &["cs1"]));
        world.run();
        assert_eq!(world.read(0, 5, V2, 0, 5).unwrap().bytes, &b"bytes"[..]);
        world.restart(0, true);
        assert_eq!(world.read(0, 5, V2, 0, 5).unwrap().bytes, &b"bytes"[..]);
        assert_eq!(world.nodes[0].alarms, [""; 0], "{stuck}");
    }
}

#[test]
fn the_quarantine_is_purged_as_fast_as_it_is_filled() {
    let config = ChunkserverConfig { quarantine_ms: 2_000, ..ChunkserverConfig::default() };
    let mut world = World::with(config);
    let volume = world.nodes[0].volumes[0];
    for chunk in 1..=60 {
        world.write(chunk, b"bytes");
        world.seal(&[0], chunk, b"bytes");
        let (chunk, reason) = (ChunkId(chunk), DropReason::Reclaimed);
        world.order(0, ToServer::Drop { chunk, version: V2, volume, reason });
    }
    world.run();
    assert_eq!(world.nodes[0].disk.find("quarantine/").len(), 120);
    world.pass(4_000);
    assert_eq!(world.nodes[0].disk.find("quarantine/").len(), 0);
}

#[test]
fn too_many_reads_of_one_connection_are_refused() {
    let config = ChunkserverConfig { reads_per_connection: 2, ..ChunkserverConfig::default() };
    let mut world = World::with(config);
    world.write(5, b"bytes");
    world.seal(&[0], 5, b"bytes");
    world.nodes[0].stuck = Some("Read {");
    for read in 1..=3 {
        let (chunk, version) = (ChunkId(5), V2);
        world.client(0, ReadMessage::Request { read, chunk, version, offset: 0, length: 5 });
    }
    world.run();
    let busy = world.to_client.iter().any(|m| {
        matches!(m, Message::Read(ReadMessage::Reply { read: 3, result: Err(ChunkError::Busy(_)) }))
    });
    assert!(busy);
}

/// One copy of sixteen pieces, all asked for at once, from two servers that take one read at a time.
fn copy_from_narrow_sources(defects: Defects) -> Option<alloc::string::String> {
    let config = ChunkserverConfig {
        reads_per_connection: 1,
        copy_reads: 16,
        copy_read_bytes: 65_536,
        ..ChunkserverConfig::default()
    };
    let mut world = World::with(config);
    world.plant(defects);
    let bytes = pattern(1_048_576);
    world.write(5, &bytes);
    let sealed = world.seal(&[1, 2], 5, &bytes);
    let order = copy(&world, 0, sealed, &["cs1", "cs2"]);
    world.order(0, order);
    world.run();
    copy_outcome(&world, 0).expect("the copy ended")
}

#[test]
fn a_copy_asks_for_no_more_at_once_than_its_sources_take() {
    assert_eq!(copy_from_narrow_sources(Defects::none()), None);
}

#[cfg(feature = "defects")]
#[test]
fn sources_that_are_busy_must_not_be_given_up() {
    let error = copy_from_narrow_sources(Defects::one(crate::defect::Defect::BusyIsFailure));
    assert_eq!(error.as_deref(), Some("no source could be read"));
}

#[test]
fn a_copy_waits_while_others_have_all_the_room() {
    let config = ChunkserverConfig { reads_per_connection: 1, ..ChunkserverConfig::default() };
    let mut world = World::with(config);
    for (chunk, bytes) in [(5, b"first"), (6, b"later")] {
        world.write(chunk, bytes);
        world.seal(&[1], chunk, bytes);
    }
    world.nodes[1].stuck = Some("Read {");
    let order = copy(&world, 0, sealed(5, b"first"), &["cs1"]);
    world.order(0, order);
    world.run();
    let order = copy(&world, 0, sealed(6, b"later"), &["cs1"]);
    world.order(0, order);
    world.run();
    assert_eq!(copy_outcome(&world, 0), None, "neither is given up");
    world.nodes[1].stuck = None;
    world.lose(1, world.conn(0, 1));
    world.pass(1_500);
    assert_eq!(copy_outcome(&world, 0), Some(None));
    assert_eq!(world.read(0, 6, V2, 0, 5).unwrap().bytes, &b"later"[..]);
}

#[test]
fn a_copy_that_never_gets_room_ends() {
    let config = ChunkserverConfig { reads_per_connection: 0, ..ChunkserverConfig::default() };
    let mut world = World::with(config);
    world.write(5, b"bytes");
    let sealed = world.seal(&[1], 5, b"bytes");
    let order = copy(&world, 0, sealed, &["cs1"]);
    world.order(0, order);
    world.pass(10_000);
    assert!(matches!(copy_outcome(&world, 0), Some(Some(_))));
}

#[test]
fn another_clusters_master_is_refused() {
    let mut world = World::new();
    let (session, heartbeat_ms, block_report_ms) = (SessionId(50), 1_000, 5_000);
    world.restart(1, false);
    world.lose(1, Peer::Dial(Address::new("master")));
    // The answer to the next registration comes from elsewhere.
    world.order(1, ToServer::Refused { reason: "another cluster".into() });
    world.run();
    assert!(world.nodes[1].halted.as_ref().unwrap().contains("another cluster"));
    let cluster = ClusterId(1);
    world.order(0, ToServer::Registered { cluster, session, heartbeat_ms, block_report_ms });
    world.run();
    assert!(world.nodes[0].halted.is_none(), "an answer that was not asked for changes nothing");
}

#[cfg(feature = "defects")]
#[test]
fn bytes_that_nobody_describes_are_moved_when_the_move_of_their_sidecar_is_durable() {
    for (defects, damaged) in
        [(Defects::none(), false), (Defects::one(crate::defect::Defect::OrphanMovedFirst), true)]
    {
        let mut world = World::new();
        world.plant(defects);
        let bytes = pattern(10_000);
        world.write(5, &bytes);
        world.seal(&[0, 1, 2], 5, &bytes);
        world.nodes[0].stuck = Some("SyncDir(DiskPath { volume: 0, name: \"chunks/05\"");
        let (chunk, volume) = (ChunkId(5), world.nodes[0].volumes[0]);
        world.order(0, ToServer::Drop { chunk, version: V2, volume, reason: DropReason::Excess });
        world.run();
        world.restart_late(0, false, &["to: DiskPath { volume: 0, name: \"quarantine/chunk-"]);
        assert!(world.has_late_answers(0), "the bytes are being moved");
        world.nodes[0].disk.lose(|name| name.starts_with("chunks/05/chunk-") && !name.ends_with(".meta"));
        world.restart(0, true);
        assert_eq!(world.state(0, 5), damaged.then_some(ReplicaState::Damaged));
    }
}
