use cairn_core::disk::{DiskError, DiskOk, DiskRequest};
use cairn_core::time::Span;
use runtime_sim::{DamageKind, DiskFaults, FaultCounts, World, run};

use crate::toy::{Order, disk, options, path, read, start, tell, write};

fn alone<T, F, Fut>(seed: u64, story: F) -> (T, FaultCounts)
where
    F: FnOnce(World) -> Fut + Send + 'static,
    Fut: Future<Output = T> + 'static,
    T: Send + 'static,
{
    let outcome = run(seed, options(), |world| async move {
        start(&world, "a", false);
        story(world).await
    });
    match outcome.result {
        Ok(value) => (value, outcome.faults),
        Err(failure) => panic!("seed {seed}: {failure}\n{}", outcome.trace),
    }
}

async fn ok(world: &World, request: DiskRequest) {
    assert_eq!(disk(world, "a", request).await, Ok(DiskOk::Done));
}

async fn durable(world: &World, name: &str, bytes: &[u8]) {
    ok(world, write(name, 0, bytes)).await;
    ok(world, DiskRequest::Sync(path(name))).await;
    ok(world, DiskRequest::SyncDir(path(""))).await;
}

#[test]
fn a_power_cut_takes_only_what_was_not_synced() {
    let (mut whole, mut gone, mut torn) = (0, 0, 0);
    for seed in 0..60 {
        let (after, _) = alone(seed, |world| async move {
            durable(&world, "safe", &[1; 5_000]).await;
            durable(&world, "grown", &[2; 4_096]).await;
            ok(&world, write("grown", 4_096, &[3; 4_096])).await;
            world.power_cut("a");
            world.restart("a");
            assert_eq!(read(&world, "a", "safe").await.unwrap(), [1; 5_000]);
            let grown = read(&world, "a", "grown").await.unwrap();
            assert_eq!(grown[..4_096], [2; 4_096]);
            grown[4_096..].to_vec()
        });
        for sector in after.chunks(512) {
            assert!(sector.iter().all(|byte| *byte == sector[0]), "a sector is written wholly or not at all");
        }
        match after.iter().filter(|byte| **byte == 3).count() {
            0 => gone += 1,
            4_096 => whole += 1,
            _ => torn += 1,
        }
    }
    assert!(whole > 5 && gone > 5 && torn > 5, "{whole} whole, {gone} gone, {torn} torn");
}

#[test]
fn a_kill_takes_nothing_that_completed() {
    for seed in 0..10 {
        alone(seed, |world| async move {
            ok(&world, write("file", 0, &[7; 9_000])).await;
            world.kill("a");
            world.restart("a");
            assert_eq!(read(&world, "a", "file").await.unwrap(), [7; 9_000]);
        });
    }
}

#[test]
fn a_write_under_way_at_a_kill_happens_or_not_or_in_part() {
    let mut lengths = std::collections::BTreeSet::new();
    for seed in 0..40 {
        let (length, _) = alone(seed, |world| async move {
            tell(&world, "a", Order::Begin(write("file", 0, &[7; 4_096]))).await;
            world.kill("a");
            world.restart("a");
            read(&world, "a", "file").await.map_or(0, |bytes| bytes.len())
        });
        lengths.insert(length);
    }
    assert!(lengths.contains(&0) && lengths.contains(&4_096) && lengths.len() > 2, "{lengths:?}");
}

#[test]
fn a_synced_file_whose_name_was_not_synced_may_vanish() {
    let mut found = 0;
    for seed in 0..40 {
        let (there, faults) = alone(seed, |world| async move {
            ok(&world, write("file", 0, &[7; 100])).await;
            ok(&world, DiskRequest::Sync(path("file"))).await;
            assert_eq!(world.durable_file("a", 0, "file"), None);
            world.power_cut("a");
            world.restart("a");
            read(&world, "a", "file").await
        });
        match there {
            Ok(bytes) => {
                assert_eq!(bytes, [7; 100]);
                found += 1;
            }
            Err(error) => {
                assert_eq!((error, faults.names_lost), (DiskError::NotFound, 1));
            }
        }
    }
    assert!((5..35).contains(&found), "{found} of 40 survived");
}

