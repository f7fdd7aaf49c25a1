//! Opening, appending, committing.

use super::world::*;
use crate::disk::DiskError;
use crate::error::ChunkError;
use crate::id::*;
use crate::message::*;

#[test]
fn a_record_is_committed_once_two_of_three_hold_it_durably() {
    let mut world = World::new();
    assert!(world.nodes.iter().all(|n| n.machine.is_ready()));
    let bytes = pattern(100_000);
    world.nodes[1].stuck = Some("Sync(DiskPath { volume: 0, name: \"chunks/05/");
    world.nodes[2].stuck = world.nodes[1].stuck;
    world.write(5, &bytes);
    assert_eq!(world.committed(), 0, "only one server has synced");
    assert_eq!(world.view(1, 5).unwrap().staged, 100_000);

    let mut world = World::new();
    world.nodes[2].stuck = Some("Sync(DiskPath { volume: 0, name: \"chunks/05/");
    world.write(5, &bytes);
    assert_eq!(world.committed(), 100_000);
    assert_eq!(world.failure(), None);
}

#[test]
fn ready_waits_for_the_journal() {
    let mut world = World::new();
    for node in 0..2 {
        world.nodes[node].stuck = Some("Sync(DiskPath { volume: 0, name: \"journal-");
    }
    world.write(5, b"not yet");
    assert_eq!(world.committed(), 0);
}

#[test]
fn what_was_committed_survives_power_loss_of_all() {
    let mut world = World::new();
    let bytes = pattern(300_000);
    let grant = world.write(9, &bytes[..70_000]);
    world.append(9, 2, 70_000, &bytes[70_000..70_010]);
    world.append(9, 3, 70_010, &bytes[70_010..]);
    assert_eq!(world.committed(), 300_000);
    for node in 0..3 {
        world.restart(node, true);
        assert_eq!(world.state(node, 9), Some(ReplicaState::Fenced), "rule 4: a restart fences");
        let crc = crc32fast::hash(&bytes);
        assert_eq!(world.fence(node, &grant), Vote::Prefix { length: 300_000, crc });
    }
}

#[test]
fn unsynced_bytes_are_cut_by_recovery_and_not_taken_for_damage() {
    let mut world = World::new();
    let grant = world.write(9, b"promised");
    for node in 0..3 {
        world.nodes[node].stuck = Some("Sync(");
    }
    world.append(9, 2, 8, b" and not");
    for node in 0..3 {
        // The process dies, the page cache lives: the bytes beyond the promise are still in the file.
        world.restart(node, false);
        let crc = crc32fast::hash(b"promised");
        assert_eq!(world.fence(node, &grant), Vote::Prefix { length: 8, crc });
        let path = &world.nodes[node].disk.find("chunks/09/")[0].clone();
        assert_eq!(world.nodes[node].disk.contents(path), b"promised");
    }
}

#[test]
fn records_must_come_in_order_and_from_the_one_writer() {
    let mut world = World::new();
    world.write(5, b"one");
    world.append(5, 1, 0, b"one");
    assert_eq!((world.committed(), world.failure()), (3, None), "a duplicate is acknowledged again");
    world.append(5, 3, 3, b"three");
    assert_eq!(world.failure(), Some(ChunkError::Gap { chunk: ChunkId(5), expected: 2 }));
    world.append(5, 2, 3, b"two");
    assert_eq!(world.committed(), 3, "a stream in trouble accepts nothing more");
}

#[test]
fn an_append_that_does_not_fit_is_refused() {
    for (offset, length) in [(u64::MAX, 1), (4, 1), (0, (1 << 20) + 1)] {
        let mut world = World::new();
        let grant = world.grant(5, Durability::Sync);
        world.open(&grant);
        world.append(5, 1, offset % (1 << 40), &pattern(length));
        assert_eq!(world.failure(), Some(ChunkError::OutOfBounds(ChunkId(5))), "{offset} {length}");
    }
}

#[test]
fn a_duplicate_is_not_acknowledged_before_it_is_committed() {
    let mut world = World::new();
    for node in 1..3 {
        world.nodes[node].stuck = Some("Sync(DiskPath { volume: 0, name: \"chunks/05/");
    }
    world.write(5, b"one");
    world.append(5, 1, 0, b"one");
    assert_eq!(world.committed(), 0);
}

#[test]
fn without_a_lease_nothing_is_committed() {
    let mut world = World::new();
    let grant = world.grant(5, Durability::Sync);
    world.open(&grant);
    world.lease = false;
    world.pass(4_600);
    world.append(5, 1, 0, b"late");
    assert_eq!(world.committed(), 0);
    assert_eq!(world.failure(), Some(ChunkError::LeaseExpired(ChunkId(5))));
}

#[test]
fn a_lost_member_is_told_and_the_others_go_on() {
    let mut world = World::new();
    let grant = world.grant(5, Durability::Sync);
    world.open(&grant);
    world.lose(1, World::dial(2));
    let server = world.nodes[2].server;
    assert_eq!(world.failure(), Some(ChunkError::ReplicaLost { chunk: ChunkId(5), server }));
    world.append(5, 1, 0, b"still two");
    assert_eq!(world.committed(), 9);
}

