//! `cairn chaos`: short storms, whose end is what matters here. `.ci/run` has a longer one.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;

use serde_json::Value;

use crate::cluster::{Done, command};

fn storm(home: &Path, arguments: &[&str]) -> std::process::Command {
    let mut command = command(env!("CARGO_BIN_EXE_cairn"), home);
    command.args(["chaos", "--chunkservers", "3", "--dir", "storm"]).args(arguments);
    command
}

fn is_empty(dir: &Path) -> bool {
    std::fs::read_dir(dir).unwrap().next().is_none()
}

#[test]
fn a_storm_ends_clean_and_leaves_nothing() {
    let home = tempfile::tempdir().unwrap();
    let arguments = ["--json", "--minutes", "0.08", "--seed", "1", "--faults", "kill,reset,client,flip"];
    let told: Value = Done::of(storm(home.path(), &arguments).output().unwrap()).json().remove(0);
    assert_eq!(told["clean"], true, "{told}");
    assert!(told["checked_replicas"].as_u64() > Some(0), "{told}");
    assert!(is_empty(&home.path().join("storm")));
}

#[test]
fn an_interrupted_storm_takes_its_processes_and_directories_along() {
    let home = tempfile::tempdir().unwrap();
    let mut storm = storm(home.path(), &["--minutes", "5", "--faults", "pause"]);
    let mut storm = storm.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(storm.stdout.take().unwrap()).lines();
    let begun = lines.any(|line| line.unwrap().contains("round 0"));
    assert!(begun, "the storm ended before its first round");
    let daemons = children(storm.id());
    assert_eq!(daemons.len(), 4);
    let pid = rustix::process::Pid::from_child(&storm);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let said = Done::of(storm.wait_with_output().unwrap()).failed(1);
    assert!(said.contains("interrupted"), "{said}");
    assert!(is_empty(&home.path().join("storm")));
    for daemon in daemons {
        assert!(!Path::new(&format!("/proc/{daemon}")).exists(), "{daemon} lives");
    }
}

/// The processes that `parent` has started.
fn children(parent: u32) -> Vec<u32> {
    let tasks = std::fs::read_dir(format!("/proc/{parent}/task")).unwrap().flatten();
    let lists = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
    lists
        .flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
        .collect()
}
