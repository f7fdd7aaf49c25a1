//! The journal: full disks, damage, and rewrites, which must neither lose a promise nor bring back what was forgotten.

use alloc::vec::Vec;

use super::world::*;
use crate::config::ChunkserverConfig;
use crate::defect::Defects;
use crate::disk::{DiskError, DiskRequest};
use crate::id::*;
use crate::log::{FileHeader, HEADER_BYTES, Scan};
use crate::message::*;

#[test]
fn a_journal_is_not_rewritten_before_all_who_waited_for_it_are_told() {
    let mut world = World::with(ChunkserverConfig { journal_bytes: 300, ..ChunkserverConfig::default() });
    (0..3).for_each(|node| world.restart(node, false));
    let bytes = pattern(1_000);
    world.write(5, &bytes);
    let sealed = world.seal(&[0, 1, 2], 5, &bytes);
    let grant = world.write(6, &bytes);
    let path = world.nodes[2].disk.find("chunks/05/")[0].clone();
    world.nodes[2].disk.flip(&path, 7);
    assert!(world.read(2, 5, V2, 0, 10).is_err());

    // Chunk 5 is replaced while another chunk's orders have the journal rewritten. All that follows collects behind one group,
    // and lands together.
    world.nodes[2].late = &["journal-"];
    world.write(7, &bytes);
    let (chunk, version, incarnation) = (grant.chunk, grant.version, grant.members[2].incarnation());
    let volume = world.nodes[2].volumes[0];
    world.order(2, ToServer::Fence { chunk, version, incarnation, durability: Durability::Sync });
    world.order(2, ToServer::Drop { chunk, version, volume, reason: DropReason::Reclaimed });
    world.order(2, copy(&world, 2, sealed, &["cs1"]));
    (8..12).for_each(|chunk| drop(world.write(chunk, &bytes)));
    world.answer_all(2);
    world.restart(2, false);
    assert_eq!(world.state(2, 5), Some(ReplicaState::Sealed));
}

#[test]
fn the_journal_is_rewritten_and_keeps_every_promise() {
    let config = ChunkserverConfig { journal_bytes: 2_000, ..ChunkserverConfig::default() };
    let mut world = World::with(config);
    let mut grants = alloc::vec::Vec::new();
    for chunk in 1..=20 {
        grants.push(world.write(chunk, &pattern(chunk as usize * 1_000)));
        if chunk % 3 == 0 {
            world.seal(&[0, 1, 2], chunk, &pattern(chunk as usize * 1_000));
        }
    }
    let journals = world.nodes[0].disk.find("journal-");
    assert_eq!(journals.len(), 1);
    assert!(&*journals[0].name > "journal-00000000000000000001.log");
    world.restart(0, true);
    for grant in &grants {
        let length = grant.chunk.0 * 1_000;
        let expected = if grant.chunk.0 % 3 == 0 {
            Vote::Superseded { version: V2 }
        } else {
            Vote::Prefix { length, crc: crc32fast::hash(&pattern(length as usize)) }
        };
        assert_eq!(world.fence(0, grant), expected);
    }
    assert!(world.nodes[0].alarms.is_empty());
}

#[test]
fn a_journal_without_space_waits_and_goes_on() {
    let mut world = World::new();
    let grant = world.grant(5, Durability::Sync);
    world.open(&grant);
    world.nodes[0].disk.failing =
        Some(("Write { path: DiskPath { volume: 0, name: \"journal-", DiskError::NoSpace));
    world.append(5, 1, 0, b"waits");
    world.pass(3_000);
    assert_eq!(world.view(0, 5).unwrap().state, ReplicaState::Open);
    world.nodes[0].disk.failing = None;
    world.pass(1_500);
    let vote = Vote::Prefix { length: 5, crc: crc32fast::hash(b"waits") };
    assert_eq!(world.fence(0, &grant), vote);
    world.restart(0, true);
    assert_eq!(world.fence(0, &grant), vote);
    assert!(world.nodes[0].alarms.is_empty());
}