#[test]
fn a_rename_is_atomic_under_power_cuts() {
    let mut new = 0;
    for seed in 0..40 {
        let (bytes, _) = alone(seed, |world| async move {
            durable(&world, "file", &[1; 1_000]).await;
            durable(&world, "next", &[2; 2_000]).await;
            ok(&world, DiskRequest::Rename { from: path("next"), to: path("file") }).await;
            assert_eq!(read(&world, "a", "next").await, Err(DiskError::NotFound));
            world.power_cut("a");
            world.restart("a");
            read(&world, "a", "file").await.unwrap()
        });
        assert!(bytes == [1; 1_000] || bytes == [2; 2_000]);
        new += usize::from(bytes.len() == 2_000);
    }
    assert!((5..35).contains(&new), "{new} of 40 were renamed");
}

#[test]
fn a_lost_directory_takes_its_files_along() {
    let mut lost = 0;
    for seed in 0..40 {
        let (there, _) = alone(seed, |world| async move {
            ok(&world, DiskRequest::MakeDir(path("x/y"))).await;
            ok(&world, write("x/y/file", 0, &[1; 10])).await;
            ok(&world, DiskRequest::Sync(path("x/y/file"))).await;
            ok(&world, DiskRequest::SyncDir(path("x/y"))).await;
            ok(&world, DiskRequest::SyncDir(path("x"))).await;
            assert_eq!(world.durable_file("a", 0, "x/y/file"), None, "the root was not synced");
            world.power_cut("a");
            world.restart("a");
            read(&world, "a", "x/y/file").await.is_ok()
        });
        lost += usize::from(!there);
    }
    assert!((5..35).contains(&lost), "{lost} of 40 were lost");
}

#[test]
fn a_sync_covers_what_completed_before_it_was_asked_for() {
    for seed in 0..40 {
        let (safe, _) = alone(seed, |world| async move {
            durable(&world, "file", &[1; 512]).await;
            tell(&world, "a", Order::Begin(DiskRequest::Sync(path("file")))).await;
            tell(&world, "a", Order::Begin(write("file", 512, &[2; 512]))).await;
            world.sleep(Span::from_ms(100)).await;
            world.durable_file("a", 0, "file").unwrap().len()
        });
        assert_eq!(safe, 512);
    }
}

#[test]
fn a_flipped_bit_is_read_until_it_is_overwritten() {
    alone(1, |world| async move {
        durable(&world, "file", &[0; 1_000]).await;
        assert!(world.flip_bit("a", 0, "file", 8 * 600 + 3));
        assert_eq!(read(&world, "a", "file").await.unwrap()[600], 8);
        assert_eq!(world.durable_file("a", 0, "file").unwrap()[600], 8);
        let standing = world.damage_standing();
        assert_eq!((standing.len(), standing[0].offset, standing[0].kind), (1, 600, DamageKind::BitFlip));
        ok(&world, write("file", 512, &[5; 200])).await;
        assert!(world.damage_standing().is_empty());
        assert_eq!(world.damage_injected().len(), 1);
        assert!(!world.flip_bit("a", 0, "file", 8 * 600), "not durable, so not at rest");
        assert!(!world.flip_bit("a", 0, "file", 8 * 1_000), "beyond the end");
        let mut rng = world.rng("flips");
        let flip = world.flip_random_bit("a", &mut rng, u64::MAX, |path| path == "file").unwrap();
        assert_eq!((flip.node.as_str(), flip.path.as_str()), ("a", "file"));
        assert!(world.flip_random_bit("a", &mut rng, u64::MAX, |path| path == "other").is_none());
    });
}

#[test]
fn a_bad_sector_fails_reads_until_it_is_written() {
    alone(2, |world| async move {
        durable(&world, "file", &[0; 2_000]).await;
        assert!(world.bad_sector("a", 0, "file", 700));
        assert!(matches!(read(&world, "a", "file").await, Err(DiskError::Io(_))));
        let before = DiskRequest::Read { path: path("file"), offset: 0, length: 512 };
        assert!(disk(&world, "a", before).await.is_ok());
        ok(&world, write("file", 512, &[1; 512])).await;
        assert_eq!(read(&world, "a", "file").await.unwrap().len(), 2_000);
    });
}

