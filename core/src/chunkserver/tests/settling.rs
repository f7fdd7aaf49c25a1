//! Fencing, voting, completing, sealing.

use alloc::string::String;
use alloc::vec::Vec;

use super::world::*;
use crate::defect::Defects;
use crate::disk::DiskError;
use crate::error::ChunkError;
use crate::id::*;
use crate::message::*;

#[test]
fn a_fence_stops_the_stream_and_survives_power_loss() {
    let mut world = World::new();
    let grant = world.write(5, b"abc");
    let vote = Vote::Prefix { length: 3, crc: crc32fast::hash(b"abc") };
    assert_eq!(world.fence(0, &grant), vote);
    world.append(5, 2, 3, b"late");
    assert_eq!(world.failure(), Some(ChunkError::Fenced { chunk: ChunkId(5), version: V1 }));
    world.restart(0, true);
    assert_eq!(world.fence(0, &grant), vote);
    assert_eq!(world.fence(0, &grant), vote, "asked again, said again");
}

#[test]
fn a_vote_syncs_what_was_staged_first() {
    let mut world = World::new();
    let grant = world.grant(5, Durability::Sync);
    world.open(&grant);
    world.nodes[2].stuck = Some("Sync(DiskPath { volume: 0, name: \"chunks/05/");
    world.append(5, 1, 0, b"staged");
    // The stream's own sync never ends: no vote.
    let incarnation = grant.members[2].incarnation();
    let (chunk, version, durability) = (grant.chunk, V1, Durability::Sync);
    world.order(2, ToServer::Fence { chunk, version, incarnation, durability });
    world.run();
    assert_eq!(world.last_vote(2), None);
    world.restart(2, true);
    assert_eq!(world.state(2, 5), None, "nothing was promised: the file is put aside");
    assert_eq!(world.fence(2, &grant), Vote::Absent);
}

#[test]
fn fencing_an_absent_chunk_refuses_it_for_good() {
    let mut world = World::new();
    let grant = world.grant(5, Durability::Sync);
    assert_eq!(world.fence(0, &grant), Vote::Absent);
    world.open(&grant);
    assert_eq!(world.failure(), Some(ChunkError::Fenced { chunk: ChunkId(5), version: V1 }));
    world.restart(0, true);
    assert_eq!(world.fence(0, &grant), Vote::Absent);
    world.to_client.clear();
    let mut again = grant.clone();
    again.members[0] = world.member(0);
    world.open(&again);
    assert_eq!(world.failure(), Some(ChunkError::Fenced { chunk: ChunkId(5), version: V1 }));
}

#[test]
fn a_shorter_member_is_completed_from_a_longer_one() {
    let mut world = World::new();
    let bytes = pattern(200_000);
    let grant = world.write(5, &bytes[..10_000]);
    world.lose(1, World::dial(2));
    world.append(5, 2, 10_000, &bytes[10_000..]);
    let crc = crc32fast::hash(&bytes);
    assert_eq!(world.fence(1, &grant), Vote::Prefix { length: 200_000, crc });
    let short = Vote::Prefix { length: 10_000, crc: crc32fast::hash(&bytes[..10_000]) };
    assert_eq!(world.fence(2, &grant), short);
    let complete = |source: &str| ToServer::Complete {
        chunk: ChunkId(5),
        version: V1,
        incarnation: grant.members[2].incarnation(),
        length: 200_000,
        crc,
        sources: alloc::vec![Address::new(source)],
    };
    world.order(2, complete("cs1"));
    world.run();
    assert_eq!(world.last_vote(2), Some(Vote::Prefix { length: 200_000, crc }));
    world.restart(2, true);
    assert_eq!(world.fence(2, &grant), Vote::Prefix { length: 200_000, crc });
}