#[test]
fn a_failed_sync_damages_the_replica_and_is_never_tried_again() {
    let mut world = World::new();
    let grant = world.grant(5, Durability::Sync);
    world.open(&grant);
    world.nodes[2].disk.failing =
        Some(("Sync(DiskPath { volume: 0, name: \"chunks/05/", DiskError::Io("EIO".into())));
    world.append(5, 1, 0, b"x");
    assert_eq!(world.committed(), 1, "two others hold it");
    assert!(matches!(world.failure(), Some(ChunkError::Disk { .. })));
    world.nodes[2].disk.failing = None;
    assert_eq!(world.state(2, 5), Some(ReplicaState::Damaged));
    assert_eq!(world.fence(2, &grant), Vote::Damaged);
}

#[test]
fn a_failed_journal_takes_the_volume_out_of_use() {
    let mut world = World::new();
    let grant = world.write(5, b"x");
    world.nodes[1].disk.failing = Some(("journal-", DiskError::Io("EIO".into())));
    world.append(5, 2, 1, b"y");
    assert_eq!(world.committed(), 2);
    assert_eq!(world.state(1, 5), Some(ReplicaState::Damaged));
    assert_eq!(world.nodes[1].alarms.len(), 1);
    assert_eq!(world.fence(1, &grant), Vote::OtherIncarnation);
    assert!(!world.nodes[1].machine.is_ready());
}

#[test]
fn opens_of_other_sessions_and_incarnations_are_refused() {
    let mut world = World::new();
    let mut grant = world.grant(5, Durability::Sync);
    grant.members[0].session = SessionId(99);
    world.open(&grant);
    assert_eq!(world.failure(), Some(ChunkError::WrongIncarnation(ChunkId(5))));
    let mut grant = world.grant(6, Durability::Async);
    grant.members[0].boot = BootId(77);
    world.open(&grant);
    assert_eq!(world.failure(), Some(ChunkError::WrongIncarnation(ChunkId(6))));
    let mut grant = world.grant(7, Durability::Sync);
    grant.members[0].volume = VolumeId(1);
    world.open(&grant);
    assert_eq!(world.failure(), Some(ChunkError::WrongIncarnation(ChunkId(7))));
    assert_eq!(world.nodes[0].machine.replicas().count(), 0);
}

#[test]
fn a_full_volume_takes_no_chunk() {
    let mut world = World::new();
    world.nodes[0].disk.free = (1 << 30) + (1 << 19);
    world.pass(2_100);
    let grant = world.grant(5, Durability::Sync);
    world.open(&grant);
    assert_eq!(world.failure(), Some(ChunkError::NoSpace));
}

#[test]
fn what_was_written_since_the_space_was_measured_is_not_free() {
    let mut world = World::new();
    world.nodes[0].disk.free = (1 << 30) + (1 << 20) + 500_000;
    world.pass(3_100);
    let bytes = pattern(600_000);
    let first = world.write(5, &bytes);
    for node in 0..3 {
        world.fence(node, &first);
    }
    world.seal(&[0, 1, 2], 5, &bytes);
    let next = world.grant(6, Durability::Sync);
    world.open(&next);
    assert_eq!(world.failure(), Some(ChunkError::NoSpace));
    // The next measurement tells what is free in truth: here, as much as before.
    world.pass(3_100);
    world.write(7, &bytes);
    assert_eq!(world.committed(), 600_000);
}

#[test]
fn async_appends_sync_nothing() {
    let mut world = World::new();
    let first = world.grant(5, Durability::Async);
    world.open(&first);
    let syncs = world.nodes[0].disk.syncs;
    world.append(5, 1, 0, &pattern(80_000));
    assert_eq!(world.committed(), 80_000);
    assert_eq!(world.nodes[0].disk.syncs, syncs);
    // The page cache survives the process, not the boot.
    world.restart(0, false);
    let crc = crc32fast::hash(&pattern(80_000));
    assert_eq!(world.fence(0, &first), Vote::Prefix { length: 80_000, crc });
    world.restart(1, true);
    assert_eq!(world.fence(1, &first), Vote::OtherIncarnation);
}

#[cfg(feature = "defects")]
mod planted {
    use super::*;
    use crate::defect::{Defect, Defects};

    #[test]
    fn unverified_reads_serve_rot() {
        let mut world = World::new();
        world.plant(Defects::one(Defect::NoReadVerify));
        world.write(5, b"bytes");
        world.seal(&[0], 5, b"bytes");
        let path = world.nodes[0].disk.find("chunks/05/")[0].clone();
        world.nodes[0].disk.flip(&path, 0);
        assert_eq!(&world.read(0, 5, V2, 0, 5).unwrap().bytes[..], b"cytes");
    }

    #[test]
    fn acks_before_the_sync_are_seen_by_the_first_story() {
        for defect in [Defect::AckBeforeDataSync, Defect::AckBeforeJournalSync, Defect::CommitBelowQuorum] {
            let mut world = World::new();
            world.plant(Defects::one(defect));
            let stuck = match defect {
                Defect::AckBeforeJournalSync => "Sync(DiskPath { volume: 0, name: \"journal-",
                _ => "Sync(DiskPath { volume: 0, name: \"chunks/05/",
            };
            world.nodes[1].stuck = Some(stuck);
            world.nodes[2].stuck = Some(stuck);
            world.write(5, b"one");
            assert_eq!(world.committed(), 3, "{defect:?}");
        }
    }
}