#[test]
fn a_full_disk_refuses_growth_and_takes_it_after_a_removal() {
    alone(3, |world| async move {
        world.set_disk_faults("a", 0, DiskFaults { capacity_bytes: 10_000, ..DiskFaults::default() });
        ok(&world, write("one", 0, &[1; 6_000])).await;
        assert_eq!(disk(&world, "a", write("two", 0, &[1; 6_000])).await, Err(DiskError::NoSpace));
        assert_eq!(read(&world, "a", "two").await, Err(DiskError::NotFound));
        ok(&world, write("one", 0, &[2; 6_000])).await;
        let space = disk(&world, "a", DiskRequest::Space { volume: 0 }).await;
        assert_eq!(space, Ok(DiskOk::Space { total: 10_000, free: 4_000 }));
        ok(&world, DiskRequest::Remove(path("one"))).await;
        ok(&world, write("two", 0, &[1; 6_000])).await;
    });
}

#[test]
fn a_failed_sync_may_lose_writes_for_good() {
    let mut lost = 0;
    for seed in 0..30 {
        let (after, faults) = alone(seed, |world| async move {
            durable(&world, "file", &[1; 512]).await;
            ok(&world, write("file", 0, &[2; 512])).await;
            world.set_disk_faults(
                "a",
                0,
                DiskFaults { sync_errors_per_million: 1_000_000, ..DiskFaults::default() },
            );
            assert!(matches!(
                disk(&world, "a", DiskRequest::Sync(path("file"))).await,
                Err(DiskError::Io(_) | DiskError::NoSpace)
            ));
            world.clear_disk_faults();
            ok(&world, DiskRequest::Sync(path("file"))).await;
            assert_eq!(read(&world, "a", "file").await.unwrap(), [2; 512]);
            world.durable_file("a", 0, "file").unwrap()[0]
        });
        assert_eq!(faults.io_errors, 1);
        lost += usize::from(after == 1);
    }
    assert!((5..25).contains(&lost), "{lost} of 30 were lost");
}

#[test]
fn errors_below_a_directory_spare_the_rest_of_the_disk() {
    let ((), faults) = alone(5, |world| async move {
        ok(&world, DiskRequest::MakeDir(path("d"))).await;
        for name in ["d/one", "dune"] {
            durable(&world, name, &[1; 512]).await;
        }
        let per_million = 1_000_000;
        let faults = DiskFaults {
            read_errors_per_million: per_million,
            write_errors_per_million: per_million,
            sync_errors_per_million: per_million,
            errors_below: Some("d"),
            ..DiskFaults::default()
        };
        world.set_disk_faults("a", 0, faults);
        for request in
            [write("dune", 0, &[2; 512]), DiskRequest::Sync(path("dune")), DiskRequest::SyncDir(path("d"))]
        {
            ok(&world, request).await;
        }
        for request in [write("d/one", 0, &[2; 512]), DiskRequest::Sync(path("d/one"))] {
            assert!(disk(&world, "a", request).await.is_err());
        }
        assert!(matches!(read(&world, "a", "d/one").await, Err(DiskError::Io(_))));
        world.clear_disk_faults();
        assert_eq!(read(&world, "a", "d/one").await.unwrap(), [1; 512]);
    });
    assert_eq!(faults.io_errors, 3);
}

#[test]
fn directories_list_their_own_entries() {
    alone(4, |world| async move {
        ok(&world, DiskRequest::MakeDir(path("d/sub"))).await;
        ok(&world, write("d/one", 0, &[1; 3])).await;
        ok(&world, write("d/sub/two", 0, &[1; 3])).await;
        let Ok(DiskOk::Entries(mut entries)) = disk(&world, "a", DiskRequest::List(path("d"))).await else {
            panic!("the directory is there")
        };
        entries.sort();
        let found: Vec<_> = entries.iter().map(|e| (e.name.as_str(), e.length, e.directory)).collect();
        assert_eq!(found, [("one", 3, false), ("sub", 0, true)]);
        let missing = disk(&world, "a", DiskRequest::List(path("nowhere"))).await;
        assert_eq!(missing, Err(DiskError::NotFound));
        assert_eq!(disk(&world, "a", write("nowhere/file", 0, &[1])).await, Err(DiskError::NotFound));
        world.kill("a");
        world.wipe_volume("a", 0);
        world.restart("a");
        assert_eq!(disk(&world, "a", DiskRequest::List(path(""))).await, Ok(DiskOk::Entries(vec![])));
    });
}

