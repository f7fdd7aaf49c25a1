//! Disks that fail for a while: what was promised must neither be lost nor be given up.

use super::world::*;
use crate::disk::DiskError;
use crate::message::*;

fn io() -> DiskError {
    DiskError::Io("for a while".into())
}

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
