//! The operation log: format, restart, torn tail, damage, missing parts, exactly once.

use alloc::format;
use alloc::vec::Vec;
use proptest::prelude::{Just, Strategy, any, prop_assert, prop_oneof, proptest};

use super::disk::Disk;
use super::rig::{Rig, conn, replica};
use super::service::file_on_three;
use crate::config::MasterConfig;
use crate::defect::Defects;
use crate::disk::{DiskError, DiskRequest};
use crate::error::MasterError;
use crate::id::{ChunkVersion, ClusterId};
use crate::log::{GroupWriter, HEADER_BYTES, Scan};
use crate::master::identity;
use crate::message::{FromServer, MasterReply, MasterRequest, ReplicaState, SealedChunk, ToServer};

#[derive(Clone, Debug)]
enum Act {
    Mkdir,
    Disk(u8),
    Pass(u16),
    Crash(u8),
    PowerLoss(u8),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        6 => Just(Act::Mkdir),
        6 => (1_u8..6).prop_map(Act::Disk),
        1 => (0_u16..1_500).prop_map(Act::Pass),
        1 => (0_u8..2).prop_map(Act::Crash),
        1 => any::<u8>().prop_map(Act::PowerLoss),
    ]
}

proptest! {
    /// Whatever was acknowledged is there after any crash, and the log always opens again.
    #[test]
    fn acknowledged_changes_survive_crashes(acts in proptest::collection::vec(act(), 0..80)) {
        let config = MasterConfig { log_segment_bytes: 500, ..MasterConfig::default() };
        let mut rig = Rig::on(Disk::default(), config);
        rig.settle();
        let (mut asked, mut acknowledged) = (Vec::new(), Vec::new());
        for (n, act) in acts.into_iter().enumerate() {
            rig.disk_held = true;
            match act {
                Act::Mkdir => {
                    let path = format!("/{n}");
                    let body = MasterRequest::Mkdir { path: path.clone(), parents: false, mode: 0o755 };
                    asked.push((rig.ask(body), path));
                }
                Act::Disk(steps) => (0..steps).for_each(|_| rig.step_disk()),
                Act::Pass(ms) => rig.pass(ms.into(), &[]),
                Act::Crash(completed) => rig.crash(completed.into()),
                Act::PowerLoss(kept) => rig.power_loss(kept.into()),
            }
            asked.retain(|(request, path)| {
                let answer = rig.answer(*request);
                if answer == Some(Ok(MasterReply::Done)) {
                    acknowledged.push(path.clone());
                }
                answer.is_none()
            });
            prop_assert!(rig.halted.is_none(), "{:?}", rig.halted);
        }
        rig.power_loss(0);
        prop_assert!(rig.master.is_ready(), "{:?}", rig.halted);
        for path in acknowledged {
            prop_assert!(rig.exists(&path), "{} was acknowledged", path);
        }
    }
}

#[test]
fn a_blank_directory_is_formatted_and_read_again() {
    let mut rig = Rig::new();
    assert!(rig.master.is_ready());
    assert!(rig.disk.files.contains_key("cairn-master"));
    let cluster = rig.master.catalog().cluster();
    assert_eq!(rig.mkdir("/a"), Ok(MasterReply::Done));
    let (applied, epoch) = (rig.master.applied_index(), rig.master.catalog().epoch());
    rig.restart();
    assert_eq!(rig.master.catalog().cluster(), cluster);
    assert_eq!(rig.master.catalog().epoch(), epoch + 1);
    assert_eq!(rig.master.applied_index(), applied + 1);
    assert!(rig.exists("/a"));
}

#[test]
fn formatting_survives_a_crash_after_every_operation() {
    for steps in 0..24 {
        let mut rig = Rig::on(Disk::default(), Default::default());
        rig.disk_held = true;
        rig.settle();
        for _ in 0..steps {
            rig.step_disk();
        }
        rig.crash(steps % 2);
        assert!(rig.master.is_ready(), "after {steps} operations: {:?}", rig.halted);
        assert_eq!(rig.mkdir("/a"), Ok(MasterReply::Done));
        rig.restart();
        assert!(rig.exists("/a"));
    }
}

#[test]
fn nothing_is_answered_before_its_sync() {
    let mut rig = Rig::new();
    rig.disk_held = true;
    let request = rig.ask(MasterRequest::Mkdir { path: "/a".into(), parents: false, mode: 0o755 });
    assert_eq!(rig.answer(request), None);
    rig.step_disk();
    assert_eq!(rig.answer(request), None, "written, not synced");
    rig.step_disk();
    assert_eq!(rig.answer(request), Some(Ok(MasterReply::Done)));
}

