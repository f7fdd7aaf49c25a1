//! Daemons that can't start: one clear sentence, exit code 2, nothing touched.

use std::path::Path;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::cluster::{Daemons, Done, Killed, Target, command, eventually};

const MASTER: &str = env!("CARGO_BIN_EXE_cairn-master");
const CHUNKSERVER: &str = env!("CARGO_BIN_EXE_cairn-chunkserver");

struct Refused {
    home: TempDir,
}

impl Refused {
    fn new() -> Refused {
        Refused { home: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> String {
        self.home.path().join(name).to_str().unwrap().to_owned()
    }

    fn dir(&self, name: &str) -> String {
        std::fs::create_dir(self.home.path().join(name)).unwrap();
        self.path(name)
    }

    fn file(&self, name: &str, text: &str) -> String {
        std::fs::write(self.home.path().join(name), text).unwrap();
        self.path(name)
    }

    /// The one sentence that the program ends with, and code 2.
    #[track_caller]
    fn said(&self, program: &str, arguments: &[&str]) -> String {
        self.scrub(&ends(program, self.home.path(), arguments).failed(2))
    }

    fn scrub(&self, text: &str) -> String {
        let text = text.replace(self.home.path().to_str().unwrap(), "[home]");
        // Log lines carry times; the sentence is the last line.
        text.lines().last().unwrap_or_default().to_owned()
    }
}

/// Runs a daemon that should end by itself, on free ports.
fn ends(program: &str, home: &Path, arguments: &[&str]) -> Done {
    let mut daemon = command(program, home);
    daemon
        .args(["--http-listen", "127.0.0.1:0", "--end-with-parent", &std::process::id().to_string()])
        .args(arguments);
    if !arguments.contains(&"--listen") && !arguments.contains(&"--config") {
        daemon.args(["--listen", "127.0.0.1:0"]);
    }
    let out = tempfile::NamedTempFile::new_in(home).unwrap();
    daemon.stdout(out.reopen().unwrap()).stderr(out.reopen().unwrap());
    let mut process = Killed(daemon.spawn().unwrap());
    let status = eventually("the daemon gives up", || process.0.try_wait().unwrap());
    let err = std::fs::read_to_string(out.path()).unwrap();
    Done { code: status.code().unwrap_or(-1), out: Vec::new(), err }
}

#[test]
fn directories_that_are_none() {
    let case = Refused::new();
    let mut all = String::new();
    let file = case.file("file", "");
    for program in [MASTER, CHUNKSERVER] {
        let name = Path::new(program).file_name().unwrap().to_str().unwrap().to_owned();
        all.push_str(&format!(
            "{name} missing: {}\n",
            case.said(program, &["--data", &case.path("missing")])
        ));
        all.push_str(&format!("{name} file: {}\n", case.said(program, &["--data", &file])));
    }
    assert!(!Path::new(&case.path("missing")).exists());
    insta::assert_snapshot!(all);
}

/// It was asked to end with its parent, which died before it could ask the kernel for that.
#[test]
fn a_daemon_without_its_parent() {
    let case = Refused::new();
    let data = case.dir("data");
    for program in [MASTER, CHUNKSERVER] {
        let mut orphan = command(program, case.home.path());
        orphan.args(["--data", &data, "--end-with-parent", &i32::MAX.to_string()]);
        let said = case.scrub(&Done::of(orphan.output().unwrap()).failed(2));
        assert!(said.ends_with("process 2147483647, which started this one, has ended"), "{said}");
    }
    assert!(std::fs::read_dir(&data).unwrap().next().is_none());
}

#[test]
fn directories_that_can_not_be_written() {
    use std::os::unix::fs::PermissionsExt;
    let case = Refused::new();
    let closed = case.dir("closed");
    std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o555)).unwrap();
    // Modes do not bind root, but nobody can make files in /proc.
    let root = rustix::process::geteuid().is_root();
    for program in [MASTER, CHUNKSERVER] {
        let said = case.said(program, &["--data", if root { "/proc" } else { &closed }]);
        assert!(root || said.contains("can't be written"), "{said}");
    }
}

#[test]
fn directories_of_something_else() {
    let mut all = String::new();
    let case = Refused::new();
    let other = case.dir("other");
    std::fs::write(Path::new(&other).join("holiday.jpg"), "not Cairn's").unwrap();
    for program in [MASTER, CHUNKSERVER] {
        let name = Path::new(program).file_name().unwrap().to_str().unwrap().to_owned();
        all.push_str(&format!(
            "{name} in a foreign directory: {}\n",
            case.said(program, &["--data", &other])
        ));
    }
    insta::assert_snapshot!(all);
}

