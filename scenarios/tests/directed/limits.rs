//! Full disks, too few servers, large files.

use cairn_core::client::ClientRequest;
use cairn_core::message::{MasterReply, MasterRequest};
use runtime_sim::DiskFaults;
use scenarios::checker::health;
use scenarios::workload::operation::Outcome;

use super::stage::{CHUNK, content, shape, tell, tell_on};

#[test]
fn a_full_disk_is_avoided_while_others_have_room() {
    tell(41, |stage| async move {
        stage.world.set_disk_faults("cs0", 0, DiskFaults { capacity_bytes: 1, ..Default::default() });
        stage.pass(2_000).await;
        for i in 0..4 {
            stage.put(&format!("/f{i}"), content(i, 2 * CHUNK)).await;
        }
        stage.world.clear_disk_faults();
        stage.world.kill("cs0");
        stage.world.restart("cs0");
        for i in 0..4 {
            stage.expect(&format!("/f{i}"), content(i, 2 * CHUNK)).await;
        }
    });
}

#[test]
fn too_few_servers_refuse_a_write_instead_of_pretending() {
    tell(42, |stage| async move {
        stage.put("/before", content(1, CHUNK)).await;
        for server in ["cs0", "cs1", "cs2"] {
            stage.world.kill(server);
        }
        stage.pass(2_000).await;
        let outcome = stage.try_put("/f", content(2, CHUNK)).await;
        assert!(matches!(outcome, Outcome::Failed(_) | Outcome::Unknown(_)), "{outcome:?}");
        let status = health::status(&stage.cluster.clients[0]).await.expect("a status");
        assert_eq!(status.servers.iter().filter(|s| s.live).count(), 1);
        for server in ["cs0", "cs1", "cs2"] {
            stage.world.restart(server);
        }
        stage.pass(3_000).await;
        stage.expect("/before", content(1, CHUNK)).await;
        stage.put("/f", content(2, CHUNK)).await;
    });
}

#[test]
fn a_file_may_be_larger_than_any_volume() {
    let mut small = shape();
    small.servers.extend(small.servers.clone());
    small.client.operation_deadline_ms = 60_000;
    tell_on(43, small, true, |stage| async move {
        let capacity = 6 << 20;
        for server in stage.cluster.server_names() {
            stage.world.set_disk_faults(
                &server,
                0,
                DiskFaults { capacity_bytes: capacity, ..Default::default() },
            );
        }
        stage.pass(1_500).await;
        let file = content(1, capacity + (1 << 20));
        stage.put("/large", file).await;
        stage.expect("/large", file).await;
    });
}

#[test]
fn chunk_files_of_one_volume_in_order_are_the_file() {
    let mut three = shape();
    three.servers.truncate(3);
    tell_on(44, three, true, |stage| async move {
        let file = content(1, 5 * CHUNK + 999);
        stage.put("/f", file).await;
        stage.until_whole().await;
        let mut chunks = stage.cluster.chunk_files("cs0");
        chunks.sort_by_key(|(.., chunk)| *chunk);
        let bytes: Vec<u8> = chunks
            .iter()
            .flat_map(|(volume, path, ..)| stage.world.read_file("cs0", *volume, path).unwrap_or_default())
            .collect();
        assert_eq!(bytes.len() as u64, u64::from(file.length));
        assert_eq!(file.first_difference(0, &bytes), None);
    });
}

#[test]
fn the_operator_sees_what_is_missing() {
    tell(45, |stage| async move {
        stage.put("/f", content(1, CHUNK)).await;
        stage.until_whole().await;
        for server in stage.cluster.server_names() {
            stage.world.kill(&server);
        }
        stage.pass(2_500).await;
        let status = health::status(&stage.cluster.clients[0]).await.expect("a status");
        assert_eq!((status.missing, status.chunks), (1, 1), "{status:?}");
        let fsck = MasterRequest::Fsck { after: None, limit: 100 };
        let answer = stage.call(ClientRequest::Master(fsck)).await;
        let cairn_core::client::ClientResponse::Master(MasterReply::Findings { findings, .. }) = answer
        else {
            panic!("{answer:?}")
        };
        assert_eq!(findings.len(), 1);
        assert_eq!(findings[0].path.as_deref(), Some("/f"));
        for server in stage.cluster.server_names() {
            stage.world.restart(&server);
        }
        stage.pass(1_500).await;
        stage.expect("/f", content(1, CHUNK)).await;
    });
}