#[test]
fn changes_that_come_together_share_a_sync() {
    let mut rig = Rig::new();
    rig.disk_held = true;
    let body = |n: u32| MasterRequest::Mkdir { path: alloc::format!("/{n}"), parents: false, mode: 0o755 };
    let requests: alloc::vec::Vec<u64> = (0..50).map(|n| rig.ask(body(n))).collect();
    for _ in 0..4 {
        rig.step_disk();
    }
    for request in requests {
        assert_eq!(rig.answer(request), Some(Ok(MasterReply::Done)));
    }
}

#[test]
fn a_retry_gets_the_first_outcome_even_after_a_restart() {
    let mut rig = Rig::new();
    let body = MasterRequest::Mkdir { path: "/a".into(), parents: false, mode: 0o755 };
    rig.disk_held = true;
    rig.ask_as(50, body.clone());
    rig.ask_as(50, body.clone());
    rig.disk_held = false;
    rig.settle();
    assert_eq!(rig.answer(50), Some(Ok(MasterReply::Done)));
    rig.ask_as(50, body.clone());
    assert_eq!(rig.answer(50), Some(Ok(MasterReply::Done)));
    rig.restart();
    rig.ask_as(50, body.clone());
    assert_eq!(rig.answer(50), Some(Ok(MasterReply::Done)));
    rig.ask_as(51, body);
    assert!(matches!(rig.answer(51), Some(Err(MasterError::AlreadyExists(_)))));
}

#[test]
fn a_torn_tail_is_cut_and_what_was_acknowledged_stays() {
    let mut rig = Rig::new();
    rig.mkdir("/kept").unwrap();
    let durable = rig.disk.first_segment().len();
    rig.disk_held = true;
    rig.ask(MasterRequest::Mkdir { path: "/torn".into(), parents: false, mode: 0o755 });
    rig.step_disk();
    let whole = rig.disk.first_segment().len();
    for cut in durable..whole {
        let mut disk = rig.disk.clone();
        disk.first_segment().truncate(cut);
        let mut again = Rig::on(disk, rig.config.clone());
        again.settle();
        assert!(again.master.is_ready(), "cut at {cut}: {:?}", again.halted);
        assert!(again.exists("/kept"));
        assert!(!again.exists("/torn"));
        again.mkdir("/later").unwrap();
        again.restart();
        assert!(again.exists("/later"));
    }
}

#[test]
fn a_flipped_bit_below_the_mark_halts_and_names_the_file() {
    let mut rig = Rig::new();
    rig.mkdir("/a").unwrap();
    rig.pass(1_500, &[]);
    let mark = rig.disk.first_segment().len() - 25;
    for at in (0..mark).step_by(7) {
        let mut disk = rig.disk.clone();
        disk.first_segment()[at] ^= 0x10;
        let mut again = Rig::on(disk.clone(), rig.config.clone());
        again.settle();
        let (reason, failed) = again.halted.clone().expect("a refusal to start");
        assert!(failed && reason.contains("master-00000000000000000001.log"), "{reason}");
        assert_eq!(again.disk.files, disk.files, "nothing may be changed");
    }
}

#[test]
fn missing_or_foreign_parts_are_refused() {
    let config = crate::config::MasterConfig { log_segment_bytes: 300, ..Default::default() };
    let mut rig = Rig::on(Disk::default(), config.clone());
    rig.settle();
    for n in 0..12 {
        rig.mkdir(&alloc::format!("/{n}")).unwrap();
    }
    let segments: alloc::vec::Vec<_> =
        rig.disk.files.keys().filter(|name| name.ends_with(".log")).cloned().collect();
    assert!(segments.len() >= 3, "{segments:?}");
    rig.restart();
    assert!(rig.master.is_ready() && rig.exists("/11"));
    let refused = |disk: Disk| {
        let mut again = Rig::on(disk, config.clone());
        again.settle();
        assert!(again.halted.as_ref().is_some_and(|(_, failed)| *failed), "must refuse");
    };
    for missing in segments[..segments.len() - 1].iter().chain([&"cairn-master".into()]) {
        let mut disk = rig.disk.clone();
        disk.files.remove(missing);
        refused(disk);
    }
    let mut cut = rig.disk.clone();
    let first = cut.first_segment().len();
    cut.first_segment().truncate(first - 1);
    refused(cut);
    let mut foreign = rig.disk.clone();
    foreign.first_segment()[8] = 9;
    refused(foreign);
    let mut mixed = rig.disk.clone();
    mixed.files.insert("cairn-master".into(), identity::encode(ClusterId(4_711)));
    refused(mixed);
    let index = rig.master.applied_index();
    let last = &segments[segments.len() - 1];
    let mut rotten = rig.disk.clone();
    rotten.files.get_mut(last).unwrap()[3] ^= 1;
    refused(rotten);
    let mut newer = rig.disk.clone();
    let log = newer.files.get_mut(last).unwrap();
    let mut group = GroupWriter::new(log.len() as u64, log.len() as u64, index + 1);
    group.push(250, b"of a later release");
    log.extend_from_slice(&group.finish());
    refused(newer);
    let mut volume = Disk::default();
    volume.files.insert("cairn-volume".into(), alloc::vec![]);
    refused(volume);
    let mut torn = rig.disk.clone();
    torn.files.insert(alloc::format!("master-{:020}.log", index + 1), alloc::vec![b'C'; 5]);
    assert!(torn.files[last].len() as u64 > HEADER_BYTES);
    let mut again = Rig::on(torn, config.clone());
    again.requests = 1_000;
    again.settle();
    assert!(again.master.is_ready() && again.exists("/11"), "{:?}", again.halted);
    again.mkdir("/after").unwrap();
    again.restart();
    assert!(again.exists("/after"), "{:?}", again.halted);
}