#[test]
fn directories_of_the_other_role_and_of_another_cluster() {
    let mut all = String::new();
    let case = Refused::new();
    let one = Daemons::start(1);
    let mut other = Daemons::start(1);
    other.servers[0].kill();
    let volume = other.data("cs1");
    let volume = volume.to_str().unwrap();
    let said = ends(CHUNKSERVER, case.home.path(), &["--data", volume, "--master", one.master()]).failed(2);
    all.push_str(&format!(
        "a volume of another cluster: {}\n",
        without_ids(&said.replace(volume, "[volume]").replace(one.master(), "[one]"))
    ));

    other.master_daemon.kill();
    let log = other.data("master");
    let log = log.to_str().unwrap();
    let said = ends(CHUNKSERVER, case.home.path(), &["--data", log, "--master", one.master()]).failed(2);
    all.push_str(&format!(
        "a chunkserver on a master's directory: {}\n",
        without_ids(&said.replace(log, "[log]"))
    ));
    let said = ends(MASTER, case.home.path(), &["--data", volume]).failed(2);
    all.push_str(&format!(
        "a master on a chunkserver's directory: {}\n",
        without_ids(&said.replace(volume, "[volume]"))
    ));
    insta::assert_snapshot!(all);
}

/// The last line, numbers of eight and more hexadecimal digits replaced.
fn without_ids(text: &str) -> String {
    let line = text.lines().last().unwrap_or_default();
    let mut kept = String::new();
    let mut word = String::new();
    for c in line.chars().chain(['\n']) {
        if c.is_ascii_hexdigit() {
            word.push(c);
            continue;
        }
        if word.len() >= 8 {
            kept.push_str("[id]")
        } else {
            kept.push_str(&word)
        }
        word.clear();
        kept.push(c);
    }
    kept.trim_end().to_owned()
}

#[test]
fn blank_directories_where_formatted_ones_are_required() {
    let case = Refused::new();
    for program in [MASTER, CHUNKSERVER] {
        let blank = case.dir(Path::new(program).file_name().unwrap().to_str().unwrap());
        let said = case.said(program, &["--data", &blank, "--require-formatted"]);
        assert!(said.contains("mount what belongs there"), "{said}");
        assert_eq!(std::fs::read_dir(&blank).unwrap().count(), 0);
    }
}

#[test]
fn settings_out_of_range() {
    let case = Refused::new();
    let data = case.dir("data");
    let master = case.file("master.yaml", "tuning: { log_segment_bytes: 0 }\n");
    let said = case.said(MASTER, &["--config", &master, "--data", &data, "--listen", "127.0.0.1:0"]);
    insta::assert_snapshot!(said, @"cairn-master: tuning: log_segment_bytes is 0; it must be at least 1024");
    let server = case.file("server.yaml", "tuning: { append_window_bytes: 4096 }\n");
    let said = case.said(CHUNKSERVER, &["--config", &server, "--data", &data, "--listen", "127.0.0.1:0"]);
    insta::assert_snapshot!(said, @"cairn-chunkserver: tuning: append_window_bytes is 4096; it must be at least twice the largest frame of a client, which is 1048576");
    for bad in ["localhost", "http://localhost:7400"] {
        let said = case.said(CHUNKSERVER, &["--data", &data, "--master", bad]);
        assert_eq!(
            said,
            format!("cairn-chunkserver: masters: {bad:?} is not a master's address: give host:port")
        );
    }
    for program in [MASTER, CHUNKSERVER] {
        let said = case.said(program, &["--data", &data, "--log-filter", "((("]);
        assert!(said.contains("log_filter: \"(((\" is no filter"), "{said}");
    }
    assert_eq!(std::fs::read_dir(&data).unwrap().count(), 0);
}

