//! Chunks of `async` files: sealed in the page cache, durable a little later, and never believed after a power cut unread.

use alloc::vec::Vec;

use super::world::*;
use crate::config::ChunkserverConfig;
use crate::defect::Defects;
use crate::disk::DiskError;
use crate::id::*;
use crate::message::*;
use crate::payload::MAX_PAYLOAD;

const DATA_SYNC: &str = "Sync(DiskPath { volume: 0, name: \"chunks/05/";

fn write(world: &mut World, chunk: u64, bytes: &[u8]) -> Grant {
    let grant = Grant { capacity: 4 << 20, ..world.grant(chunk, Durability::Async) };
    world.open(&grant);
    for (at, piece) in bytes.chunks(MAX_PAYLOAD as usize).enumerate() {
        world.append(chunk, at as u64 + 1, at as u64 * u64::from(MAX_PAYLOAD), piece);
    }
    grant
}

/// A chunk 5 of these bytes, sealed on server 0.
fn sealed_in_the_page_cache(bytes: &[u8]) -> World {
    sealed_with(ChunkserverConfig::default(), bytes)
}

fn sealed_with(config: ChunkserverConfig, bytes: &[u8]) -> World {
    let mut world = World::with(config);
    write(&mut world, 5, bytes);
    world.seal(&[0], 5, bytes);
    assert_eq!(world.state(0, 5), Some(ReplicaState::Sealed));
    world
}

fn is_meta(name: &str) -> bool {
    name.ends_with(".meta")
}

fn is_data(name: &str) -> bool {
    name.starts_with("chunks/05/chunk-") && !is_meta(name)
}

/// The power goes; of what was never synced these files are there all the same.
fn power_cut(world: &mut World, kept: impl Fn(&str) -> bool) {
    world.nodes[0].disk.keep(kept);
    world.to_master.clear();
    world.restart(0, true);
}

fn claims(world: &World) -> Vec<ReplicaState> {
    let replicas =
        world.to_master.iter().filter(|(node, _)| *node == 0).flat_map(|(_, message)| match message {
            FromServer::BlockReport { replicas, .. } => replicas.clone(),
            FromServer::ReplicaChanged(replica) => alloc::vec![*replica],
            _ => Vec::new(),
        });
    replicas.map(|replica| replica.state).collect()
}

#[test]
fn a_seal_syncs_nothing_and_a_while_later_a_power_cut_takes_nothing() {
    let bytes = pattern(150_000);
    let mut world = World::new();
    write(&mut world, 5, &bytes);
    let syncs = world.nodes[0].disk.syncs;
    world.seal(&[0], 5, &bytes[..140_000]);
    assert_eq!(world.state(0, 5), Some(ReplicaState::Sealed));
    assert_eq!(world.read(0, 5, V2, 0, 140_000).unwrap().bytes, bytes[..140_000]);
    world.pass(4_500);
    assert_eq!(world.nodes[0].disk.syncs, syncs, "not yet");
    world.pass(1_000);
    assert!(world.nodes[0].disk.syncs > syncs);
    power_cut(&mut world, |_| false);
    assert_eq!(world.state(0, 5), Some(ReplicaState::Sealed));
    assert_eq!(world.read(0, 5, V2, 0, 140_000).unwrap().bytes, bytes[..140_000]);
    assert_eq!(world.nodes[0].disk.find("staging/").len(), 0);
    assert!(world.nodes[0].alarms.is_empty());
}

