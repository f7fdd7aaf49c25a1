//! Clusters to test against: `cairn dev` for what the commands do, separate daemons for what kills and restarts do. Everything
//! is in a temporary directory, on ports that the system chose, and ends with the test.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// How long anything may take before the test gives up on it.
const PATIENCE: Duration = Duration::from_secs(90);

/// A command with nothing of this machine's own settings.
pub(crate) fn command(program: &str, home: &Path) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("HOME", home).env("XDG_DATA_HOME", home.join("data")).current_dir(home);
    command.stdin(Stdio::null());
    command
}

/// What a command did.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) code: i32,
    pub(crate) out: Vec<u8>,
    pub(crate) err: String,
}

impl Done {
    pub(crate) fn of(output: Output) -> Done {
        Done {
            code: output.status.code().unwrap_or(-1),
            out: output.stdout,
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Its standard output, provided that it succeeded.
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        String::from_utf8(self.bytes()).expect("text")
    }

    /// Its standard output as bytes, provided that it succeeded.
    #[track_caller]
    pub(crate) fn bytes(self) -> Vec<u8> {
        assert_eq!(self.code, 0, "{}", self.err);
        self.out
    }

    /// Its JSON lines, provided that it succeeded.
    #[track_caller]
    pub(crate) fn json(self) -> Vec<Value> {
        self.ok().lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }

    /// Its error, provided that it failed with `code`.
    #[track_caller]
    pub(crate) fn failed(self, code: i32) -> String {
        assert_eq!(self.code, code, "stdout: {}\nstderr: {}", String::from_utf8_lossy(&self.out), self.err);
        self.err.trim_end().to_owned()
    }
}

/// Waits until `condition` holds.
#[track_caller]
pub(crate) fn eventually<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A process that is killed with the test.
#[derive(Debug)]
pub(crate) struct Killed(pub(crate) Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // It may have ended before.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Whom commands talk to, and from where.
pub(crate) trait Target {
    fn home(&self) -> &Path;
    fn master(&self) -> &str;

    /// `cairn` with these arguments, as root.
    fn cairn_command(&self, arguments: &[&str]) -> Command {
        let mut command = command(env!("CARGO_BIN_EXE_cairn"), self.home());
        command.args(arguments).env("CAIRN_MASTER", self.master()).env("CAIRN_USER", "root");
        command
    }

    fn cairn(&self, arguments: &[&str]) -> Done {
        Done::of(self.cairn_command(arguments).output().expect("cairn runs"))
    }

    /// The same with `input` on standard input.
    fn cairn_with(&self, arguments: &[&str], input: &[u8]) -> Done {
        let mut command = self.cairn_command(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("cairn runs");
        let mut stdin = child.stdin.take().expect("piped");
        std::thread::scope(|scope| {
            // A command that fails early closes the pipe.
            scope.spawn(move || drop(std::io::Write::write_all(&mut stdin, input)));
            Done::of(child.wait_with_output().expect("cairn ends"))
        })
    }

    /// A local file with these bytes.
    fn local(&self, name: &str, bytes: &[u8]) -> String {
        let path = self.home().join(name);
        std::fs::write(&path, bytes).expect("temporary file");
        path.to_str().expect("UTF-8").to_owned()
    }

    /// `text` without what differs from run to run.
    fn scrub(&self, text: &str) -> String {
        text.replace(self.home().to_str().expect("UTF-8"), "[home]").replace(self.master(), "[master]")
    }
}

/// Pseudo-random bytes.
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut rng = cairn_core::rng::Rng::new(seed);
    let mut bytes = vec![0; length];
    for word in bytes.chunks_mut(8) {
        let random = rng.u64().to_le_bytes();
        word.copy_from_slice(&random[..word.len()]);
    }
    bytes
}

/// A cluster in one process: `cairn dev`.
#[derive(Debug)]
pub(crate) struct Dev {
    process: Killed,
    master: String,
    /// What it said of itself.
    pub(crate) greeting: Value,
    home: TempDir,
}

impl Dev {
    pub(crate) fn start() -> Dev {
        Dev::start_in(tempfile::tempdir().expect("temporary directory"))
    }

    /// On what is in `home`.
    pub(crate) fn start_in(home: TempDir) -> Dev {
        let mut command = command(env!("CARGO_BIN_EXE_cairn"), home.path());
        command.args(["dev", "--json", "--listen", "127.0.0.1:0"]);
        let log = std::fs::File::options().create(true).append(true).open(home.path().join("dev.log"));
        command.stdout(Stdio::piped()).stderr(log.expect("log"));
        let mut process = Killed(command.spawn().expect("cairn dev runs"));
        let mut line = String::new();
        let stdout = process.0.stdout.take().expect("piped");
        BufReader::new(stdout).read_line(&mut line).expect("a greeting");
        let log = || std::fs::read_to_string(home.path().join("dev.log")).unwrap_or_default();
        let greeting: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("{line:?}; {}", log()));
        let master = greeting["master"].as_str().expect("an address").to_owned();
        Dev { home, master, greeting, process }
    }

    /// Ctrl-C; returns the exit code and what is left.
    pub(crate) fn interrupt(mut self) -> (i32, TempDir) {
        let pid = rustix::process::Pid::from_child(&self.process.0);
        rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("a running process");
        let code = self.process.0.wait().expect("it ends").code().unwrap_or(-1);
        (code, self.home)
    }
}

impl Target for Dev {
    fn home(&self) -> &Path {
        self.home.path()
    }