#[test]
fn directories_in_use() {
    let mut all = String::new();
    let case = Refused::new();
    let cluster = Daemons::start(1);
    let (log, volume) = (cluster.data("master"), cluster.data("cs1"));
    let said = case.said(MASTER, &["--data", log.to_str().unwrap()]);
    all.push_str(&format!(
        "a master's directory in use: {}\n",
        said.replace(log.to_str().unwrap(), "[data]")
    ));
    let said = case.said(CHUNKSERVER, &["--data", volume.to_str().unwrap(), "--master", cluster.master()]);
    all.push_str(&format!("a volume in use: {}\n", said.replace(volume.to_str().unwrap(), "[data]")));
    let twice = case.dir("twice");
    all.push_str(&format!(
        "one volume twice: {}\n",
        case.said(CHUNKSERVER, &["--data", &twice, "--data", &twice])
    ));
    insta::assert_snapshot!(all);
}

#[test]
fn ports() {
    let mut all = String::new();
    let case = Refused::new();
    let busy = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let busy = busy.local_addr().unwrap().to_string();
    for program in [MASTER, CHUNKSERVER] {
        let name = Path::new(program).file_name().unwrap().to_str().unwrap().to_owned();
        let data = case.dir(&name);
        let said = |listen: &str| {
            case.said(program, &["--data", &data, "--listen", listen]).replace(&busy, "[busy]")
        };
        all.push_str(&format!("{name} busy port: {}\n", said(&busy)));
        all.push_str(&format!("{name} any interface: {}\n", said("0.0.0.0:0")));
        all.push_str(&format!("{name} no address: {}\n", said("localhost")));
    }
    insta::assert_snapshot!(all);
}

#[test]
fn configurations() {
    let mut all = String::new();
    let case = Refused::new();
    let texts = [
        ("bad YAML", "listen: [\n"),
        ("unknown key", "data: x\nlisten_htp: y\n"),
        ("unknown tuning", "tuning:\n  no_such_thing: 1\n"),
        ("wrong type", "tuning: { heartbeat_ms: often }\n"),
        ("wrong format", "log_format: xml\n"),
    ];
    for (name, text) in texts {
        let config = case.file("config.yaml", text);
        all.push_str(&format!("master {name}: {}\n", all_of(&case, MASTER, &config)));
    }
    all.push_str(&format!("no configuration: {}\n", all_of(&case, MASTER, &case.path("none.yaml"))));
    let config = case.file("config.yaml", "data: {}\n");
    all.push_str(&format!("chunkserver wrong type: {}\n", all_of(&case, CHUNKSERVER, &config)));
    insta::assert_snapshot!(all);
}

/// All that a daemon says of its configuration: an excerpt of the file may follow the sentence.
fn all_of(case: &Refused, program: &str, config: &str) -> String {
    let said = ends(program, case.home.path(), &["--config", config]).failed(2);
    said.replace(case.home.path().to_str().unwrap(), "[home]")
}

#[test]
fn a_chunkserver_waits_for_its_master_and_ends_when_told() {
    let home = tempfile::tempdir().unwrap();
    std::fs::create_dir(home.path().join("volume")).unwrap();
    let ports = home.path().join("ports");
    let mut daemon = command(CHUNKSERVER, home.path());
    // Nothing listens on port 1.
    daemon.args([
        "--data",
        "volume",
        "--listen",
        "127.0.0.1:0",
        "--http-listen",
        "",
        "--master",
        "127.0.0.1:1",
    ]);
    daemon.arg("--ports-file").arg(&ports);
    daemon.stderr(std::fs::File::create(home.path().join("log")).unwrap());
    let mut process = Killed(daemon.spawn().unwrap());
    eventually("it binds its ports", || ports.exists().then_some(()));
    assert!(process.0.try_wait().unwrap().is_none());
    let log = || std::fs::read_to_string(home.path().join("log")).unwrap();
    let unreachable = "no session with the master at 127.0.0.1:1: ";
    eventually("it says that nobody is there", || log().contains(unreachable).then_some(()));
    let started = Instant::now();
    let pid = rustix::process::Pid::from_child(&process.0);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let status = eventually("it ends", || process.0.try_wait().unwrap());
    assert_eq!(status.code(), Some(0), "{}", log());
    let bound = std::fs::read_to_string(&ports).unwrap();
    let bound = bound.trim().strip_prefix("listen=").unwrap();
    let told =
        [format!("data is served on {bound}, /health and /metrics nowhere; volumes: 1"), "SIGTERM".into()];
    for said in told.iter().map(String::as_str).chain([unreachable]) {
        assert_eq!(log().matches(said).count(), 1, "{said}: {}", log());
    }
    assert!(
        started.elapsed() < Duration::from_secs(10),
        "a shutdown without work took {:?}",
        started.elapsed()
    );
}