#[test]
fn a_stuck_sync_ends_with_the_fault_and_saves_nothing_before() {
    let ((), faults) = alone(21, |world| async move {
        durable(&world, "f", &[1; 512]).await;
        ok(&world, write("f", 0, &[2; 512])).await;
        world.set_disk_faults("a", 0, DiskFaults { stuck_syncs: true, ..DiskFaults::default() });
        let (told, asked) = (std::sync::Arc::new(std::sync::Mutex::new(None)), world.clone());
        let answer = told.clone();
        world.spawn(async move {
            let result = disk(&asked, "a", DiskRequest::Sync(path("f"))).await;
            *answer.lock().unwrap() = Some(result);
        });
        world.sleep(Span::from_ms(60_000)).await;
        assert_eq!(*told.lock().unwrap(), None);
        assert_eq!(world.durable_file("a", 0, "f").unwrap(), [1; 512]);
        assert_eq!(read(&world, "a", "f").await.unwrap(), [2; 512], "reads and writes go on");
        world.clear_disk_faults();
        world.sleep(Span::from_ms(10)).await;
        assert_eq!(*told.lock().unwrap(), Some(Ok(DiskOk::Done)));
        assert_eq!(world.durable_file("a", 0, "f").unwrap(), [2; 512]);
    });
    assert_eq!(faults.stuck_syncs, 1);
}

#[test]
fn a_stuck_list_tells_late_what_there_was() {
    const LISTS: usize = 20;
    let ((), faults) = alone(23, |world| async move {
        world.set_disk_faults("a", 0, DiskFaults { stuck_lists: true, ..DiskFaults::default() });
        let told = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
        for _ in 0..LISTS {
            let (answers, asked) = (told.clone(), world.clone());
            world.spawn(async move {
                let result = disk(&asked, "a", DiskRequest::List(path(""))).await;
                answers.lock().unwrap().push(result);
            });
        }
        world.sleep(Span::from_ms(60_000)).await;
        durable(&world, "f", &[1; 512]).await;
        assert!((1..LISTS).contains(&told.lock().unwrap().len()), "some at once");
        world.clear_disk_faults();
        world.sleep(Span::from_ms(10)).await;
        assert_eq!(*told.lock().unwrap(), vec![Ok(DiskOk::Entries(vec![])); LISTS], "f came later");
    });
    assert!(faults.stuck_lists > 0);
}

#[test]
fn a_misdirected_write_strikes_two_sectors_until_they_are_mended() {
    let ((), faults) = alone(22, |world| async move {
        durable(&world, "x", &[1; 1_024]).await;
        durable(&world, "y", &[2; 1_024]).await;
        let mut rng = world.rng("test");
        let struck = world.misdirect_write("a", &mut rng, |_| true).expect("both are at rest");
        assert_eq!(struck.kind, DamageKind::Misdirected);
        let both = [read(&world, "a", "x").await.unwrap(), read(&world, "a", "y").await.unwrap()].concat();
        assert_eq!(both.iter().filter(|byte| **byte == 0).count(), 512, "a sector was never written");
        assert_eq!(both.len(), 2_048);
        assert!(!world.damage_standing().is_empty());
        world.power_cut("a");
        world.restart("a");
        let after = [read(&world, "a", "x").await.unwrap(), read(&world, "a", "y").await.unwrap()].concat();
        assert_eq!(after, both, "it is on the disk");
        world.mend_files("a");
        assert_eq!(read(&world, "a", "x").await.unwrap(), [1; 1_024]);
        assert_eq!(read(&world, "a", "y").await.unwrap(), [2; 1_024]);
        assert!(world.damage_standing().is_empty());
    });
    assert_eq!(faults.misdirected_writes, 1);
}
