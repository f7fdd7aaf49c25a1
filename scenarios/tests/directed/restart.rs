//! Processes and machines come back.

use cairn_core::client::ClientRequest;
use cairn_core::error::{ClientError, MasterError};
use cairn_core::message::{MasterReply, MasterRequest, Message};
use cairn_core::time::Span;
use runtime_sim::NodeState;
use scenarios::cluster::MASTER;
use scenarios::workload::operation::{Operation, Outcome, Storage};
use scenarios::workload::perform::perform;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use super::stage::{CHUNK, content, shape, storage, tell, tell_on};

#[test]
fn the_master_restarts_in_the_middle_of_an_upload() {
    tell(21, |stage| async move {
        let file = content(1, 4 * CHUNK + 77);
        let handle = stage.create("/f").await;
        stage.write(handle, file, 0, CHUNK + 9_000).await;
        stage.world.power_cut(MASTER);
        stage.pass(300).await;
        stage.world.restart(MASTER);
        stage.write(handle, file, CHUNK + 9_000, 4 * CHUNK + 77).await;
        stage.close(handle).await;
        stage.expect("/f", file).await;
    });
}

#[test]
fn everything_loses_power_and_every_acknowledged_file_is_there_again() {
    tell(22, |stage| async move {
        for i in 0..5 {
            stage.put(&format!("/f{i}"), content(i, u64::from(i) * 50_000)).await;
        }
        let nodes: Vec<String> =
            stage.cluster.server_names().into_iter().chain([MASTER.to_owned()]).collect();
        nodes.iter().for_each(|n| stage.world.power_cut(n));
        stage.pass(500).await;
        nodes.iter().for_each(|n| stage.world.restart(n));
        for i in 0..5 {
            stage.expect(&format!("/f{i}"), content(i, u64::from(i) * 50_000)).await;
        }
    });
}

#[test]
fn a_log_torn_by_a_power_cut_is_mended_and_loses_nothing_acknowledged() {
    tell(23, |stage| async move {
        for round in 0..8 {
            stage.put(&format!("/f{round}"), content(round, 10_000)).await;
            // A request is under way, its log record perhaps half on disk.
            let client = stage.cluster.clients[1].clone();
            let busy = stage.world.spawn(async move {
                perform(&client, &Operation::Mkdir { path: format!("/busy{round}"), parents: false }).await
            });
            stage.pass(u64::from(round % 3)).await;
            stage.world.power_cut(MASTER);
            stage.pass(50).await;
            stage.world.restart(MASTER);
            let outcome = busy.await.expect("the task lives");
            assert_eq!(outcome, Outcome::Done, "a retried mkdir is neither lost nor refused as done already");
        }
        for round in 0..8 {
            stage.expect(&format!("/f{round}"), content(round, 10_000)).await;
        }
    });
}

#[test]
fn a_rotten_log_stops_the_master_which_names_file_and_offset() {
    tell_on(24, shape(), false, |stage| async move {
        for i in 0..20 {
            let path = format!("/d{i}");
            assert_eq!(stage.perform(&Operation::Mkdir { path, parents: false }).await, Outcome::Done);
        }
        stage.pass(3_000).await;
        stage.world.kill(MASTER);
        let files = stage.world.files(MASTER, 0);
        let (log, length) = files.into_iter().find(|(f, _)| f.ends_with(".log")).expect("a log");
        assert!(stage.world.flip_bit(MASTER, 0, &log, length / 2 * 8));
        stage.world.restart(MASTER);
        stage
            .until("the master halts", || matches!(stage.world.state(MASTER), NodeState::Halted { .. }))
            .await;
        let NodeState::Halted { reason, failed } = stage.world.state(MASTER) else { unreachable!() };
        assert!(failed);
        assert!(reason.contains(&log), "{reason}");
        assert!(reason.chars().any(|c| c.is_ascii_digit()), "{reason}");
    });
}

