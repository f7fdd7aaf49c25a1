//! Disks that fail for a while: what was promised must neither be lost nor be given up.

use alloc::vec::Vec;

use super::disk::MemoryDisk;
use super::world::*;
use crate::chunkserver::{Chunkserver, ChunkserverSetup};
use crate::config::ChunkserverConfig;
use crate::defect::Defects;
use crate::disk::{DiskError, DiskPath, DiskRequest};
use crate::error::ChunkError;
use crate::id::*;
use crate::machine::{Effect, Effects, Input, Machine};
use crate::message::*;
use crate::time::Time;

#[test]
fn a_seal_that_the_disk_refuses_is_carried_out_when_asked_again() {
    let bytes = pattern(100_000);
    for failing in ["staging/", "Rename", "chunks/05\"", "Truncate", "Read {"] {
        for error in [io(), DiskError::NoSpace] {
            let mut world = World::new();
            world.write(5, &bytes);
            world.nodes[0].disk.failing = Some((failing, error));
            world.seal(&[0], 5, &bytes[..90_000]);
            assert_eq!(world.state(0, 5), Some(ReplicaState::Fenced), "{failing}");
            world.nodes[0].disk.failing = None;
            world.pass(6_000);
            world.seal(&[0], 5, &bytes[..90_000]);
            assert_eq!(world.state(0, 5), Some(ReplicaState::Sealed), "{failing}");
            assert_eq!(world.read(0, 5, V2, 0, 90_000).unwrap().bytes, bytes[..90_000], "{failing}");
            world.restart(0, true);
            assert_eq!(world.read(0, 5, V2, 0, 90_000).unwrap().bytes, bytes[..90_000], "{failing}");
            assert!(world.nodes[0].alarms.is_empty(), "{failing}: {:?}", world.nodes[0].alarms);
        }
    }
}

#[test]
fn a_seal_whose_file_was_removed_by_hand_ends_as_damage() {
    let bytes = pattern(100_000);
    for sealed in [&bytes[..], &bytes[..90_000]] {
        let mut world = World::new();
        world.write(5, &bytes);
        let file = world.nodes[0].disk.find("chunks/05/").pop().unwrap();
        world.nodes[0].disk.delete(&file);
        world.seal(&[0], 5, sealed);
        assert_eq!(world.state(0, 5), Some(ReplicaState::Damaged), "sealed at {}", sealed.len());
    }
}

#[test]
fn a_seal_after_a_fence_needs_no_sync_of_the_bytes() {
    let mut world = World::new();
    let grant = world.write(5, b"promised");
    world.fence(0, &grant);
    world.nodes[0].disk.failing = Some(("Sync(DiskPath { volume: 0, name: \"chunks/05/", io()));
    world.seal(&[0], 5, b"promised");
    world.nodes[0].disk.failing = None;
    world.seal(&[0], 5, b"promised");
    assert_eq!(world.read(0, 5, V2, 0, 8).unwrap().bytes, &b"promised"[..]);
}

#[test]
fn what_a_sync_without_space_lost_is_not_voted_for() {
    let mut world = World::new();
    let grant = world.write(5, b"kept");
    world.nodes[0].disk.failing = Some(("Sync(DiskPath { volume: 0, name: \"chunks/05/", DiskError::NoSpace));
    world.append(5, 2, 4, b" and lost");
    world.nodes[0].disk.failing = None;
    assert_eq!(world.fence(0, &grant), Vote::Prefix { length: 4, crc: crc32fast::hash(b"kept") });
}

#[test]
fn a_server_that_starts_on_a_full_disk_serves_what_it_has_and_keeps_its_promises() {
    let mut world = World::new();
    world.write(4, b"sealed");
    world.seal(&[0], 4, b"sealed");
    let grant = world.write(5, b"promised");
    world.nodes[0].disk.full = true;
    for power in [false, true] {
        world.restart(0, power);
        assert_eq!(world.read(0, 4, V2, 0, 6).unwrap().bytes, &b"sealed"[..]);
        assert_eq!(world.state(0, 5), Some(ReplicaState::Fenced));
        assert!(world.nodes[0].alarms.is_empty(), "{:?}", world.nodes[0].alarms);
        assert_eq!(world.nodes[0].disk.find("journal").len(), 1);
    }
    let vote = Vote::Prefix { length: 8, crc: crc32fast::hash(b"promised") };
    world.nodes[0].disk.full = false;
    assert_eq!(world.fence(0, &grant), vote);
    world.restart(0, true);
    assert_eq!(world.fence(0, &grant), vote);
}