#[test]
fn a_member_that_voted_absent_can_be_completed() {
    let mut world = World::new();
    let bytes = pattern(70_000);
    let mut grant = world.grant(5, Durability::Sync);
    let absent = grant.members.pop().unwrap();
    grant.addresses.pop();
    world.open(&grant);
    world.append(5, 1, 0, &bytes);
    grant.members.push(absent);
    assert_eq!(world.fence(2, &grant), Vote::Absent);
    world.fence(0, &grant);
    let crc = crc32fast::hash(&bytes);
    world.order(
        2,
        ToServer::Complete {
            chunk: ChunkId(5),
            version: V1,
            incarnation: grant.members[2].incarnation(),
            length: 70_000,
            crc,
            sources: alloc::vec![Address::new("cs0")],
        },
    );
    world.run();
    assert_eq!(world.last_vote(2), Some(Vote::Prefix { length: 70_000, crc }));
    world.seal(&[2], 5, &bytes);
    world.restart(2, true);
    assert_eq!(world.state(2, 5), Some(ReplicaState::Sealed));
}

#[test]
fn a_seal_cuts_inside_a_block_and_survives_power_loss() {
    let mut world = World::new();
    let bytes = pattern(200_000);
    world.write(5, &bytes);
    let kept = &bytes[..150_000];
    world.seal(&[0, 1, 2], 5, kept);
    for node in 0..3 {
        assert_eq!(world.state(node, 5), Some(ReplicaState::Sealed));
        assert_eq!(world.read(node, 5, V2, 0, 150_000).unwrap().bytes, kept);
        world.restart(node, true);
        assert_eq!(world.state(node, 5), Some(ReplicaState::Sealed));
        let part = world.read(node, 5, V2, 65_000, 70_000).unwrap();
        assert_eq!(part.bytes, kept[65_000..135_000]);
        assert!(part.is_intact());
        assert!(matches!(world.read(node, 5, V2, 150_000, 1), Err(ChunkError::BeyondEnd { .. })));
        assert!(matches!(world.read(node, 5, V1, 0, 1), Err(ChunkError::WrongVersion { .. })));
    }
    assert!(world.nodes.iter().all(|n| n.alarms.is_empty()));
}

#[test]
fn a_crash_at_every_step_of_a_seal_leaves_the_old_or_the_new() {
    let bytes = pattern(100_000);
    // Each of these never ends, then the power fails.
    let steps = [
        "chunks/05/",
        "staging/",
        "Write { path: DiskPath { volume: 0, name: \"staging",
        "Rename",
        "SyncDir(DiskPath { volume: 0, name: \"chunks/05\"",
        "Truncate",
        "journal-",
    ];
    for stuck in steps {
        for power in [false, true] {
            let mut world = World::new();
            let grant = world.write(5, &bytes);
            world.nodes[1].stuck = Some(stuck);
            world.seal(&[1], 5, &bytes[..90_000]);
            world.restart(1, power);
            match world.state(1, 5).unwrap() {
                ReplicaState::Fenced => {
                    let crc = crc32fast::hash(&bytes);
                    assert_eq!(world.fence(1, &grant), Vote::Prefix { length: 100_000, crc }, "{stuck}");
                }
                state => assert_eq!(state, ReplicaState::Sealed, "{stuck}"),
            }
            world.seal(&[1], 5, &bytes[..90_000]);
            assert_eq!(world.read(1, 5, V2, 0, 90_000).unwrap().bytes, bytes[..90_000], "{stuck}");
            assert!(world.nodes[1].alarms.is_empty(), "{stuck}: {:?}", world.nodes[1].alarms);
        }
    }
}

/// Server 1 is killed when it has given a sidecar its name and has not made that durable; its next start loses power after `steps`
/// disk operations. What it finds at the one after that; `None` if a start takes no more steps.
fn named_and_killed(steps: usize, defects: Defects) -> Option<ReplicaState> {
    let bytes = pattern(100_000);
    let mut world = World::new();
    world.plant(defects);
    world.write(5, &bytes);
    world.nodes[1].stuck = Some("SyncDir(DiskPath { volume: 0, name: \"chunks/05\"");
    world.seal(&[1], 5, &bytes[..90_000]);
    if !world.restart_by_steps(1, false, steps) {
        return None;
    }
    world.restart(1, true);
    world.state(1, 5)
}