#[test]
fn a_retry_after_a_lost_answer_happens_exactly_once() {
    tell(25, |stage| async move {
        stage.put("/f", content(1, 1_000)).await;
        // The first answer to the rename is lost with its connection: the client asks again.
        let renames = Arc::new(AtomicU32::new(0));
        let cut = Arc::new(AtomicBool::new(false));
        let (seen, arm) = (renames.clone(), cut.clone());
        stage.world.observe_messages(move |_, _, to, message| {
            if to == MASTER
                && matches!(message, Message::MasterRequest { body: MasterRequest::Rename { .. }, .. })
            {
                seen.fetch_add(1, Ordering::Relaxed);
                arm.store(true, Ordering::Relaxed);
            }
        });
        let client = stage.cluster.clients[0].clone();
        let asking = stage.world.spawn(async move {
            let rename = MasterRequest::Rename { from: "/f".into(), to: "/g".into(), replace: false };
            client.call(ClientRequest::Master(rename)).await
        });
        stage.until("the master has the request", || cut.load(Ordering::Relaxed)).await;
        stage.world.partition_one_way(&[MASTER], &["client0"]);
        stage.pass(700).await;
        stage.world.heal_all();
        let answer = asking.await.expect("the task lives");
        assert!(answer.is_ok(), "{answer:?}");
        stage.expect("/g", content(1, 1_000)).await;
        let gone = stage.perform(&Operation::Stat { path: "/f".into() }).await;
        assert!(matches!(gone, Outcome::Refused(MasterError::NotFound(_))), "{gone:?}");
        assert!(renames.load(Ordering::Relaxed) >= 1);
    });
}

#[test]
fn a_client_that_dies_leaves_nothing_behind() {
    tell(26, |stage| async move {
        let file = content(1, 3 * CHUNK);
        let handle = stage.create("/f").await;
        stage.write(handle, file, 0, 2 * CHUNK).await;
        stage.world.kill("client0");
        stage.pass(200).await;
        stage.world.restart("client0");
        let missing = stage.perform(&Operation::Get { path: "/f".into() }).await;
        assert!(matches!(missing, Outcome::Refused(MasterError::NotFound(_))), "{missing:?}");
        // The end of the story demands that no upload, no open chunk and no chunk file is left.
    });
}

#[test]
fn while_the_master_is_away_calls_wait_and_then_give_up() {
    tell_on(27, shape(), false, |stage| async move {
        stage.world.kill(MASTER);
        let before = stage.world.now();
        let outcome = stage.perform(&Operation::Mkdir { path: "/d".into(), parents: false }).await;
        assert!(
            matches!(outcome, Outcome::Unknown(ClientError::Timeout(_) | ClientError::Master(_))),
            "{outcome:?}"
        );
        assert!(stage.world.now().since(before) >= Span::from_ms(5_000));
        stage.world.restart(MASTER);
        stage.pass(2_000).await;
        let listed = stage.call(ClientRequest::Master(MasterRequest::Stat { path: "/".into() })).await;
        assert!(matches!(listed, cairn_core::client::ClientResponse::Master(MasterReply::Status(_))));
    });
}

#[test]
fn a_server_that_loses_power_soon_after_a_seal_in_its_page_cache_claims_only_what_is_left() {
    tell(28, |stage| async move {
        let relaxed = Storage { relaxed: true, ..storage() };
        for round in 0..6 {
            let (path, file) = (format!("/f{round}"), content(round, 3 * CHUNK + 1_234));
            let put = Operation::Put {
                path: path.clone(),
                content: file,
                replace: false,
                piece: 16_384,
                storage: relaxed,
            };
            assert!(matches!(stage.perform(&put).await, Outcome::Stored { .. }));
            // Sealed everywhere, and not yet synced anywhere.
            stage.until_whole().await;
            let victim = format!("cs{}", round % 4);
            stage.world.power_cut(&victim);
            stage.pass(u64::from(round) * 100).await;
            stage.world.restart(&victim);
            stage.until_whole().await;
            stage.expect(&path, file).await;
        }
    });
}