    fn master(&self) -> &str {
        &self.master
    }
}

/// One daemon of a [`Daemons`].
#[derive(Debug)]
pub(crate) struct Daemon {
    name: String,
    program: &'static str,
    arguments: Vec<String>,
    listen: String,
    /// Where it listened last.
    address: String,
    home: PathBuf,
    process: Option<Killed>,
}

impl Daemon {
    /// Starts it and returns the address it listens on.
    pub(crate) fn start(&mut self) -> String {
        let ports = self.home.join(format!("{}.ports", self.name));
        if ports.exists() {
            std::fs::remove_file(&ports).expect("own file");
        }
        let log_path = self.home.join(format!("{}.log", self.name));
        let log = std::fs::File::options().create(true).append(true).open(&log_path).expect("log");
        let mut command = command(self.program, &self.home);
        command.args(&self.arguments).args([
            "--http-listen",
            "127.0.0.1:0",
            "--end-with-parent",
            &std::process::id().to_string(),
        ]);
        command.args(["--listen", &self.listen]).arg("--ports-file").arg(&ports);
        command.stdout(log.try_clone().expect("log")).stderr(log);
        let process = self.process.insert(Killed(command.spawn().expect("the daemon runs")));
        let text = eventually(&format!("{} binds its ports", self.name), || {
            let ended = process.0.try_wait().expect("own child");
            assert!(ended.is_none(), "{}", std::fs::read_to_string(&log_path).unwrap_or_default());
            std::fs::read_to_string(&ports).ok()
        });
        self.address =
            text.lines().find_map(|line| line.strip_prefix("listen=")).expect("an address").to_owned();
        self.address.clone()
    }

    /// kill -9.
    pub(crate) fn kill(&mut self) {
        self.process = None;
    }

    /// SIGTERM; returns its exit code.
    pub(crate) fn terminate(&mut self) -> i32 {
        let mut process = self.process.take().expect("it runs");
        let pid = rustix::process::Pid::from_child(&process.0);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("a running process");
        process.0.wait().expect("it ends").code().unwrap_or(-1)
    }
}

/// A cluster of separate processes.
#[derive(Debug)]
pub(crate) struct Daemons {
    pub(crate) master_daemon: Daemon,
    pub(crate) servers: Vec<Daemon>,
    master: String,
    home: TempDir,
}

impl Daemons {
    /// A master and `servers` chunkservers, once the master places chunks on all of them.
    pub(crate) fn start(servers: usize) -> Daemons {
        Daemons::start_with(servers, "dead_after_ms: 1500")
    }

