//! Stories of writers.

use std::vec::Vec;

use bytes::Bytes;

use super::cluster::{CAPACITY, Cluster, Fate};
use super::{body, bytes, is_data, nth};
use crate::client::{ClientRequest, ClientResponse};
use crate::config::ClientConfig;
use crate::error::{ChunkError, ClientError, MasterError};
use crate::id::{ChunkId, ServerId};
use crate::message::{AppendMessage, MasterRequest, Message};

fn closed_with(answer: crate::client::ClientResult, length: u64) {
    match answer {
        Ok(ClientResponse::Status(status)) => assert_eq!(status.length, length),
        other => panic!("close: {other:?}"),
    }
}

#[test]
fn a_file_spans_chunks_and_is_read_back() {
    let data = bytes(357);
    let mut cluster = Cluster::new(Cluster::config(), |_, _| Fate::Fine);
    closed_with(cluster.put("/a", &data, 33), 357);
    assert_eq!(cluster.stored("/a"), data);
    assert_eq!(cluster.get("/a").unwrap(), data);
    let opens = cluster.count(|m| matches!(body(m), Some(MasterRequest::OpenChunk { .. })));
    assert_eq!(opens as u64, 357_u64.div_ceil(CAPACITY));
}

#[test]
fn a_client_asks_for_what_its_settings_say() {
    let config = ClientConfig { replication: 5, quorum: 4, ..Cluster::config() };
    let mut cluster = Cluster::new(config, |_, _| Fate::Fine);
    closed_with(cluster.put("/a", b"bytes", 5), 5);
    let asked = |m: &Message| match body(m) {
        Some(MasterRequest::BeginUpload { options, .. }) => (options.replication, options.quorum) == (5, 4),
        _ => false,
    };
    assert_eq!(cluster.count(asked), 1);
}

#[test]
fn an_empty_file_has_no_chunk() {
    let mut cluster = Cluster::new(Cluster::config(), |_, _| Fate::Fine);
    closed_with(cluster.put("/empty", &[], 1), 0);
    assert_eq!(cluster.count(|m| matches!(body(m), Some(MasterRequest::OpenChunk { .. }))), 0);
    assert_eq!(cluster.get("/empty").unwrap(), Vec::<u8>::new());
}

#[test]
fn a_lost_primary_is_avoided_and_the_writer_goes_on_at_the_sealed_length() {
    for keeps in [0, 40, 100] {
        let data = bytes(250);
        let mut quiet = 0;
        let mut breaks = nth(6, is_data);
        let mut cluster = Cluster::new(Cluster::config(), move |_, message| {
            quiet += usize::from(is_data(message));
            match (is_data(message), quiet) {
                _ if breaks(message) => Fate::BrokenAfter,
                (true, 3..=5) => Fate::Unanswered,
                _ => Fate::Fine,
            }
        });
        cluster.seal_keeps = keeps;
        closed_with(cluster.put("/a", &data, 64), 250);
        assert_eq!(cluster.stored("/a"), data, "a seal that keeps {keeps} % of what was in doubt");
        let avoids = cluster.count(|m| match body(m) {
            Some(MasterRequest::OpenChunk { avoid, .. }) => *avoid == [ServerId(1)],
            _ => false,
        });
        assert!(avoids > 0);
    }
}

#[test]
fn a_lost_replica_downstream_ends_the_chunk_and_is_avoided() {
    let data = bytes(150);
    let mut fails = nth(2, is_data);
    let mut cluster = Cluster::new(Cluster::config(), move |_, message| {
        let error = ChunkError::ReplicaLost { chunk: ChunkId(3), server: ServerId(3) };
        if fails(message) { Fate::Failed(error) } else { Fate::Fine }
    });
    closed_with(cluster.put("/a", &data, 50), 150);
    assert_eq!(cluster.stored("/a"), data);
    let avoids = cluster.count(|m| match body(m) {
        Some(MasterRequest::OpenChunk { avoid, .. }) => *avoid == [ServerId(3)],
        _ => false,
    });
    assert!(avoids > 0);
}

