//! Reads that fail for a while, at the start above all: nothing is undone on their account.

use alloc::vec::Vec;

use super::world::*;
use crate::config::ChunkserverConfig;
use crate::defect::Defects;
use crate::message::ReplicaState;

#[test]
fn a_sidecar_that_could_not_be_read_at_the_start_is_read_again_by_the_scrubber() {
    let mut world = World::new();
    let bytes = pattern(100_000);
    world.write(5, &bytes);
    world.seal(&[0], 5, &bytes);
    world.nodes[0].disk.failing = Some((".meta\" }, offset", io()));
    world.restart(0, false);
    assert_eq!(world.view(0, 5).map(|r| (r.state, r.version.0)), Some((ReplicaState::Damaged, 0)));
    world.nodes[0].disk.failing = None;
    world.pass(30_000);
    assert_eq!(world.state(0, 5), Some(ReplicaState::Sealed));
    assert_eq!(world.read(0, 5, V2, 0, 100_000).unwrap().bytes, bytes);
    world.restart(0, true);
    assert_eq!(world.state(0, 5), Some(ReplicaState::Sealed));
}

/// Server 0 was sealed at more than its journal promises, and is killed; the next start can't read its sidecar, and the start after
/// that can. What it has then.
fn sealed_beyond_the_journal(defects: Defects) -> Option<ReplicaState> {
    let mut world = World::new();
    world.plant(defects);
    world.write(5, b"promised");
    world.nodes[0].stuck = Some("Sync(DiskPath { volume: 0, name: \"journal-");
    world.append(5, 2, 8, b", under way");
    world.append(5, 3, 19, b", and waiting for the journal");
    world.seal(&[0], 5, b"promised, under way, and waiting for the journal");
    assert_eq!(world.state(0, 5), Some(ReplicaState::Sealed));
    world.nodes[0].disk.failing = Some((".meta\" }, offset", io()));
    world.restart(0, false);
    assert_ne!(world.state(0, 5), Some(ReplicaState::Sealed));
    world.nodes[0].disk.failing = None;
    world.restart(0, true);
    world.state(0, 5)
}

#[test]
fn a_sidecar_that_cannot_be_read_costs_no_bytes_that_were_sealed() {
    assert_eq!(sealed_beyond_the_journal(Defects::none()), Some(ReplicaState::Sealed));
}

#[test]
fn a_journal_that_is_rewritten_meanwhile_has_no_note_of_what_could_not_be_read() {
    for state in [ReplicaState::Sealed, ReplicaState::Fenced] {
        let mut world = World::with(ChunkserverConfig { journal_bytes: 300, ..ChunkserverConfig::default() });
        world.write(5, b"promised");
        if state == ReplicaState::Sealed {
            world.seal(&[0], 5, b"promised");
        }
        world.nodes[0].disk.failing = Some((reads_of_5(0), io()));
        world.restart(0, false);
        assert_eq!(world.state(0, 5), Some(ReplicaState::Damaged));
        let before = world.nodes[0].disk.find("journal-")[0].clone();
        (6..12).for_each(|chunk| drop(world.write(chunk, &pattern(1_000))));
        assert_ne!(world.nodes[0].disk.find("journal-"), [before], "another journal took over");
        world.nodes[0].disk.failing = None;
        world.restart(0, true);
        assert_eq!(world.state(0, 5), Some(state));
    }
}

#[cfg(feature = "defects")]
#[test]
fn a_sidecar_that_is_taken_for_none_costs_what_the_journal_did_not_promise() {
    let defects = Defects::one(crate::defect::Defect::UnreadableIsUnsealed);
    assert_eq!(sealed_beyond_the_journal(defects), Some(ReplicaState::Damaged));
}

#[test]
fn what_cannot_be_read_may_be_the_better_one_of_two_replicas() {
    let bytes = pattern(10_000);
    let mut world = World::new();
    world.volumes = 2;
    world.restart(0, false);
    world.write(6, &bytes);
    world.seal(&[1], 6, &bytes);
    let (open, copied) = (world.view(0, 6).unwrap().volume_index, 1 - world.view(0, 6).unwrap().volume_index);
    world.put_files_of(1, 6, copied);
    world.nodes[0].disk.failing = Some((".meta\" }, offset", io()));
    world.restart(0, false);
    world.nodes[0].disk.failing = None;
    assert_eq!(world.view(0, 6).map(|r| (r.state, r.volume_index)), Some((ReplicaState::Damaged, copied)));
    let kept = world.nodes[0].disk.find("quarantine/chunk-");
    assert!(kept.len() == 1 && kept[0].volume == open && kept[0].name.ends_with(".keep"), "{kept:?}");
    world.restart(0, true);
    assert_eq!(world.read(0, 6, V2, 0, 10_000).unwrap().bytes, bytes);
}

/// Server 0 starts with a broken sidecar of chunk 5 on one volume and one that it can't read on the other, and once more when it can.
/// Whether it has the sound replica then, for each of the two ways round.
fn sound_one_stays(defects: Defects) -> [bool; 2] {
    let bytes = pattern(10_000);
    [0, 1].map(|broken| {
        let mut world = World::new();
        world.volumes = 2;
        world.plant(defects);
        world.write(5, &bytes);
        world.seal(&[0, 1], 5, &bytes);
        world.put_files_of(1, 5, 1 - world.view(0, 5).unwrap().volume_index);
        let sidecars = world.nodes[0].disk.find(".meta");
        let sidecar = sidecars.iter().find(|path| path.volume == broken).unwrap();
        world.nodes[0].disk.flip(sidecar, 20);
        world.nodes[0].disk.failing = Some((reads_of_5(1 - broken), io()));
        world.restart(0, false);
        world.nodes[0].disk.failing = None;
        world.restart(0, false);
        world.view(0, 5).map(|r| (r.state, r.volume_index)) == Some((ReplicaState::Sealed, 1 - broken))
    })
}

#[test]
fn what_cannot_be_read_goes_before_what_is_known_to_be_broken() {
    assert_eq!(sound_one_stays(Defects::none()), [true, true]);
}

#[cfg(feature = "defects")]
#[test]
fn what_is_broken_may_be_taken_for_what_cannot_be_read() {
    assert_ne!(sound_one_stays(Defects::one(crate::defect::Defect::BrokenIsUnread)), [true, true]);
}

#[test]
fn a_server_with_an_unreadable_volume_and_a_blank_one_does_not_become_another() {
    let mut world = World::new();
    let server = world.nodes[0].server;
    world.volumes = 2;
    world.nodes[0].disk.failing = Some(("Read { path: DiskPath { volume: 0, name: \"cairn-volume", io()));
    world.restart(0, false);
    let why = world.nodes[0].halted.take().expect("it ends");
    assert!(why.contains("which server this is"), "{why}");
    world.nodes[0].disk.failing = None;
    world.restart(0, false);
    assert_eq!((world.nodes[0].halted.take(), world.nodes[0].server), (None, server));
}

#[test]
fn a_volume_whose_space_cannot_be_measured_at_the_start_is_out_of_use() {
    let mut world = World::new();
    world.volumes = 2;
    world.nodes[0].disk.failing = Some(("Space { volume: 1", io()));
    world.restart(0, false);
    assert_eq!(world.nodes[0].machine.failed_volumes().map(|(volume, _)| volume).collect::<Vec<_>>(), [1]);
}