#[test]
fn a_new_volume_on_a_full_disk_takes_chunks_when_there_is_space() {
    /// `CLUSTER` in an identity, as a request shows it.
    const ITS_CLUSTER: &str = r"\xab\x89gE#\x01\0\0";
    let mut world = World::new();
    world.nodes[0].disk = MemoryDisk::new();
    world.nodes[0].disk.failing = Some((ITS_CLUSTER, DiskError::NoSpace));
    world.restart(0, false);
    let writable = |world: &World| {
        world.to_master.iter().rev().find_map(|(node, message)| match message {
            FromServer::Heartbeat { volumes, .. } if *node == 0 => Some(volumes[0].writable),
            _ => None,
        })
    };
    world.pass(3_000);
    assert_eq!(writable(&world), Some(false));
    assert!(world.nodes[0].alarms.is_empty(), "{:?}", world.nodes[0].alarms);
    world.nodes[0].disk.failing = None;
    world.pass(3_000);
    assert_eq!(writable(&world), Some(true));
}

#[test]
fn a_drop_on_a_full_disk_is_not_taken_for_damage_by_the_next_process() {
    let config = ChunkserverConfig { quarantine_ms: 1_000, ..ChunkserverConfig::default() };
    let mut world = World::with(config);
    world.write(5, b"gone");
    world.nodes[0].disk.failing =
        Some(("Write { path: DiskPath { volume: 0, name: \"journal-", DiskError::NoSpace));
    world.seal(&[0], 5, b"gone");
    let (chunk, volume) = (ChunkId(5), world.nodes[0].volumes[0]);
    world.order(0, ToServer::Drop { chunk, version: V2, volume, reason: DropReason::Reclaimed });
    world.run();
    assert_eq!(world.state(0, 5), None, "space is given back, although the journal has none");
    for _ in 0..2 {
        world.pass(3_000);
        assert_eq!(world.nodes[0].disk.find("quarantine/").len(), 1, "what shows that it was sealed");
        world.nodes[0].disk.failing = None;
        world.nodes[0].disk.full = true;
        world.restart(0, false);
        assert_eq!(world.state(0, 5), None);
    }
    world.nodes[0].disk.full = false;
    world.pass(5_000);
    assert_eq!(world.nodes[0].disk.find("quarantine/").len(), 0);
    world.restart(0, true);
    assert!(world.state(0, 5).is_none() && world.nodes[0].alarms.is_empty(), "{:?}", world.nodes[0].alarms);
}

/// What the next process has of a chunk that was sealed at less than was promised and dropped, if the last one died between
/// its sidecar's move and its bytes', and before the journal forgot the promise.
fn left_of_half_a_drop(defects: Defects) -> Option<ReplicaState> {
    let mut world = World::new();
    world.plant(defects);
    world.write(5, &pattern(10_000));
    world.nodes[0].stuck = Some("Write { path: DiskPath { volume: 0, name: \"journal-");
    world.seal(&[0], 5, &pattern(100));
    world.nodes[0].late = &["quarantine/chunk-"];
    let (chunk, volume) = (ChunkId(5), world.nodes[0].volumes[0]);
    world.order(0, ToServer::Drop { chunk, version: V2, volume, reason: DropReason::Reclaimed });
    world.run();
    assert_eq!(world.nodes[0].disk.find("quarantine/").len(), 1, "the sidecar");
    world.restart(0, false);
    assert_eq!(world.nodes[0].disk.find("chunks/05/").len(), usize::from(world.state(0, 5).is_some()));
    world.state(0, 5)
}

#[test]
fn half_a_drop_is_carried_on_by_the_next_process() {
    assert_eq!(left_of_half_a_drop(Defects::none()), None);
}

