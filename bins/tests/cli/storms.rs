//! `cairn chaos`: short storms, whose end is what matters here. `.ci/run` has a longer one.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Lines};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::cluster::{Done, Killed, command, eventually};

fn storm(home: &Path, arguments: &[&str]) -> Command {
    let mut command = command(env!("CARGO_BIN_EXE_cairn"), home);
    command.args(["chaos", "--chunkservers", "3", "--dir"]).arg(home.join("storm")).args(arguments);
    command
}

fn is_empty(dir: &Path) -> bool {
    std::fs::read_dir(dir).unwrap().next().is_none()
}

#[expect(clippy::print_stderr, reason = "whoever runs the tests is to know what they did not prove")]
fn skip(why: &str) {
    eprintln!("skipped: {why}");
}

/// What a storm of six seconds ends with, as JSON. `None` where its network is not permitted.
fn outcome(network: &str, faults: &str) -> Option<Value> {
    let home = tempfile::tempdir().unwrap();
    let arguments = ["--json", "--minutes", "0.1", "--seed", "1", "--faults", faults, "--network", network];
    let done = Done::of(storm(home.path(), &arguments).output().unwrap());
    if network == "namespaces" && done.code == 2 {
        skip(&done.failed(2));
        return None;
    }
    let told = done.json().remove(0);
    assert_eq!(told["clean"], true, "{told}");
    assert!(told["checked_replicas"].as_u64() > Some(0), "{told}");
    assert!(is_empty(&home.path().join("storm")));
    Some(told)
}

#[test]
fn a_storm_ends_clean_and_leaves_nothing() {
    let told = outcome("auto", "kill,reset,client,flip,flip-journal").unwrap();
    assert!(["namespaces", "proxies"].contains(&told["network"].as_str().unwrap()), "{told}");
}

#[test]
fn a_storm_in_namespaces_ends_clean() {
    let Some(told) = outcome("namespaces", "cut,one-way,unmount,flip-journal") else { return };
    assert_eq!(told["network"], "namespaces");
}

/// A storm in its first round.
struct Raging {
    home: TempDir,
    process: Killed,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Raging {
    /// `None` where its network is not permitted.
    fn start(network: &str) -> Option<Raging> {
        let home = tempfile::tempdir().unwrap();
        let mut storm =
            storm(home.path(), &["--minutes", "5", "--faults", "pause,cut", "--network", network]);
        let mut child: Child = storm.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        // Something is cut off by now.
        if !lines.any(|line| line.unwrap().contains("  cut ")) {
            skip(&Done::of(child.wait_with_output().unwrap()).failed(2));
            return None;
        }
        Some(Raging { home, process: Killed(child), lines })
    }

    fn dir(&self) -> PathBuf {
        self.home.path().join("storm")
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.process.0), signal).unwrap();
    }

    /// Those of its processes and namespaces that are there.
    fn traces(&self) -> (BTreeSet<PathBuf>, BTreeSet<PathBuf>) {
        let dir = self.dir();
        let processes = processes();
        let of_storm = processes.into_iter().filter(|process| {
            let line = std::fs::read(process.join("cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).into_owned();
            line.contains(dir.to_str().unwrap())
        });
        let own = namespaces(Path::new("/proc/self"));
        let of_storm: BTreeSet<PathBuf> = of_storm.collect();
        let spaces = of_storm.iter().flat_map(|process| namespaces(process)).filter(|it| !own.contains(it));
        (of_storm.clone(), spaces.collect())
    }
}

/// What is running.
fn processes() -> Vec<PathBuf> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
    let is_pid = |name: &OsStr| name.to_string_lossy().bytes().all(|byte| byte.is_ascii_digit());
    entries.filter(|path| path.file_name().is_some_and(is_pid)).collect()
}

/// Its namespaces of mounts, of the network and of users; none once it is gone.
fn namespaces(process: &Path) -> BTreeSet<PathBuf> {
    let links = ["mnt", "net", "user"].map(|kind| std::fs::read_link(process.join("ns").join(kind)));
    links.into_iter().flatten().collect()
}