#[test]
fn after_a_power_cut_a_seal_counts_only_if_every_byte_is_there() {
    let bytes = pattern(150_000);
    // What survived, and what becomes of it.
    let mut world = sealed_in_the_page_cache(&bytes);
    power_cut(&mut world, |_| false);
    assert_eq!(world.state(0, 5), None, "nothing survived");

    let mut world = sealed_in_the_page_cache(&bytes);
    power_cut(&mut world, is_data);
    assert_eq!(world.state(0, 5), None, "bytes that nobody describes are put aside");

    let mut world = sealed_in_the_page_cache(&bytes);
    power_cut(&mut world, is_meta);
    assert_eq!(world.state(0, 5), Some(ReplicaState::Damaged), "a sidecar without bytes");
    assert_eq!(claims(&world).iter().filter(|s| **s == ReplicaState::Sealed).count(), 0);

    let mut world = sealed_in_the_page_cache(&bytes);
    power_cut(&mut world, |name| is_data(name) || is_meta(name));
    assert_eq!(world.state(0, 5), Some(ReplicaState::Sealed), "all survived");
    assert_eq!(world.read(0, 5, V2, 0, 150_000).unwrap().bytes, bytes);
    assert!(world.nodes[0].alarms.is_empty());
    // It is made durable as any other.
    world.pass(6_000);
    power_cut(&mut world, |_| false);
    assert_eq!(world.read(0, 5, V2, 0, 150_000).unwrap().bytes, bytes);
}

#[test]
fn a_torn_replica_is_damaged_after_a_power_cut_and_stays_so() {
    let bytes = pattern(150_000);
    for torn in [0..512, 70_000..70_512, 149_999..150_000] {
        let mut world = sealed_in_the_page_cache(&bytes);
        let path = world.nodes[0].disk.find("chunks/05/").into_iter().find(|p| is_data(&p.name)).unwrap();
        world.nodes[0].disk.keep(|name| is_data(name) || is_meta(name));
        world.nodes[0].disk.zero(&path, torn.clone());
        world.to_master.clear();
        world.restart(0, true);
        assert_eq!(world.state(0, 5), Some(ReplicaState::Damaged), "{torn:?}");
        world.pass(20_000);
        assert_eq!(world.state(0, 5), Some(ReplicaState::Damaged), "{torn:?}: for the scrubber too");
        assert!(claims(&world).iter().all(|state| *state == ReplicaState::Damaged), "{torn:?}");
        assert!(world.read(0, 5, V2, 0, 10).is_err());
    }
}

#[test]
fn a_lost_cut_is_made_again() {
    let bytes = pattern(150_000);
    let mut world = World::new();
    write(&mut world, 5, &bytes);
    world.nodes[0].stuck = Some("Truncate");
    world.seal(&[0], 5, &bytes[..100_000]);
    power_cut(&mut world, |name| is_data(name) || is_meta(name));
    assert_eq!(world.read(0, 5, V2, 0, 100_000).unwrap().bytes, bytes[..100_000]);
    world.pass(20_000);
    assert_eq!(world.state(0, 5), Some(ReplicaState::Sealed));
    assert!(world.nodes[0].alarms.is_empty());
}

#[test]
fn the_death_of_the_process_at_every_step_costs_nothing() {
    let bytes = pattern(150_000);
    for stuck in ["staging/", "Rename", "Truncate"] {
        let mut world = World::new();
        write(&mut world, 5, &bytes);
        world.nodes[0].stuck = Some(stuck);
        world.seal(&[0], 5, &bytes[..100_000]);
        world.restart(0, false);
        world.seal(&[0], 5, &bytes[..100_000]);
        assert_eq!(world.read(0, 5, V2, 0, 100_000).unwrap().bytes, bytes[..100_000], "{stuck}");
        world.pass(6_000);
        power_cut(&mut world, |_| false);
        assert_eq!(world.read(0, 5, V2, 0, 100_000).unwrap().bytes, bytes[..100_000], "{stuck}");
        assert!(world.nodes[0].alarms.is_empty(), "{stuck}: {:?}", world.nodes[0].alarms);
    }
}

