//! Stories of readers.

use super::cluster::{Cluster, Fate};
use super::{body, bytes, is_read};
use crate::error::{ChunkError, MasterError};
use crate::id::{ChunkId, ServerId};
use crate::message::{MasterRequest, Message};

fn stored(count: usize) -> Cluster {
    let mut cluster = Cluster::new(Cluster::config(), |_, _| Fate::Fine);
    cluster.put("/a", &bytes(count), 64).expect("put");
    cluster
}

#[test]
fn any_range_is_read_across_chunk_boundaries() {
    let data = bytes(450);
    let mut cluster = stored(450);
    let (handle, length) = cluster.open("/a");
    assert_eq!(length, 450);
    for (offset, count) in [(0, 450), (99, 2), (100, 100), (150, 250), (449, 10), (450, 5), (9_999, 1)] {
        let end = (offset + count).min(450).max(offset.min(450));
        let expected = &data[offset.min(450)..end];
        assert_eq!(cluster.read(handle, offset as u64, count as u32).unwrap(), expected);
    }
}

#[test]
fn reads_are_bounded_and_spread() {
    let mut cluster = stored(90);
    let before = cluster.sent.len();
    assert_eq!(cluster.get("/a").unwrap(), bytes(90));
    for server in ["s1", "s2", "s3"] {
        assert!(cluster.sent[before..].iter().any(|(to, m)| &*to.0 == server && is_read(m)), "{server} idle");
    }
}

#[test]
fn a_dead_replica_costs_one_failure_and_no_data() {
    for fate in [Fate::Broken, Fate::Lost, Fate::Failed(ChunkError::UnknownChunk(ChunkId(1)))] {
        let mut cluster = stored(300);
        let wanted = fate.clone();
        cluster.script =
            std::boxed::Box::new(
                move |to, message| {
                    if &*to.0 == "s2" && is_read(message) { fate.clone() } else { Fate::Fine }
                },
            );
        assert_eq!(cluster.get("/a").unwrap(), bytes(300), "{wanted:?}");
    }
}

#[test]
fn a_corrupt_replica_is_reported_and_another_serves() {
    let mut cluster = stored(40);
    cluster.script = std::boxed::Box::new(|to, message| {
        let error = ChunkError::DataCorrupt { chunk: ChunkId(3), offset: 0 };
        if &*to.0 == "s1" && is_read(message) { Fate::Failed(error) } else { Fate::Fine }
    });
    assert_eq!(cluster.get("/a").unwrap(), bytes(40));
    cluster.drain();
    let reported = cluster.count(
        |m| matches!(body(m), Some(MasterRequest::ReportBadReplica { server, .. }) if *server == ServerId(1)),
    );
    assert!(reported > 0);
}

#[test]
fn replicas_that_come_back_are_found_again() {
    let mut cluster = stored(300);
    let mut failures = 0;
    cluster.script = std::boxed::Box::new(move |_, message| {
        failures += usize::from(is_read(message));
        if is_read(message) && failures <= 12 { Fate::Broken } else { Fate::Fine }
    });
    assert_eq!(cluster.get("/a").unwrap(), bytes(300));
    assert!(cluster.count(|m| matches!(body(m), Some(MasterRequest::Locate { .. }))) > 1);
}

#[test]
fn an_unreadable_chunk_is_told_after_the_deadline() {
    let mut cluster = stored(40);
    cluster.script =
        std::boxed::Box::new(|_, message| if is_read(message) { Fate::Broken } else { Fate::Fine });
    let error = cluster.get("/a").unwrap_err();
    assert!(error.contains("replicas could be read"), "{error}");
    assert!((60..70).contains(&(cluster.now.0 / 1_000_000_000)), "gave up at {}", cluster.now);
}

#[test]
fn late_and_repeated_answers_are_ignored() {
    let mut cluster = stored(300);
    cluster.script = std::boxed::Box::new(|_, _| Fate::Twice);
    assert_eq!(cluster.get("/a").unwrap(), bytes(300));
}

#[test]
fn a_replaced_file_is_served_from_the_old_plan_or_not_at_all() {
    let mut cluster = stored(40);
    let (handle, _) = cluster.open("/a");
    cluster.put("/a", &bytes(90)[50..], 64).expect("replace");
    assert_eq!(cluster.read(handle, 0, 40).unwrap(), bytes(40), "the old contents");
    cluster.script =
        std::boxed::Box::new(|_, message| if is_read(message) { Fate::Broken } else { Fate::Fine });
    let error = cluster.read(handle, 0, 40).unwrap_err();
    // Not "not found": there was a file at the path all the time.
    assert_eq!(error, "/a was replaced or removed since it was opened; open it again");
}

#[test]
fn a_master_that_is_away_delays_an_open() {
    let mut cluster = stored(40);
    let mut left = 3;
    cluster.script = std::boxed::Box::new(move |_, message: &Message| {
        let located = matches!(body(message), Some(MasterRequest::Locate { .. }));
        if located && left > 0 {
            left -= 1;
            return Fate::Refused(MasterError::Unavailable("restarting".into()));
        }
        Fate::Fine
    });
    assert_eq!(cluster.get("/a").unwrap(), bytes(40));
}