#[test]
fn a_failing_disk_ends_the_master_without_an_answer() {
    let mut rig = Rig::new();
    rig.disk_held = true;
    let request = rig.ask(MasterRequest::Mkdir { path: "/a".into(), parents: false, mode: 0o755 });
    rig.step_disk();
    rig.fail_disk(DiskError::Io("gone".into()));
    assert_eq!(rig.answer(request), None);
    assert!(rig.halted.is_some_and(|(_, failed)| failed));
}

#[test]
fn a_full_disk_holds_changes_up_and_nothing_else() {
    let config = MasterConfig { log_segment_bytes: 500, ..MasterConfig::default() };
    let mut rig = Rig::on(Disk::default(), config);
    rig.settle();
    rig.mkdir("/before").unwrap();
    rig.disk_held = true;
    let mkdir = |path: &str| MasterRequest::Mkdir { path: path.into(), parents: false, mode: 0o755 };
    for round in 0..8 {
        let path = format!("/{round}");
        let waits = rig.ask(mkdir(&path));
        rig.fail_disk(DiskError::NoSpace);
        assert_eq!(rig.answer(waits), None);
        let refused = rig.ask(mkdir("/refused"));
        assert!(matches!(rig.answer(refused), Some(Err(MasterError::Busy(_)))));
        let read = rig.ask(MasterRequest::Stat { path: "/before".into() });
        assert!(matches!(rig.answer(read), Some(Ok(_))), "reads go on");
        rig.pass(1_100, &[]);
        rig.fail_disk(DiskError::NoSpace);
        rig.pass(1_100, &[]);
        while rig.answer(waits).is_none() {
            rig.step_disk();
        }
        rig.pass(1_100, &[]);
        while !rig.held.is_empty() {
            rig.step_disk();
        }
    }
    rig.disk_held = false;
    rig.power_loss(0);
    assert!(rig.halted.is_none() && !rig.exists("/refused"));
    assert!((0..8).all(|round| rig.exists(&format!("/{round}"))), "what was held up was written in the end");
}

#[test]
fn a_full_disk_holds_up_no_copy_and_no_order_to_seal() {
    let (mut rig, sealed) = file_on_three(4);
    rig.disk_held = true;
    let mkdir = |path: &str| MasterRequest::Mkdir { path: path.into(), parents: false, mode: 0o755 };
    rig.ask(mkdir("/waits"));
    rig.fail_disk(DiskError::NoSpace);
    let fenced = SealedChunk { version: ChunkVersion(1), crc: 0, ..sealed };
    rig.message(conn(2), FromServer::ReplicaChanged(replica(2, fenced, ReplicaState::Fenced)));
    let seal = ToServer::Seal { base: fenced.version, sealed };
    assert_eq!(rig.orders(2), core::slice::from_ref(&seal));
    // Server 3 dies meanwhile.
    for _ in 0..18 {
        rig.pass(1_100, &[1, 2, 4]);
        rig.fail_disk(DiskError::NoSpace);
    }
    let refused = rig.ask(mkdir("/refused"));
    assert!(matches!(rig.answer(refused), Some(Err(MasterError::Busy(_)))), "it is still full");
    assert!(rig.orders(2).contains(&seal), "the first order may be lost");
    let copies = rig.orders(4);
    assert!(matches!(copies[..], [ToServer::Copy { sealed: s, .. }] if s == sealed), "{copies:?}");
}