#[test]
fn a_crash_at_every_step_of_a_flush_claims_nothing_that_is_not_there() {
    let bytes = pattern(150_000);
    let steps = [
        "Read {",
        DATA_SYNC,
        "Write { path: DiskPath { volume: 0, name: \"staging",
        "Sync(DiskPath { volume: 0, name: \"staging",
        "Rename",
        "SyncDir(DiskPath { volume: 0, name: \"chunks/05\"",
    ];
    for stuck in steps {
        let mut world = sealed_in_the_page_cache(&bytes);
        world.nodes[0].stuck = Some(stuck);
        world.pass(6_000);
        world.restart(0, false);
        assert_eq!(world.read(0, 5, V2, 0, 150_000).unwrap().bytes, bytes, "{stuck}: the process died");
        world.pass(6_000);
        power_cut(&mut world, |_| false);
        assert_eq!(world.read(0, 5, V2, 0, 150_000).unwrap().bytes, bytes, "{stuck}: and was flushed later");

        let survivors: [fn(&str) -> bool; 4] =
            [|_| false, is_data, is_meta, |name| is_data(name) || is_meta(name)];
        for (i, kept) in survivors.into_iter().enumerate() {
            let mut world = sealed_in_the_page_cache(&bytes);
            world.nodes[0].stuck = Some(stuck);
            world.pass(6_000);
            power_cut(&mut world, kept);
            let whole = world.state(0, 5) == Some(ReplicaState::Sealed);
            assert!(whole || !claims(&world).contains(&ReplicaState::Sealed), "{stuck} {i}");
            assert!(whole || i < 3, "{stuck}: everything was there");
            if whole {
                assert_eq!(world.read(0, 5, V2, 0, 150_000).unwrap().bytes, bytes, "{stuck} {i}");
            }
        }
    }
}

#[test]
fn what_a_sync_could_not_save_counts_only_after_it_was_written_again() {
    const DATA_WRITE: &str = "Write { path: DiskPath { volume: 0, name: \"chunks/05/chunk-";
    let bytes = pattern(2_500_000);
    let mut world = sealed_in_the_page_cache(&bytes);
    let failing = |what| Some((what, DiskError::Io("EIO".into())));
    world.nodes[0].disk.failing = failing(DATA_SYNC);
    world.pass(6_000);
    world.nodes[0].disk.failing = failing(DATA_WRITE);
    for restarts in 0..2 {
        world.pass(60_000);
        assert_eq!(world.state(0, 5), Some(ReplicaState::Damaged), "after {restarts} restarts");
        world.restart(0, false);
    }
    world.nodes[0].disk.failing = None;
    world.pass(60_000);
    assert_eq!(world.state(0, 5), Some(ReplicaState::Sealed));
    power_cut(&mut world, |_| false);
    assert_eq!(world.state(0, 5), Some(ReplicaState::Sealed));
    assert_eq!(world.read(0, 5, V2, 2_490_000, 10_000).unwrap().bytes, bytes[2_490_000..]);
}

#[test]
fn what_a_process_left_in_the_page_cache_is_written_again_by_the_next_one() {
    let bytes = pattern(2_500_000);
    let mut world = sealed_in_the_page_cache(&bytes);
    world.nodes[0].disk.failing = Some((DATA_SYNC, DiskError::Io("EIO".into())));
    world.nodes[0].stuck = Some("journal-");
    world.pass(6_000);
    assert_eq!(world.state(0, 5), Some(ReplicaState::Damaged), "and its journal never gets the note");
    world.nodes[0].disk.failing = None;
    world.restart(0, false);
    assert_eq!(world.state(0, 5), Some(ReplicaState::Sealed), "it can be read");
    world.pass(60_000);
    power_cut(&mut world, |_| false);
    assert_eq!(world.state(0, 5), Some(ReplicaState::Sealed));
    assert_eq!(world.read(0, 5, V2, 2_490_000, 10_000).unwrap().bytes, bytes[2_490_000..]);
}

#[test]
fn what_a_sync_could_not_save_and_has_rotted_stays_damaged() {
    let bytes = pattern(150_000);
    let mut world = sealed_in_the_page_cache(&bytes);
    world.nodes[0].disk.failing = Some((DATA_SYNC, DiskError::Io("EIO".into())));
    world.pass(6_000);
    world.nodes[0].disk.failing = None;
    let path = world.nodes[0].disk.find("chunks/05/").into_iter().find(|p| is_data(&p.name)).unwrap();
    world.nodes[0].disk.flip(&path, 140_000);
    world.pass(120_000);
    assert_eq!(world.state(0, 5), Some(ReplicaState::Damaged));
}

