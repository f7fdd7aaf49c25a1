//! Commands that are ended in the middle leave nothing behind, here or there.

use std::io::Write;
use std::process::{Child, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::cluster::{Daemons, Dev, Done, Target, eventually, noise};

/// A `put` from a pipe that stays open, once the cluster has some of its bytes.
fn put_half(cluster: &impl Target, path: &str) -> (Child, std::process::ChildStdin) {
    let mut put = cluster.cairn_command(&["put", "--timeout", "5", "--replication", "1", "-", path]);
    put.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut put = put.spawn().unwrap();
    let mut stdin = put.stdin.take().unwrap();
    stdin.write_all(&noise(1, 6 * 1024 * 1024)).unwrap();
    eventually("the upload has chunks", || {
        let status = cluster.cairn(&["status", "--json"]).json().remove(0);
        (status["uploads"] == 1 && status["chunks"].as_u64() > Some(0)).then_some(())
    });
    (put, stdin)
}

#[test]
fn an_interrupted_put_gives_its_upload_up() {
    let dev = Dev::start();
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let (put, stdin) = put_half(&dev, "/file");
        kill_process(Pid::from_child(&put), signal).unwrap();
        Done::of(put.wait_with_output().unwrap()).failed(code);
        drop(stdin);
        let status = dev.cairn(&["status", "--json"]).json().remove(0);
        assert_eq!((&status["uploads"], &status["open_chunks"]), (&0.into(), &0.into()), "{status}");
    }
    assert_eq!(dev.cairn(&["ls"]).ok(), "");
}

#[test]
fn a_put_that_fails_gives_its_upload_up() {
    let mut cluster = Daemons::start(1);
    let (put, mut stdin) = put_half(&cluster, "/file");
    // Nobody is left who could take the bytes.
    cluster.servers[0].kill();
    let bytes = noise(2, 1024 * 1024);
    // It may have given up before it has read everything.
    let _ = (0..64).try_for_each(|_| stdin.write_all(&bytes));
    drop(stdin);
    Done::of(put.wait_with_output().unwrap()).failed(4);
    let status = cluster.status().unwrap();
    assert_eq!(status["uploads"], 0, "{status}");
}

#[test]
fn an_interrupted_get_leaves_no_temporary_file() {
    let dev = Dev::start();
    let bytes = noise(3, 64 * 1024 * 1024);
    dev.cairn_with(&["put", "-", "/file"], &bytes).ok();
    let local = dev.home().join("local");
    std::fs::create_dir(&local).unwrap();
    let mut get = dev.cairn_command(&["get", "/file", local.to_str().unwrap()]);
    let mut get = get.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let begun = eventually("the temporary file is there, or all is done", || {
        let first = std::fs::read_dir(&local).unwrap().next()?;
        Some(first.unwrap().file_name() != "file" && get.try_wait().unwrap().is_none())
    });
    kill_process(Pid::from_child(&get), Signal::INT).unwrap();
    let done = Done::of(get.wait_with_output().unwrap());
    let left: Vec<_> = std::fs::read_dir(&local).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    if begun && done.code != 0 {
        assert_eq!(done.code, 130, "{}", done.err);
        assert!(left.is_empty(), "{left:?}");
    } else {
        assert_eq!(left, ["file"]);
    }
}