#[cfg(feature = "defects")]
#[test]
fn half_a_drop_must_not_be_held_to_a_promise_from_before_the_seal() {
    let planted = Defects::one(crate::defect::Defect::HalfDropPromises);
    assert_eq!(left_of_half_a_drop(planted), Some(ReplicaState::Damaged));
}

#[test]
fn a_volume_whose_space_cannot_be_measured_is_out_of_use_until_a_restart() {
    let mut world = World::new();
    world.write(5, b"kept");
    world.seal(&[0], 5, b"kept");
    world.nodes[0].disk.failing = Some(("Space", io()));
    world.pass(3_100);
    assert_eq!(world.state(0, 5), Some(ReplicaState::Damaged));
    assert!(world.nodes[0].alarms.iter().any(|alarm| alarm.contains("can't be measured")));
    assert!(world.nodes[0].machine.readiness().is_err());
    world.nodes[0].disk.failing = None;
    world.restart(0, false);
    assert_eq!(world.read(0, 5, V2, 0, 4).unwrap().bytes, &b"kept"[..]);
}

#[test]
fn a_sealed_replica_with_a_passing_read_error_is_taken_back_by_the_scrubber() {
    let mut world = World::new();
    world.write(5, b"sound");
    world.seal(&[0], 5, b"sound");
    world.nodes[0].disk.failing = Some((reads_of_5(0), io()));
    assert!(world.read(0, 5, V2, 0, 5).is_err());
    assert_eq!(world.state(0, 5), Some(ReplicaState::Damaged));
    world.nodes[0].disk.failing = None;
    world.to_master.clear();
    world.pass(30_000);
    assert_eq!(world.read(0, 5, V2, 0, 5).unwrap().bytes, &b"sound"[..]);
    let told = world.to_master.iter().any(|(node, m)| {
        *node == 0 && matches!(m, FromServer::ReplicaChanged(r) if r.state == ReplicaState::Sealed)
    });
    assert!(told, "the master learns that it counts again");
    world.restart(0, true);
    assert_eq!(world.state(0, 5), Some(ReplicaState::Sealed));
}

#[test]
fn no_scrub_takes_a_replica_back_whose_volume_is_out_of_use() {
    let mut world = World::new();
    world.write(5, b"sound");
    world.seal(&[0], 5, b"sound");
    world.nodes[0].late = &["Read { path: DiskPath { volume: 0, name: \"chunks/05/"];
    world.pass(30_000);
    world.nodes[0].disk.failing = Some(("journal-", io()));
    world.write(6, b"fails");
    assert_eq!(world.state(0, 5), Some(ReplicaState::Damaged));
    world.nodes[0].disk.failing = None;
    world.nodes[0].late = &[];
    world.answer_late(0);
    world.pass(30_000);
    assert_eq!(world.state(0, 5), Some(ReplicaState::Damaged));
}

#[test]
fn a_passing_read_error_does_not_cost_an_unsealed_replica_its_vote() {
    let mut world = World::new();
    let grant = world.write(5, b"sound");
    let vote = world.fence(0, &grant);
    world.nodes[0].disk.failing = Some((reads_of_5(0), io()));
    assert!(world.read(0, 5, V1, 0, 5).is_err());
    world.nodes[0].disk.failing = None;
    assert_eq!(world.fence(0, &grant), vote);
}

#[test]
fn damage_found_in_a_half_sealed_replica_is_remembered_over_every_restart() {
    let mut world = World::new();
    let bytes = pattern(150_000);
    world.write(5, &bytes);
    // The sidecar is in place, and the journal has not forgotten the unsealed replica.
    world.nodes[0].disk.failing = Some(("Truncate", io()));
    world.seal(&[0], 5, &bytes[..100_000]);
    world.nodes[0].disk.failing = None;
    let path = world.nodes[0].disk.find("chunks/05/").into_iter().find(|p| !p.name.ends_with(".meta"));
    world.nodes[0].disk.flip(&path.unwrap(), 10);
    assert!(world.read(0, 5, V1, 0, 100_000).is_err());
    for _ in 0..3 {
        assert_eq!(world.state(0, 5), Some(ReplicaState::Damaged));
        world.restart(0, false);
    }
}