#[test]
fn a_start_cuts_what_was_sealed_when_the_name_of_its_sidecar_is_durable() {
    let ends: Vec<_> = (0..).map_while(|steps| named_and_killed(steps, Defects::none())).collect();
    assert!(ends.len() > 20, "{} steps", ends.len());
    assert!(ends.contains(&ReplicaState::Fenced) && ends.contains(&ReplicaState::Sealed), "{ends:?}");
    assert!(!ends.contains(&ReplicaState::Damaged), "{ends:?}");
}

#[cfg(feature = "defects")]
#[test]
fn a_cut_before_the_name_is_durable_is_damage() {
    let defects = Defects::one(crate::defect::Defect::CutBeforeNamed);
    let mut ends = (0..).map_while(|steps| named_and_killed(steps, defects));
    assert!(ends.any(|state| state == ReplicaState::Damaged));
}

#[test]
fn a_cut_that_only_the_page_cache_has_is_synced_before_the_journal_forgets_it() {
    let bytes = pattern(100_000);
    let mut world = World::new();
    world.write(5, &bytes);
    world.nodes[1].late = &["Truncate"];
    world.seal(&[1], 5, &bytes[..90_000]);
    world.restart(1, false);
    world.restart(1, true);
    assert_eq!(world.state(1, 5), Some(ReplicaState::Sealed));
    assert_eq!(world.read(1, 5, V2, 0, 90_000).unwrap().bytes, bytes[..90_000]);
    assert!(world.nodes[1].alarms.is_empty(), "{:?}", world.nodes[1].alarms);
}

#[test]
fn a_damaged_journal_condemns_no_sealed_replica_whatever_happens_next() {
    let bytes = pattern(100_000);
    for late in ["Truncate", "journal-"] {
        let mut world = World::new();
        world.write(5, &bytes);
        world.write(6, b"unsealed");
        // What rots is what the journal says of these.
        (7..10).for_each(|chunk| drop(world.write(chunk, b"unsealed")));
        world.nodes[1].late = if late == "Truncate" { &["Truncate"] } else { &["journal-"] };
        world.seal(&[1], 5, &bytes[..90_000]);
        let journal = world.nodes[1].disk.find("journal-").remove(0);
        let at = world.nodes[1].disk.contents(&journal).len() / 2;
        world.nodes[1].disk.flip(&journal, at);
        // What the first start after that forgets may not be durable when the power fails.
        world.nodes[1].disk.failing =
            Some(("Write { path: DiskPath { volume: 0, name: \"journal-", DiskError::NoSpace));
        world.restart(1, false);
        assert_eq!(world.state(1, 5), Some(ReplicaState::Sealed), "{late}");
        assert_eq!(world.state(1, 6), Some(ReplicaState::Damaged), "{late}");
        world.nodes[1].disk.failing = None;
        for _ in 0..2 {
            world.restart(1, true);
            assert_eq!(world.state(1, 5), Some(ReplicaState::Sealed), "{late}");
            assert_eq!(world.state(1, 6), Some(ReplicaState::Damaged), "{late}");
            assert_eq!(world.read(1, 5, V2, 0, 90_000).unwrap().bytes, bytes[..90_000], "{late}");
        }
    }
}

#[test]
fn a_short_or_different_replica_is_not_sealed() {
    let mut world = World::new();
    world.write(5, b"short");
    world.seal(&[0], 5, b"short of it");
    assert_eq!(world.state(0, 5), Some(ReplicaState::Damaged));
    world.seal(&[1], 5, b"shirt");
    assert_eq!(world.state(1, 5), Some(ReplicaState::Damaged));
    world.restart(1, true);
    assert_eq!(world.state(1, 5), Some(ReplicaState::Damaged), "damage is remembered");
}