#[test]
fn a_passing_read_error_is_forgiven_once_the_chunk_is_durable() {
    let bytes = pattern(1_000);
    let mut world = sealed_in_the_page_cache(&bytes);
    world.nodes[0].disk.failing = Some((reads_of_5(0), DiskError::Io("once".into())));
    assert!(world.read(0, 5, V2, 0, 5).is_err());
    world.nodes[0].disk.failing = None;
    assert_eq!(world.state(0, 5), Some(ReplicaState::Damaged));
    world.pass(40_000);
    assert_eq!(world.state(0, 5), Some(ReplicaState::Sealed));
    world.restart(0, true);
    assert_eq!(world.read(0, 5, V2, 0, 1_000).unwrap().bytes, bytes);
}

#[test]
fn a_flush_that_the_disk_puts_off_is_made_up_for() {
    let bytes = pattern(150_000);
    for failing in
        ["Read { path: DiskPath { volume: 0, name: \"chunks/05/", "staging/", "Rename", "chunks/05\""]
    {
        for error in [DiskError::NoSpace, DiskError::Io("for a while".into())] {
            let config = ChunkserverConfig { scrub_bytes_per_second: 0, ..ChunkserverConfig::default() };
            let mut world = sealed_with(config, &bytes);
            world.nodes[0].disk.failing = Some((failing, error));
            world.pass(5_500);
            world.nodes[0].disk.failing = None;
            world.pass(3_000);
            assert_eq!(world.state(0, 5), Some(ReplicaState::Sealed), "{failing}");
            power_cut(&mut world, |_| false);
            assert_eq!(world.read(0, 5, V2, 0, 150_000).unwrap().bytes, bytes, "{failing}");
        }
    }
}

#[test]
fn a_dropped_chunk_is_not_flushed_and_the_next_one_is() {
    let mut world = World::new();
    for chunk in [5, 6] {
        write(&mut world, chunk, b"bytes");
        world.seal(&[0], chunk, b"bytes");
    }
    let (volume, reason) = (world.nodes[0].volumes[0], DropReason::Reclaimed);
    world.order(0, ToServer::Drop { chunk: ChunkId(5), version: V2, volume, reason });
    world.run();
    world.pass(8_000);
    assert_eq!(world.nodes[0].disk.find("chunks/05/").len() + world.nodes[0].disk.find("staging/").len(), 0);
    world.restart(0, true);
    assert_eq!(world.state(0, 5), None);
    assert_eq!(world.read(0, 6, V2, 0, 5).unwrap().bytes, &b"bytes"[..]);
}

#[test]
fn a_volume_that_fails_during_a_flush_leaves_nothing_under_way() {
    let mut world = sealed_in_the_page_cache(b"bytes");
    world.nodes[0].stuck = Some(DATA_SYNC);
    world.pass(6_000);
    world.nodes[0].disk.failing = Some(("journal-", DiskError::Io("EIO".into())));
    write(&mut world, 6, b"others");
    world.pass(8_000);
    assert_eq!(world.state(0, 5), Some(ReplicaState::Damaged));
    world.nodes[0].disk.failing = None;
    world.restart(0, false);
    world.pass(8_000);
    world.restart(0, true);
    assert_eq!(world.read(0, 5, V2, 0, 5).unwrap().bytes, &b"bytes"[..]);
}

#[test]
fn more_than_may_wait_is_synced_as_it_is_sealed() {
    let config = ChunkserverConfig { lazy_sync_bytes: 1 << 20, ..ChunkserverConfig::default() };
    let mut world = World::with(config);
    for chunk in [5, 6] {
        write(&mut world, chunk, b"bytes");
        world.seal(&[0], chunk, b"bytes");
    }
    power_cut(&mut world, |_| false);
    assert_eq!(world.state(0, 5), None);
    assert_eq!(world.read(0, 6, V2, 0, 5).unwrap().bytes, &b"bytes"[..]);
    // What waited is gone, and so is its share.
    write(&mut world, 7, b"bytes");
    let syncs = world.nodes[0].disk.syncs;
    world.seal(&[0], 7, b"bytes");
    assert_eq!(world.nodes[0].disk.syncs, syncs);
}