#[test]
fn a_silent_primary_is_given_up_after_the_append_timeout() {
    let data = bytes(60);
    let mut lost = nth(2, is_data);
    let mut dead = false;
    let mut cluster = Cluster::new(Cluster::config(), move |_, message| {
        dead |= lost(message);
        let sealing = matches!(body(message), Some(MasterRequest::SealChunk { .. }));
        dead &= !sealing;
        if dead && is_data(message) { Fate::Lost } else { Fate::Fine }
    });
    closed_with(cluster.put("/a", &data, 20), 60);
    assert_eq!(cluster.stored("/a"), data);
    assert!(cluster.now.0 >= 10_000_000_000, "closed at {}", cluster.now);
}

#[test]
fn a_master_that_is_away_delays_every_phase_and_changes_nothing() {
    let phases: [fn(&MasterRequest) -> bool; 4] = [
        |b| matches!(b, MasterRequest::BeginUpload { .. }),
        |b| matches!(b, MasterRequest::OpenChunk { .. }),
        |b| matches!(b, MasterRequest::SealChunk { .. }),
        |b| matches!(b, MasterRequest::CompleteUpload { .. }),
    ];
    for phase in phases {
        let gone = MasterError::Unavailable("restarting".into());
        for fate in
            [Fate::Refused(gone.clone()), Fate::Misreported(gone), Fate::Unanswered, Fate::BrokenAfter]
        {
            let data = bytes(130);
            let mut times = 0;
            let wanted = fate.clone();
            let mut cluster = Cluster::new(Cluster::config(), move |_, message| {
                let hit = body(message).is_some_and(phase);
                times += usize::from(hit);
                if hit && times <= 3 { fate.clone() } else { Fate::Fine }
            });
            closed_with(cluster.put("/a", &data, 40), 130);
            assert_eq!(cluster.stored("/a"), data, "{wanted:?}");
            assert!(cluster.sent.iter().any(|(to, _)| &*to.0 == "m2"), "the other master was asked too");
        }
    }
}

#[test]
fn repeated_answers_change_nothing() {
    let data = bytes(350);
    let mut cluster = Cluster::new(Cluster::config(), |_, _| Fate::Twice);
    closed_with(cluster.put("/a", &data, 30), 350);
    assert_eq!(cluster.stored("/a"), data);
    assert_eq!(cluster.get("/a").unwrap(), data);
}

#[test]
fn writes_wait_for_the_window_and_are_answered_in_order() {
    let mut cluster =
        Cluster::new(
            Cluster::config(),
            |_, message| {
                if is_data(message) { Fate::Unanswered } else { Fate::Fine }
            },
        );
    let handle = cluster.create("/a");
    let calls: Vec<_> =
        (0..5).map(|_| cluster.call(ClientRequest::Write { handle, data: Bytes::from(bytes(30)) })).collect();
    cluster.drain();
    let answered: Vec<bool> = calls.iter().map(|call| cluster.answers.contains_key(call)).collect();
    assert_eq!(answered, [true, true, false, false, false], "a window of 64 bytes takes two writes of 30");
    cluster.script = std::boxed::Box::new(|_, _| Fate::Fine);
    closed_with(cluster.ask(ClientRequest::Close { handle }), 150);
    assert_eq!(cluster.stored("/a"), bytes(30).repeat(5));
}

#[test]
fn small_writes_travel_together_while_something_is_under_way() {
    let mut cluster = Cluster::new(Cluster::config(), |_, _| Fate::Fine);
    let handle = cluster.create("/a");
    for byte in bytes(32) {
        cluster.call(ClientRequest::Write { handle, data: Bytes::from(std::vec![byte]) });
    }
    closed_with(cluster.ask(ClientRequest::Close { handle }), 32);
    assert_eq!(cluster.stored("/a"), bytes(32));
    assert!(cluster.count(is_data) <= 4, "{} records", cluster.count(is_data));
}