#[test]
fn an_empty_chunk_can_be_sealed() {
    let mut world = World::new();
    let grant = world.grant(5, Durability::Sync);
    world.open(&grant);
    world.seal(&[0, 1], 5, b"");
    world.restart(0, true);
    assert_eq!(world.state(0, 5), Some(ReplicaState::Sealed));
    world.pass(20_000);
    assert_eq!(world.state(0, 5), Some(ReplicaState::Sealed));
    assert!(world.nodes[0].alarms.is_empty());
}

/// Server 0 loses its power when it seals a chunk in which there is nothing, and of the names that are not durable the sidecar's is
/// kept. What it has, and what it says of that.
fn empty_and_cut_short(defects: Defects) -> (Option<ReplicaState>, Vec<String>) {
    let mut world = World::new();
    world.plant(defects);
    let grant = world.grant(5, Durability::Sync);
    world.nodes[0].disk.failing = Some(("chunks/05", DiskError::NoSpace));
    world.open(&grant);
    world.append(5, 1, 0, b"no room for this");
    world.nodes[0].disk.failing = None;
    world.nodes[0].stuck = Some("SyncDir(DiskPath { volume: 0, name: \"chunks/05\"");
    world.seal(&[0, 1], 5, b"");
    world.nodes[0].stuck = None;
    world.nodes[0].disk.keep(|name| name.ends_with(".meta"));
    world.restart(0, true);
    (world.state(0, 5), core::mem::take(&mut world.nodes[0].alarms))
}

#[test]
fn the_file_of_an_empty_chunk_has_a_name_before_its_sidecar_has() {
    let (state, alarms) = empty_and_cut_short(Defects::none());
    assert_ne!(state, Some(ReplicaState::Damaged));
    assert!(alarms.is_empty(), "{alarms:?}");
}

#[cfg(feature = "defects")]
#[test]
fn a_sidecar_without_an_empty_file_is_damage() {
    let (state, alarms) = empty_and_cut_short(Defects::one(crate::defect::Defect::EmptyNameNotSynced));
    assert_eq!((state, alarms.is_empty()), (Some(ReplicaState::Damaged), false));
}

#[test]
fn an_older_fence_is_superseded_by_the_seal() {
    let mut world = World::new();
    let grant = world.write(5, b"x");
    world.seal(&[0], 5, b"x");
    assert_eq!(world.fence(0, &grant), Vote::Superseded { version: V2 });
}

#[test]
fn damage_below_the_promise_is_never_hidden() {
    let mut world = World::new();
    let bytes = pattern(100_000);
    let grant = world.write(5, &bytes);
    let path = world.nodes[0].disk.find("chunks/05/")[0].clone();
    world.nodes[0].disk.flip(&path, 70_000);
    world.restart(0, true);
    assert_eq!(world.fence(0, &grant), Vote::Damaged);
    let path = world.nodes[1].disk.find("chunks/05/")[0].clone();
    world.nodes[1].disk.delete(&path);
    world.restart(1, true);
    assert_eq!(world.fence(1, &grant), Vote::Damaged);
}

#[test]
fn a_damaged_journal_makes_another_volume_of_it() {
    let mut world = World::new();
    let grant = world.write(5, b"unsealed");
    world.write(6, b"sealed");
    world.seal(&[0], 6, b"sealed");
    let journal = world.nodes[0].disk.find("journal-")[0].clone();
    world.nodes[0].disk.flip(&journal, 60);
    let before = world.nodes[0].volumes.clone();
    world.restart(0, true);
    assert_ne!(world.nodes[0].volumes, before);
    assert_eq!(world.fence(0, &grant), Vote::OtherIncarnation);
    assert_eq!(world.state(0, 6), Some(ReplicaState::Sealed));
    world.restart(0, true);
    assert_eq!(world.state(0, 6), Some(ReplicaState::Sealed));
    let fresh = world.write(7, b"goes on");
    assert!(matches!(world.fence(0, &fresh), Vote::Prefix { length: 7, .. }));
}