#[test]
fn a_note_of_damage_does_not_outlive_what_it_is_about() {
    let mut world = World::new();
    world.nodes[2].disk.failing = Some(("Sync(DiskPath { volume: 0, name: \"chunks/05/", io()));
    let grant = world.write(5, b"promised");
    assert_eq!(world.state(2, 5), Some(ReplicaState::Damaged));
    world.nodes[2].disk.failing = None;
    world.restart(2, true);
    assert_eq!(world.fence(2, &grant), Vote::Absent, "it was never READY");
    world.fence(0, &grant);
    let (chunk, incarnation, crc) =
        (grant.chunk, grant.members[2].incarnation(), crc32fast::hash(b"promised"));
    let sources = alloc::vec![Address::new("cs0")];
    world.order(2, ToServer::Complete { chunk, version: V1, incarnation, length: 8, crc, sources });
    world.run();
    world.seal(&[2], 5, b"promised");
    world.restart(2, true);
    assert_eq!(world.state(2, 5), Some(ReplicaState::Sealed));
}

#[test]
fn a_file_removed_while_it_is_written_is_damage_and_never_gets_a_hole() {
    let mut world = World::new();
    let bytes = pattern(20_000);
    let grant = world.write(5, &bytes[..10_000]);
    let path = world.nodes[2].disk.find("chunks/05/").remove(0);
    world.nodes[2].disk.delete(&path);
    world.append(5, 2, 10_000, &bytes[10_000..]);
    assert_eq!(world.state(2, 5), Some(ReplicaState::Damaged));
    assert_eq!(world.fence(2, &grant), Vote::Damaged);

    // Here the file goes when the stream is over: what is missing is not written behind a hole.
    let grant = world.write(6, &bytes[..10_000]);
    world.lose(1, World::dial(2));
    world.append(6, 2, 10_000, &bytes[10_000..]);
    world.fence(1, &grant);
    world.fence(2, &grant);
    let path = world.nodes[2].disk.find("chunks/06/").remove(0);
    world.nodes[2].disk.delete(&path);
    let (chunk, incarnation, crc) = (grant.chunk, grant.members[2].incarnation(), crc32fast::hash(&bytes));
    let sources = alloc::vec![Address::new("cs1")];
    world.order(2, ToServer::Complete { chunk, version: V1, incarnation, length: 20_000, crc, sources });
    world.run();
    assert_eq!(world.state(2, 6), Some(ReplicaState::Damaged));
    assert!(world.nodes[2].disk.find("chunks/06/").is_empty());
}

#[test]
fn a_failing_write_costs_only_what_it_was_to_write() {
    for durability in [Durability::Sync, Durability::Async] {
        let mut world = World::new();
        let grant = world.grant(5, durability);
        world.open(&grant);
        world.append(5, 1, 0, b"promised");
        world.nodes[0].disk.failing = Some(("Write { path: DiskPath { volume: 0, name: \"chunks/05/", io()));
        world.append(5, 2, 8, b" and not");
        world.nodes[0].disk.failing = None;
        assert!(matches!(world.failure(), Some(ChunkError::Disk { .. })));
        let vote = Vote::Prefix { length: 8, crc: crc32fast::hash(b"promised") };
        assert_eq!(world.fence(0, &grant), vote);
        world.restart(0, durability == Durability::Sync);
        assert_eq!(world.fence(0, &grant), vote);
        world.seal(&[0], 5, b"promised");
        assert_eq!(world.read(0, 5, V2, 0, 8).unwrap().bytes, &b"promised"[..]);
        assert!(world.nodes[0].alarms.is_empty());
    }
}

#[test]
fn a_rotten_sidecar_is_found_although_its_checksums_are_in_memory() {
    let mut world = World::new();
    world.write(5, b"sound");
    world.seal(&[0], 5, b"sound");
    let path = world.nodes[0].disk.find(".meta")[0].clone();
    world.nodes[0].disk.flip(&path, 30);
    assert!(world.read(0, 5, V2, 0, 5).is_ok());
    world.pass(20_000);
    assert_eq!(world.state(0, 5), Some(ReplicaState::Damaged));
}