    /// The same with a setting of the master.
    pub(crate) fn start_with(servers: usize, setting: &str) -> Daemons {
        let home = tempfile::tempdir().expect("temporary directory");
        // Impatient: what takes seconds in production takes a fraction of one here.
        let master = format!(
            "tuning: {{ heartbeat_ms: 200, {setting}, block_report_ms: 1000, lease_ms: 1500, startup_grace_ms: 1500, \
             repair_delay_ms: 300, min_free_bytes: 1048576, chunk_bytes: 1048576 }}\n"
        );
        let server = "tuning: { reserve_bytes: 1048576, reconnect_ms: 100 }\n";
        std::fs::write(home.path().join("master.yaml"), master).expect("temporary file");
        std::fs::write(home.path().join("server.yaml"), server).expect("temporary file");
        let mut master_daemon =
            daemon(home.path(), "master", env!("CARGO_BIN_EXE_cairn-master"), "master.yaml", &[]);
        let master = master_daemon.start();
        // It keeps its port from now on: the others know it.
        master_daemon.listen.clone_from(&master);
        let servers = (1..=servers)
            .map(|index| {
                let name = format!("cs{index}");
                let program = env!("CARGO_BIN_EXE_cairn-chunkserver");
                let mut server = daemon(home.path(), &name, program, "server.yaml", &["--master", &master]);
                server.start();
                server
            })
            .collect();
        let cluster = Daemons { master_daemon, servers, master, home };
        cluster.wait_settled();
        cluster
    }

    pub(crate) fn status(&self) -> Option<Value> {
        let done = self.cairn(&["status", "--json", "--timeout", "5"]);
        (done.code == 0).then(|| serde_json::from_slice(&done.out).expect("JSON"))
    }

    /// Waits until every server is live and every chunk at its replication factor.
    #[track_caller]
    pub(crate) fn wait_settled(&self) {
        eventually("every server live, every chunk replicated", || {
            let status = self.status()?;
            let live = status["servers"].as_array()?.iter().filter(|server| server["live"] == true).count();
            let settled = status["starting"] == false
                && status["under_replicated"] == 0
                && status["missing"] == 0
                && live == self.servers.len();
            settled.then_some(())
        });
    }

    /// Which chunkserver has most replicas, and how many.
    pub(crate) fn busiest(&self, status: &Value) -> Option<(usize, u64)> {
        let replicas = |daemon: &Daemon| {
            let servers = status["servers"].as_array()?;
            let server = servers.iter().find(|server| server["address"] == *daemon.address)?;
            server["replicas"].as_u64()
        };
        self.servers
            .iter()
            .map(|daemon| replicas(daemon).unwrap_or(0))
            .enumerate()
            .max_by_key(|(_, count)| *count)
    }

    /// The directory of a daemon.
    pub(crate) fn data(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }
}

impl Target for Daemons {
    fn home(&self) -> &Path {
        self.home.path()
    }

    fn master(&self) -> &str {
        &self.master
    }
}

fn daemon(home: &Path, name: &str, program: &'static str, config: &str, more: &[&str]) -> Daemon {
    let data = home.join(name);
    std::fs::create_dir_all(&data).expect("temporary directory");
    let text = |path: PathBuf| path.to_str().expect("UTF-8").to_owned();
    let mut arguments = vec!["--data".to_owned(), text(data), "--config".to_owned(), text(home.join(config))];
    arguments.extend(more.iter().map(|argument| (*argument).to_owned()));
    let listen = "127.0.0.1:0".to_owned();
    let (name, address) = (name.to_owned(), String::new());
    Daemon { name, program, arguments, listen, address, home: home.to_owned(), process: None }
}
