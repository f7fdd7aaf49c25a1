//! Nodes go away while files are written and read.

use scenarios::nemesis::Target;

use scenarios::workload::operation::Outcome;

use super::stage::{CHUNK, content, shape, tell, tell_on};

#[test]
fn the_primary_dies_in_the_middle_of_a_stream_and_no_byte_is_lost_or_doubled() {
    tell(11, |stage| async move {
        let file = content(1, 5 * CHUNK + 1234);
        let handle = stage.create("/f").await;
        stage.write(handle, file, 0, 2 * CHUNK + 5000).await;
        let primary = stage.cluster.resolve(&Target::Primary);
        stage.world.kill(&primary);
        stage.write(handle, file, 2 * CHUNK + 5000, 5 * CHUNK + 1234).await;
        stage.close(handle).await;
        stage.expect("/f", file).await;
        stage.world.restart(&primary);
    });
}

#[test]
fn the_last_replica_of_the_pipeline_loses_power_in_the_middle_of_a_stream() {
    tell(12, |stage| async move {
        let file = content(1, 4 * CHUNK);
        let handle = stage.create("/f").await;
        stage.write(handle, file, 0, CHUNK + 100).await;
        let last = stage.cluster.resolve(&Target::Member(2));
        stage.world.power_cut(&last);
        stage.write(handle, file, CHUNK + 100, 4 * CHUNK).await;
        stage.close(handle).await;
        stage.expect("/f", file).await;
        stage.world.restart(&last);
    });
}

#[test]
fn a_cut_off_primary_never_acknowledges_what_the_others_do_not_have() {
    tell(13, |stage| async move {
        let file = content(1, 3 * CHUNK);
        let handle = stage.create("/f").await;
        stage.write(handle, file, 0, 20_000).await;
        let primary = stage.cluster.resolve(&Target::Primary);
        let others: Vec<String> = stage
            .cluster
            .node_names()
            .into_iter()
            .filter(|n| *n != primary && !n.starts_with("client"))
            .collect();
        stage.world.partition(&[primary.as_str()], &others);
        stage.write(handle, file, 20_000, 3 * CHUNK).await;
        stage.close(handle).await;
        stage.world.heal_all();
        stage.expect("/f", file).await;
    });
}

#[test]
fn a_dead_server_is_replaced_by_copies_elsewhere() {
    tell(14, |stage| async move {
        for i in 0..6 {
            stage.put(&format!("/f{i}"), content(i, 2 * CHUNK)).await;
        }
        stage.until_whole().await;
        let (gone, ..) = stage.some_replica();
        stage.world.kill(&gone);
        stage.world.wipe_volume(&gone, 0);
        stage
            .until("all chunks have three replicas on the other servers", || {
                stage
                    .cluster
                    .master(|m| m.catalog().chunks_after(None).all(|(id, c)| m.good_replicas(id) >= c.goal))
                    .unwrap_or(false)
                    && !stage.world.is_up(&gone)
                    && stage
                        .cluster
                        .server_names()
                        .iter()
                        .filter(|s| **s != gone)
                        .map(|s| stage.cluster.chunk_files(s).len())
                        .sum::<usize>()
                        >= 36
            })
            .await;
        for i in 0..6 {
            stage.expect(&format!("/f{i}"), content(i, 2 * CHUNK)).await;
        }
        stage.world.restart(&gone);
    });
}

#[test]
fn replicas_that_come_back_late_are_dropped_again() {
    tell(15, |stage| async move {
        stage.put("/f", content(1, 3 * CHUNK)).await;
        stage.until_whole().await;
        let (late, ..) = stage.some_replica();
        stage.world.kill(&late);
        stage
            .until("its chunks are copied elsewhere", || {
                let others: usize = stage
                    .cluster
                    .server_names()
                    .iter()
                    .filter(|s| **s != late)
                    .map(|s| stage.cluster.chunk_files(s).len())
                    .sum();
                others >= 9
            })
            .await;
        stage.world.restart(&late);
        // The end of the story demands that exactly the goal is left everywhere.
        stage.pass(3_000).await;
        stage.expect("/f", content(1, 3 * CHUNK)).await;
    });
}

#[test]
fn a_reader_turns_to_another_replica_when_its_server_freezes() {
    tell(16, |stage| async move {
        stage.put("/f", content(1, 4 * CHUNK)).await;
        let (frozen, ..) = stage.some_replica();
        stage.world.pause(&frozen);
        stage.expect("/f", content(1, 4 * CHUNK)).await;
        stage.world.resume(&frozen);
    });
}

#[test]
fn a_writer_that_gives_up_with_two_chunks_under_way_says_so_once() {
    let mut patient = shape();
    patient.client.append_timeout_ms = 2_000;
    patient.client.operation_deadline_ms = 2_000;
    tell_on(17, patient, true, |stage| async move {
        let file = content(1, 2 * CHUNK);
        let handle = stage.create("/f").await;
        stage.write(handle, file, 0, CHUNK - 9_000).await;
        let others: Vec<String> =
            stage.cluster.node_names().into_iter().filter(|n| !n.starts_with("client")).collect();
        stage.pass(100).await;
        for server in &others {
            let slow = runtime_sim::Link { latency_us: 3_000_000, ..Default::default() };
            stage.world.set_link(server, "client0", slow);
        }
        stage.write(handle, file, CHUNK - 9_000, CHUNK + 9_000).await;
        stage.pass(20_000).await;
        stage.world.heal_all();
        let closed = stage.cluster.clients[0].call(cairn_core::client::ClientRequest::Close { handle }).await;
        assert!(closed.is_err(), "{closed:?}");
        let missing =
            stage.perform(&scenarios::workload::operation::Operation::Get { path: "/f".into() }).await;
        assert!(matches!(missing, Outcome::Refused(_)), "{missing:?}");
    });
}
