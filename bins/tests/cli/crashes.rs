//! Separate daemons, killed with -9 and restarted on their directories.

use std::io::Write;
use std::process::Stdio;

use crate::cluster::{Daemons, Done, Target, eventually, noise};

#[test]
fn nothing_acknowledged_is_lost_when_all_daemons_die_at_once() {
    let mut cluster = Daemons::start(3);
    let files: Vec<(String, Vec<u8>)> =
        (0..6).map(|i| (format!("/f{i}"), noise(i, 1 << (12 + 2 * i)))).collect();
    for (path, bytes) in &files {
        cluster.cairn_with(&["put", "-", path], bytes).ok();
    }
    cluster.master_daemon.kill();
    cluster.servers.iter_mut().for_each(|server| server.kill());
    cluster.master_daemon.start();
    for server in &mut cluster.servers {
        server.start();
    }
    cluster.wait_settled();
    for (path, bytes) in &files {
        assert!(cluster.cairn(&["cat", path]).bytes() == *bytes, "{path} differs");
    }
    assert_eq!(cluster.cairn(&["--json", "fsck"]).ok(), "");
}

#[test]
fn a_killed_chunkserver_is_shown_at_once() {
    let mut cluster = Daemons::start_with(3, "dead_after_ms: 60000");
    cluster.cairn_with(&["put", "-", "/file"], b"bytes").ok();
    // Two of three replicas acknowledge a write. Without the third, the loss would be shown as DEGRADED.
    cluster.wait_settled();
    cluster.servers[1].kill();
    let text = eventually("the loss is shown", || {
        let text = cluster.cairn(&["status"]).ok();
        text.contains("SILENT: 1 chunkserver is not connected; its chunks are copied after another ")
            .then_some(text)
    });
    assert!(
        text.contains("2 live of 3") && text.contains("LOST") && !text.contains("fully replicated"),
        "{text}"
    );
    cluster.cairn(&["status", "--wait", "--timeout", "1"]).failed(4);
    cluster.servers[1].start();
    cluster.cairn(&["status", "--wait", "--timeout", "60"]).ok();
}

#[test]
fn an_upload_survives_the_loss_of_a_chunkserver_and_the_cluster_repairs_itself() {
    let mut cluster = Daemons::start(4);
    let bytes = noise(7, 24 * 1024 * 1024);
    let mut put = cluster.cairn_command(&["put", "-", "/file"]);
    let mut put = put.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = put.stdin.take().unwrap();
    // Half of it is on its way, into open chunks, when a server that has replicas goes.
    stdin.write_all(&bytes[..bytes.len() / 2]).unwrap();
    let victim = eventually("a server has replicas", || {
        let status = cluster.status()?;
        let (cs, replicas) = cluster.busiest(&status)?;
        (replicas > 1).then_some(cs)
    });
    cluster.servers[victim].kill();
    stdin.write_all(&bytes[bytes.len() / 2..]).unwrap();
    drop(stdin);
    Done::of(put.wait_with_output().unwrap()).ok();
    assert!(cluster.cairn(&["cat", "/file"]).bytes() == bytes, "the file differs");

    // Without the lost server, the others take over its replicas.
    eventually("the others repair", || {
        let status = cluster.status()?;
        let repaired = status["under_replicated"] == 0 && status["missing"] == 0;
        let dead = status["servers"].as_array()?.iter().any(|server| server["live"] == false);
        (repaired && dead).then_some(())
    });
    // The master forgets no file over a kill, and learns again where the chunks are.
    cluster.master_daemon.kill();
    cluster.master_daemon.start();
    cluster.servers[victim].start();
    cluster.wait_settled();
    assert!(cluster.cairn(&["cat", "/file"]).bytes() == bytes, "the file differs after the restarts");
}

#[test]
fn a_client_that_dies_leaves_no_file() {
    let cluster = Daemons::start(3);
    let mut put = cluster.cairn_command(&["put", "-", "/file"]);
    let mut put = put.stdin(Stdio::piped()).spawn().unwrap();
    put.stdin.as_mut().unwrap().write_all(&noise(8, 3 * 1024 * 1024)).unwrap();
    eventually("the upload is under way", || {
        let status = cluster.status()?;
        (status["uploads"] == 1).then_some(())
    });
    put.kill().unwrap();
    put.wait().unwrap();
    cluster.cairn(&["stat", "/file"]).failed(2);
    cluster.cairn_with(&["put", "-", "/file"], b"the name is free").ok();
    assert_eq!(cluster.cairn(&["cat", "/file"]).ok(), "the name is free");
}

#[test]
fn daemons_end_in_good_order_and_start_again() {
    let mut cluster = Daemons::start(3);
    let bytes = noise(9, 100_000);
    cluster.cairn_with(&["put", "-", "/file"], &bytes).ok();
    for server in &mut cluster.servers {
        assert_eq!(server.terminate(), 0);
    }
    assert_eq!(cluster.master_daemon.terminate(), 0);
    cluster.master_daemon.start();
    for server in &mut cluster.servers {
        server.start();
    }
    cluster.wait_settled();
    assert!(cluster.cairn(&["cat", "/file"]).bytes() == bytes, "the file differs");
}

#[test]
fn too_few_chunkservers_refuse_the_write() {
    let mut cluster = Daemons::start(3);
    cluster.servers[0].kill();
    cluster.servers[1].kill();
    eventually("the master misses them", || {
        let status = cluster.status()?;
        let live = status["servers"].as_array()?.iter().filter(|server| server["live"] == true).count();
        (live == 1).then_some(())
    });
    let refused = cluster.cairn_with(&["put", "--timeout", "2", "-", "/file"], b"bytes").failed(4);
    assert!(refused.contains("not enough chunkservers"), "{refused}");
    cluster.cairn(&["stat", "/file"]).failed(2);
}
