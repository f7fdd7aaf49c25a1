//! The quarantine: what is purged, and when.

use alloc::string::String;
use alloc::vec::Vec;

use super::world::*;
use crate::config::ChunkserverConfig;
use crate::defect::Defects;
use crate::disk::DiskError;
use crate::id::ChunkId;
use crate::message::{DropReason, ToServer};

/// A chunk that server 0 was told to drop, and whose files it is to purge a second later; disk operations that contain one of `late`
/// are answered late meanwhile.
fn dropped(late: &'static [&'static str]) -> World {
    dropped_with(late, Defects::none())
}

fn dropped_with(late: &'static [&'static str], defects: Defects) -> World {
    let mut world = World::with(ChunkserverConfig { quarantine_ms: 1_000, ..ChunkserverConfig::default() });
    world.plant(defects);
    let volume = world.nodes[0].volumes[0];
    world.write(5, b"bytes");
    world.seal(&[0], 5, b"bytes");
    world.nodes[0].late = late;
    let chunk = ChunkId(5);
    world.order(0, ToServer::Drop { chunk, version: V2, volume, reason: DropReason::Reclaimed });
    world.run();
    world.nodes[0].late = &[];
    world
}

#[test]
fn what_is_due_while_a_volume_starts_is_purged_when_it_is_in_use() {
    let mut world = dropped(&[]);
    assert_eq!(world.nodes[0].disk.find("quarantine/").len(), 2);
    world.restart_late(0, false, &["journal"]);
    world.pass(5_000);
    assert!(world.has_late_answers(0), "its start waits for the journal");
    world.nodes[0].late = &[];
    world.answer_all(0);
    world.pass(5_000);
    assert_eq!(world.nodes[0].disk.find("quarantine/"), []);
}

/// What server 0, whose sidecars can't be moved away durably for a while, tells of after a power cut in the middle of a drop.
fn alarms_of_a_drop_that_hangs(defects: Defects) -> Vec<String> {
    let mut world = dropped_with(&["SyncDir(DiskPath { volume: 0, name: \"chunks/05\""], defects);
    world.pass(5_000);
    assert!(world.has_late_answers(0));
    world.nodes[0].late = &["SyncDir(DiskPath { volume: 0, name: \"quarantine"];
    world.answer_late(0);
    world.restart(0, true);
    world.nodes[0].late = &[];
    world.pass(5_000);
    assert_eq!(world.nodes[0].disk.find("quarantine/"), []);
    world.nodes[0].alarms.clone()
}

#[test]
fn the_sidecar_of_a_drop_that_hangs_stays_until_the_journal_has_forgotten() {
    assert_eq!(alarms_of_a_drop_that_hangs(Defects::none()), Vec::<String>::new());
}

#[cfg(feature = "defects")]
#[test]
fn a_sidecar_that_is_purged_before_its_bytes_have_followed_leaves_a_promise_behind() {
    let defects = Defects::one(crate::defect::Defect::PurgedWhileMoved);
    assert_ne!(alarms_of_a_drop_that_hangs(defects), Vec::<String>::new());
}

#[test]
fn what_could_not_be_purged_is_purged_later() {
    let mut world = dropped(&[]);
    assert_eq!(world.nodes[0].disk.find("quarantine/").len(), 2);
    world.nodes[0].disk.failing = Some(("Remove", io()));
    world.pass(5_000);
    assert_eq!(world.nodes[0].disk.find("quarantine/").len(), 2);
    world.nodes[0].disk.failing = None;
    world.pass(5_000);
    assert_eq!(world.nodes[0].disk.find("quarantine/"), []);
}

#[test]
fn what_is_due_before_it_is_moved_is_purged_later() {
    let mut world = dropped(&["quarantine/chunk-"]);
    assert!(world.has_late_answers(0), "it is being moved");
    world.nodes[0].disk.failing = Some(("Remove", DiskError::NotFound));
    world.pass(5_000);
    world.nodes[0].disk.failing = None;
    world.answer_late(0);
    world.pass(5_000);
    assert_eq!(world.nodes[0].disk.find("quarantine/"), []);
}