#[test]
fn a_cluster_without_enough_servers_refuses_with_the_masters_sentence() {
    let mut cluster = Cluster::new(Cluster::config(), |_, message| match body(message) {
        Some(MasterRequest::OpenChunk { .. }) => {
            Fate::Refused(MasterError::NotEnoughServers { needed: 2, live: 1 })
        }
        _ => Fate::Fine,
    });
    let handle = cluster.create("/a");
    assert_eq!(cluster.write(handle, &bytes(10)), Ok(ClientResponse::Done));
    match cluster.ask(ClientRequest::Close { handle }) {
        Err(ClientError::WriteRefused(text)) => assert!(text.contains("2 needed, 1 can take"), "{text}"),
        other => panic!("{other:?}"),
    }
    assert!((60..130).contains(&(cluster.now.0 / 1_000_000_000)), "gave up at {}", cluster.now);
    cluster.drain();
    assert!(cluster.was_aborted());
    assert_eq!(cluster.write(handle, &[1]), Err(ClientError::BadHandle));
}

#[test]
fn a_grant_that_never_works_ends_in_a_refusal() {
    let mut cluster = Cluster::new(Cluster::config(), |_, message| match message {
        Message::Append(AppendMessage::Open { .. }) => Fate::Broken,
        _ => Fate::Fine,
    });
    let refused = cluster.put("/a", &bytes(10), 10);
    assert!(matches!(refused, Err(ClientError::WriteRefused(_))), "{refused:?}");
    let opens = cluster.count(|m| matches!(body(m), Some(MasterRequest::OpenChunk { .. })));
    assert!(opens < 200, "{opens} chunks were opened for nothing");
}

#[test]
fn an_unknown_outcome_is_a_timeout() {
    let mut cluster = Cluster::new(Cluster::config(), |_, message| match body(message) {
        Some(MasterRequest::CompleteUpload { .. }) => Fate::Unanswered,
        _ => Fate::Fine,
    });
    let answer = cluster.put("/a", &bytes(10), 10);
    assert!(matches!(answer, Err(ClientError::Timeout(_))), "{answer:?}");
    cluster.drain();
    assert!(!cluster.was_aborted());
    assert_eq!(cluster.stored("/a"), bytes(10));
}

#[test]
fn an_idle_upload_is_kept_alive_and_its_end_is_told() {
    let mut cluster = Cluster::new(Cluster::config(), |_, _| Fate::Fine);
    let handle = cluster.create("/a");
    for _ in 0..30 {
        cluster.turn();
    }
    let kept = cluster.count(|m| matches!(body(m), Some(MasterRequest::KeepUpload { .. })));
    assert!(kept >= 3, "{kept}");
    cluster.script = std::boxed::Box::new(|_, message| match body(message) {
        Some(MasterRequest::KeepUpload { upload }) => Fate::Refused(MasterError::UploadGone(*upload)),
        _ => Fate::Fine,
    });
    cluster.turn();
    cluster.turn();
    cluster.drain();
    let answer = cluster.write(handle, &[1]);
    assert!(matches!(answer, Err(ClientError::Master(MasterError::UploadGone(_)))), "{answer:?}");
}

#[test]
fn an_abort_ends_everything() {
    let mut cluster = Cluster::new(Cluster::config(), |_, _| Fate::Fine);
    let handle = cluster.create("/a");
    let blocked: Vec<_> =
        (0..4).map(|_| cluster.call(ClientRequest::Write { handle, data: Bytes::from(bytes(40)) })).collect();
    assert_eq!(cluster.ask(ClientRequest::Abort { handle }), Ok(ClientResponse::Done));
    cluster.drain();
    assert_eq!(cluster.answers[&blocked[3]], Err(ClientError::BadHandle));
    assert!(cluster.was_aborted() && cluster.files.is_empty());
    assert_eq!(cluster.ask(ClientRequest::Close { handle }), Err(ClientError::BadHandle));
}