#[test]
fn tombstones_end_with_their_session() {
    let config = ChunkserverConfig { journal_bytes: 2_000, ..ChunkserverConfig::default() };
    let mut world = World::with(config);
    let first = world.grant(1, Durability::Sync);
    for chunk in 1..=40 {
        let grant = world.grant(chunk, Durability::Sync);
        assert_eq!(world.fence(0, &grant), Vote::Absent);
    }
    assert_eq!(world.nodes[0].machine.tombstones.len(), 40, "they bind while the session lasts");
    world.lose(0, Peer::Dial(Address::new("master")));
    world.pass(3_000);
    for chunk in 41..=120 {
        let grant = world.grant(chunk, Durability::Sync);
        assert_eq!(world.fence(0, &grant), Vote::Absent);
    }
    assert_eq!(world.nodes[0].machine.tombstones.len(), 80);
    // What they kept out is kept out by its session.
    world.open(&first);
    assert_eq!(world.failure(), Some(ChunkError::WrongIncarnation(ChunkId(1))));
}

#[test]
fn a_chunk_id_that_would_share_a_file_with_another_chunk_is_refused() {
    let mut world = World::new();
    let bytes = pattern(1_000);
    world.write(5, &bytes);
    world.seal(&[0, 1, 2], 5, &bytes);
    let mut grant = world.grant(5 | 1 << 62, Durability::Sync);
    world.open(&grant);
    world.client(0, data(5 | 1 << 62, 1, 0, b"overwritten"));
    world.run();
    assert!(matches!(world.failure(), Some(ChunkError::OutOfBounds(_) | ChunkError::UnknownChunk(_))));
    for node in 0..3 {
        assert_eq!(world.read(node, 5, V2, 0, 1_000).unwrap().bytes, bytes);
    }
    // Nor does the highest version make a server stumble.
    grant = world.grant(6, Durability::Sync);
    grant.version = ChunkVersion(u32::MAX);
    world.open(&grant);
    world.fence(0, &grant);
    let asked = ChunkVersion(1);
    assert!(world.read(0, 6, asked, 0, 0).is_err());
}

#[test]
fn two_copies_of_one_volume_are_refused() {
    let mut world = World::new();
    let node = &mut world.nodes[0];
    let identity = node.disk.find("cairn-volume")[0].clone();
    let data = Vec::from([bytes::Bytes::from(node.disk.contents(&identity))]);
    let path = DiskPath { volume: 1, name: identity.name };
    node.disk.perform(&DiskRequest::Write { path, offset: 0, data, create: true }).unwrap();
    let mut machine =
        Chunkserver::new(ChunkserverSetup { volumes: 2, ..setup(0, 1, 2, &ChunkserverConfig::default()) });
    let mut inputs = Vec::from([Input::Wake]);
    let mut halted = None;
    while let Some(input) = inputs.pop() {
        let mut effects = Effects::default();
        machine.handle(Time(1), input, &mut effects);
        for effect in effects.drain() {
            match effect {
                Effect::Disk { op, request } if halted.is_none() => {
                    inputs.push(Input::DiskDone { op, result: node.disk.perform(&request) });
                }
                Effect::Halt { reason, .. } => halted = Some(reason),
                _ => {}
            }
        }
    }
    assert!(halted.expect("refused").contains("copies of"));
}

#[test]
fn a_writer_of_tiny_records_or_false_claims_is_held_to_its_window() {
    let mut world = World::new();
    let mut grant = world.grant(5, Durability::Sync);
    grant.members.truncate(1);
    grant.addresses.truncate(1);
    grant.quorum = 1;
    world.open(&grant);
    world.nodes[0].stuck = Some("Sync(DiskPath { volume: 0, name: \"chunks/05/");
    let AppendMessage::Data { chunk, version, writer, payload, .. } = data(5, 1, 0, b"x") else { panic!() };
    let claim = AppendMessage::Data { chunk, version, writer, record: 1, committed: u64::MAX, payload };
    world.client(0, claim);
    world.run();
    assert_eq!(world.view(0, 5).unwrap().committed, 0, "nothing is durable");
    let mut record = 1;
    while world.failure().is_none() && record < 100_000 {
        record += 1;
        world.append(5, record, record - 1, b"x");
    }
    assert!(matches!(world.failure(), Some(ChunkError::Busy(_))));
    assert!(record < 20_000, "refused after {record} records");
}