/// Starts on a disk on which each write finds no space once. Says how many did; it must end ready or halted.
fn start_on_a_full_disk(disk: Disk, defects: Defects) -> (Rig, usize) {
    let mut rig = Rig::planted(disk, MasterConfig::default(), defects);
    (rig.requests, rig.disk_held) = (1_000, true);
    rig.settle();
    let (mut full, mut tried) = (0, false);
    while !rig.master.is_ready() && rig.halted.is_none() {
        let writes = matches!(rig.held.front(), Some((_, DiskRequest::Write { .. })));
        if !writes || tried {
            tried = false;
            rig.step_disk();
            continue;
        }
        (full, tried) = (full + 1, true);
        rig.fail_disk(DiskError::NoSpace);
        let asked = rig.ask(MasterRequest::Stat { path: "/kept".into() });
        let answer = rig.answer(asked);
        assert!(
            matches!(&answer, Some(Err(MasterError::Unavailable(why))) if why.contains("no space"))
                || rig.halted.is_some(),
            "{answer:?}"
        );
        rig.pass(1_100, &[]);
    }
    rig.disk_held = false;
    rig.settle();
    (rig, full)
}

#[test]
fn a_master_that_starts_on_a_full_disk_waits_for_space() {
    let mut rig = Rig::new();
    rig.mkdir("/kept").unwrap();
    let mut torn = rig.disk.clone();
    let index = rig.master.applied_index();
    torn.files.insert(alloc::format!("master-{:020}.log", index + 1), alloc::vec![b'C'; 5]);
    for disk in [rig.disk.clone(), torn] {
        let (mut again, full) = start_on_a_full_disk(disk, Defects::none());
        assert!(full >= 2, "the end of the log is written again, and the start into it");
        assert!(again.exists("/kept"), "{:?}", again.halted);
        again.mkdir("/after").unwrap();
        again.restart();
        assert!(again.exists("/kept") && again.exists("/after"), "{:?}", again.halted);
    }
    let (blank, _) = start_on_a_full_disk(Disk::default(), Defects::none());
    assert!(blank.halted.is_some_and(|(why, failed)| failed && why.contains("no space")));
}

#[cfg(feature = "defects")]
#[test]
fn a_master_that_gives_up_on_a_full_disk_is_away() {
    let mut rig = Rig::new();
    rig.mkdir("/kept").unwrap();
    let defects = Defects::one(crate::defect::Defect::FullStartRefused);
    let (again, _) = start_on_a_full_disk(rig.disk.clone(), defects);
    assert!(again.halted.is_some_and(|(_, failed)| failed));
}

#[test]
fn a_master_whose_disk_is_full_can_be_stopped() {
    let mut rig = Rig::new();
    rig.disk_held = true;
    rig.ask(MasterRequest::Mkdir { path: "/a".into(), parents: false, mode: 0o755 });
    rig.fail_disk(DiskError::NoSpace);
    rig.shutdown();
    assert!(rig.halted.as_ref().is_some_and(|(_, failed)| !failed));
    rig.restart();
    assert!(rig.master.is_ready() && !rig.exists("/a"));
}

#[test]
fn what_a_failed_sync_left_in_the_page_cache_is_made_durable_by_a_restart() {
    let mut rig = Rig::new();
    rig.mkdir("/before").unwrap();
    rig.disk_held = true;
    rig.ask(MasterRequest::Mkdir { path: "/doubtful".into(), parents: false, mode: 0o755 });
    rig.step_disk();
    rig.disk.fail_sync();
    rig.fail_disk(DiskError::Io("gone".into()));
    rig.restart();
    assert!(rig.exists("/doubtful"), "it was written, and is seen from now on: {:?}", rig.halted);
    rig.mkdir("/after").unwrap();
    rig.power_loss(0);
    for path in ["/before", "/doubtful", "/after"] {
        assert!(rig.exists(path), "{path}: {:?}", rig.halted);
    }
}

#[test]
fn a_shutdown_completes_what_is_under_way() {
    let mut rig = Rig::new();
    rig.disk_held = true;
    let request = rig.ask(MasterRequest::Mkdir { path: "/a".into(), parents: false, mode: 0o755 });
    rig.shutdown();
    assert!(rig.halted.is_none());
    let late = rig.ask(MasterRequest::Mkdir { path: "/b".into(), parents: false, mode: 0o755 });
    assert!(matches!(rig.answer(late), Some(Err(MasterError::Unavailable(_)))));
    rig.disk_held = false;
    rig.settle();
    assert_eq!(rig.answer(request), Some(Ok(MasterReply::Done)));
    assert_eq!(rig.halted.as_ref().map(|(_, failed)| *failed), Some(false));
    let mut scan = Scan::new(1);
    scan.feed(&rig.disk.first_segment()[HEADER_BYTES as usize..]);
    assert!(
        scan.finish().is_ok_and(|end| end.ends_with_mark),
        "rot in its last group can be told from a tear"
    );
    rig.restart();
    assert!(rig.exists("/a") && !rig.exists("/b"));
}

#[test]
fn requests_during_recovery_are_told_to_wait() {
    let mut rig = Rig::on(Disk::default(), Default::default());
    rig.disk_held = true;
    rig.settle();
    assert!(matches!(rig.mkdir("/a"), Err(MasterError::Unavailable(_))));
}