/// What a storm in `dir` has changed for everybody else on the machine.
fn seen_outside(dir: &Path) -> Vec<String> {
    let text = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let mounts = text("/proc/self/mountinfo");
    let mounts = mounts.lines().filter(|line| line.contains(dir.to_str().unwrap()));
    let devices = text("/proc/self/net/dev");
    let devices = devices.lines().filter(|line| line.contains("wire:") || line.contains("to-"));
    mounts.chain(devices).map(String::from).collect()
}

/// However a storm ends, nothing of it goes on.
fn nothing_is_left_after(signal: Signal, network: &str) {
    let Some(storm) = Raging::start(network) else { return };
    let (processes, spaces) =
        eventually("the storm and its four daemons run, and nothing else of it", || {
            let traces = storm.traces();
            (traces.0.len() == 5).then_some(traces)
        });
    // Those of the mounts and of the users' network, and one for each daemon.
    assert!(network == "proxies" || spaces.len() >= 6, "{spaces:?}");
    assert_eq!(seen_outside(&storm.dir()), [""; 0]);
    storm.signal(signal);
    let dir = storm.dir();
    let Raging { home, mut process, lines } = storm;
    drop(lines);
    let status = process.0.wait().unwrap();
    if signal == Signal::TERM {
        assert_eq!(status.code(), Some(1));
        assert!(is_empty(&dir));
        assert!(processes.iter().all(|process| !process.exists()), "{processes:?}");
    }
    eventually("every process of the storm is gone", || {
        processes.iter().all(|process| !process.exists()).then_some(())
    });
    eventually("nobody else is in its namespaces", || {
        self::processes().iter().all(|process| namespaces(process).is_disjoint(&spaces)).then_some(())
    });
    assert_eq!(seen_outside(&dir), [""; 0]);
    // Something mounted in it could not be removed.
    home.close().unwrap();
}

#[test]
fn an_interrupted_storm_takes_everything_along() {
    nothing_is_left_after(Signal::TERM, "proxies");
    nothing_is_left_after(Signal::TERM, "namespaces");
}

#[test]
fn a_killed_storm_leaves_no_process_mount_or_namespace() {
    nothing_is_left_after(Signal::KILL, "proxies");
    nothing_is_left_after(Signal::KILL, "namespaces");
}

/// The same command where no namespaces of the `kinds` can be made; `None` where that can't be brought about.
fn forbidden(kinds: &[&str], command: &Command) -> Option<Command> {
    let forbid: Vec<String> =
        kinds.iter().map(|kind| format!("echo 0 > /proc/sys/user/max_{kind}_namespaces && ")).collect();
    let wrapped = |script: &str| {
        let mut outer = Command::new("unshare");
        outer.args(["--user", "--map-root-user", "sh", "-c", &format!("{}{script}", forbid.concat()), "sh"]);
        outer
    };
    let status = wrapped("true").stderr(Stdio::null()).status();
    if !status.is_ok_and(|status| status.success()) {
        skip("user namespaces are not permitted");
        return None;
    }
    let mut outer = wrapped("exec \"$@\"");
    outer.arg(command.get_program()).args(command.get_args());
    Some(outer)
}

#[test]
fn without_the_right_to_namespaces_a_storm_is_refused_or_does_without() {
    let home = tempfile::tempdir().unwrap();
    let refused = storm(home.path(), &["--network", "namespaces"]);
    let Some(mut refused) = forbidden(&["net"], &refused) else { return };
    let said = Done::of(refused.output().unwrap()).failed(2);
    assert!(said.starts_with("cairn: network namespaces are not permitted here (unshare: "), "{said}");
    assert!(said.contains("take --network proxies"), "{said}");
    assert!(!home.path().join("storm").exists());

    let arguments = ["--minutes", "0.1", "--seed", "1", "--faults", "kill,full-disk,unmount"];
    for (kinds, full_disks) in [(&["net"][..], true), (&["net", "mnt"], false)] {
        let storm = storm(home.path(), &arguments);
        let said = Done::of(forbidden(kinds, &storm).unwrap().output().unwrap()).ok();
        assert!(said.contains("proxies on loopback: network namespaces are not permitted ("), "{said}");
        assert!(said.contains("network: proxies; faults: ") && said.ends_with("clean\n"), "{said}");
        assert_eq!(!said.contains("no full disks: "), full_disks, "{said}");
        assert!(is_empty(&home.path().join("storm")));
    }
}