#[test]
fn a_journal_that_goes_on_is_cut_behind_what_counts() {
    let mut world = World::new();
    let grant = world.write(5, b"promised");
    world.nodes[0].disk.full = true;
    world.restart(0, false);
    let [path] = &world.nodes[0].disk.find("journal")[..] else { panic!("one journal") };
    let path = path.clone();
    let whole = world.nodes[0].disk.contents(&path);
    let torn = DiskRequest::Write {
        path: path.clone(),
        offset: whole.len() as u64,
        data: alloc::vec![bytes::Bytes::from_static(&[7; 40])],
        create: false,
    };
    world.nodes[0].disk.full = false;
    world.nodes[0].disk.perform(&torn).unwrap();
    world.nodes[0].disk.perform(&DiskRequest::Sync(path.clone())).unwrap();
    world.nodes[0].disk.full = true;
    world.restart(0, true);
    assert_eq!(world.nodes[0].disk.contents(&path), whole);
    world.nodes[0].disk.full = false;
    assert_eq!(world.fence(0, &grant), Vote::Prefix { length: 8, crc: crc32fast::hash(b"promised") });
}

/// A vote on a chunk that was opened, of which nothing was promised.
const FORGOTTEN: Vote = Vote::Prefix { length: 0, crc: 0 };

/// What a server votes on what it has promised, and whether it raises an alarm, when a byte of its journal rots and it is started again.
fn vote_after_rot(place: impl Fn(usize) -> usize, power: bool, defects: Defects) -> (Vote, bool) {
    let mut world = World::new();
    world.plant(defects);
    let grant = world.write(5, b"promised");
    let [path] = &world.nodes[0].disk.find("journal-")[..] else { panic!("one journal") };
    let path = path.clone();
    let length = world.nodes[0].disk.contents(&path).len();
    world.nodes[0].disk.flip(&path, place(length));
    world.restart(0, power);
    (world.fence(0, &grant), !world.nodes[0].alarms.is_empty())
}

#[test]
fn rot_at_the_end_of_a_journal_is_a_torn_write_only_if_the_power_failed() {
    let rotten = |power| vote_after_rot(|length| length - 1, power, Defects::none());
    assert_eq!(rotten(false), (Vote::OtherIncarnation, true));
    assert_eq!(rotten(true), (FORGOTTEN, false), "the documented limit");
}

#[test]
fn rot_at_the_beginning_of_a_journal_is_never_a_torn_write() {
    let first = |_| HEADER_BYTES as usize + 1;
    for power in [false, true] {
        assert_eq!(vote_after_rot(first, power, Defects::none()), (Vote::OtherIncarnation, true));
    }
}

#[cfg(feature = "defects")]
#[test]
fn without_the_rule_a_promise_is_gone_and_nobody_is_told() {
    let defects = Defects::one(crate::defect::Defect::HoleTakenForTear);
    assert_eq!(vote_after_rot(|length| length - 1, false, defects), (FORGOTTEN, false));
}

#[test]
fn a_journal_that_cannot_be_rewritten_goes_on_as_it_is() {
    let config = ChunkserverConfig { journal_bytes: 2_000, ..ChunkserverConfig::default() };
    for error in [io(), DiskError::NoSpace] {
        let mut world = World::with(config.clone());
        world.nodes[0].disk.failing = Some(("journal.new", error));
        let grants: Vec<Grant> = (1..=20).map(|chunk| world.write(chunk, b"kept")).collect();
        assert!(world.nodes[0].alarms.is_empty());
        world.nodes[0].disk.failing = None;
        for chunk in 21..=40 {
            world.write(chunk, b"kept");
        }
        let journals = world.nodes[0].disk.find("journal");
        assert_eq!(journals.len(), 1);
        assert!(&*journals[0].name > "journal-00000000000000000001.log", "rewritten in the end");
        world.restart(0, true);
        for grant in &grants {
            assert_eq!(world.fence(0, grant), Vote::Prefix { length: 4, crc: crc32fast::hash(b"kept") });
        }
    }
}

#[test]
fn a_journal_is_not_rewritten_before_every_replica_is_in_its_place() {
    let mut world = World::with(ChunkserverConfig { journal_bytes: 500, ..ChunkserverConfig::default() });
    let grants: alloc::vec::Vec<_> = (10..20).map(|chunk| world.write(chunk, b"promised")).collect();
    world.nodes[2].disk.failing = Some(("Sync(DiskPath { volume: 0, name: \"chunks/05/", io()));
    world.write(5, b"never READY");
    world.nodes[2].disk.failing = None;
    // The first start has something to forget, in a journal that is due; the second one lives with what came of that.
    world.restart(2, false);
    world.restart(2, false);
    for grant in &grants {
        assert_eq!(world.fence(2, grant), Vote::Prefix { length: 8, crc: crc32fast::hash(b"promised") });
    }
}