#[cfg(feature = "defects")]
#[test]
fn a_believed_sidecar_claims_bytes_that_are_not_there() {
    use crate::defect::{Defect, Defects};
    let bytes = pattern(150_000);
    let mut world = World::new();
    world.plant(Defects::one(Defect::TrustUnsyncedSeal));
    write(&mut world, 5, &bytes);
    world.seal(&[0], 5, &bytes);
    let path = world.nodes[0].disk.find("chunks/05/").into_iter().find(|p| is_data(&p.name)).unwrap();
    world.nodes[0].disk.keep(|name| is_data(name) || is_meta(name));
    world.nodes[0].disk.zero(&path, 0..512);
    world.to_master.clear();
    world.restart(0, true);
    assert!(claims(&world).contains(&ReplicaState::Sealed));
}

/// Server 0 starts with chunk 5 in the page cache of one volume and durably on the other, where it can't read the sidecar if it is
/// not `readable` for a while. Returns the volume in whose page cache it is, too.
fn cached_and_durable(defects: Defects, readable: bool) -> (World, u16) {
    let bytes = pattern(10_000);
    let mut world = World::new();
    world.volumes = 2;
    world.restart(0, false);
    write(&mut world, 5, &bytes);
    world.seal(&[1], 5, &bytes);
    world.pass(6_000);
    world.seal(&[0], 5, &bytes);
    let cached = world.view(0, 5).unwrap();
    assert!(!cached.is_durable);
    world.put_files_of(1, 5, 1 - cached.volume_index);
    world.nodes[0].disk.failing = (!readable).then(|| (reads_of_5(1 - cached.volume_index), io()));
    world.plant(defects);
    world.nodes[0].disk.failing = None;
    (world, cached.volume_index)
}

fn put_aside(world: &World) -> usize {
    world.nodes[0].disk.find("quarantine/chunk-").len()
}

#[test]
fn of_two_equal_replicas_the_durable_one_stays() {
    let (mut world, cached) = cached_and_durable(Defects::none(), true);
    assert_eq!(put_aside(&world), 2, "one of the two was moved away");
    assert_ne!(world.view(0, 5).unwrap().volume_index, cached);
    power_cut(&mut world, |_| false);
    assert_eq!(world.state(0, 5), Some(ReplicaState::Sealed));
}

/// What server 0 has after a power cut if it could not read what it has durably.
fn left_of_cached_and_unreadable(defects: Defects) -> Option<ReplicaState> {
    let (mut world, cached) = cached_and_durable(defects, false);
    assert_eq!(world.view(0, 5).map(|r| (r.state, r.volume_index)), Some((ReplicaState::Sealed, cached)));
    power_cut(&mut world, |_| false);
    world.state(0, 5)
}

#[test]
fn what_cannot_be_read_stays_until_what_can_is_durable() {
    assert_eq!(left_of_cached_and_unreadable(Defects::none()), Some(ReplicaState::Sealed));
    let (mut world, cached) = cached_and_durable(Defects::none(), false);
    assert_eq!(put_aside(&world), 0);
    world.pass(6_000);
    assert!(world.view(0, 5).unwrap().is_durable);
    assert_eq!((put_aside(&world), world.view(0, 5).unwrap().volume_index), (2, cached));
}

#[test]
fn what_cannot_be_read_stays_if_what_can_turns_out_to_be_damaged() {
    let (mut world, cached) = cached_and_durable(Defects::none(), false);
    let syncs =
        ["Sync(DiskPath { volume: 0, name: \"chunks/05/", "Sync(DiskPath { volume: 1, name: \"chunks/05/"];
    world.nodes[0].disk.failing = Some((syncs[usize::from(cached)], io()));
    world.pass(6_000);
    world.nodes[0].disk.failing = None;
    assert_eq!((world.state(0, 5), put_aside(&world)), (Some(ReplicaState::Damaged), 0));
    world.restart(0, false);
    assert_eq!(world.view(0, 5).map(|r| (r.state, r.volume_index)), Some((ReplicaState::Sealed, 1 - cached)));
}

#[cfg(feature = "defects")]
#[test]
fn what_goes_early_may_have_been_the_last_one() {
    let planted = Defects::one(crate::defect::Defect::LoserGoesEarly);
    assert_eq!(left_of_cached_and_unreadable(planted), Some(ReplicaState::Damaged));
}