#[test]
fn bytes_that_a_damaged_journal_does_not_know_are_never_purged() {
    let config = ChunkserverConfig { quarantine_ms: 1_000, ..ChunkserverConfig::default() };
    let mut world = World::with(config);
    world.write(5, b"perhaps promised");
    let journal = world.nodes[0].disk.find("journal-")[0].clone();
    world.nodes[0].disk.flip(&journal, 60);
    world.restart(0, true);
    world.pass(5_000);
    let kept = world.nodes[0].disk.find("quarantine/");
    assert_eq!(kept.len(), 1);
    assert_eq!(world.nodes[0].disk.contents(&kept[0]), b"perhaps promised");
}

/// What is left in the quarantine when a start that finds the journal damaged is cut short after `steps` disk operations, and the
/// next one is not; `None` if it takes no more steps than that.
fn kept_after(steps: usize, defects: Defects) -> Option<Vec<Vec<u8>>> {
    let config = ChunkserverConfig { quarantine_ms: 1_000, ..ChunkserverConfig::default() };
    let mut world = World::with(config);
    world.plant(defects);
    world.write(5, b"perhaps promised");
    let journal = world.nodes[0].disk.find("journal-")[0].clone();
    world.nodes[0].disk.flip(&journal, 60);
    if !world.restart_by_steps(0, true, steps) {
        return None;
    }
    world.restart(0, true);
    world.pass(5_000);
    let kept = world.nodes[0].disk.find("quarantine/");
    Some(kept.iter().map(|path| world.nodes[0].disk.contents(path)).collect())
}

#[test]
fn bytes_that_a_damaged_journal_does_not_know_are_kept_wherever_the_start_is_cut_short() {
    let ends = (0..).map_while(|steps| kept_after(steps, Defects::none()));
    let kept: Vec<_> = ends.collect();
    assert!(kept.len() > 20, "{} steps", kept.len());
    for (steps, kept) in kept.into_iter().enumerate() {
        // Where a power cut takes one half of a move, the old name is moved once more.
        assert!(
            !kept.is_empty() && kept.iter().all(|kept| kept == b"perhaps promised"),
            "after {steps} steps"
        );
    }
}

#[cfg(feature = "defects")]
#[test]
fn bytes_that_are_put_aside_after_the_journal_are_purged_in_the_end() {
    let defects = Defects::one(crate::defect::Defect::OrphansLeftBehind);
    assert!((0..).map_while(|steps| kept_after(steps, defects)).any(|kept| kept.is_empty()));
}

#[test]
fn a_file_that_is_removed_while_a_server_starts_costs_no_volume() {
    for steps in 0.. {
        let mut world = World::new();
        world.write(5, b"promised");
        let path = world.nodes[0].disk.find("chunks/05/")[0].clone();
        let data = alloc::vec![bytes::Bytes::from_static(b", and not promised")];
        let more = DiskRequest::Write { path: path.clone(), offset: 8, data, create: false };
        world.nodes[0].disk.perform(&more).unwrap();
        if !world.restart_by_steps(0, false, steps) {
            assert!(steps > 20, "{steps} steps");
            return;
        }
        world.nodes[0].disk.delete(&path);
        world.answer_all(0);
        assert_eq!(world.nodes[0].halted, None, "after {steps} steps");
        assert_eq!(world.nodes[0].machine.failed_volumes().count(), 0, "after {steps} steps");
    }
}

#[test]
fn what_a_failed_sync_of_the_journal_left_in_the_page_cache_is_made_durable_by_a_restart() {
    let mut world = World::new();
    let grant = world.write(5, b"first");
    world.nodes[0].disk.failing = Some(("Sync(DiskPath { volume: 0, name: \"journal-", io()));
    world.append(5, 2, 5, b", second");
    world.nodes[0].disk.failing = None;
    world.restart(0, false);
    let vote = world.fence(0, &grant);
    assert_eq!(vote, Vote::Prefix { length: 13, crc: crc32fast::hash(b"first, second") });
    world.restart(0, true);
    assert_eq!(world.fence(0, &grant), vote);
}

#[test]
fn a_journal_that_a_full_disk_kept_is_marked_when_there_is_room() {
    let mut world = World::new();
    world.write(5, b"promised");
    world.nodes[0].disk.full = true;
    world.restart(0, false);
    world.nodes[0].disk.full = false;
    world.pass(5_000);
    let path = world.nodes[0].disk.find("journal-")[0].clone();
    let journal = world.nodes[0].disk.contents(&path);
    let mut scan = Scan::new(FileHeader::decode(&journal).unwrap().first_index);
    scan.feed(&journal[HEADER_BYTES as usize..]);
    assert!(scan.finish().unwrap().ends_with_mark, "rot in its last group must not pass for a torn write");
}
